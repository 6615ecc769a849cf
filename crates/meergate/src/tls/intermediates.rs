//! Certificates of CAs between the trusted ones and origins' own, for origins that leave them out.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use quick_cache::sync::Cache;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use start_error::StartError;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Upstream;

/// Intermediates kept of one name: CAs certify each other, and renew what they have certified.
const OF_ONE_NAME: usize = 4;
/// The longest intermediate that is remembered, in bytes. Real ones have 1 to 2 KiB.
const LONGEST: usize = 8192;

/// Intermediates by their subjects. Being here makes none of them trusted: each is only offered as a way
/// from a certificate to a trusted CA, to be verified as if the origin had shown it.
pub(super) struct Intermediates {
    /// Those of the settings.
    named: HashMap<Name, Vec<CertificateDer<'static>>>,
    /// Those that valid chains of other origins consisted of, the newest first.
    seen: Cache<Name, Arc<[CertificateDer<'static>]>>,
}

/// A distinguished name, in DER. The verifier compares names byte for byte too.
type Name = Box<[u8]>;

impl fmt::Debug for Intermediates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intermediates").field("seen", &self.seen.len()).finish_non_exhaustive()
    }
}

impl Intermediates {
    /// Reads those of the settings.
    pub(super) fn load(upstream: &Upstream) -> Result<Self, StartError> {
        let mut named: HashMap<Name, Vec<_>> = HashMap::new();
        for path in &upstream.intermediates {
            let remedy = "name a readable PEM file with CAs' certificates (upstream.intermediates)";
            for (at, certificate) in read(path, remedy)?.into_iter().enumerate() {
                let Some(names) = names(&certificate).filter(|_| may_issue(&certificate)) else {
                    let what = format!("certificate {} in the file is not a CA's", at + 1);
                    let place = path.display().to_string();
                    return Err(StartError::new(what, place, "remove it from the file"));
                };
                named.entry(names.subject).or_default().push(certificate);
            }
        }
        Ok(Self { named, seen: Cache::new(upstream.intermediate_cache) })
    }

    /// Up to `most` certificates that `chain` (leaf first) does not have, and that may lead from it to a
    /// trusted CA.
    pub(super) fn missing(
        &self,
        chain: &[CertificateDer<'_>],
        most: usize,
    ) -> Vec<CertificateDer<'static>> {
        let mut found: Vec<CertificateDer<'static>> = Vec::new();
        let mut issuers: Vec<Name> = chain.iter().filter_map(names).map(|n| n.issuer).collect();
        let mut at = 0;
        while let Some(issuer) = issuers.get(at) {
            let seen = self.seen.get(issuer);
            let named = self.named.get(issuer).map_or(&[][..], Vec::as_slice);
            for candidate in named.iter().chain(seen.iter().flat_map(|seen| seen.iter())) {
                if found.len() == most {
                    return found;
                }
                if chain.contains(candidate) || found.contains(candidate) {
                    continue;
                }
                found.push(candidate.clone());
                if let Some(names) = names(candidate).filter(|n| !issuers.contains(&n.issuer)) {
                    issuers.push(names.issuer);
                }
            }
            at += 1;
        }
        found
    }

    /// Keeps what `former` has seen. It may lead to CAs that are not trusted any more: then it leads nowhere.
    pub(super) fn learn_from(&self, former: &Self) {
        for (_, of_one_name) in former.seen.iter() {
            // The newest last, to be the newest again.
            of_one_name.iter().rev().for_each(|intermediate| self.remember(intermediate));
        }
    }

    /// Keeps an intermediate that a valid chain could not do without.
    pub(super) fn remember(&self, intermediate: &CertificateDer<'_>) {
        let Some(names) = names(intermediate).filter(|_| intermediate.len() <= LONGEST) else {
            return;
        };
        let former = self.seen.get(&names.subject).unwrap_or_default();
        if !former.contains(intermediate) {
            let older = former.iter().take(OF_ONE_NAME - 1).cloned();
            let newest = std::iter::once(intermediate.clone().into_owned());
            self.seen.insert(names.subject, newest.chain(older).collect());
        }
    }
}

#[cfg(test)]
impl Intermediates {
    /// All that are remembered, in the order of their subjects.
    pub(super) fn remembered(&self) -> Vec<CertificateDer<'static>> {
        let mut all: Vec<_> = self.seen.iter().collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.into_iter().flat_map(|(_, of_one)| of_one.to_vec()).collect()
    }
}

struct Names {
    subject: Name,
    issuer: Name,
}

fn names(certificate: &CertificateDer<'_>) -> Option<Names> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    Some(Names { subject: read.subject().as_raw().into(), issuer: read.issuer().as_raw().into() })
}

/// Whether a certificate is a CA's, and may be used to sign others.
fn may_issue(certificate: &CertificateDer<'_>) -> bool {
    may_sign(certificate)
        && X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| certificate.is_ca())
}

/// Whether a certificate may be used to sign others, as far as its KeyUsage says (RFC 5280 section
/// 4.2.1.3), which the verifier does not look at. One that cannot be read may not.
pub(super) fn may_sign(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    match certificate.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Err(_) => false,
    }
}

/// The certificates in the file at `path`, at least one.
///
/// # Errors
/// The file cannot be read, is not PEM, or has none.
pub(super) fn read(
    path: &Path,
    remedy: &'static str,
) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let refuse = |what: String| StartError::new(what, path.display().to_string(), remedy);
    let text = std::fs::read(path).map_err(|e| refuse(format!("cannot read the CAs ({e})")))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| refuse(format!("the CAs are not PEM ({e:?})")))?;
    if certificates.is_empty() {
        return Err(refuse("no certificate in the file".into()));
    }
    Ok(certificates)
}
