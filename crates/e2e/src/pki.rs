//! Certificates for tests: an authority and the leaves it signs.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A certificate authority made for one test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The leaf, then its authority.
    pub certificates: String,
    /// The leaf's private key, PKCS #8.
    pub key: String,
}

impl Authority {
    /// A new authority of this common name.
    ///
    /// # Panics
    /// When the machine has no randomness to give.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a self-signed CA") }
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's private key, PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Writes the authority's certificate into `folder`.
    ///
    /// # Panics
    /// When the file can't be written.
    pub fn write(&self, folder: &Path) -> PathBuf {
        write(folder, "authority.pem", &self.pem())
    }

    /// A server certificate for `names` (DNS names or addresses), valid now.
    ///
    /// # Panics
    /// When a name is not one.
    pub fn leaf(&self, names: &[&str]) -> Identity {
        self.leaf_with(names, |_| {})
    }

    /// A server certificate for `names` whose time has passed.
    ///
    /// # Panics
    /// As [`Authority::leaf`].
    pub fn expired_leaf(&self, names: &[&str]) -> Identity {
        self.leaf_with(names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// A certificate for a client of this name.
    ///
    /// # Panics
    /// As [`Authority::leaf`].
    pub fn client(&self, name: &str) -> Identity {
        self.leaf_with(&[name], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A server certificate for `names`, its parameters changed by `change`.
    ///
    /// # Panics
    /// As [`Authority::leaf`].
    pub fn leaf_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, names[0].clone());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a signed leaf");
        Identity { certificates: leaf.pem() + &self.pem(), key: key.serialize_pem() }
    }
}

impl Identity {
    /// Writes certificate chain and key into `folder`; returns both paths in this order.
    ///
    /// # Panics
    /// When a file can't be written.
    pub fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        (write(folder, "leaf.pem", &self.certificates), write(folder, "leaf.key", &self.key))
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
