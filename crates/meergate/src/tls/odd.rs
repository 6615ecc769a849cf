//! Origins' certificates that the TLS library does not read: of X.509 version 1, as appliances have them,
//! with extensions that it does not know, or malformed. That an origin holds the key can be checked all the
//! same, so that rules can say what becomes of it. It makes none of them valid.

use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;

use super::der::{bit_string, element, read, sequence, tag};

/// ecdsa-with-SHA256, with which nothing is signed here.
const ALGORITHM: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";

/// `certificate`, or if the library can't read it, one that has its key and nothing else. `None` if no
/// key is found in it.
pub(super) fn readable<'a>(certificate: &CertificateDer<'a>) -> Option<CertificateDer<'a>> {
    if ParsedCertificate::try_from(certificate).is_ok() {
        return Some(certificate.clone());
    }
    let any_time = element(tag::UTC_TIME, &[b"700101000000Z"]);
    let nobody = sequence(&[]);
    let to_be_signed = sequence(&[
        &element(tag::context_constructed(0), &[&[tag::INTEGER, 1, 2]]),
        &[tag::INTEGER, 1, 1],
        ALGORITHM,
        &nobody,
        &sequence(&[&any_time, &any_time]),
        &nobody,
        &public_key_info(certificate)?,
    ]);
    let whole = sequence(&[&to_be_signed, ALGORITHM, &bit_string(&[0])]);
    Some(CertificateDer::from(whole))
}

/// The SubjectPublicKeyInfo (RFC 5280 section 4.1).
fn public_key_info(certificate: &[u8]) -> Option<Vec<u8>> {
    let (tag::SEQUENCE, whole, _) = read(certificate)? else { return None };
    let (tag::SEQUENCE, mut rest, _) = read(whole)? else { return None };
    const VERSION: u8 = tag::context_constructed(0);
    if let (VERSION, _, after) = read(rest)? {
        rest = after;
    }
    // The serial number, the signature's algorithm, the issuer, the validity, and the subject.
    for _ in 0..5 {
        (_, _, rest) = read(rest)?;
    }
    let (tag::SEQUENCE, key, _) = read(rest)? else { return None };
    Some(sequence(&[key]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, CustomExtension, KeyPair, PublicKeyData};

    /// The certificate as X.509 version 1 has it: without its version and extensions.
    fn first_version(certificate: &[u8]) -> CertificateDer<'static> {
        let (_, whole, _) = read(certificate).unwrap();
        let (_, mut fields, signature) = read(whole).unwrap();
        let mut kept = Vec::new();
        while let Some((tag, content, rest)) = read(fields) {
            if tag & 0xe0 != 0xa0 {
                kept.extend(element(tag, &[content]));
            }
            fields = rest;
        }
        CertificateDer::from(sequence(&[&sequence(&[&kept]), signature]))
    }

    #[test]
    fn the_key_is_found_whatever_else_is_there() {
        let key = KeyPair::generate().unwrap();
        let of = |change: fn(&mut CertificateParams)| {
            let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            change(&mut params);
            params.self_signed(&key).unwrap().der().clone()
        };
        let usual = of(|_| {});
        assert_eq!(readable(&usual), Some(usual.clone()));
        let odd = of(|params| {
            let mut unknown = CustomExtension::from_oid_content(&[1, 3, 9999], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions.push(unknown);
        });
        assert!(ParsedCertificate::try_from(&odd).is_err());
        let plain = readable(&odd).unwrap();
        let read = ParsedCertificate::try_from(&plain).unwrap();
        assert_eq!(read.subject_public_key_info().as_ref(), key.subject_public_key_info());
        let first = first_version(&usual);
        assert!(ParsedCertificate::try_from(&first).is_err());
        assert_eq!(public_key_info(&first), Some(key.subject_public_key_info()));
        for length in 0..odd.len() {
            // Nothing in it is trusted to be there.
            let _ = readable(&CertificateDer::from(&odd[..length]));
        }
    }
}
