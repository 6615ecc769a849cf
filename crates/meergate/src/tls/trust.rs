//! Whom we believe: the CAs that origins' certificates are checked against.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use quick_cache::sync::Cache;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::config::Upstream;
use crate::error::StartError;

/// How long a chain that was found valid is not checked again. A certificate that expires, or a CA
/// that a reload removes, is noticed at the latest then.
const KEEP: Duration = Duration::from_secs(300);
/// Chains kept.
const CHAINS: usize = 8192;

/// The trusted CAs, and chains found valid lately: without those, every new connection would pay
/// for the same signatures again.
#[derive(Debug)]
pub(super) struct Trust {
    verifier: Option<Arc<WebPkiServerVerifier>>,
    valid: Cache<[u8; 32], Instant>,
    /// Leaves that their own origins called revoked, by SHA-256: later sessions may be resumed, or
    /// come without the staple that said it.
    revoked: Cache<[u8; 32], ()>,
}

impl Trust {
    /// Reads the system's CAs and those of the settings.
    pub(super) fn load(
        upstream: &Upstream,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, StartError> {
        let mut roots = RootCertStore::empty();
        if upstream.system_ca {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "some of the system's CAs cannot be read");
            }
            roots.add_parsable_certificates(found.certs);
        }
        for path in &upstream.ca {
            add_file(&mut roots, path)?;
        }
        if roots.is_empty() {
            tracing::warn!(
                "no CA is trusted, so every TLS origin will be refused; install the system's CAs \
                 (Debian: ca-certificates) or name one with --upstream-ca"
            );
        }
        let verifier = match roots.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                    .build()
                    .map_err(|e| {
                        StartError::new(
                            format!("the trusted CAs cannot be used ({e})"),
                            "upstream.ca",
                            "remove the files that hold no CA certificates",
                        )
                    })?,
            ),
        };
        Ok(Self { verifier, valid: Cache::new(CHAINS), revoked: Cache::new(CHAINS) })
    }

    /// Never again believes the leaf with this fingerprint.
    pub(super) fn revoke(&self, fingerprint: [u8; 32]) {
        self.revoked.insert(fingerprint, ());
    }

    /// Whether the origin's `chain`, leaf first, is valid for `name` now; if not, why not.
    /// `fingerprint` is the leaf's.
    pub(super) fn check(
        &self,
        chain: &[CertificateDer<'_>],
        fingerprint: &[u8; 32],
        name: &ServerName<'_>,
    ) -> Result<(), (Fault, String)> {
        self.check_chain(chain, name)?;
        match self.revoked.get(fingerprint) {
            Some(()) => Err((Fault::Revoked, "it has been revoked, as the server says".into())),
            None => Ok(()),
        }
    }

    fn check_chain(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<(), (Fault, String)> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err((Fault::Untrusted, "it presented no certificate".into()));
        };
        let key = key(chain, name);
        let now = Instant::now();
        if self.valid.get(&key).is_some_and(|until| now < until) {
            return Ok(());
        }
        let Some(verifier) = &self.verifier else {
            return Err((Fault::Untrusted, "no CA is trusted here".into()));
        };
        verifier
            .verify_server_cert(leaf, intermediates, name, &[], UnixTime::now())
            .map_err(|e| explain(&e))?;
        self.valid.insert(key, now + KEEP);
        Ok(())
    }
}

fn key(chain: &[CertificateDer<'_>], name: &ServerName<'_>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let name = name.to_str();
    context.update(&(name.len() as u64).to_be_bytes());
    context.update(name.as_bytes());
    for certificate in chain {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), StartError> {
    let refuse = |what: String| {
        StartError::new(
            what,
            path.display().to_string(),
            "name a readable PEM file with CA certificates (upstream.ca, --upstream-ca)",
        )
    };
    let text = std::fs::read(path).map_err(|e| refuse(format!("cannot read the CAs ({e})")))?;
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate =
            certificate.map_err(|e| refuse(format!("the CAs are not PEM ({e:?})")))?;
        roots.add(certificate).map_err(|e| refuse(format!("a CA cannot be used ({e})")))?;
        added += 1;
    }
    if added == 0 {
        return Err(refuse("no certificate in the file".into()));
    }
    Ok(())
}

/// Why a certificate is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Its time has passed.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Its CA has taken it back.
    Revoked,
    /// Its chain is broken or leads to nobody we trust, or anything else is wrong with it.
    Untrusted,
    /// It is for other names.
    WrongName,
}

impl Fault {
    /// Whether clients find the fault themselves in a leaf that says what the original says.
    pub(super) fn shows_in_leaf(self) -> bool {
        !matches!(self, Self::Revoked | Self::Untrusted)
    }

    /// One word, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Revoked => "revoked",
            Self::Untrusted => "untrusted",
            Self::WrongName => "wrong-name",
        }
    }
}

/// The fault, and in words for the people who see the error page.
fn explain(error: &rustls::Error) -> (Fault, String) {
    let rustls::Error::InvalidCertificate(error) = error else {
        return (Fault::Untrusted, error.to_string());
    };
    let (fault, words) = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (Fault::Expired, "it has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (Fault::NotYetValid, "it is not valid yet")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (Fault::WrongName, "it is for another name")
        }
        CertificateError::UnknownIssuer => {
            (Fault::Untrusted, "its issuer is not trusted (or it is self-signed)")
        }
        CertificateError::Revoked => (Fault::Revoked, "it has been revoked"),
        CertificateError::BadEncoding => (Fault::Untrusted, "it is malformed"),
        CertificateError::BadSignature => (Fault::Untrusted, "a signature in its chain is wrong"),
        CertificateError::InvalidPurpose => (Fault::Untrusted, "it is not for servers"),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            (Fault::Untrusted, "it is a CA's certificate, used as a server's")
        }
        other => return (Fault::Untrusted, other.to_string()),
    };
    (fault, words.to_owned())
}
