//! The framing that ICAP takes away, given back, so that the engine reads a stream in which head
//! and body agree.

use std::fmt;

use http_wire::{Framing, RequestHead, ResponseHead};

/// Longest line that a chunk needs in front: 16 digits and CRLF.
const CHUNK_LINE: usize = 18;
const CRLF: &[u8] = b"\r\n";
const CHUNKED_FIELD: &[u8] = b"Transfer-Encoding: chunked\r\n\r\n";

/// A message whose head and body say different things, or whose head can be read in two ways. It
/// cannot be inspected as the receiver would read it, so its transaction fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contradiction {
    /// More body than Content-Length.
    BodyTooLong,
    /// Less body than Content-Length.
    BodyTooShort {
        /// Bytes that never came.
        missing: u64,
    },
    /// A body where the head allows none.
    BodyUnexpected,
    /// No body where the head announces one.
    BodyMissing,
    /// A `Content-Disposition` longer than the names of files that the engine takes.
    FileName,
    /// The ICAP message has no head of the kind that its method is about.
    HeadMissing,
    /// A path that servers which leave out parameters read as another one.
    PathAmbiguous,
    /// A target without a path, without which the engine takes no content for a file.
    PathMissing,
    /// More fields repeat names than the engine keeps.
    Repetitions,
    /// Trailers behind a body that only the end of the connection ends.
    TrailersUnexpected,
    /// The head itself.
    Head(http_wire::Error),
    /// A path that an upload has its file's name from, and longer than the engine takes.
    UploadPath,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BodyTooLong => f.write_str("the body is longer than its Content-Length"),
            Self::BodyTooShort { missing } => {
                write!(f, "the body ends {missing} bytes before its Content-Length")
            }
            Self::BodyUnexpected => f.write_str("a body where the head allows none"),
            Self::BodyMissing => f.write_str("the head announces a body and there is none"),
            Self::FileName => f.write_str(
                "a Content-Disposition is longer than the names of files that the engine takes, 4096 bytes",
            ),
            Self::HeadMissing => f.write_str("there is no HTTP head"),
            Self::PathAmbiguous => f.write_str(
                "the request's path has a folder of parameters alone, such as /;/ or /..;/, which servers leave out or go up by",
            ),
            Self::PathMissing => f.write_str(
                "the request's target has no path, without which the engine takes no content for a file",
            ),
            Self::Repetitions => f.write_str(
                "more fields have a name that two before them have than the engine keeps, which is 64",
            ),
            Self::TrailersUnexpected => {
                f.write_str("trailers after a body that only the end of its connection ends")
            }
            Self::Head(error) => write!(f, "the HTTP head: {error}"),
            Self::UploadPath => f.write_str(
                "an upload's path is longer than the names of files that the engine takes, 4096 bytes",
            ),
        }
    }
}

impl std::error::Error for Contradiction {}

impl From<http_wire::Error> for Contradiction {
    fn from(error: http_wire::Error) -> Self {
        Self::Head(error)
    }
}

/// How one body goes to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// In chunks.
    Chunked,
    /// No body.
    Empty,
    /// So many bytes are still to come.
    Length(u64),
    /// As it is; the end of the flow ends it.
    UntilClose,
}

impl BodyFraming {
    /// The framing of a request body, and how its head must end. ICAP clients remove
    /// `Transfer-Encoding`; if there is a body and no length, we put `chunked` back.
    ///
    /// # Errors
    /// A head that contradicts itself or the ICAP message around it.
    pub(crate) fn request(
        head: &RequestHead,
        has_body: bool,
    ) -> Result<(Self, HeadEnd), Contradiction> {
        match (head.framing()?, has_body) {
            (Framing::None, true) => Ok((Self::Chunked, HeadEnd::AddChunked)),
            (framing, has_body) => Self::declared(framing, has_body).map(|b| (b, HeadEnd::AsIs)),
        }
    }

    /// For a response to a request with this method, if one is known.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub(crate) fn response(
        head: &ResponseHead,
        method: Option<&[u8]>,
        has_body: bool,
    ) -> Result<Self, Contradiction> {
        let framing = head.framing(method.unwrap_or(b"GET"))?;
        match (framing, has_body, method) {
            // Without a request it may have been HEAD; nothing follows on such a flow anyway.
            (_, false, None) | (Framing::UntilClose, false, _) => Ok(Self::Empty),
            (framing, has_body, _) => Self::declared(framing, has_body),
        }
    }

    fn declared(framing: Framing, has_body: bool) -> Result<Self, Contradiction> {
        match (framing, has_body) {
            (Framing::None, _) | (Framing::Length(0), false) => Ok(Self::Empty),
            (Framing::Length(n), true) => Ok(Self::Length(n)),
            (Framing::Length(_) | Framing::Chunked, false) => Err(Contradiction::BodyMissing),
            (Framing::Chunked, true) => Ok(Self::Chunked),
            (Framing::UntilClose, _) => Ok(Self::UntilClose),
        }
    }

    /// The framing for content that the engine gets decoded: a stated length no longer fits, so the
    /// content becomes chunked. Returns the framing and how the head must end; `end` is how it ends
    /// if nothing changes.
    pub(crate) fn of_decoded(self, end: HeadEnd) -> (Self, HeadEnd) {
        match self {
            Self::Length(_) => (Self::Chunked, HeadEnd::AddChunked),
            Self::Chunked | Self::Empty | Self::UntilClose => (self, end),
        }
    }

    /// What goes around the next `len` bytes of body.
    ///
    /// # Errors
    /// More bytes than the head allows.
    pub(crate) fn piece(&mut self, len: usize) -> Result<Delimiters, Contradiction> {
        match self {
            _ if len == 0 => Ok(Delimiters::NOTHING),
            Self::Empty => Err(Contradiction::BodyUnexpected),
            Self::UntilClose => Ok(Delimiters::NOTHING),
            Self::Chunked => Ok(Delimiters::chunk(len)),
            Self::Length(left) => match left.checked_sub(len as u64) {
                Some(rest) => {
                    *left = rest;
                    Ok(Delimiters::NOTHING)
                }
                None => Err(Contradiction::BodyTooLong),
            },
        }
    }

    /// The body is over: what still goes to the engine in front of the trailers, and behind.
    ///
    /// # Errors
    /// Fewer bytes than the head announced.
    pub(crate) fn end(self) -> Result<(&'static [u8], &'static [u8]), Contradiction> {
        match self {
            Self::Chunked => Ok((b"0\r\n", CRLF)),
            Self::Length(missing) if missing > 0 => Err(Contradiction::BodyTooShort { missing }),
            Self::Empty | Self::Length(_) | Self::UntilClose => Ok((b"", b"")),
        }
    }

    /// Whether another message can follow on the flow.
    pub(crate) fn delimited(self) -> bool {
        self != Self::UntilClose
    }
}

/// How a head ends for the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadEnd {
    /// With the chunked coding declared.
    AddChunked,
    /// As it came.
    AsIs,
}

impl HeadEnd {
    /// The two parts of the head.
    pub(crate) fn split(self, head: &[u8]) -> (&[u8], &'static [u8]) {
        match self {
            Self::AddChunked => (head.strip_suffix(CRLF).unwrap_or(head), CHUNKED_FIELD),
            Self::AsIs => (head, b""),
        }
    }
}

/// Bytes in front of and behind a piece of body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delimiters {
    line: [u8; CHUNK_LINE],
    start: usize,
    after: &'static [u8],
}

impl Delimiters {
    const NOTHING: Self = Self { line: [0; CHUNK_LINE], start: CHUNK_LINE, after: b"" };

    fn chunk(len: usize) -> Self {
        let mut line = [0; CHUNK_LINE];
        line[CHUNK_LINE - 2..].copy_from_slice(CRLF);
        let (mut start, mut rest) = (CHUNK_LINE - 2, len);
        while rest > 0 {
            start -= 1;
            line[start] = b"0123456789abcdef"[rest & 0xf];
            rest >>= 4;
        }
        Self { line, start, after: CRLF }
    }

    /// In front of the piece.
    pub(crate) fn before(&self) -> &[u8] {
        &self.line[self.start..]
    }

    /// Behind the piece.
    pub(crate) fn after(&self) -> &'static [u8] {
        self.after
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_wire::Limits;

    use super::*;

    fn request(text: &'static str) -> RequestHead {
        RequestHead::from_bytes(Bytes::from_static(text.as_bytes()), &Limits::default()).unwrap()
    }

    fn response(text: &'static str) -> ResponseHead {
        ResponseHead::from_bytes(Bytes::from_static(text.as_bytes()), &Limits::default()).unwrap()
    }

    /// Body pieces as the engine sees them.
    fn framed(mut framing: BodyFraming, pieces: &[&[u8]]) -> Result<Vec<u8>, Contradiction> {
        let mut out = Vec::new();
        for piece in pieces {
            let delimiters = framing.piece(piece.len())?;
            out.extend([delimiters.before(), piece, delimiters.after()].concat());
        }
        let (before, after) = framing.end()?;
        out.extend([before, after].concat());
        Ok(out)
    }

    #[test]
    fn chunked_bodies_are_chunked_again() {
        let head = response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let framing = BodyFraming::response(&head, Some(b"GET"), true).unwrap();
        let long = vec![b'x'; 0x1f0];
        let out = framed(framing, &[b"abc", b"", &long]).unwrap();
        let expected = [b"3\r\nabc\r\n1f0\r\n".as_slice(), &long, b"\r\n0\r\n\r\n"].concat();
        assert_eq!(out, expected);
        assert!(framing.delimited());
    }

    #[test]
    fn lengths_must_be_true() {
        let head = response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let framing = BodyFraming::response(&head, Some(b"GET"), true).unwrap();
        assert_eq!(framed(framing, &[b"ab", b"cde"]).unwrap(), b"abcde");
        assert_eq!(framed(framing, &[b"abcdef"]), Err(Contradiction::BodyTooLong));
        assert_eq!(framed(framing, &[b"abc"]), Err(Contradiction::BodyTooShort { missing: 2 }));
        assert_eq!(
            BodyFraming::response(&head, Some(b"GET"), false),
            Err(Contradiction::BodyMissing)
        );
    }

    #[test]
    fn a_response_without_length_ends_with_its_flow() {
        let head = response("HTTP/1.1 200 OK\r\nServer: x\r\n\r\n");
        let framing = BodyFraming::response(&head, Some(b"GET"), true).unwrap();
        assert_eq!(framed(framing, &[b"ab", b"c"]).unwrap(), b"abc");
        assert!(!framing.delimited());
    }

    #[test]
    fn responses_without_a_body_have_none() {
        let head = response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let framing = BodyFraming::response(&head, Some(b"HEAD"), false).unwrap();
        assert_eq!(framed(framing, &[]).unwrap(), b"");
        assert_eq!(framed(framing, &[b"x"]), Err(Contradiction::BodyUnexpected));
        let head = response("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(BodyFraming::response(&head, Some(b"GET"), false), Ok(BodyFraming::Empty));
    }

    #[test]
    fn a_request_whose_coding_was_stripped_gets_it_back() {
        let head = request("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (framing, end) = BodyFraming::request(&head, true).unwrap();
        let (a, b) = end.split(head.bytes());
        assert_eq!(
            [a, b].concat(),
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(framed(framing, &[b"hello"]).unwrap(), b"5\r\nhello\r\n0\r\n\r\n");
    }

    #[test]
    fn a_head_that_can_be_read_twice_is_refused() {
        let head = request(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        assert!(matches!(BodyFraming::request(&head, true), Err(Contradiction::Head(_))));
    }
}
