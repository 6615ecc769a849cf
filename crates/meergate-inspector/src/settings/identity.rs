//! Who the inspector is to clients that come by TLS, and which of them it lets in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icap_server::{Tls, TlsIdentity};
use serde::{Deserialize, Serialize};
use start_error::StartError;

/// `[tls]`: files in PEM. The supervisor reads them, so the engine's process needs no right to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSettings {
    /// The certificate, and those between it and its authority.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Authorities of clients' certificates. With it, nobody else is served.
    #[serde(default)]
    pub(crate) client_ca: Option<PathBuf>,
    /// What was in them; filled in when the settings are complete, never by the operator.
    #[serde(default)]
    pub(crate) read: Option<Pem>,
}

/// The files' contents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pem {
    certificates: String,
    key: String,
    client_ca: Option<String>,
}

/// Without the key, which has no business in any log.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem")
    }
}

impl TlsSettings {
    /// Reads the files, and sees whether they can be used.
    ///
    /// # Errors
    /// One line for the operator.
    pub(crate) fn complete(&mut self) -> Result<(), StartError> {
        self.read = Some(Pem {
            certificates: text("tls.cert", &self.cert)?,
            key: text("tls.key", &self.key)?,
            client_ca: self.client_ca.as_deref().map(|p| text("tls.client_ca", p)).transpose()?,
        });
        self.tls().map(drop)
    }

    /// What connections go through; a clone shares its resumable sessions.
    ///
    /// # Errors
    /// One line for the operator.
    pub(crate) fn tls(&self) -> Result<Tls, StartError> {
        let (cert, key) = (self.cert.display(), self.key.display());
        let bad = |why: &dyn fmt::Display| {
            StartError::new(
                format!("bad TLS files ({why})"),
                format!("{cert}, {key}"),
                "correct tls.cert, tls.key, tls.client_ca",
            )
        };
        if !can_encrypt() {
            return Err(StartError::new(
                "no TLS on this processor: its cryptography needs instructions (AES, AVX2, ADX) that this one has not",
                cert.to_string(),
                "listen without icaps://, on loopback or a Unix socket",
            ));
        }
        let pem = self.read.as_ref().ok_or_else(|| bad(&"they have not been read"))?;
        let identity = TlsIdentity {
            certificates: pem.certificates.as_bytes(),
            key: pem.key.as_bytes(),
            client_authorities: pem.client_ca.as_deref().map(str::as_bytes),
        };
        Tls::new(Arc::new(rustls_graviola::default_provider()), &identity).map_err(|e| bad(&e))
    }
}

/// Whether the processor has what the cryptography, which would end the process otherwise, is made
/// of.
fn can_encrypt() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("aes") && has!("pclmulqdq") && has!("bmi1") && has!("adx") && has!("avx2")
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::is_aarch64_feature_detected as has;
        has!("neon") && has!("aes") && has!("pmull") && has!("sha2")
    }
}

fn text(what: &str, path: &Path) -> Result<String, StartError> {
    std::fs::read_to_string(path).map_err(|e| {
        let what = format!("cannot read {what} ({e})");
        StartError::new(what, path.display().to_string(), "name a PEM file that exists")
    })
}
