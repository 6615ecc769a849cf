//! What is wrong with a message.

use std::fmt;

/// What is wrong with a message.
///
/// Each kind is a reason to refuse the message, never to mend it: see [`Error::status`] for the
/// answer to a client; an upstream's faulty message is a 502 whatever the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A CR that is not followed by LF, or an LF that does not follow CR (RFC 9112 section 2.2).
    BareLineEnd,
    /// A chunk size that is not 1 to 16 hexadecimal digits, or whose line is not well formed.
    ChunkSize,
    /// The data of a chunk is not followed by CRLF.
    ChunkEnd,
    /// A chunk line, or all chunk extensions of a body together, exceed the limit.
    ChunkExtension,
    /// `Connection` names a field that must not be removed on the way, or more than 64 names.
    Connection,
    /// Content-Length that is not one plain decimal number that fits 63 bits.
    ContentLength,
    /// A message that can have no content says that it has some.
    ContentNotAllowed,
    /// A control character (NUL included) where none is allowed.
    ControlCharacter,
    /// Both Content-Length and Transfer-Encoding (RFC 9112 section 6.1).
    LengthAndCoding,
    /// An expectation other than `100-continue`.
    Expectation,
    /// A field name that is empty, not a token, or is followed by space.
    FieldName,
    /// A line that starts with a space or tab: obsolete folding (RFC 9112 section 5.2).
    Fold,
    /// The head is longer than the limit.
    HeadTooLong,
    /// No Host, more than one, or one that is not a plain host with an optional port.
    Host,
    /// A method that is not a token, or longer than 32 bytes.
    Method,
    /// The message ends in the midst of its head, or goes on after it.
    NotOneHead,
    /// A status line that is not `HTTP/1.x 3DIGIT [reason]`.
    StatusLine,
    /// A request target in none of the four forms, or with characters that do not belong there.
    Target,
    /// The request line alone is longer than the limit.
    TargetTooLong,
    /// More fields than the limit.
    TooManyFields,
    /// A trailer field that would change framing, routing or authentication.
    Trailer,
    /// Trailers longer than the limit.
    TrailersTooLong,
    /// Transfer-Encoding that is not exactly one `chunked`, or in an HTTP/1.0 message.
    TransferEncoding,
    /// A transfer coding that exists but is not implemented.
    UnknownCoding,
    /// A protocol version other than HTTP/1.0 and HTTP/1.1.
    Version,
}

/// Why bytes are not a message that is safe to pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    at: Option<usize>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self { kind, at: None }
    }

    pub(crate) fn at(kind: ErrorKind, at: usize) -> Self {
        Self { kind, at: Some(at) }
    }

    /// The reason, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Offset in bytes from the start of the head (or of the chunked body's current line), where
    /// one place is to blame.
    pub fn offset(&self) -> Option<usize> {
        self.at
    }

    /// The status that answers a request with this fault: 400, 414, 417, 431, 501 or 505.
    pub fn status(&self) -> u16 {
        match self.kind {
            ErrorKind::Expectation => 417,
            ErrorKind::HeadTooLong | ErrorKind::TooManyFields => 431,
            ErrorKind::TargetTooLong => 414,
            ErrorKind::UnknownCoding => 501,
            ErrorKind::Version => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ErrorKind::BareLineEnd => "line end that is not CRLF",
            ErrorKind::ChunkSize => "malformed chunk size",
            ErrorKind::ChunkEnd => "chunk data is not followed by CRLF",
            ErrorKind::ChunkExtension => "chunk extensions too long",
            ErrorKind::Connection => "Connection names a field that must be kept, or too many",
            ErrorKind::ContentLength => "Content-Length is not one plain number",
            ErrorKind::ContentNotAllowed => "content where none is allowed",
            ErrorKind::ControlCharacter => "control character in the head",
            ErrorKind::LengthAndCoding => "both Content-Length and Transfer-Encoding",
            ErrorKind::Expectation => "unknown expectation",
            ErrorKind::FieldName => "malformed field name",
            ErrorKind::Fold => "folded header line",
            ErrorKind::HeadTooLong => "message head too long",
            ErrorKind::Host => "Host missing, repeated or malformed",
            ErrorKind::Method => "malformed method",
            ErrorKind::NotOneHead => "not exactly one message head",
            ErrorKind::StatusLine => "malformed status line",
            ErrorKind::Target => "malformed request target",
            ErrorKind::TargetTooLong => "request line too long",
            ErrorKind::TooManyFields => "too many header fields",
            ErrorKind::Trailer => "trailer field that is not allowed there",
            ErrorKind::TrailersTooLong => "trailers too long",
            ErrorKind::TransferEncoding => "Transfer-Encoding is not exactly `chunked`",
            ErrorKind::UnknownCoding => "transfer coding not implemented",
            ErrorKind::Version => "HTTP version not supported",
        })?;
        match self.at {
            Some(at) => write!(f, " (at byte {at})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
