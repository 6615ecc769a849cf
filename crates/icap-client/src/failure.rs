//! Why a transaction could not be adapted.

use std::fmt;
use std::sync::Arc;

/// A transaction that no service answered usefully. Whoever gets one answers with an error page:
/// where policy allows a message to go on unadapted, the chain has already done so.
#[derive(Clone, Debug)]
pub struct Failure {
    service: Arc<str>,
    kind: FailureKind,
    detail: String,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The connection ended in the middle of the transaction.
    Closed,
    /// No connection could be had: refused, unreachable, no name, TLS handshake failed, or every
    /// endpoint is known to be down.
    Connect,
    /// The service has no room: Max-Connections reached, or it answered 503.
    Overload,
    /// What the service sent is not ICAP, or not an answer to what was asked.
    Protocol,
    /// The service answered with an error status.
    Refused,
    /// The sender of the message being adapted failed, not the service.
    Source,
    /// The service took longer than its time limit.
    Timeout,
    /// The service is set up in a way that can't work: a method it does not offer.
    Unsuitable,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Closed,
        Self::Connect,
        Self::Overload,
        Self::Protocol,
        Self::Refused,
        Self::Source,
        Self::Timeout,
        Self::Unsuitable,
    ];

    /// A short name for logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Connect => "connect",
            Self::Overload => "overload",
            Self::Protocol => "protocol",
            Self::Refused => "refused",
            Self::Source => "source",
            Self::Timeout => "timeout",
            Self::Unsuitable => "unsuitable",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl Failure {
    /// A failure of the named service.
    pub fn new(service: Arc<str>, kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { service, kind, detail: detail.into() }
    }

    /// The service that failed.
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// What went wrong.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What went wrong, where, in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ICAP service {}: {} ({})", self.service, self.detail, self.kind.name())
    }
}

impl std::error::Error for Failure {}
