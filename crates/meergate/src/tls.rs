//! TLS: the ClientHello, the origin's handshake, the forged leaf, the client's handshake.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::io::Io;
use crate::session::Target;
use crate::upstream::{TlsPlan, UpstreamError, UpstreamErrorKind};

/// An application protocol that can be agreed on in a TLS handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alpn {
    /// HTTP/2.
    H2,
    /// HTTP/1.1.
    Http1,
}

impl Alpn {
    /// The protocol's registered identification.
    pub fn wire(self) -> &'static [u8] {
        match self {
            Self::H2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }

    /// The protocol that `wire` identifies, if it is one that is served.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        crate::protocol::SERVED.iter().copied().find(|alpn| alpn.wire() == wire)
    }

    /// The identification as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H2 => "h2",
            Self::Http1 => "http/1.1",
        }
    }
}

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

/// What the handshake with the origin told.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// The version, as `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, as rustls names it.
    pub cipher: &'static str,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// SHA-256 of the leaf certificate.
    pub fingerprint: [u8; 32],
    /// How long the handshake took, without connecting.
    pub took: Duration,
}

/// What TLS needs beyond one connection: the CA, forged leaves, client configurations.
#[derive(Debug)]
pub struct Context {}

impl Context {
    /// Opens TLS over `tcp` towards `target` as `plan` says, and checks the origin's certificate.
    ///
    /// # Errors
    /// [`UpstreamErrorKind::Tls`], [`UpstreamErrorKind::Certificate`] or [`UpstreamErrorKind::Timeout`].
    pub async fn connect(
        &self,
        target: &Target,
        _plan: &TlsPlan,
        _tcp: TcpStream,
        _limit: Duration,
    ) -> Result<(Io, Arc<UpstreamTls>, Option<Alpn>), UpstreamError> {
        Err(UpstreamError::new(UpstreamErrorKind::Tls, target, "not there yet"))
    }
}
