//! The CA that signs forged leaves: made, kept, loaded and checked.

mod former;
mod profile;
mod store;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, SigningKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use start_error::StartError;

pub use former::Former;
pub use store::{Place, import, load, load_or_make, make, rotate};

const DAY: Duration = Duration::from_secs(86_400);
/// How long a CA made here is valid. Clients trust it by hand, so it should outlive them.
const VALID: Duration = Duration::from_secs(3_650 * 86_400);
/// Remaining validity below which the operator is told at every start.
const WARN_DAYS: i64 = 30;

/// A CA certificate with its key, checked to be able to sign leaves.
pub struct Authority {
    /// The signing certificate, then its chain towards the root, which may be the last.
    chain: Vec<CertificateDer<'static>>,
    /// The CA that this one took over from, while clients may still trust that one alone.
    former: Option<Former>,
    key: KeyPair,
    /// The subject's DER: the issuer of leaves.
    subject: Vec<u8>,
    key_identifier: Vec<u8>,
    not_after: i64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new self-signed CA with a P-256 key, valid for ten years, for leaves only.
    ///
    /// # Errors
    /// The cryptographic library fails.
    pub fn generate() -> Result<Self, StartError> {
        let key = KeyPair::generate().map_err(|e| broken(&e))?;
        Self::issue(key)
    }

    /// A self-signed CA for `key`. Its subject is derived from the key, so that a certificate
    /// issued again for the same key is trusted where the former one is.
    fn issue(key: KeyPair) -> Result<Self, StartError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let id = digest::digest(&digest::SHA256, &key.subject_public_key_info());
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Meergate CA {}", hex(&id.as_ref()[..4])));
        params.distinguished_name.push(DnType::OrganizationName, "Meergate");
        // One below it: the CA that takes over from it some day.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.key_identifier_method = KeyIdMethod::Sha256;
        let now = SystemTime::now();
        params.not_before = (now - DAY).into();
        params.not_after = (now + VALID).into();
        let certificate = params.self_signed(&key).map_err(|e| broken(&e))?;
        Self::new(vec![certificate.der().clone()], key, "the new CA", "its key")
    }

    /// Reads certificate (chain) and key from PEM text; the names are what errors call the two.
    ///
    /// # Errors
    /// Not PEM, not a CA certificate, expired, or certificate and key do not belong together.
    pub fn from_pem(
        certificates: &[u8],
        key: &[u8],
        name: &str,
        key_name: &str,
    ) -> Result<Self, StartError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|e| refuse(format!("the CA certificate is not PEM ({e:?})"), name))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| {
            refuse(format!("the CA key is not a PEM private key ({e:?})"), key_name)
        })?;
        let key = KeyPair::try_from(&key)
            .map_err(|e| refuse(format!("the CA key is of no known kind ({e})"), key_name))?;
        Self::new(chain, key, name, key_name)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
        name: &str,
        key_name: &str,
    ) -> Result<Self, StartError> {
        let own = chain.first().ok_or_else(|| refuse("no certificate in the CA file", name))?;
        let (_, certificate) = X509Certificate::from_der(own)
            .map_err(|e| refuse(format!("the CA certificate cannot be read ({e})"), name))?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(StartError::new(
                "the CA certificate and key do not belong together",
                format!("{name}, {key_name}"),
                "name the key that the certificate was made for",
            ));
        }
        if !certificate.is_ca() {
            return Err(refuse("the certificate is not a CA (basicConstraints)", name));
        }
        if let Ok(Some(usage)) = certificate.key_usage()
            && !usage.value.key_cert_sign()
        {
            return Err(refuse("the CA certificate may not sign (keyUsage)", name));
        }
        let not_after = certificate.validity().not_after.timestamp();
        if not_after <= now() {
            return Err(StartError::new(
                "the CA certificate has expired",
                name,
                "make a new one with `meergate ca new` and have the clients trust it",
            ));
        }
        let subject = certificate.subject().as_raw().to_vec();
        let key_identifier = certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
            .unwrap_or_else(|| key_identifier(&key.subject_public_key_info()));
        if signature_algorithm(&key).is_none() {
            return Err(refuse("the CA key is of a kind that cannot sign leaves", key_name));
        }
        links(&chain, name)?;
        Ok(Self { chain, former: None, key, subject, key_identifier, not_after })
    }

    /// The certificate, then its chain.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificate alone.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The certificate and its chain as PEM.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem("CERTIFICATE", der)).collect()
    }

    /// The private key as PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// SHA-256 of the certificate, in hexadecimal with colons, as browsers show it.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.certificate())
    }

    /// When the certificate expires, in seconds of Unix time.
    pub fn expires(&self) -> i64 {
        self.not_after
    }

    /// Days until the certificate expires, if that is soon enough to be told.
    pub fn expires_soon(&self) -> Option<i64> {
        let days = (self.not_after - now()) / 86_400;
        (days < WARN_DAYS).then_some(days)
    }

    /// What clients are to trust: the last certificate of the chain, and that of the former CA as
    /// long as it counts.
    pub fn trusted(&self) -> Vec<&CertificateDer<'static>> {
        self.chain.last().into_iter().chain(self.former().map(Former::trusted)).collect()
    }

    /// The same as PEM, with the intermediates in front.
    pub fn trusted_pem(&self) -> String {
        let former = self.former().map(|former| pem("CERTIFICATE", former.trusted()));
        self.chain_pem() + &former.unwrap_or_default()
    }

    /// The CA that this one took over from, until their overlap ends.
    pub fn former(&self) -> Option<&Former> {
        self.former.as_ref().filter(|former| former.until > now())
    }

    /// What is sent along with leaves: the intermediates, and what leads those who trust the former
    /// CA alone to it; no roots, which clients know already.
    pub(super) fn presented(&self) -> Vec<CertificateDer<'static>> {
        let former = self.former().map_or(&[][..], |former| &former.chain);
        self.chain.iter().chain(former).filter(|der| !is_root(der)).cloned().collect()
    }

    pub(super) fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The key, as certificates hold it (SubjectPublicKeyInfo, DER).
    pub(super) fn public_key_info(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    pub(super) fn key_identifier(&self) -> &[u8] {
        &self.key_identifier
    }

    /// The AlgorithmIdentifier (DER) of this CA's signatures.
    pub(super) fn signature_algorithm(&self) -> &'static [u8] {
        signature_algorithm(&self.key).unwrap_or_default()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message)
    }
}

/// Each certificate of a chain must be issued by the next one.
fn links(chain: &[CertificateDer<'static>], name: &str) -> Result<(), StartError> {
    for (at, pair) in chain.windows(2).enumerate() {
        let linked =
            match (X509Certificate::from_der(&pair[0]), X509Certificate::from_der(&pair[1])) {
                (Ok((_, below)), Ok((_, above))) => {
                    below.issuer().as_raw() == above.subject().as_raw() && above.is_ca()
                }
                _ => false,
            };
        if !linked {
            return Err(StartError::new(
                format!("certificate {} of the chain is not the issuer of the one before", at + 2),
                name,
                "order them from the signing CA to the root",
            ));
        }
    }
    Ok(())
}

/// Whether a certificate is issued by itself.
fn is_root(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| {
        certificate.issuer().as_raw() == certificate.subject().as_raw()
    })
}

/// RFC 7093 section 2, method 1: the leftmost 160 bits of SHA-256 of the key.
pub(super) fn key_identifier(public_key_info: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, public_key_info).as_ref()[..20].to_vec()
}

/// RFC 5758, RFC 4055 and RFC 8410: the AlgorithmIdentifiers, whole.
fn signature_algorithm(key: &KeyPair) -> Option<&'static [u8]> {
    const RSA: [&[u8]; 3] = [
        b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00",
        b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00",
        b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00",
    ];
    let known: [(&rcgen::SignatureAlgorithm, &[u8]); 7] = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"),
        (&rcgen::PKCS_ECDSA_P521_SHA512, b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"),
        (&rcgen::PKCS_ED25519, b"\x30\x05\x06\x03\x2b\x65\x70"),
        (&rcgen::PKCS_RSA_SHA256, RSA[0]),
        (&rcgen::PKCS_RSA_SHA384, RSA[1]),
        (&rcgen::PKCS_RSA_SHA512, RSA[2]),
    ];
    known.into_iter().find(|(algorithm, _)| *algorithm == key.algorithm()).map(|(_, der)| der)
}

/// PEM text of `der`.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

fn fingerprint(certificate: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refuse(what: impl Into<String>, name: &str) -> StartError {
    StartError::new(what, name, "name a CA certificate and its key, both PEM")
}

fn broken(error: &rcgen::Error) -> StartError {
    StartError::new(
        format!("cannot make a CA ({error})"),
        "the cryptographic library",
        "report this as a bug",
    )
}
