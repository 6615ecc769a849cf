//! What adds up and becomes known of a connection on its way.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Action, UpstreamProxy};
use crate::records::{BlockRecord, MirrorRecord};
use crate::tls::TlsFacts;

/// Sums of one connection.
#[derive(Debug, Default)]
pub struct Totals {
    from_client: AtomicU64,
    from_server: AtomicU64,
    transactions: AtomicU64,
    notes: Mutex<Notes>,
}

impl Totals {
    /// Adds `bytes` that came from the client.
    pub fn add_from_client(&self, bytes: u64) {
        self.from_client.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds `bytes` that came from the server.
    pub fn add_from_server(&self, bytes: u64) {
        self.from_server.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts one transaction and returns how many there were before it.
    pub fn next_transaction(&self) -> u64 {
        self.transactions.fetch_add(1, Ordering::Relaxed)
    }

    /// What became known of the connection, for its record.
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes from the client, bytes from the server, transactions.
    pub fn sums(&self) -> (u64, u64, u64) {
        (
            self.from_client.load(Ordering::Relaxed),
            self.from_server.load(Ordering::Relaxed),
            self.transactions.load(Ordering::Relaxed),
        )
    }
}

/// What becomes known of a connection on its way, for its record.
#[derive(Debug, Default)]
pub struct Notes {
    /// The host and port that all of it goes to.
    pub target: Option<String>,
    /// The origin's address.
    pub server: Option<SocketAddr>,
    /// The proxy that leads there.
    pub proxy: Option<Arc<UpstreamProxy>>,
    /// The user.
    pub user: Option<Arc<str>>,
    /// What the rules said, and which.
    pub decision: Option<(Action, Option<Arc<str>>)>,
    /// The TLS of both sides.
    pub tls: Option<Arc<TlsFacts>>,
    /// What the services that take streams made of the TLS handshake.
    pub mirror: Option<MirrorRecord>,
    /// The protocol of a stream, as a service recognised it.
    pub protocol: Option<String>,
    /// Why a service blocked a stream.
    pub block: Option<BlockRecord>,
    /// What went wrong.
    pub detail: Option<String>,
}
