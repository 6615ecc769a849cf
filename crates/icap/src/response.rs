//! The head of a response.

use bytes::{BufMut, BytesMut};

use crate::fields;
use crate::request::{decimal, minor_version, take_block};
use crate::{Encapsulated, Error, ErrorKind, Headers, Limits, reason_phrase};

/// The head of an ICAP response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    status: u16,
    reason: (u32, u32),
    minor: u8,
    headers: Headers,
    encapsulated: Option<Encapsulated>,
}

impl ResponseHead {
    /// A head to send, with the usual reason phrase.
    pub fn new(status: u16, encapsulated: Option<Encapsulated>) -> Self {
        let mut headers = Headers::new();
        let reason = headers.append(reason_phrase(status).as_bytes());
        Self { status, reason, minor: 0, headers, encapsulated }
    }

    /// Takes one head from the front of `buf`; `None` if it is not complete.
    ///
    /// # Errors
    /// See [`parse_scanned`](Self::parse_scanned).
    pub fn parse(buf: &mut BytesMut, limits: &Limits) -> Result<Option<Self>, Error> {
        Self::parse_scanned(buf, &mut 0, limits)
    }

    /// As [`parse`](Self::parse); `scanned` remembers how far `buf` was searched in vain: 0 for a
    /// new head.
    ///
    /// # Errors
    /// `HeadTooLarge` beyond `limits.max_head` or `max_fields`, `StartLine`, `Version`, `Header`,
    /// and `Encapsulated` if that header is malformed or repeated (its fitness for the request's
    /// method is the caller's to check: [`Encapsulated::check_response`]). A response without it
    /// is legal: 100, 204 and errors do not need it.
    pub fn parse_scanned(
        buf: &mut BytesMut,
        scanned: &mut usize,
        limits: &Limits,
    ) -> Result<Option<Self>, Error> {
        let Some(text) = take_block(buf, scanned, limits)? else { return Ok(None) };
        let mut headers = Headers { text, spans: Vec::with_capacity(16) };
        let (end, next) = fields::line_end(&headers.text, 0).ok_or(start("no line end"))?;
        let line = &headers.text[..end];
        let version_end = memchr::memchr(b' ', line).ok_or(start("no status"))?;
        let minor = minor_version(&line[..version_end])?;
        let status_end =
            memchr::memchr(b' ', &line[version_end + 1..]).map_or(end, |at| version_end + 1 + at);
        let status = match decimal(&line[version_end + 1..status_end]) {
            Some(status @ 100..=599) if status_end == version_end + 4 => status as u16,
            _ => return Err(start("a status that is not three digits from 100 to 599")),
        };
        let reason = ((status_end + 1).min(end) as u32, end as u32);
        fields::parse(&mut headers.text, next, &mut headers.spans, limits)?;
        let mut encapsulated = None;
        for value in headers.all("Encapsulated") {
            if encapsulated.replace(Encapsulated::parse(value, limits)?).is_some() {
                return Err(Error::new(ErrorKind::Encapsulated, "two Encapsulated headers"));
            }
        }
        Ok(Some(Self { status, reason, minor, headers, encapsulated }))
    }

    /// The status, 100 to 599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase; may be empty, and may be anything that the peer wrote.
    pub fn reason(&self) -> &[u8] {
        self.headers.slice(self.reason)
    }

    /// The minor version: 0 for ICAP/1.0.
    pub fn minor_version(&self) -> u8 {
        self.minor
    }

    /// The header fields.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The header fields, to add to. `Encapsulated` is written by [`encode`](Self::encode).
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }

    /// What follows the head, if the header says so.
    pub fn encapsulated(&self) -> Option<Encapsulated> {
        self.encapsulated
    }

    /// Whether the server will close the connection after this response.
    pub fn wants_close(&self) -> bool {
        self.headers.list_contains("Connection", "close")
    }

    /// Writes the head, `Encapsulated` last, the empty line included.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(b"ICAP/1.0 ");
        crate::chunk_encode::put_decimal(out, u64::from(self.status));
        out.put_u8(b' ');
        out.put_slice(self.reason());
        out.put_slice(b"\r\n");
        self.headers.encode_except("Encapsulated", out);
        if let Some(encapsulated) = &self.encapsulated {
            encapsulated.encode(out);
        }
        out.put_slice(b"\r\n");
    }
}

fn start(what: &'static str) -> Error {
    Error::new(ErrorKind::StartLine, what)
}
