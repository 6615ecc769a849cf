//! OCSP responses that origins staple to their handshakes (RFC 6960, RFC 6066 section 8).
//!
//! Only one thing is taken from a staple: that it calls the origin's certificate revoked. Its
//! signature and dates are not looked at, since they could only make it count for less: it
//! comes from whoever holds the certificate's key, who would not lie about that. A good staple proves
//! nothing more than none, since who has something to hide sends none.

use x509_parser::prelude::{FromDer, X509Certificate};

use super::der::{read, tag};

/// The largest staple that is looked at, in bytes: they have one or two kilobytes, five with the
/// responder's certificate.
const MAX_STAPLE: usize = 64 * 1024;
/// `id-pkix-ocsp-basic`, 1.3.6.1.5.5.7.48.1.1.
const BASIC: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x30\x01\x01";

/// Whether `staple` says that `certificate` is revoked.
pub(super) fn revokes(staple: &[u8], certificate: &[u8]) -> bool {
    if staple.is_empty() || staple.len() > MAX_STAPLE {
        return false;
    }
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    has_revoked(staple, certificate.raw_serial()).unwrap_or(false)
}

/// RFC 6960 section 4.2.1; `None` where the response cannot be read to its answers.
fn has_revoked(staple: &[u8], serial: &[u8]) -> Option<bool> {
    // OCSPResponse: status, then [0] { SEQUENCE { type, OCTET STRING { BasicOCSPResponse } } }.
    let (response, _) = within(tag::SEQUENCE, staple)?;
    let (_status, rest) = within(tag::ENUMERATED, response)?;
    let (bytes, _) = within(tag::context_constructed(0), rest)?;
    let (bytes, _) = within(tag::SEQUENCE, bytes)?;
    let (kind, rest) = within(tag::OBJECT_IDENTIFIER, bytes)?;
    if kind != BASIC {
        return None;
    }
    let (basic, _) = within(tag::OCTET_STRING, rest)?;
    let (basic, _) = within(tag::SEQUENCE, basic)?;
    // ResponseData: perhaps a version, the responder, the time, then the answers.
    let (data, _) = within(tag::SEQUENCE, basic)?;
    let rest = within(tag::context_constructed(0), data).map_or(data, |(_, rest)| rest);
    let (_, _responder, rest) = read(rest)?;
    let (_produced, rest) = within(tag::GENERALIZED_TIME, rest)?;
    let (mut answers, _) = within(tag::SEQUENCE, rest)?;
    while !answers.is_empty() {
        let (answer, rest) = within(tag::SEQUENCE, answers)?;
        answers = rest;
        // SingleResponse: of which certificate, then its status.
        let (id, status) = within(tag::SEQUENCE, answer)?;
        let (_hash, id) = within(tag::SEQUENCE, id)?;
        let (_issuer_name, id) = within(tag::OCTET_STRING, id)?;
        let (_issuer_key, id) = within(tag::OCTET_STRING, id)?;
        let (of, _) = within(tag::INTEGER, id)?;
        let (status, ..) = read(status)?;
        if of == serial && status == tag::context_constructed(1) {
            return Some(true);
        }
    }
    Some(false)
}

/// The content of the element that `input` begins with, if it has this tag, and what follows it.
fn within(expected: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = read(input)?;
    (tag == expected).then_some((content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::der::{element, sequence};

    fn staple(status: &[u8], serial: &[u8]) -> Vec<u8> {
        let id = sequence(&[
            &sequence(&[b"\x06\x05\x2b\x0e\x03\x02\x1a"]),
            &element(tag::OCTET_STRING, &[&[1; 20]]),
            &element(tag::OCTET_STRING, &[&[2; 20]]),
            &element(tag::INTEGER, &[serial]),
        ]);
        let time = element(tag::GENERALIZED_TIME, &[b"20260101000000Z"]);
        let answer = sequence(&[&id, status, &time]);
        let responder = element(tag::context_constructed(2), &[&element(tag::OCTET_STRING, &[])]);
        let data = sequence(&[&responder, &time, &sequence(&[&answer])]);
        let basic = sequence(&[&data, &sequence(&[]), b"\x03\x01\x00"]);
        let bytes = sequence(&[
            &element(tag::OBJECT_IDENTIFIER, &[BASIC]),
            &element(tag::OCTET_STRING, &[&basic]),
        ]);
        sequence(&[
            &element(tag::ENUMERATED, &[&[0]]),
            &element(tag::context_constructed(0), &[&bytes]),
        ])
    }

    const REVOKED: &[u8] = b"\xa1\x11\x18\x0f20260101000000Z";

    #[test]
    fn only_a_revocation_of_this_certificate_counts() {
        let serial = [0x4b; 16];
        assert_eq!(has_revoked(&staple(REVOKED, &serial), &serial), Some(true));
        assert_eq!(has_revoked(&staple(REVOKED, &[0x4c; 16]), &serial), Some(false));
        assert_eq!(has_revoked(&staple(b"\x80\x00", &serial), &serial), Some(false));
        assert_eq!(has_revoked(&staple(b"\x82\x00", &serial), &serial), Some(false));
    }

    #[test]
    fn real_responders_are_understood() {
        let serial = b"\0\x9a\x3b\x5c\x7d\x11\x22\x33\x44\x55\x66\x77\x88";
        let revoked = include_bytes!("../../tests/data/revoked.ocsp");
        assert_eq!(has_revoked(revoked, serial), Some(true));
        assert_eq!(has_revoked(revoked, &serial[1..]), Some(false));
        let good = include_bytes!("../../tests/data/good.ocsp");
        assert_eq!(has_revoked(good, serial), Some(false));
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        let serial = [0x4b; 16];
        let whole = staple(REVOKED, &serial);
        for end in 0..whole.len() {
            assert_eq!(has_revoked(&whole[..end], &serial), None, "cut at {end}");
        }
        for at in 0..whole.len() {
            for value in [0, 0x30, 0x80, 0x84, 0xff] {
                let mut odd = whole.clone();
                odd[at] = value;
                // Must end, whatever it says.
                let _ = has_revoked(&odd, &serial);
            }
        }
    }
}
