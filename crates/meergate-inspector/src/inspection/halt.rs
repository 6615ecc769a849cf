//! Why a transaction does not pass.

use std::fmt;

use icap_server::TransactError;
use suricata::{Dropped, Loss};

use crate::inspection::framing::Contradiction;
use crate::inspection::metrics::Uninspected;
use crate::inspection::refusal::Refusal;

/// The end of a transaction before its time.
#[derive(Debug)]
pub(crate) enum Halt {
    /// A rule asked for a drop.
    Blocked(Dropped),
    /// The ICAP connection failed, or its client broke the protocol.
    Client(TransactError),
    /// The message cannot be inspected as its receiver would read it.
    Contradiction(Contradiction),
    /// The engine could not inspect.
    Engine(suricata::Error),
    /// The engine asked for a drop because it could not go on, not because of a rule.
    GaveUp(Dropped),
    /// Its content cannot be inspected as its receiver would read it, and the settings say no.
    Refused(Refusal),
    /// Another transaction has ended the flow that this one was on.
    FlowGone,
    /// Its client has its share of transactions under way.
    OverShare,
    /// The ring is full of coded content of which nobody can say what it decodes to.
    Stuck,
    /// More transactions than connections: there is no ring for this one.
    TooMany,
    /// The body is longer than what may be held, all of it has to be held, and the client keeps
    /// no copy.
    TooLong,
}

impl Halt {
    /// The reason under which bytes are counted that this kept from inspection.
    pub(crate) fn reason(&self) -> Option<Uninspected> {
        match self {
            Self::Blocked(_) => Some(Uninspected::AfterDrop),
            Self::Contradiction(_) => Some(Uninspected::Contradiction),
            Self::Engine(error) => Some(match error.loss() {
                None => Uninspected::Engine,
                Some(Loss::Memory) => Uninspected::EngineMemory,
                Some(Loss::Rule) => Uninspected::EngineRule,
                Some(Loss::Stream) => Uninspected::EngineStream,
                Some(_) => Uninspected::EngineContent,
            }),
            Self::Refused(_) => Some(Uninspected::Refused),
            Self::FlowGone | Self::GaveUp(_) | Self::Stuck | Self::TooLong | Self::TooMany => {
                Some(Uninspected::Engine)
            }
            // Nothing of it was read.
            Self::Client(_) | Self::OverShare => None,
        }
    }

    /// The ICAP status that says so.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Contradiction(_) => 400,
            Self::OverShare => 503,
            Self::Engine(error) if error.loss() == Some(Loss::Memory) => 503,
            _ => 500,
        }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(dropped) => write!(f, "blocked: {dropped}"),
            Self::Client(error) => write!(f, "the ICAP client: {error}"),
            Self::Contradiction(error) => write!(f, "cannot be inspected: {error}"),
            Self::Engine(error) => write!(f, "not inspected: {error}"),
            Self::GaveUp(dropped) => write!(f, "not inspected: {}", dropped.reason),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Stuck => f.write_str(
                "not inspected: too much of the coded content has to come before any of it can be \
                 decoded",
            ),
            Self::FlowGone => f.write_str("not inspected: its connection was closed"),
            Self::OverShare => f.write_str(
                "not inspected: its client has as much under way as limits.per_client_percent allows",
            ),
            Self::TooMany => f.write_str("not inspected: no buffer is free"),
            Self::TooLong => f.write_str(
                "not inspected: the body is longer than limits.max_held, all of it has to be \
                 held, and the client does not allow a 204",
            ),
        }
    }
}

impl From<Contradiction> for Halt {
    fn from(contradiction: Contradiction) -> Self {
        Self::Contradiction(contradiction)
    }
}

impl From<http_wire::Error> for Halt {
    fn from(error: http_wire::Error) -> Self {
        Self::Contradiction(Contradiction::Head(error))
    }
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<suricata::Error> for Halt {
    fn from(error: suricata::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<TransactError> for Halt {
    fn from(error: TransactError) -> Self {
        Self::Client(error)
    }
}
