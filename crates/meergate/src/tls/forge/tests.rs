use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{ServerName, UnixTime};

use super::*;

fn accepts(authority: &Authority, leaf: &CertificateDer<'_>, name: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier
        .verify_server_cert(leaf, &[], &name, &[], UnixTime::now())
        .map(drop)
        .map_err(|e| e.to_string())
}

/// An origin's certificate, self-signed.
fn original(
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = (SystemTime::now() - Duration::from_secs(9 * 86_400)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(9 * 86_400)).into();
    params.distinguished_name.push(DnType::OrganizationName, "Örtliche Bäckerei");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

#[test]
fn the_leaf_says_what_the_original_says() {
    let authority = Authority::generate().unwrap();
    let key = LeafKey::generate().unwrap();
    let names = ["a.example", "*.b.example", "192.0.2.7", "2001:db8::7"];
    let original = original(&names, |p| {
        p.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
        p.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    });
    let leaf = mimic(&authority, &key, &original).unwrap();
    for name in ["a.example", "x.b.example", "192.0.2.7", "2001:db8::7"] {
        accepts(&authority, &leaf, name).unwrap();
    }
    assert!(accepts(&authority, &leaf, "c.example").is_err());
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let (_, real) = X509Certificate::from_der(&original).unwrap();
    assert_eq!(leaf.subject().as_raw(), real.subject().as_raw());
    assert_eq!(leaf.validity(), real.validity());
    assert_eq!(
        leaf.extended_key_usage().unwrap().unwrap().value,
        real.extended_key_usage().unwrap().unwrap().value
    );
    assert_ne!(leaf.serial, real.serial);
    assert!(!leaf.is_ca());
}

#[test]
fn an_original_without_key_usage_or_names_is_no_obstacle() {
    let authority = Authority::generate().unwrap();
    let key = LeafKey::generate().unwrap();
    let bare = original(&["a.example"], |p| {
        p.key_usages.clear();
        p.extended_key_usages.clear();
    });
    accepts(&authority, &mimic(&authority, &key, &bare).unwrap(), "a.example").unwrap();
    let nameless = original(&[], |_| {});
    let leaf = mimic(&authority, &key, &nameless).unwrap();
    assert!(accepts(&authority, &leaf, "a.example").is_err());
}

#[test]
fn serials_do_not_repeat() {
    let authority = Authority::generate().unwrap();
    let key = LeafKey::generate().unwrap();
    let first = for_host(&authority, &key, "a.example").unwrap();
    let second = for_host(&authority, &key, "a.example").unwrap();
    let serial =
        |der: &CertificateDer<'_>| X509Certificate::from_der(der).unwrap().1.raw_serial().to_vec();
    assert_ne!(serial(&first), serial(&second));
    assert_eq!(serial(&first).len(), 16);
}

#[test]
fn hosts_of_all_kinds_get_leaves() {
    let authority = Authority::generate().unwrap();
    let key = LeafKey::generate().unwrap();
    let long = format!("{}.example", "a".repeat(60));
    for host in ["a.example", "192.0.2.7", "2001:db8::7", &long] {
        accepts(&authority, &for_host(&authority, &key, host).unwrap(), host).unwrap();
    }
}

#[test]
fn dates_past_2049_change_their_form() {
    assert_eq!(time(0).unwrap(), b"\x17\x0d700101000000Z");
    assert_eq!(time(2_524_607_999).unwrap(), b"\x17\x0d491231235959Z");
    assert_eq!(time(2_524_608_000).unwrap(), b"\x18\x0f20500101000000Z");
}

#[test]
fn cas_of_other_key_kinds_sign() {
    let key = LeafKey::generate().unwrap();
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let ca_key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&ca_key).unwrap();
        let authority = Authority::from_pem(
            certificate.pem().as_bytes(),
            ca_key.serialize_pem().as_bytes(),
            "test",
            "its key",
        )
        .unwrap();
        let leaf = for_host(&authority, &key, "a.example").unwrap();
        accepts(&authority, &leaf, "a.example").unwrap();
    }
}
