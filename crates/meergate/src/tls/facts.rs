//! What the handshakes of a connection agreed on.

use std::sync::Arc;

use rustls::{HandshakeKind, ServerConnection};

use super::hello::ClientHello;
use super::origin::{UpstreamTls, named};
use crate::words::Alpn;

/// The TLS of both sides of an intercepted connection.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The name in the ClientHello.
    pub sni: Option<Arc<str>>,
    /// The version that the client's side agreed on, as `TLSv1.3`.
    pub client_version: &'static str,
    /// The cipher suite of the client's side, as rustls names it.
    pub client_cipher: &'static str,
    /// Whether the client resumed a session.
    pub client_resumed: bool,
    /// The protocol that both sides agreed on.
    pub alpn: Option<Alpn>,
    /// The origin's side; `None` when there was no handshake with it.
    pub upstream: Option<Arc<UpstreamTls>>,
}

impl TlsFacts {
    /// What the client's handshake on `connection` agreed on, after `hello` and a handshake with the
    /// origin that told `upstream`.
    pub fn of(
        connection: &ServerConnection,
        hello: &ClientHello,
        upstream: Option<Arc<UpstreamTls>>,
    ) -> Self {
        Self {
            sni: hello.server_name.clone(),
            client_version: connection.protocol_version().map_or("", named),
            client_cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or(""),
            client_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: connection.alpn_protocol().and_then(Alpn::from_wire),
            upstream,
        }
    }
}
