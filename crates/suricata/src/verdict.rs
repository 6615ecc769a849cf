//! What the engine says about bytes.

use std::borrow::Cow;
use std::fmt;

/// What the engine decided about the bytes of one call, and so about everything before them on the flow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a verdict that nobody reads lets everything pass"]
pub enum Verdict {
    /// Nothing in the stream so far is to be stopped.
    Pass,
    /// The stream is to be cut here. The flow is condemned: every later call gives this again.
    Drop(Dropped),
}

impl Verdict {
    /// Whether this is [`Verdict::Drop`].
    pub fn is_drop(&self) -> bool {
        matches!(self, Self::Drop(_))
    }
}

/// Why a stream is to be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// The rule that decided, if it was one.
    pub signature: Option<Signature>,
    /// Suricata's reason.
    pub reason: DropReason,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.signature {
            Some(signature) => signature.fmt(f),
            None => write!(f, "no signature ({})", self.reason),
        }
    }
}

/// Why Suricata dropped (`PacketDropReason`). Only [`DropReason::RULES`] and [`DropReason::THRESHOLD`] come from a
/// rule of the operator, [`DropReason::FLOW`] from an earlier drop; the others mean that the engine could not do its work and failed closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DropReason(u8);

impl DropReason {
    /// A rule matched.
    pub const RULES: Self = Self(8);
    /// A rule matched often enough (`rate_filter`).
    pub const THRESHOLD: Self = Self(9);
    /// The flow was condemned before.
    pub const FLOW: Self = Self(5);

    pub(crate) fn new(code: u8) -> Self {
        Self(code)
    }

    /// Whether a rule is behind it, and not a lack of memory or a broken stream.
    pub fn is_rule(self) -> bool {
        [Self::RULES, Self::THRESHOLD, Self::FLOW].contains(&self)
    }

    /// Suricata's name for it, such as `rules` or `flow memcap`.
    pub fn name(self) -> &'static str {
        suricata_sys::drop_reason_name(self.0)
    }
}

impl fmt::Debug for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DropReason({})", self.name())
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rule, as far as a verdict needs to name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Signature {
    /// Generator id, 1 for ordinary rules.
    pub gid: u32,
    /// Signature id.
    pub sid: u32,
    /// Revision.
    pub rev: u32,
    /// The rule's `msg`, at most 256 bytes.
    pub message: String,
    /// The text of the rule's `classtype`, empty if it has none.
    pub category: String,
    /// Priority, 1 being the highest.
    pub priority: i32,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:{}:{}] {}", self.gid, self.sid, self.rev, self.message)
    }
}

/// A rule that matched, dropping or not. Borrowed from the worker that saw it.
#[derive(Clone, Copy)]
pub struct Alert<'a>(&'a suricata_sys::Alert);

impl<'a> Alert<'a> {
    pub(crate) fn new(raw: &'a suricata_sys::Alert) -> Self {
        Self(raw)
    }

    /// Generator id, 1 for ordinary rules.
    pub fn gid(&self) -> u32 {
        self.0.gid
    }

    /// Signature id.
    pub fn sid(&self) -> u32 {
        self.0.sid
    }

    /// Revision.
    pub fn rev(&self) -> u32 {
        self.0.rev
    }

    /// Whether the rule's action drops.
    pub fn drops(&self) -> bool {
        self.0.drops()
    }

    /// The rule's `msg`, at most 256 bytes.
    pub fn message(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0.message())
    }

    /// An owned copy.
    pub fn signature(&self) -> Signature {
        Signature {
            gid: self.0.gid,
            sid: self.0.sid,
            rev: self.0.rev,
            message: self.message().into_owned(),
            category: String::from_utf8_lossy(self.0.category()).into_owned(),
            priority: self.0.priority,
        }
    }
}

impl fmt::Debug for Alert<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:{}:{}] {}", self.gid(), self.sid(), self.rev(), self.message())
    }
}
