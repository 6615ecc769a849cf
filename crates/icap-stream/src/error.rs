//! What goes wrong, and where.

use std::fmt;

/// Why a frame was refused, or may not be written. Whoever gets one ends the stream: what was not
/// passed by then never leaves.
///
/// It has a [kind](Error::kind) to act on, a sentence for the operator, and says [where](Error::at)
/// it happened. It owns no memory, so refusing hostile input costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    at: u64,
    what: &'static str,
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, at: u64, what: &'static str) -> Self {
        Self { kind, at, what }
    }

    /// What sort of error it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where: bytes of frames, read or written, before the frame in question. 0 where no frame is.
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The particular: which rule was broken, in words for a log.
    pub const fn what(&self) -> &'static str {
        self.what
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of the frames: {}", self.kind, self.at, self.what)
    }
}

impl std::error::Error for Error {}

/// The sorts of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Fields or a text that are malformed, too many, or lack what they must say.
    Fields,
    /// A flag that means nothing on this type of frame.
    Flags,
    /// A payload longer or shorter than this type of frame may have.
    Length,
    /// An `X-Meergate` field whose part about streams is malformed.
    Offer,
    /// An offset that goes back, or past what was sent.
    Offset,
    /// A frame that the state of the stream does not allow.
    Sequence,
    /// The body ended within a frame, or before the stream was over.
    Truncated,
    /// A type of frame that must be understood and is not, or a stream other than 0.
    UnknownFrame,
    /// More bytes without a verdict than the window allows.
    Window,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fields => "bad fields",
            Self::Flags => "bad flags",
            Self::Length => "bad length",
            Self::Offer => "bad offer of streams",
            Self::Offset => "bad offset",
            Self::Sequence => "not allowed now",
            Self::Truncated => "cut short",
            Self::UnknownFrame => "unknown frame",
            Self::Window => "window overrun",
        })
    }
}
