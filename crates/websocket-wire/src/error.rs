//! What goes wrong, and what to say of it.

use std::fmt;

use crate::CloseCode;

/// Why what a peer says is not to be gone on with. Nothing that was read since the last
/// [`Event`](crate::Event) may reach anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    what: &'static str,
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, what: &'static str) -> Self {
        Self { kind, what }
    }

    pub(crate) const fn protocol(what: &'static str) -> Self {
        Self::new(ErrorKind::Protocol, what)
    }

    /// What sort of error it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The particular, in words for a log.
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// What a close frame says of it (RFC 6455 section 7.4.1).
    pub const fn close_code(&self) -> CloseCode {
        match self.kind {
            ErrorKind::Compression | ErrorKind::Text => CloseCode::INVALID_PAYLOAD,
            ErrorKind::Negotiation | ErrorKind::Protocol => CloseCode::PROTOCOL_ERROR,
            ErrorKind::TooLong => CloseCode::TOO_BIG,
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
    /// A message is not what it was compressed to, or not in one way only.
    Compression,
    /// The server agrees on extensions that were not offered, or that nobody can read.
    Negotiation,
    /// A frame that RFC 6455 forbids here.
    Protocol,
    /// Text that is not UTF-8.
    Text,
    /// A message beyond the limits.
    TooLong,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compression => "compressed data that cannot be read",
            Self::Negotiation => "extensions that cannot be read",
            Self::Protocol => "not WebSocket",
            Self::Text => "text that is not UTF-8",
            Self::TooLong => "too long a message",
        })
    }
}
