//! What is known of one client connection, and what all connections share.

mod address;
mod target;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shares::{Client, Ledger};
use tokio::sync::watch;

use crate::capture::Capture;
use crate::config::Config;
use crate::log::{Logs, Notes};
use crate::metrics::{LimitLabels, Metrics};
use crate::policy::{Attempts, Policy, Users};
use crate::tls::{self, Pinning, TlsFacts};
use crate::upstream::{Own, Resolver, Route};

pub use address::embedded;
pub use target::{BadTarget, Target};

/// One client connection from here on: who talks to whom, and by which settings.
///
/// Immutable; cloning is cheap. A CONNECT within an explicit proxy connection makes a new session
/// with the same [`Session::id`].
#[derive(Clone, Debug)]
pub struct Session {
    /// Names this client connection, uniquely among all runs; sent as `X-Connection-Id`.
    pub id: Arc<str>,
    /// The client's address.
    pub client: SocketAddr,
    /// The address that the client connected to: ours, or its original destination.
    pub local: SocketAddr,
    /// The way the connection came in, as listeners print it: `proxy`, `redirect`, ...
    pub listener: &'static str,
    /// The user, where one is known.
    pub user: Option<Arc<str>>,
    /// What the client speaks inside (after interception).
    pub scheme: Scheme,
    /// Where the requests go; `None` where each request names its own target (absolute-form).
    pub route: Option<Route>,
    /// The TLS of both sides, when it was intercepted.
    pub tls: Option<Arc<TlsFacts>>,
    /// The settings in force when the connection was accepted.
    pub settings: Arc<Settings>,
    /// What all connections share.
    pub shared: Arc<Shared>,
    /// What this connection added up to so far, for its log record.
    pub totals: Arc<Totals>,
}

impl Session {
    /// Whom shares are counted to.
    pub fn party(&self) -> Client {
        self.client.into()
    }

    /// The host and port that the requests go to, if the connection has one target.
    pub fn target(&self) -> Option<&Target> {
        self.route.as_ref().map(|route| &route.target)
    }
}

/// What a URL of this connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// Inside TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of URLs that name none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What all connections share for the life of the process.
#[derive(Debug)]
pub struct Shared {
    /// Counters.
    pub metrics: Metrics,
    /// Names to addresses, cached.
    pub resolver: Resolver,
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
        let labels = LimitLabels { limit: "lookups_per_client" };
        let waited = metrics.limited.get_or_create(&labels).clone();
        let attempts = Arc::new(Attempts::new(&metrics));
        let copies = metrics.copies.clone();
        Self {
            metrics,
            resolver: Resolver::new(waited),
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

/// What a reload replaces as a whole; open connections keep the ones they began with.
pub struct Settings {
    /// The settings as read.
    pub config: Config,
    /// The CA, forged leaves and everything else of TLS.
    pub tls: tls::Context,
    /// Rules, and the ICAP services that they choose.
    pub policy: Policy,
    /// Who may use the explicit proxy and SOCKS5; `None` where nobody is asked.
    pub users: Option<Arc<Users>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("config", &self.config).finish_non_exhaustive()
    }
}

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
