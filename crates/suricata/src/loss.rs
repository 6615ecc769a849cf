//! What the engine went on without looking at.

use std::fmt;

use suricata_sys::loss;

/// Why bytes that went through the engine count as not inspected all the same: it has limits beyond which it goes on
/// without looking, and without failing. The project's `docs/limits.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Loss {
    /// Not all content of a message was kept for the rules, or more than there was.
    Content,
    /// Memory was refused: one of Suricata's memory caps is reached, such as `app-layer.protocols.http.memcap`, or the
    /// machine has none left.
    Memory,
    /// A rule gave up on what it looked at, at a limit of its regular expression or of the number of buffers that it
    /// is tried on.
    Rule,
    /// Data of the stream did not reach the parser.
    Stream,
}

impl Loss {
    pub(crate) fn new(code: u8) -> Option<Self> {
        match code {
            loss::NOTHING => None,
            loss::MEMORY => Some(Self::Memory),
            loss::RULE => Some(Self::Rule),
            loss::STREAM => Some(Self::Stream),
            _ => Some(Self::Content),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Content => "the engine did not keep all content for its rules",
            Self::Memory => {
                "the engine was refused memory: raise its memory caps, or serve less at once"
            }
            Self::Rule => "a rule gave up on it: a regular expression took too long, or there was too much to try it on",
            Self::Stream => "the engine did not keep all of the stream",
        })
    }
}
