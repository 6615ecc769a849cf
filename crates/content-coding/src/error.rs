//! What is wrong with a content, and where.

use std::fmt;

use crate::Coding;

/// A content that is not to be passed on: it is wrong, or two clients could read it differently.
///
/// It is returned after all that was decoded before it (but for what the decoder of `br` had not
/// written when it met the fault).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The coding whose decoder objects.
    pub coding: Coding,
    /// Why.
    pub fault: Fault,
    /// Which decoder objects: 0 for that of the coding that was applied last, which reads what came
    /// over the wire, 1 for that which reads the first one's output, and so on.
    pub layer: usize,
    /// How many bytes that decoder had taken, counted from the beginning of what it reads. The
    /// byte at fault is the last one of these, or one of the few before.
    pub offset: u64,
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} at byte {} of the {} content", self.fault, self.offset, self.coding)?;
        match self.layer {
            0 => Ok(()),
            layer => write!(to, " inside {layer} other codings"),
        }
    }
}

impl std::error::Error for Error {}

/// The ways in which a content can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A `deflate` content that is zlib, and raw DEFLATE with another result; or one inside another
    /// coding of which the first byte comes by itself.
    Ambiguous,
    /// The decoded bytes don't have the checksum that the content states.
    Checksum,
    /// The compressed data itself can't be.
    Data,
    /// A dictionary is needed that was not negotiated.
    Dictionary,
    /// It does not begin as this coding does, or its header has a bit or method that is not defined.
    Header,
    /// The decoded bytes are not as many as the content states.
    Length,
    /// No memory for the decoder.
    Memory,
    /// Something follows the end.
    Trailing,
    /// It ends before its end.
    Truncated,
    /// It wants a larger window than the coding has over HTTP.
    Window,
}

impl Fault {
    /// A short name of lower-case letters, as for the label of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Ambiguous => "ambiguous",
            Fault::Checksum => "checksum",
            Fault::Data => "data",
            Fault::Dictionary => "dictionary",
            Fault::Header => "header",
            Fault::Length => "length",
            Fault::Memory => "memory",
            Fault::Trailing => "trailing",
            Fault::Truncated => "truncated",
            Fault::Window => "window",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Fault::Ambiguous => "a content that is zlib and raw DEFLATE at once",
            Fault::Checksum => "wrong checksum",
            Fault::Data => "broken data",
            Fault::Dictionary => "need of a dictionary",
            Fault::Header => "wrong header",
            Fault::Length => "wrong length",
            Fault::Memory => "no memory for the decoder",
            Fault::Trailing => "something after the end",
            Fault::Truncated => "end before the end",
            Fault::Window => "too large a window",
        })
    }
}
