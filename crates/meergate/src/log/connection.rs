//! The record of one client connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::rfc3339;
use crate::config::{Action, UpstreamProxy};
use crate::session::Session;
use crate::tls::{TlsFacts, UpstreamTls};

/// One line of the connection log.
#[derive(Debug, Serialize)]
struct ConnectionRecord<'a> {
    /// When it was accepted, RFC 3339 in UTC.
    time: String,
    /// The connection; its transactions' records carry the same.
    connection_id: &'a str,
    /// The kind of listener.
    listener: &'static str,
    /// The client's address.
    client: SocketAddr,
    /// What the client connected to: our address, or its original destination.
    local: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    /// The host and port that all of it went to, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// The origin's address, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<SocketAddr>,
    /// The proxy through which the origin was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_proxy: Option<&'a str>,
    /// What the rules said about the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    /// The rule that said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsRecord<'a>>,
    bytes_from_client: u64,
    bytes_from_server: u64,
    transactions: u64,
    /// Why it ended, in one word.
    end: &'static str,
    /// What exactly went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    /// Milliseconds that it was open.
    ms: f64,
}

#[derive(Debug, Serialize)]
struct TlsRecord<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    version: &'static str,
    cipher: &'static str,
    resumed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpn: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<UpstreamRecord>,
}

#[derive(Debug, Serialize)]
struct UpstreamRecord {
    version: &'static str,
    cipher: &'static str,
    resumed: bool,
    /// SHA-256 of the origin's certificate.
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    /// Milliseconds of the handshake.
    ms: f64,
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
    /// What went wrong.
    pub detail: Option<String>,
}

/// Writes the record of a connection that ended, if there is a log for it.
pub fn record(session: &Session, began: SystemTime, end: &'static str) {
    let Some(log) = &session.shared.logs.connections else { return };
    let (bytes_from_client, bytes_from_server, transactions) = session.totals.sums();
    let notes = session.totals.notes();
    let record = ConnectionRecord {
        time: rfc3339(began),
        connection_id: &session.id,
        listener: session.listener,
        client: session.client,
        local: session.local,
        user: notes.user.as_deref(),
        target: notes.target.clone(),
        server: notes.server,
        upstream_proxy: notes.proxy.as_ref().map(|proxy| &*proxy.name),
        action: notes.decision.as_ref().map(|(action, _)| action.as_str()),
        rule: notes.decision.as_ref().and_then(|(_, rule)| rule.as_deref()),
        tls: notes.tls.as_deref().map(TlsRecord::new),
        bytes_from_client,
        bytes_from_server,
        transactions,
        end,
        detail: notes.detail.as_deref(),
        ms: began.elapsed().map_or(0.0, |took| took.as_secs_f64() * 1000.0),
    };
    log.write(&record);
}

impl<'a> TlsRecord<'a> {
    fn new(facts: &'a TlsFacts) -> Self {
        Self {
            sni: facts.sni.as_deref(),
            version: facts.client_version,
            cipher: facts.client_cipher,
            resumed: facts.client_resumed,
            alpn: facts.alpn.map(|alpn| alpn.as_str()),
            upstream: facts.upstream.as_deref().map(UpstreamRecord::new),
        }
    }
}

impl UpstreamRecord {
    fn new(tls: &UpstreamTls) -> Self {
        Self {
            version: tls.version,
            cipher: tls.cipher,
            resumed: tls.resumed,
            fingerprint: tls.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect(),
            fault: tls.fault.map(|fault| fault.as_str()),
            ms: tls.took.as_secs_f64() * 1000.0,
        }
    }
}
