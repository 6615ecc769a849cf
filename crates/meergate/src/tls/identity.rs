//! Who we are towards origins that ask: a configured certificate, or nobody.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use start_error::StartError;

use super::observed;
use crate::config::ClientCertificate;

/// Answers origins that ask for a certificate, with the one that is configured if there is.
pub(super) struct Identity {
    certificate: Option<Arc<CertifiedKey>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("known", &self.certificate.is_some()).finish()
    }
}

impl Identity {
    /// Nobody: no certificate is presented.
    pub(super) fn nobody() -> Self {
        Self { certificate: None }
    }

    /// The certificate that the settings name.
    pub(super) fn load(
        setting: &ClientCertificate,
        provider: &CryptoProvider,
    ) -> Result<Self, StartError> {
        let chain = CertificateDer::pem_file_iter(&setting.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| refuse(&setting.cert, &format!("certificate ({e})")))?;
        if chain.is_empty() {
            return Err(refuse(&setting.cert, "certificate (none in the file)"));
        }
        let key = PrivateKeyDer::from_pem_file(&setting.key)
            .map_err(|e| refuse(&setting.key, &format!("key ({e})")))?;
        let certified = CertifiedKey::from_der(chain, key, provider)
            .map_err(|e| refuse(&setting.key, &format!("certificate and key ({e})")))?;
        Ok(Self { certificate: Some(Arc::new(certified)) })
    }
}

fn refuse(path: &Path, what: &str) -> StartError {
    StartError::new(
        format!("cannot use the client {what}"),
        path.display().to_string(),
        "name a PEM certificate and its key in [[client_certificate]]",
    )
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        observed::note(|observed| observed.certificate_asked = true);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}
