//! The list of revoked leaves. It is empty, since no leaf outlives its use; but
//! there are clients, such as those of Windows, who believe no leaf without one (RFC 5280 section 5).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use start_error::StartError;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::{Authority, now};
use super::der::{bit_string, element, extension, sequence, tag};
use super::forge::{OID_AUTHORITY_KEY_IDENTIFIER, key_identifier_of, time};
use super::leaf_keys::ForgeError;

const OID_CRL_NUMBER: &[u8] = b"\x06\x03\x55\x1d\x14";

const HOUR: i64 = 3_600;
/// How long a list counts, in seconds. Clients keep it for that time.
const VALID: i64 = 7 * 24 * HOUR;

/// The list as it was signed last, and when.
#[derive(Default)]
pub(super) struct Revocations {
    kept: Mutex<Option<(i64, Arc<[u8]>)>>,
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").finish_non_exhaustive()
    }
}

impl Revocations {
    /// The list, signed within the last hour.
    pub(super) fn list(&self, authority: &Authority) -> Result<Arc<[u8]>, ForgeError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        if let Some((signed, list)) = &*kept
            && (*signed..*signed + HOUR).contains(&now)
        {
            return Ok(list.clone());
        }
        let list: Arc<[u8]> = sign(authority, now)?.into();
        *kept = Some((now, list.clone()));
        Ok(list)
    }
}

/// A list without an entry (RFC 5280 section 5.1), in DER; `now` in seconds since 1970. It has begun to count an hour
/// ago: clocks differ.
fn sign(authority: &Authority, now: i64) -> Result<Vec<u8>, ForgeError> {
    let bytes = now.to_be_bytes();
    // As few of them as hold the number and its sign.
    let spare = bytes.windows(2).take_while(|pair| pair[0] == 0 && pair[1] < 0x80).count();
    let number = element(tag::INTEGER, &[&bytes[spare..]]);
    let extensions = sequence(&[
        &extension(OID_AUTHORITY_KEY_IDENTIFIER, false, &key_identifier_of(authority)),
        &extension(OID_CRL_NUMBER, false, &number),
    ]);
    let to_be_signed = sequence(&[
        &[tag::INTEGER, 1, 1],
        authority.signature_algorithm(),
        authority.subject(),
        &time(now - HOUR)?,
        &time(now + VALID)?,
        &element(tag::context_constructed(0), &[&extensions]),
    ]);
    let signature = authority
        .sign(&to_be_signed)
        .map_err(|e| ForgeError(format!("the CA key does not sign ({e})")))?;
    Ok(sequence(&[&to_be_signed, authority.signature_algorithm(), &bit_string(&signature)]))
}

/// Clients believe a list only if the CA may sign some.
pub(super) fn may_be_listed(authority: &Authority) -> Result<(), StartError> {
    let may = X509Certificate::from_der(authority.certificate()).is_ok_and(|(_, certificate)| {
        matches!(certificate.key_usage(), Ok(None))
            || matches!(certificate.key_usage(), Ok(Some(usage)) if usage.value.crl_sign())
    });
    match may {
        true => Ok(()),
        false => Err(StartError::new(
            "the CA certificate may not sign revocation lists (keyUsage without cRLSign)",
            "tls.crl_url",
            "leave the setting out, or import a CA that may",
        )),
    }
}
