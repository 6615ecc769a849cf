//! Forged leaves, each with the server configuration that presents it, cached.

use std::fmt;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::CertificateDer;
use start_error::StartError;

use super::ca::Authority;
use super::fault::Fault;
use super::forge;
use super::hello::ClientHello;
use super::leaf_keys::{ForgeError, KeyKind, LeafKey, LeafKeys};
use super::origin::{UpstreamTls, supported};
use crate::config::{Tls, TlsVersions};
use crate::words::Alpn;

/// What one cached leaf may weigh on average; certificates take 1 to 4 KiB, but an origin may
/// send 64 KiB.
const AVERAGE_WEIGHT: u64 = 4096;

/// Forges leaves and keeps them.
pub(super) struct Leaves {
    authority: Arc<Authority>,
    /// A CA that nobody trusts, for leaves of origins that nobody trusts.
    stranger: Authority,
    /// Where leaves say that their revocations are listed.
    list: Option<String>,
    keys: LeafKeys,
    tickets: Arc<dyn ProducesTickets>,
    provider: Arc<CryptoProvider>,
    key_log: Arc<dyn rustls::KeyLog>,
    cache: Cache<Id, Arc<Leaf>, ByLength>,
    forged: Counter,
}

/// What is spoken with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agreed {
    /// The protocol inside TLS.
    pub alpn: Option<Alpn>,
    /// The versions of TLS that it may choose from.
    pub versions: TlsVersions,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Id {
    /// Mimics the certificate with this fingerprint, and a fault that lies in its chain.
    Mimic([u8; 32], Option<Fault>, Agreed, KeyKind),
    /// Made up for a host.
    Host(Arc<str>, Agreed, KeyKind),
}

struct Leaf {
    config: Arc<ServerConfig>,
    weight: u64,
    /// When a leaf that was made up must be made anew, in seconds since 1970.
    until: i64,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<Id, Arc<Leaf>> for ByLength {
    fn weight(&self, _: &Id, leaf: &Arc<Leaf>) -> u64 {
        leaf.weight
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaves").field("cached", &self.cache.len()).finish_non_exhaustive()
    }
}

impl Leaves {
    pub(super) fn new(
        authority: Arc<Authority>,
        provider: Arc<CryptoProvider>,
        key_log: Arc<dyn rustls::KeyLog>,
        config: &Tls,
        forged: Counter,
    ) -> Result<Self, StartError> {
        let broken = |e: &dyn fmt::Display| {
            StartError::new(
                format!("cannot make a key for leaf certificates ({e})"),
                "the cryptographic library",
                "report this as a bug",
            )
        };
        let keys = LeafKeys::new().map_err(|e| broken(&e.0))?;
        let tickets = Ticketer::new().map_err(|e| broken(&e))?;
        let stranger = Authority::generate()?;
        let capacity = config.leaf_cache.max(16);
        let list = config.crl_url.as_ref().map(|url| url.as_str().to_owned());
        let cache = Cache::with_weighter(capacity, capacity as u64 * AVERAGE_WEIGHT, ByLength);
        Ok(Self { authority, stranger, list, keys, tickets, provider, key_log, cache, forged })
    }

    /// The key for leaves that are shown to the client of this hello.
    pub(super) async fn key(&self, hello: &ClientHello) -> Result<Arc<LeafKey>, ForgeError> {
        self.keys.of(if hello.rsa_only { KeyKind::Rsa } else { KeyKind::P256 }).await
    }

    /// The configuration that presents a leaf like the origin's certificate.
    pub(super) fn mimic(
        &self,
        key: &LeafKey,
        origin: &UpstreamTls,
        host: &str,
        agreed: Agreed,
    ) -> Result<Arc<ServerConfig>, ForgeError> {
        let id = Id::Mimic(origin.fingerprint, origin.fault, agreed, key.kind);
        let leaf = self.cache.get_or_insert_with(&id, || {
            let list = self.list.as_deref();
            let (authority, list) = match origin.fault {
                Some(fault) if !fault.shows_in_leaf() => (&self.stranger, None),
                _ => (&*self.authority, list),
            };
            let der = forge::mimic(authority, key, &origin.certificate, list).or_else(|e| {
                match origin.fault {
                    // Where it can't be read, clients are to see that it is not to be trusted.
                    Some(_) => forge::for_host(&self.stranger, key, host, None),
                    None => Err(e),
                }
            })?;
            // A session resumed later would not show the fault.
            self.leaf(der, key, agreed, origin.fault.is_none(), i64::MAX)
        })?;
        Ok(leaf.config.clone())
    }

    /// The configuration that presents a leaf for `host`, for error pages. Its sessions are not
    /// resumed: the next connection may have a real certificate to show.
    pub(super) fn for_host(
        &self,
        key: &LeafKey,
        host: &Arc<str>,
        agreed: Agreed,
    ) -> Result<Arc<ServerConfig>, ForgeError> {
        let id = Id::Host(host.clone(), agreed, key.kind);
        let now = super::ca::now();
        if let Some(leaf) = self.cache.get(&id)
            && now < leaf.until
        {
            return Ok(leaf.config.clone());
        }
        let der = forge::for_host(&self.authority, key, host, self.list.as_deref())?;
        let leaf = self.leaf(der, key, agreed, false, now + 86_400)?;
        self.cache.insert(id, leaf.clone());
        Ok(leaf.config.clone())
    }

    fn leaf(
        &self,
        der: CertificateDer<'static>,
        key: &LeafKey,
        agreed: Agreed,
        resumable: bool,
        until: i64,
    ) -> Result<Arc<Leaf>, ForgeError> {
        self.forged.inc();
        let weight = der.len() as u64 + 1024;
        let mut chain = vec![der];
        chain.extend(self.authority.presented());
        let certified = CertifiedKey::new(chain, key.signing.clone());
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(supported(agreed.versions))
            .map_err(|e| ForgeError(e.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = agreed.alpn.iter().map(|alpn| alpn.wire().to_vec()).collect();
        config.key_log = self.key_log.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if resumable {
            config.ticketer = self.tickets.clone();
            config.send_tls13_tickets = 1;
        } else {
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(Leaf { config: Arc::new(config), weight, until }))
    }
}
