//! Forging leaves: the origin's certificate with our key in it, signed by our CA.

use std::net::IpAddr;

use aws_lc_rs::rand;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::ca::{Authority, now};
use super::der::{bit_string, element, extension, sequence, tag};
use super::leaf_keys::{ForgeError, LeafKey};

const OID_COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
const OID_SUBJECT_KEY_IDENTIFIER: &[u8] = b"\x06\x03\x55\x1d\x0e";
const OID_KEY_USAGE: &[u8] = b"\x06\x03\x55\x1d\x0f";
const OID_SUBJECT_ALT_NAME: &[u8] = b"\x06\x03\x55\x1d\x11";
const OID_BASIC_CONSTRAINTS: &[u8] = b"\x06\x03\x55\x1d\x13";
pub(super) const OID_AUTHORITY_KEY_IDENTIFIER: &[u8] = b"\x06\x03\x55\x1d\x23";
const OID_CRL_DISTRIBUTION_POINTS: &[u8] = b"\x06\x03\x55\x1d\x1f";
const OID_EXTENDED_KEY_USAGE: &[u8] = b"\x06\x03\x55\x1d\x25";
/// ExtendedKeyUsage with serverAuth alone.
const SERVER_AUTH: &[u8] = b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
/// KeyUsage with digitalSignature alone: all that a key does in TLS where those that are
/// exchanged are ephemeral.
const DIGITAL_SIGNATURE: &[u8] = b"\x03\x02\x07\x80";

/// KeyUsage with keyCertSign and cRLSign.
const CERTIFICATE_SIGN: &[u8] = b"\x03\x02\x01\x06";

const DAY: i64 = 86_400;

/// A leaf that says what `original` says: subject, alternative names, validity, byte for byte. It is
/// for servers alone: what else the original is for (clients, mail, code) nobody is to do with our
/// key. What else it has (SCTs, revocation pointers, policies) speaks of its own CA and is left out. Its own
/// revocations are listed at `list`.
pub(super) fn mimic(
    authority: &Authority,
    key: &LeafKey,
    original: &CertificateDer<'_>,
    list: Option<&str>,
) -> Result<CertificateDer<'static>, ForgeError> {
    let (_, original) = X509Certificate::from_der(original)
        .map_err(|e| ForgeError(format!("the origin's certificate cannot be read ({e})")))?;
    let is_names = |oid: &[u8]| oid == &OID_SUBJECT_ALT_NAME[2..];
    let names = original.extensions().iter().find(|extension| is_names(extension.oid.as_bytes()));
    let validity = original.validity();
    sign(
        authority,
        key,
        &Content {
            subject: original.subject().as_raw(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            names: names.map(|extension| (extension.critical, extension.value.to_vec())),
            list,
        },
    )
}

/// What `old` certifies of `new`, until `until` (seconds since 1970): those who trust the former CA
/// believe the new one's leaves.
pub(super) fn cross(
    old: &Authority,
    new: &Authority,
    until: i64,
) -> Result<CertificateDer<'static>, ForgeError> {
    let constraints = sequence(&[&[tag::BOOLEAN, 1, 0xff], &element(tag::INTEGER, &[&[0]])]);
    let key_id = element(tag::OCTET_STRING, &[new.key_identifier()]);
    let extensions = [
        extension(OID_KEY_USAGE, true, CERTIFICATE_SIGN),
        extension(OID_BASIC_CONSTRAINTS, true, &constraints),
        extension(OID_SUBJECT_KEY_IDENTIFIER, false, &key_id),
    ];
    issue(old, [now() - DAY, until], new.subject(), &new.public_key_info(), &extensions.concat())
}

/// A leaf for `host` alone, valid for a week: where there is no original to mimic.
pub(super) fn for_host(
    authority: &Authority,
    key: &LeafKey,
    host: &str,
    list: Option<&str>,
) -> Result<CertificateDer<'static>, ForgeError> {
    let name = match host.parse() {
        Ok(IpAddr::V4(ip)) => element(tag::context(7), &[&ip.octets()]),
        Ok(IpAddr::V6(ip)) => element(tag::context(7), &[&ip.octets()]),
        Err(_) => element(tag::context(2), &[host.as_bytes()]),
    };
    // X.520 allows common names of up to 64 characters; the alternative name is what counts.
    let common_name: String = host.chars().take(64).collect();
    let attribute =
        sequence(&[OID_COMMON_NAME, &element(tag::UTF8_STRING, &[common_name.as_bytes()])]);
    let subject = sequence(&[&element(tag::SET, &[&attribute])]);
    sign(
        authority,
        key,
        &Content {
            subject: &subject,
            not_before: now() - DAY,
            not_after: now() + 7 * DAY,
            names: Some((false, sequence(&[&name]))),
            list,
        },
    )
}

struct Content<'a> {
    subject: &'a [u8],
    not_before: i64,
    not_after: i64,
    names: Option<(bool, Vec<u8>)>,
    list: Option<&'a str>,
}

fn sign(
    authority: &Authority,
    key: &LeafKey,
    content: &Content<'_>,
) -> Result<CertificateDer<'static>, ForgeError> {
    let names = content.names.as_ref().map_or_else(Vec::new, |(critical, value)| {
        extension(OID_SUBJECT_ALT_NAME, *critical, value)
    });
    let key_id = element(tag::OCTET_STRING, &[&key.identifier]);
    let extensions = [
        extension(OID_KEY_USAGE, true, DIGITAL_SIGNATURE),
        extension(OID_EXTENDED_KEY_USAGE, false, SERVER_AUTH),
        extension(OID_BASIC_CONSTRAINTS, true, &sequence(&[])),
        extension(OID_SUBJECT_KEY_IDENTIFIER, false, &key_id),
        names,
        content.list.map_or_else(Vec::new, distribution_point),
    ];
    let validity = [content.not_before, content.not_after];
    issue(authority, validity, content.subject, &key.public_key_info, &extensions.concat())
}

/// RFC 5280 section 4.1; `validity` in seconds since 1970, the other parts in DER.
fn issue(
    authority: &Authority,
    validity: [i64; 2],
    subject: &[u8],
    public_key_info: &[u8],
    extensions: &[u8],
) -> Result<CertificateDer<'static>, ForgeError> {
    let authority_id =
        extension(OID_AUTHORITY_KEY_IDENTIFIER, false, &key_identifier_of(authority));
    let extensions = sequence(&[extensions, &authority_id]);
    let to_be_signed = sequence(&[
        &element(tag::context_constructed(0), &[&[tag::INTEGER, 1, 2]]),
        &serial()?,
        authority.signature_algorithm(),
        authority.subject(),
        &sequence(&[&time(validity[0])?, &time(validity[1])?]),
        subject,
        public_key_info,
        &element(tag::context_constructed(3), &[&extensions]),
    ]);
    let signature = authority
        .sign(&to_be_signed)
        .map_err(|e| ForgeError(format!("the CA key does not sign ({e})")))?;
    let whole =
        sequence(&[&to_be_signed, authority.signature_algorithm(), &bit_string(&signature)]);
    Ok(CertificateDer::from(whole))
}

/// AuthorityKeyIdentifier (RFC 5280 section 4.2.1.1).
pub(super) fn key_identifier_of(authority: &Authority) -> Vec<u8> {
    sequence(&[&element(tag::context(0), &[authority.key_identifier()])])
}

/// What names `url` as the place where a leaf's revocations are listed (RFC 5280 section 4.2.1.13).
fn distribution_point(url: &str) -> Vec<u8> {
    let uri = element(tag::context(6), &[url.as_bytes()]);
    let full_name = element(tag::context_constructed(0), &[&uri]);
    let name = element(tag::context_constructed(0), &[&full_name]);
    extension(OID_CRL_DISTRIBUTION_POINTS, false, &sequence(&[&sequence(&[&name])]))
}

/// 126 random bits: unguessable, positive, never zero, at most 20 octets (RFC 5280 section 4.1.2.2).
fn serial() -> Result<Vec<u8>, ForgeError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| ForgeError("no random numbers".into()))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(element(tag::INTEGER, &[&bytes]))
}

/// RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050.
pub(super) fn time(seconds: i64) -> Result<Vec<u8>, ForgeError> {
    let date = ASN1Time::from_timestamp(seconds)
        .map_err(|e| ForgeError(format!("a date of the origin's certificate ({e})")))?
        .to_datetime();
    let year = date.year();
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(date.month()),
        date.day(),
        date.hour(),
        date.minute(),
        date.second()
    );
    if (1950..2050).contains(&year) {
        Ok(element(tag::UTC_TIME, &[format!("{:02}", year % 100).as_bytes(), rest.as_bytes()]))
    } else {
        Ok(element(tag::GENERALIZED_TIME, &[format!("{year:04}").as_bytes(), rest.as_bytes()]))
    }
}

#[cfg(test)]
mod tests;
