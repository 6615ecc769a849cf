//! Where a certificate says that its issuer's is to be had (RFC 5280 section 4.2.2.1).

use std::future::Future;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{
    FromDer, GeneralName, ParsedExtension, X509Certificate,
    oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS,
};

use crate::words::HttpUrl;

/// Places that are tried for one certificate.
const PLACES: usize = 2;

/// Whoever fetches certificates of CAs that origins leave out.
pub trait Issuers: Sync {
    /// The certificate at `url`, if there is one. It is only what somebody wrote there: to be verified as if the
    /// origin had shown it.
    fn fetch(&self, url: &HttpUrl) -> impl Future<Output = Option<CertificateDer<'static>>> + Send;
}

/// Where the issuer of the last certificate of `chain` may be, leaf first and whatever order the others have. Empty if
/// it is there already, or says nothing.
pub(super) fn places(chain: &[CertificateDer<'_>]) -> Vec<HttpUrl> {
    let read: Vec<_> = chain.iter().filter_map(|der| X509Certificate::from_der(der).ok()).collect();
    let Some((_, leaf)) = read.first() else { return Vec::new() };
    let mut last = leaf;
    // No more steps than certificates: they may certify each other.
    for _ in 0..read.len() {
        let issuer = read.iter().map(|(_, other)| other).find(|other| {
            other.subject().as_raw() == last.issuer().as_raw() && other.as_ref() != last.as_ref()
        });
        let Some(issuer) = issuer else { break };
        last = issuer;
    }
    if last.subject().as_raw() == last.issuer().as_raw() {
        return Vec::new();
    }
    let access =
        last.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(access),
            _ => None,
        });
    let described = access.into_iter().flat_map(|access| &access.accessdescs);
    let places = described.filter_map(|description| match description.access_location {
        GeneralName::URI(text)
            if description.access_method == OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS =>
        {
            HttpUrl::parse(text)
        }
        _ => None,
    });
    places.take(PLACES).collect()
}
