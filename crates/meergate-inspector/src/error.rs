//! Why the program, or a process of it, does not do what it was told. Each is one line for the operator.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use start_error::StartError;

/// What went wrong.
#[derive(Debug)]
pub(crate) enum Error {
    /// What the operator gave the program cannot be used: what, where, and what to do.
    Start(StartError),
    /// The engine does not start, or does not take rules.
    Engine(suricata::Error),
    /// The operating system did not do it: what, and why not.
    System(&'static str, io::Error),
    /// One of the program's processes, or somebody within it, said so.
    Told(Reason),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::System(what, error) => write!(f, "cannot {what}: {error}"),
            Self::Told(reason) => reason.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<suricata::Error> for Error {
    fn from(error: suricata::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self::Told(reason)
    }
}

/// An error on its way between threads and processes: the line alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reason(String);

impl Reason {
    /// This line.
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&Error> for Reason {
    fn from(error: &Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Error> for Reason {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}
