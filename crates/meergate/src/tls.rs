//! TLS: the ClientHello, the origin's handshake, the forged leaf, the client's handshake.

pub mod ca;
mod der;
mod facts;
mod fault;
mod flight;
mod forge;
mod hello;
mod identity;
mod intermediates;
mod issuers;
mod keylog;
mod leaf_keys;
mod leaves;
mod observed;
mod odd;
mod origin;
mod pinning;
mod plan;
mod recorded;
mod revocations;
mod server_side;
mod staple;
mod trust;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use shares::Client;
use start_error::StartError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::config::{Config, TlsVersions};
use crate::metrics::Metrics;
use crate::rights;
use crate::words::{Target, UpstreamError};

use ca::Authority;
use keylog::KeyLogFile;
use leaves::Leaves;
use origin::Origins;
use recorded::Recorded;
use revocations::Revocations;
use trust::Trust;

pub use facts::TlsFacts;
pub use fault::Fault;
pub use flight::{Progress, ServerFlight};
pub use hello::{ClientHello, HelloError, MAX_HELLO, looks_like_tls};
pub use issuers::Issuers;
pub use leaf_keys::ForgeError;
pub use leaves::Agreed;
pub use origin::UpstreamTls;
pub use pinning::{Pinning, Refuser};
pub use plan::TlsPlan;
pub use server_side::ServerSide;
pub use versions::with_known_versions;

/// TLS towards an origin.
pub type OriginStream<S> = TlsStream<Recorded<S>>;

/// What TLS needs beyond one connection: the CA, forged leaves, and how origins are spoken to.
#[derive(Debug)]
pub struct Context {
    authority: Arc<Authority>,
    leaves: Leaves,
    revocations: Revocations,
    origins: Origins,
    versions: TlsVersions,
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
            &config.tls,
            metrics.forged.clone(),
        )?;
        if config.tls.crl_url.is_some() {
            revocations::may_be_listed(&authority)?;
        }
        let trust = Trust::load(config, &provider, metrics)?;
        let origins = Origins::new(trust, &provider, &key_log, config)?;
        let versions = config.tls.versions()?;
        Ok(Self { authority, leaves, revocations: Revocations::default(), origins, versions })
    }

    /// The CA that signs forged leaves.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// The versions that are spoken where neither listeners nor rules say otherwise.
    pub fn versions(&self) -> TlsVersions {
        self.versions
    }

    /// The list of forged leaves that are revoked, of which there are none, in DER.
    ///
    /// # Errors
    /// It can't be signed.
    pub fn revocation_list(&self) -> Result<Arc<[u8]>, ForgeError> {
        self.revocations.list(&self.authority)
    }

    /// Keeps what the context before this one has learnt of origins, and that holds whatever the settings: their
    /// intermediates.
    pub fn learn_from(&self, former: &Self) {
        self.origins.learn_from(&former.origins);
    }

    /// Opens TLS over `tcp` towards `target` as `plan` says, within `limit`, and checks the
    /// origin's certificate, at the expense of `client`. What its chain lacks is asked of `issuers`.
    ///
    /// # Errors
    /// The handshake failed or took too long, or the certificate is not valid for the plan's name.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        target: &Target,
        plan: &TlsPlan,
        tcp: S,
        client: Option<Client>,
        limit: Duration,
        issuers: Option<&impl Issuers>,
    ) -> Result<(OriginStream<S>, UpstreamTls, ServerSide), UpstreamError> {
        self.origins.connect(target, plan, tcp, client, limit, issuers).await
    }

    /// The client's side for whoever said `hello`, with a leaf of `host` that is like the `origin`'s and
    /// what is `agreed` on. Without an origin it is made up, and so it is where the origin's fault is to
    /// be hidden.
    ///
    /// # Errors
    /// No leaf can be forged.
    pub(crate) async fn forge(
        &self,
        hello: &ClientHello,
        origin: Option<&UpstreamTls>,
        host: &Arc<str>,
        agreed: Agreed,
    ) -> Result<Arc<ServerConfig>, ForgeError> {
        let key = self.leaves.key(hello).await?;
        match origin {
            Some(origin) => self.leaves.mimic(&key, origin, host, agreed),
            None => self.leaves.for_host(&key, host, agreed),
        }
    }
}
