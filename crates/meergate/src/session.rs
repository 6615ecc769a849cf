//! What is known of one client connection, and what all connections share.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::config::Config;
use crate::log::{Logs, Notes};
use crate::metrics::Metrics;
use crate::policy::{Policy, Users};
use crate::tls::{self, Pinning, TlsFacts};
use crate::upstream::{Resolver, Route};

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

/// A host (name or address, IPv6 without brackets, lower case) and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The name or address.
    pub host: Arc<str>,
    /// The TCP port.
    pub port: u16,
}

/// A target that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTarget;

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither a host name nor an address, with a port of 1 to 65535")
    }
}

impl std::error::Error for BadTarget {}

impl Target {
    /// Checks `host` (a DNS name up to 253 bytes, an IPv4 address, an IPv6 address with or without
    /// brackets) and puts it into the one spelling that is compared everywhere.
    pub fn new(host: &str, port: u16) -> Result<Self, BadTarget> {
        if port == 0 {
            return Err(BadTarget);
        }
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(BadTarget)?,
            None => host,
        };
        if let Ok(address) = bare.parse::<IpAddr>() {
            let bracketed = bare.len() != host.len();
            if bracketed && address.is_ipv4() {
                return Err(BadTarget);
            }
            return Ok(Self { host: address.to_string().into(), port });
        }
        if bare.len() != host.len() || !is_host_name(host) {
            return Err(BadTarget);
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        Ok(Self { host: name.to_ascii_lowercase().into(), port })
    }

    /// Reads `host:port` or `host`, as CONNECT and `Host` have them (RFC 9110 section 7.2).
    pub fn from_authority(authority: &str, default_port: u16) -> Result<Self, BadTarget> {
        let (host, port) = match authority.rfind(':') {
            Some(at) if !authority[at..].contains(']') => (&authority[..at], &authority[at + 1..]),
            _ => return Self::new(authority, default_port),
        };
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadTarget);
        }
        if host.contains(':') && !host.starts_with('[') {
            return Err(BadTarget);
        }
        Self::new(host, port.parse().map_err(|_| BadTarget)?)
    }

    /// The target of an address.
    pub fn from_address(address: SocketAddr) -> Self {
        Self { host: address.ip().to_canonical().to_string().into(), port: address.port() }
    }

    /// The address, if the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// `host:port`, IPv6 in brackets.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// LDH labels and underscores: what resolvers and certificates use. Names of digits and dots only
/// are refused, since some resolvers read them as addresses (`0x7f.1`, `127.1`).
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_is_right = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_numeric = |label: &str| {
        label.bytes().all(|b| b.is_ascii_digit())
            || label
                .strip_prefix("0x")
                .or_else(|| label.strip_prefix("0X"))
                .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    name.len() <= 253
        && name.split('.').all(label_is_right)
        && name.rsplit('.').next().is_some_and(|last| !is_numeric(last))
}

/// What all connections share for the life of the process.
#[derive(Debug)]
pub struct Shared {
    /// Counters.
    pub metrics: Metrics,
    /// Names to addresses, cached.
    pub resolver: Resolver,
    /// The connection and transaction logs.
    pub logs: Logs,
    /// What clients make of forged certificates.
    pub pinning: Pinning,
    stopping: watch::Sender<bool>,
    ids: Ids,
}

impl Shared {
    /// Puts them together for a process that begins.
    pub fn new(metrics: Metrics, logs: Logs) -> Self {
        Self {
            metrics,
            resolver: Resolver::new(),
            logs,
            pinning: Pinning::new(),
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

#[cfg(test)]
mod tests {
    use super::Target;

    fn target(authority: &str) -> Option<String> {
        Target::from_authority(authority, 443).ok().map(|t| t.to_string())
    }

    #[test]
    fn authorities_are_read_in_one_spelling() {
        assert_eq!(target("Example.ORG:8443").as_deref(), Some("example.org:8443"));
        assert_eq!(target("example.org.").as_deref(), Some("example.org:443"));
        assert_eq!(target("127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(target("[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(target("[2001:DB8::0]").as_deref(), Some("[2001:db8::]:443"));
        assert_eq!(target("_dmarc.example.org").as_deref(), Some("_dmarc.example.org:443"));
    }

    #[test]
    fn doubtful_authorities_are_refused() {
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
            "a b",
            "a/b",
            "a@b",
            "a..b",
            ".a",
            "[::1",
            "::1]",
            "[127.0.0.1]",
            "[a.b]",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0x7f000001",
            "a\0b",
            "a\r\nb",
            "ä.example",
            "1.2.3.4.5",
        ] {
            assert_eq!(target(bad), None, "{bad:?}");
        }
        assert_eq!(target(&format!("{}.org", "a".repeat(64))), None);
        assert_eq!(target(&vec!["abcdefg"; 32].join(".")), None);
    }
}
