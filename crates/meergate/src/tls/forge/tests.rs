//! Forged leaves, held against the certificates that they are like.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{ServerName, UnixTime};

use super::*;
use crate::tls::ca::{self, Place};
use crate::tls::leaf_keys::KeyKind;

fn accepts(authority: &Authority, leaf: &CertificateDer<'_>, name: &str) -> Result<(), String> {
    trusts(authority.certificate(), leaf, &[], name)
}

/// Whether one who trusts `root` alone believes `leaf`, sent with `intermediates`.
fn trusts(
    root: &CertificateDer<'static>,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    name: &str,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier
        .verify_server_cert(leaf, intermediates, &name, &[], UnixTime::now())
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
    let key = LeafKey::generate(KeyKind::P256).unwrap();
    let names = ["a.example", "*.b.example", "192.0.2.7", "2001:db8::7"];
    let original = original(&names, |p| {
        p.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
        p.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::CodeSigning, ExtendedKeyUsagePurpose::ServerAuth];
    });
    let leaf = mimic(&authority, &key, &original, None).unwrap();
    for name in ["a.example", "x.b.example", "192.0.2.7", "2001:db8::7"] {
        accepts(&authority, &leaf, name).unwrap();
    }
    assert!(accepts(&authority, &leaf, "c.example").is_err());
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let (_, real) = X509Certificate::from_der(&original).unwrap();
    assert_eq!(leaf.subject().as_raw(), real.subject().as_raw());
    assert_eq!(leaf.validity(), real.validity());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.code_signing);
    assert_ne!(leaf.serial, real.serial);
    assert!(!leaf.is_ca());
}

#[test]
fn an_original_without_key_usage_or_names_is_no_obstacle() {
    let authority = Authority::generate().unwrap();
    let key = LeafKey::generate(KeyKind::P256).unwrap();
    let bare = original(&["a.example"], |p| {
        p.key_usages.clear();
        p.extended_key_usages.clear();
    });
    accepts(&authority, &mimic(&authority, &key, &bare, None).unwrap(), "a.example").unwrap();
    let nameless = original(&[], |_| {});
    let leaf = mimic(&authority, &key, &nameless, None).unwrap();
    assert!(accepts(&authority, &leaf, "a.example").is_err());
}

#[test]
fn serials_do_not_repeat() {
    let authority = Authority::generate().unwrap();
    let key = LeafKey::generate(KeyKind::P256).unwrap();
    let first = for_host(&authority, &key, "a.example", None).unwrap();
    let second = for_host(&authority, &key, "a.example", None).unwrap();
    let serial =
        |der: &CertificateDer<'_>| X509Certificate::from_der(der).unwrap().1.raw_serial().to_vec();
    assert_ne!(serial(&first), serial(&second));
    assert_eq!(serial(&first).len(), 16);
}

#[test]
fn hosts_of_all_kinds_get_leaves() {
    let authority = Authority::generate().unwrap();
    let key = LeafKey::generate(KeyKind::P256).unwrap();
    let long = format!("{}.example", "a".repeat(60));
    for host in ["a.example", "192.0.2.7", "2001:db8::7", &long] {
        accepts(&authority, &for_host(&authority, &key, host, None).unwrap(), host).unwrap();
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
    let key = LeafKey::generate(KeyKind::P256).unwrap();
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
        let leaf = for_host(&authority, &key, "a.example", None).unwrap();
        accepts(&authority, &leaf, "a.example").unwrap();
    }
}

#[test]
fn a_new_ca_is_believed_by_those_who_know_the_former_one() {
    let dir = tempfile::tempdir().unwrap();
    let place =
        Place { cert: dir.path().join("ca.pem"), key: dir.path().join("ca.key"), ours: true };
    let old = ca::make(&place, false).unwrap();
    let overlap = Duration::from_secs(86_400);
    let made = ca::rotate(&place, overlap, false).unwrap();
    let new = ca::load(&place).unwrap();
    assert_eq!(new.fingerprint(), made.fingerprint());
    assert_ne!(new.fingerprint(), old.fingerprint());
    assert_eq!(new.trusted(), [new.certificate(), old.certificate()]);

    let leaf =
        for_host(&new, &LeafKey::generate(KeyKind::P256).unwrap(), "a.example", None).unwrap();
    for root in [old.certificate(), new.certificate()] {
        trusts(root, &leaf, &new.presented(), "a.example").unwrap();
    }
    assert!(trusts(old.certificate(), &leaf, &[], "a.example").is_err());

    // The next one after that: the cross-certificate is of the one before it alone.
    let third = ca::rotate(&place, overlap, false).unwrap();
    let leaf =
        for_host(&third, &LeafKey::generate(KeyKind::P256).unwrap(), "a.example", None).unwrap();
    trusts(new.certificate(), &leaf, &third.presented(), "a.example").unwrap();

    // When the overlap is over, nothing is left of it.
    ca::rotate(&place, Duration::ZERO, false).unwrap();
    let alone = ca::load(&place).unwrap();
    assert!(alone.presented().is_empty() && alone.trusted() == [alone.certificate()]);
    ca::rotate(&place, overlap, false).unwrap();
    assert_eq!(ca::make(&place, true).unwrap().trusted().len(), 1);
    assert_eq!(ca::load(&place).unwrap().trusted().len(), 1);
}

/// An intermediate CA with its root, as PEM, and its key.
fn intermediate(constraints: rcgen::BasicConstraints) -> (String, KeyPair) {
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the company's root");
    let root_key = KeyPair::generate().unwrap();
    let root = rcgen::CertifiedIssuer::self_signed(params, root_key).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(constraints);
    params.distinguished_name.push(DnType::CommonName, "the gateway's");
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &root).unwrap();
    (certificate.pem() + &root.pem(), key)
}

#[test]
fn an_intermediate_is_sent_along_and_its_root_is_to_be_trusted() {
    let (chain, key) = intermediate(rcgen::BasicConstraints::Constrained(0));
    let read = |chain: &str| {
        Authority::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes(), "chain", "key")
    };
    let authority = read(&chain).unwrap();
    let leaf = for_host(&authority, &LeafKey::generate(KeyKind::P256).unwrap(), "a.example", None)
        .unwrap();
    let root = authority.trusted()[0];
    assert_eq!(authority.chain().len(), 2);
    assert_eq!(authority.presented(), [authority.certificate().clone()]);
    trusts(root, &leaf, &authority.presented(), "a.example").unwrap();
    assert!(trusts(root, &leaf, &[], "a.example").is_err());

    let own = chain.split_inclusive("END CERTIFICATE-----\n").next().unwrap();
    let unrelated = own.to_owned() + &Authority::generate().unwrap().chain_pem();
    assert!(read(&unrelated).unwrap_err().to_string().contains("certificate 2 of the chain"));
}

#[test]
fn a_ca_that_may_certify_no_other_is_not_rotated_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let place =
        Place { cert: dir.path().join("ca.pem"), key: dir.path().join("ca.key"), ours: true };
    let (chain, key) = intermediate(rcgen::BasicConstraints::Constrained(0));
    let old = Authority::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes(), "chain", "key")
        .unwrap();
    ca::import(&place, &old, false).unwrap();
    let overlap = Duration::from_secs(86_400);
    let e = ca::rotate(&place, overlap, false).unwrap_err().to_string();
    assert!(e.contains("--at-once"), "{e}");
    assert_eq!(ca::load(&place).unwrap().fingerprint(), old.fingerprint());
    let new = ca::rotate(&place, overlap, true).unwrap();
    // Both are to be trusted, and what was signed by the former one can still be followed.
    assert_eq!(new.trusted(), [new.certificate(), &old.chain()[1]]);
}
