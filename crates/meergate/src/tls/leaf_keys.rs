//! The keys of forged leaves: one of P-256 for nearly all clients, and one of RSA for those that take no ECDSA.

use std::fmt;
use std::sync::Arc;

use rcgen::{KeyPair, PublicKeyData, RsaKeySize};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use tokio::sync::OnceCell;
use tokio::task;

use super::ca::key_identifier;

/// A certificate that could not be forged.
#[derive(Debug)]
pub struct ForgeError(pub(super) String);

impl fmt::Display for ForgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ForgeError {}

/// What a leaf's key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum KeyKind {
    /// ECDSA with P-256: much quicker to sign with.
    P256,
    /// RSA of 2048 bits.
    Rsa,
}

/// A key that leaves have, and what certificates say about it.
pub(super) struct LeafKey {
    pub(super) kind: KeyKind,
    /// SubjectPublicKeyInfo, DER.
    pub(super) public_key_info: Vec<u8>,
    pub(super) identifier: Vec<u8>,
    pub(super) signing: Arc<dyn SigningKey>,
}

impl LeafKey {
    /// A new one. RSA takes some tenths of a second.
    pub(super) fn generate(kind: KeyKind) -> Result<Self, ForgeError> {
        let pair = match kind {
            KeyKind::P256 => KeyPair::generate(),
            KeyKind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let pair = pair.map_err(|e| ForgeError(e.to_string()))?;
        let der = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        let signing = any_supported_type(&der).map_err(|e| ForgeError(e.to_string()))?;
        let public_key_info = pair.subject_public_key_info();
        let identifier = key_identifier(&public_key_info);
        Ok(Self { kind, public_key_info, identifier, signing })
    }
}

/// One key of each kind, which all leaves share.
pub(super) struct LeafKeys {
    p256: Arc<LeafKey>,
    /// Made when the first client wants it.
    rsa: Arc<OnceCell<Arc<LeafKey>>>,
}

impl fmt::Debug for LeafKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafKeys").field("rsa", &self.rsa.initialized()).finish_non_exhaustive()
    }
}

impl LeafKeys {
    pub(super) fn new() -> Result<Self, ForgeError> {
        Ok(Self { p256: Arc::new(LeafKey::generate(KeyKind::P256)?), rsa: Arc::default() })
    }

    /// The key of this kind.
    ///
    /// # Errors
    /// The cryptographic library fails.
    pub(super) async fn of(&self, kind: KeyKind) -> Result<Arc<LeafKey>, ForgeError> {
        match (kind, self.rsa.get()) {
            (KeyKind::P256, _) => Ok(self.p256.clone()),
            (KeyKind::Rsa, Some(made)) => Ok(made.clone()),
            (KeyKind::Rsa, None) => {
                // A task goes on when the client that it is for has gone: else clients that do not stay
                // could have ever new keys begun.
                let made = task::spawn(make(self.rsa.clone()));
                made.await.map_err(|e| ForgeError(e.to_string()))?
            }
        }
    }
}

/// Makes the key in `rsa`, on a thread that serves no connections, unless another does.
async fn make(rsa: Arc<OnceCell<Arc<LeafKey>>>) -> Result<Arc<LeafKey>, ForgeError> {
    let generate = || async {
        task::spawn_blocking(|| LeafKey::generate(KeyKind::Rsa))
            .await
            .map_err(|e| ForgeError(e.to_string()))?
            .map(Arc::new)
    };
    rsa.get_or_try_init(generate).await.cloned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_key_is_made_once_though_those_go_that_wait_for_it() {
        let keys = LeafKeys::new().unwrap();
        assert_eq!(keys.of(KeyKind::P256).await.unwrap().kind, KeyKind::P256);
        assert!(!keys.rsa.initialized());
        tokio::select! {
            biased;
            _ = keys.of(KeyKind::Rsa) => panic!("it was made at once"),
            () = std::future::ready(()) => {}
        }
        let made = async {
            while !keys.rsa.initialized() {
                task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), made).await.unwrap();
        let one = keys.of(KeyKind::Rsa).await.unwrap();
        let other = keys.of(KeyKind::Rsa).await.unwrap();
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(one.kind, KeyKind::Rsa);
    }
}
