//! Keys and certificates of a run: one CA for the origin, one for the proxies.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};
use tempfile::TempDir;

/// The files of both CAs and of the origin's leaves.
#[derive(Debug)]
pub struct Pki {
    folder: TempDir,
}

impl Pki {
    /// Makes new ones.
    pub fn new() -> Self {
        let folder = super::peers::folder();
        let here = folder.path();
        let origin = authority(here, "origin-ca", "Meergate bench origin CA");
        authority(here, "proxy-ca", "Meergate bench proxy CA");
        let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("an EC key");
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        leaf(here, "ec", &ec, &origin);
        leaf(here, "rsa", &rsa.expect("an RSA key"), &origin);
        Self { folder }
    }

    /// The certificate that issues the origin's leaves.
    pub fn origin_ca(&self) -> PathBuf {
        self.folder.path().join("origin-ca.pem")
    }

    /// Certificate and key with which the proxies forge.
    pub fn proxy_ca(&self) -> (PathBuf, PathBuf) {
        self.leaf("proxy-ca")
    }

    /// Certificate and key of the origin: `ec` or `rsa`.
    pub fn leaf(&self, name: &str) -> (PathBuf, PathBuf) {
        let here = self.folder.path();
        (here.join(format!("{name}.pem")), here.join(format!("{name}.key")))
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

fn authority(folder: &Path, file: &str, name: &str) -> Issuer<'static, KeyPair> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("an EC key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).expect("a CA certificate");
    save(folder, file, &certificate.pem(), &key);
    Issuer::new(params, key)
}

fn leaf(folder: &Path, file: &str, key: &KeyPair, issuer: &Issuer<'_, KeyPair>) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, "localhost");
    // As public CAs issue them; vey-proxy's agent can't mimic a leaf that lacks one of both.
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(key, issuer).expect("a leaf");
    save(folder, file, &certificate.pem(), key);
}

fn save(folder: &Path, file: &str, certificate: &str, key: &KeyPair) {
    fs::write(folder.join(format!("{file}.pem")), certificate).expect("a certificate file");
    fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).expect("a key file");
}
