//! TLS: the ClientHello, the origin's handshake, the forged leaf, the client's handshake.

pub mod ca;
mod der;
mod fault;
mod forge;
mod hello;
mod identity;
mod intercept;
mod intermediates;
mod keylog;
mod leaf_keys;
mod leaves;
mod observed;
mod odd;
mod origin;
mod pinning;
mod staple;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use shares::Client;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::config::Config;
use crate::error::StartError;
use crate::metrics::Metrics;
use crate::rights;
use crate::session::Target;
use crate::upstream::{TlsPlan, UpstreamError};

use ca::Authority;
use keylog::KeyLogFile;
use leaves::Leaves;
use origin::Origins;
use trust::Trust;

pub use fault::Fault;
pub use hello::{ClientHello, HelloError, MAX_HELLO, looks_like_tls};
pub use intercept::{InterceptError, Intercepted, Prepared, intercept, reject};
pub use origin::UpstreamTls;
pub use pinning::{Pinning, Refuser};

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

/// What TLS needs beyond one connection: the CA, forged leaves, and how origins are spoken to.
#[derive(Debug)]
pub struct Context {
    authority: Arc<Authority>,
    leaves: Leaves,
    origins: Origins,
}

impl Context {
    /// Makes ready what `config` asks for; leaves will be signed by `authority`.
    ///
    /// # Errors
    /// A trusted CA's or the key log's file cannot be read or written.
    pub fn new(
        config: &Config,
        authority: Arc<Authority>,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key_log: Arc<dyn rustls::KeyLog> = match &config.tls.keylog {
            Some(path) => Arc::new(rights::as_owner(config, || KeyLogFile::open(path))?),
            None => Arc::new(rustls::NoKeyLog),
        };
        let leaves = Leaves::new(
            authority.clone(),
            provider.clone(),
            key_log.clone(),
            config.tls.leaf_cache,
            metrics.forged.clone(),
        )?;
        let trust = Trust::load(config, &provider, metrics)?;
        let origins = Origins::new(trust, &provider, &key_log, config)?;
        Ok(Self { authority, leaves, origins })
    }

    /// The CA that signs forged leaves.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Keeps what the context before this one has learnt of origins, and that holds whatever the settings: their
    /// intermediates.
    pub fn learn_from(&self, former: &Self) {
        self.origins.learn_from(&former.origins);
    }

    /// Opens TLS over `tcp` towards `target` as `plan` says, within `limit`, and checks the
    /// origin's certificate, at the expense of `client`.
    ///
    /// # Errors
    /// The handshake failed or took too long, or the certificate is not valid for the plan's name.
    pub async fn connect(
        &self,
        target: &Target,
        plan: &TlsPlan,
        tcp: TcpStream,
        client: Option<Client>,
        limit: Duration,
    ) -> Result<(TlsStream<TcpStream>, UpstreamTls), UpstreamError> {
        self.origins.connect(target, plan, tcp, client, limit).await
    }
}
