//! What all connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shares::Ledger;
use tokio::sync::watch;

use crate::capture::Capture;
use crate::metrics::{LimitLabels, Metrics};
use crate::policy::Attempts;
use crate::records::Logs;
use crate::tls::Pinning;
use crate::upstream::{Fetched, Own, Resolver};
use crate::words::Limited;

/// What all connections share for the life of the process.
#[derive(Debug)]
pub struct Shared {
    /// Counters.
    pub metrics: Metrics,
    /// Names to addresses, cached.
    pub resolver: Resolver,
    /// Certificates of CAs that origins left out.
    pub fetched: Fetched,
    /// Our own listeners, to which no client is led.
    pub own: Own,
    /// The connection and transaction logs.
    pub logs: Logs,
    /// Captures of decrypted traffic.
    pub capture: Option<Arc<Capture>>,
    /// What clients make of forged certificates.
    pub pinning: Pinning,
    /// Passwords that are tried.
    pub attempts: Arc<Attempts>,
    /// Memory for contents of HTTP/2 streams that nobody may be reading, in bytes.
    pub stream_windows: Arc<Ledger>,
    /// Memory for copies of contents that services may pass, in bytes.
    pub copies: Arc<Ledger>,
    stopping: watch::Sender<bool>,
    ids: Ids,
}

impl Shared {
    /// Puts them together for a process that begins.
    pub fn new(metrics: Metrics, logs: Logs, capture: Option<Arc<Capture>>, own: Own) -> Self {
        let labels = LimitLabels { limit: Limited::LookupsPerClient };
        let waited = metrics.limited.get_or_create(&labels).clone();
        let attempts = Arc::new(Attempts::new(&metrics));
        let copies = metrics.copies.clone();
        Self {
            metrics,
            resolver: Resolver::new(waited),
            fetched: Fetched::default(),
            own,
            logs,
            capture,
            pinning: Pinning::new(),
            attempts,
            stream_windows: Ledger::new(),
            copies,
            stopping: watch::Sender::new(false),
            ids: Ids::new(),
        }
    }

    /// Asks all connections to end after what they are in the middle of.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether connections are to end after what they are in the middle of.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves once connections are to end.
    pub async fn stopping(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// A name for a new client connection.
    pub fn next_connection_id(&self) -> Arc<str> {
        self.ids.next()
    }
}

/// Names of connections: a random start for each run, then a count.
#[derive(Debug)]
struct Ids {
    run: u64,
    count: AtomicU64,
}

impl Ids {
    fn new() -> Self {
        let mut bytes = [0; 8];
        // Without random numbers no TLS works either; ids then repeat among runs only.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        Self { run: u64::from_be_bytes(bytes) >> 24, count: AtomicU64::new(1) }
    }

    fn next(&self) -> Arc<str> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{:010x}-{count:x}", self.run).into()
    }
}
