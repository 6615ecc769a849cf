//! The record of one client connection.

use std::net::SocketAddr;

use serde::Serialize;

use super::transaction::BlockRecord;
use crate::tls::{TlsFacts, UpstreamTls};
use crate::words::{Alpn, ConnectionEnd, Mirrored};

/// One line of the connection log.
#[derive(Debug, Serialize)]
pub struct ConnectionRecord<'a> {
    /// When it was accepted, RFC 3339 in UTC.
    pub time: String,
    /// The connection; its transactions' records carry the same.
    pub connection_id: &'a str,
    /// The kind of listener.
    pub listener: &'static str,
    /// The client's address.
    pub client: SocketAddr,
    /// What the client connected to: our address, or its original destination.
    pub local: SocketAddr,
    /// The user, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// The host and port that all of it went to, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The origin's address, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    /// The proxy through which the origin was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_proxy: Option<&'a str>,
    /// What the rules said about the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
    /// The rule that said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// The TLS of both sides, where it was intercepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsRecord<'a>>,
    /// What the services that take streams made of the TLS handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<&'a MirrorRecord>,
    /// The protocol of a stream, where a service recognised it: `ssh`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'a str>,
    /// Why a service blocked a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<&'a BlockRecord>,
    /// Bytes that came from the client.
    pub bytes_from_client: u64,
    /// Bytes that came from the server.
    pub bytes_from_server: u64,
    /// Transactions on it.
    pub transactions: u64,
    /// Why it ended, in one word.
    pub end: ConnectionEnd,
    /// What exactly went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// Milliseconds that it was open.
    pub ms: f64,
}

/// What became of showing a TLS handshake to the services that take streams.
#[derive(Debug, Serialize)]
pub struct MirrorRecord {
    /// In one word.
    pub outcome: Mirrored,
    /// The drop, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<BlockRecord>,
}

/// The TLS of an intercepted connection.
#[derive(Debug, Serialize)]
pub struct TlsRecord<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    version: &'static str,
    cipher: &'static str,
    resumed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpn: Option<&'a str>,
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

impl<'a> TlsRecord<'a> {
    /// What `facts` say.
    pub fn new(facts: &'a TlsFacts) -> Self {
        Self {
            sni: facts.sni.as_deref(),
            version: facts.client_version,
            cipher: facts.client_cipher,
            resumed: facts.client_resumed,
            alpn: facts.alpn.as_ref().map(Alpn::as_str),
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
