//! Records: one JSON line a connection and one a transaction, and the program's own log.

mod connection;
mod file;
mod lines;
mod time;
mod transaction;

use std::sync::Arc;

use start_error::StartError;

use crate::config::Log;
use crate::metrics::Metrics;
use crate::words::LogName;

pub use self::time::rfc3339;
pub use connection::{ConnectionRecord, MirrorRecord, TlsRecord};
pub(crate) use file::{Losses, Lost, Records};
pub use lines::Lines;
pub use transaction::{Adaptation, BlockRecord, ServiceRecord, TransactionRecord};

/// The open record files.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// One line a client connection.
    pub connections: Option<Arc<Lines>>,
    /// One line a transaction.
    pub transactions: Option<Arc<Lines>>,
}

impl Logs {
    /// Opens the files that the settings name.
    ///
    /// # Errors
    /// A file cannot be opened for appending.
    pub fn open(log: &Log, metrics: &Metrics) -> Result<Self, StartError> {
        let open = |path: &Option<std::path::PathBuf>, name| match path {
            None => Ok(None),
            Some(path) => Lines::open(path, name, metrics).map(Arc::new).map(Some),
        };
        Ok(Self {
            connections: open(&log.connections, LogName::Connections)?,
            transactions: open(&log.transactions, LogName::Transactions)?,
        })
    }
}
