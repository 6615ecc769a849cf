//! `[dns]`: DNS messages within HTTP (RFC 8484), and what is answered in the place of one that is blocked.

use serde::{Deserialize, Serialize};

/// `[dns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DnsSettings {
    /// The engine is shown them as DNS too.
    pub(crate) inspect: bool,
    /// What a client that speaks DNS is told of a message that was blocked.
    pub(crate) blocked: Denial,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self { inspect: true, blocked: Denial::Refused }
    }
}

/// A response code that says no (RFC 1035 section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Denial {
    /// There is no such name. Resolvers and clients keep that in mind.
    Nxdomain,
    /// The server does not want to. Many clients ask another server then.
    Refused,
}

impl Denial {
    /// The RCODE.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Nxdomain => 3,
            Self::Refused => 5,
        }
    }
}
