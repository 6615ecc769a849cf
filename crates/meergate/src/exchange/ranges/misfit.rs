//! Why an answer is not the part that it says it is.

use std::fmt;

/// What does not fit; the answer can't be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// More bytes than `Content-Range` says.
    More,
    /// Fewer bytes than `Content-Range` says.
    Less,
    /// Parts of wholes of different lengths.
    Lengths,
    /// The length of the whole is not known.
    NoLength,
    /// Not the boundary where one is expected.
    NoBoundary,
    /// Something else behind a boundary.
    BehindBoundary,
    /// A control character in the head of a part.
    ControlCharacter,
    /// A field stands twice in the head of a part.
    Twice,
    /// The head of a part is no head.
    Malformed,
    /// The head of a part is too long.
    TooLong,
    /// A part does not say which it is.
    Unnamed,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::More => "more came than Content-Range says",
            Self::Less => "less came than Content-Range says",
            Self::Lengths => "parts of wholes of different lengths",
            Self::NoLength => "the length of the whole is missing",
            Self::NoBoundary => "something else stands where a part's boundary is expected",
            Self::BehindBoundary => "something else stands behind a part's boundary",
            Self::ControlCharacter => "a control character in the head of a part",
            Self::Twice => "a field is twice in the head of a part",
            Self::Malformed => "the head of a part is malformed",
            Self::TooLong => "the head of a part is too long",
            Self::Unnamed => "a part does not say which it is",
        })
    }
}

impl std::error::Error for Misfit {}
