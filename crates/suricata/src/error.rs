//! The one error of this crate.

use std::error::Error as StdError;
use std::fmt;

use crate::loss::Loss;

/// What went wrong, with a [kind](ErrorKind) to match on and a message for the operator.
pub struct Error {
    kind: ErrorKind,
    message: String,
    loss: Option<Loss>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kinds of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is, or was, an engine in this process. Start another process.
    AlreadyStarted,
    /// A setting, or a file that it names, cannot be used.
    Config,
    /// The engine did not inspect what it was given. Treat the transaction as failed, never as passed; the flow is
    /// over.
    InspectionFailed,
    /// The call makes no sense: a flow given to another worker, equal addresses at both ends.
    Misuse,
    /// The rules cannot be used. At a reload the old ones stay in force.
    Rules,
    /// The engine is stopping or has stopped.
    Stopped,
    /// The engine did not come to an end of what was asked in time: most likely a worker neither feeds nor idles.
    TimedOut,
}

impl Error {
    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the engine did not look at, if that is why [inspection failed](ErrorKind::InspectionFailed).
    pub fn loss(&self) -> Option<Loss> {
        self.loss
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), loss: None, source: None }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn inspection(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InspectionFailed, message)
    }

    pub(crate) fn lost(loss: Loss) -> Self {
        Self { loss: Some(loss), ..Self::inspection(loss.to_string()) }
    }

    pub(crate) fn stopped() -> Self {
        Self::new(ErrorKind::Stopped, "the engine has stopped")
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
