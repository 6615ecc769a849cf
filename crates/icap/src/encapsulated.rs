//! The `Encapsulated` field: which parts of an HTTP message follow the ICAP head, and how long they are.

use std::fmt;

use bytes::BufMut;

use crate::request::decimal;
use crate::{Error, ErrorKind, Limits, Method};

/// What a message carries after its ICAP head (RFC 3507 section 4.4.1): the lengths of the HTTP
/// heads, in their order, and which body follows. Only valid values exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulated {
    /// Length in bytes of the encapsulated HTTP request head, if there is one.
    pub req_hdr: Option<usize>,
    /// Length in bytes of the encapsulated HTTP response head, if there is one.
    pub res_hdr: Option<usize>,
    /// The body that follows the heads, chunked.
    pub body: BodyKind,
}

/// The kinds of an encapsulated body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// `null-body`: none follows.
    Null,
    /// `opt-body`: of an OPTIONS request or response.
    Opt,
    /// `req-body`: the body of an HTTP request.
    Req,
    /// `res-body`: the body of an HTTP response.
    Res,
}

impl BodyKind {
    /// Whether a chunked body follows the heads.
    pub const fn follows(self) -> bool {
        !matches!(self, Self::Null)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Null => "null-body",
            Self::Opt => "opt-body",
            Self::Req => "req-body",
            Self::Res => "res-body",
        }
    }
}

impl Encapsulated {
    /// `null-body=0`: nothing follows.
    pub const NOTHING: Self = Self { req_hdr: None, res_hdr: None, body: BodyKind::Null };

    /// Parses the value of an `Encapsulated` header.
    ///
    /// # Errors
    /// `Encapsulated` unless it is a list of `req-hdr`, `res-hdr` and exactly one body at the end,
    /// in this order, each at most once, starting at offset 0 and strictly growing; `TooLarge` if
    /// the heads are longer than `limits.max_encapsulated`. Names are compared without case,
    /// blanks are skipped.
    pub fn parse(value: &[u8], limits: &Limits) -> Result<Self, Error> {
        let mut this = Self::NOTHING;
        let mut open: Option<Part> = None;
        let mut start = 0;
        for element in value.split(|b| *b == b',') {
            let (part, offset) = Part::parse(element)?;
            if offset > limits.max_encapsulated {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    "the encapsulated heads are longer than the limit",
                ));
            }
            let in_order = match open {
                None => offset == 0,
                Some(before) => before.may_precede(part) && offset > start,
            };
            if !in_order {
                return Err(bad("parts out of order, repeated, empty or not starting at 0"));
            }
            match open {
                Some(Part::ReqHdr) => this.req_hdr = Some(offset - start),
                Some(Part::ResHdr) => this.res_hdr = Some(offset - start),
                Some(Part::Body(_)) | None => {}
            }
            open = Some(part);
            start = offset;
        }
        let Some(Part::Body(body)) = open else {
            return Err(bad("no body part at the end: null-body is needed where there is none"));
        };
        Ok(Self { body, ..this })
    }

    /// The bytes of all heads together.
    pub fn heads_len(&self) -> usize {
        self.req_hdr.unwrap_or(0) + self.res_hdr.unwrap_or(0)
    }

    /// Checks that these parts may stand in a request of `method` (section 4.4.1).
    ///
    /// # Errors
    /// `Encapsulated` if a part belongs to another method.
    pub fn check_request(&self, method: Method) -> Result<(), Error> {
        let fits = match method {
            Method::Options => {
                self.heads_len() == 0 && matches!(self.body, BodyKind::Null | BodyKind::Opt)
            }
            Method::Reqmod => {
                self.res_hdr.is_none() && matches!(self.body, BodyKind::Null | BodyKind::Req)
            }
            Method::Respmod => matches!(self.body, BodyKind::Null | BodyKind::Res),
        };
        if fits { Ok(()) } else { Err(bad("parts that do not belong to the method")) }
    }

    /// Checks that these parts may stand in a response to a request of `method`.
    ///
    /// # Errors
    /// `Encapsulated` if a part belongs to another method.
    pub fn check_response(&self, method: Method) -> Result<(), Error> {
        let fits = match method {
            Method::Options => {
                self.heads_len() == 0 && matches!(self.body, BodyKind::Null | BodyKind::Opt)
            }
            // The request as adapted, or a response that satisfies it: never both.
            Method::Reqmod => match self.body {
                BodyKind::Null => self.req_hdr.is_none() || self.res_hdr.is_none(),
                BodyKind::Opt => false,
                BodyKind::Req => self.res_hdr.is_none(),
                BodyKind::Res => self.req_hdr.is_none(),
            },
            // Some servers send the request's head along; it changes nothing.
            Method::Respmod => matches!(self.body, BodyKind::Null | BodyKind::Res),
        };
        if fits { Ok(()) } else { Err(bad("parts that do not belong to an answer to the method")) }
    }

    /// Writes the header line, its line end included.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(b"Encapsulated: ");
        let mut offset = 0;
        for (name, len) in [("req-hdr", self.req_hdr), ("res-hdr", self.res_hdr)] {
            if let Some(len) = len {
                put_part(out, name, offset);
                out.put_slice(b", ");
                offset += len;
            }
        }
        put_part(out, self.body.name(), offset);
        out.put_slice(b"\r\n");
    }
}

impl fmt::Display for Encapsulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Vec::new();
        self.encode(&mut line);
        f.write_str(String::from_utf8_lossy(&line).trim_end())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    ReqHdr,
    ResHdr,
    Body(BodyKind),
}

impl Part {
    const ALL: [(&'static str, Self); 6] = [
        ("req-hdr", Self::ReqHdr),
        ("res-hdr", Self::ResHdr),
        (BodyKind::Null.name(), Self::Body(BodyKind::Null)),
        (BodyKind::Opt.name(), Self::Body(BodyKind::Opt)),
        (BodyKind::Req.name(), Self::Body(BodyKind::Req)),
        (BodyKind::Res.name(), Self::Body(BodyKind::Res)),
    ];

    fn parse(element: &[u8]) -> Result<(Self, usize), Error> {
        let Some(equals) = memchr::memchr(b'=', element) else {
            return Err(bad("a part without an offset"));
        };
        let name = element[..equals].trim_ascii();
        let &(_, part) = Self::ALL
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
            .ok_or(bad("an unknown part"))?;
        let offset = decimal(element[equals + 1..].trim_ascii())
            .ok_or(bad("an offset that is not a number"))?;
        Ok((part, usize::try_from(offset).unwrap_or(usize::MAX)))
    }

    /// Whether `next` may come after this part: request head, response head, body.
    fn may_precede(self, next: Self) -> bool {
        match self {
            Self::ReqHdr => next != Self::ReqHdr,
            Self::ResHdr => matches!(next, Self::Body(_)),
            Self::Body(_) => false,
        }
    }
}

fn put_part(out: &mut impl BufMut, name: &str, offset: usize) {
    out.put_slice(name.as_bytes());
    out.put_u8(b'=');
    crate::chunk_encode::put_decimal(out, offset as u64);
}

fn bad(what: &'static str) -> Error {
    Error::new(ErrorKind::Encapsulated, what)
}
