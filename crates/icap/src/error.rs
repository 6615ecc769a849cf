//! What is wrong with a message.

use std::fmt;

/// Why bytes were not taken as ICAP, or why a message may not be produced.
///
/// It has a [kind](Error::kind) to act on and a sentence for the operator. It owns no memory, so
/// that refusing hostile input costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    what: &'static str,
}

impl Error {
    /// An error of `kind`; `what` completes the sentence "the peer sent …" or names the limit.
    pub const fn new(kind: ErrorKind, what: &'static str) -> Self {
        Self { kind, what }
    }

    /// What sort of error it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The particular: which rule was broken, in words for a log or a reason phrase.
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// The ICAP status a server answers with (RFC 3507 section 4.3.3, and HTTP's where ICAP
    /// inherits them).
    pub const fn status(&self) -> u16 {
        match self.kind {
            ErrorKind::Chunk
            | ErrorKind::Encapsulated
            | ErrorKind::Header
            | ErrorKind::Preview
            | ErrorKind::StartLine => 400,
            ErrorKind::HeadTooLarge => 431,
            ErrorKind::Method => 501,
            ErrorKind::Sequence => 500,
            ErrorKind::TooLarge => 413,
            ErrorKind::UriTooLong => 414,
            ErrorKind::Version => 505,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.what)
    }
}

impl std::error::Error for Error {}

/// The sorts of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A chunk size line, a chunk's end or a trailer is malformed or over its limit.
    Chunk,
    /// The `Encapsulated` header is missing, malformed or contradicts the message.
    Encapsulated,
    /// The head is longer, or has more fields, than [`Limits`](crate::Limits) allow.
    HeadTooLarge,
    /// A header line is malformed.
    Header,
    /// The request's method is none of OPTIONS, REQMOD, RESPMOD.
    Method,
    /// The preview is malformed or longer than promised.
    Preview,
    /// The caller asked for something that the state of the transaction does not allow.
    Sequence,
    /// The request line or status line is malformed.
    StartLine,
    /// An encapsulated part is larger than [`Limits`](crate::Limits) allow.
    TooLarge,
    /// The request's URI is longer than [`Limits`](crate::Limits) allow.
    UriTooLong,
    /// The major version is not 1.
    Version,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chunk => "bad chunk",
            Self::Encapsulated => "bad Encapsulated header",
            Self::HeadTooLarge => "head too large",
            Self::Header => "bad header",
            Self::Method => "unknown method",
            Self::Preview => "bad preview",
            Self::Sequence => "not allowed now",
            Self::StartLine => "bad first line",
            Self::TooLarge => "too large",
            Self::UriTooLong => "URI too long",
            Self::Version => "ICAP version not supported",
        })
    }
}
