//! Why a transaction failed.

use std::{fmt, io};

/// Why a transaction did not come to its end.
///
/// A service passes on what [`BodyReader`](crate::BodyReader) and [`Reply`](crate::Reply) return,
/// and uses `Failed` for reasons of its own. Before a reply has started, the server answers with
/// the fitting status; after, it cuts the connection, so that no client takes a part for the
/// whole.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransactError {
    /// The service failed: 500 with this reason; the connection is kept if no reply had started.
    Failed(String),
    /// The connection broke, or the client closed it in the middle.
    Io(io::Error),
    /// The client broke the protocol, or (`Sequence`) the service asked for a reply that does not
    /// fit the transaction.
    Protocol(icap::Error),
    /// Run this transaction on the thread of this number instead. The connection moves there
    /// (`Outcome::Migrate`). The service there must not return `Elsewhere` again. After the service
    /// has asked for the body or begun a reply, it is a failure.
    Elsewhere(usize),
    /// The client neither sent nor took anything for too long: 408.
    Stalled,
}

impl fmt::Display for TransactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "service failed: {reason}"),
            Self::Io(error) => write!(f, "connection broken: {error}"),
            Self::Protocol(error) => write!(f, "protocol error: {error}"),
            Self::Elsewhere(worker) => write!(f, "a transaction of thread {worker}"),
            Self::Stalled => f.write_str("client stalled"),
        }
    }
}

impl std::error::Error for TransactError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Protocol(error) => Some(error),
            Self::Failed(_) | Self::Elsewhere(_) | Self::Stalled => None,
        }
    }
}

impl From<io::Error> for TransactError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<icap::Error> for TransactError {
    fn from(error: icap::Error) -> Self {
        Self::Protocol(error)
    }
}
