//! The overlap of two CAs: the new one signs, and those who know only the former one still believe it.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use start_error::StartError;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authority, now, pem, refuse};
use crate::tls::forge;

/// The CA that another one took over from.
#[derive(Debug)]
pub struct Former {
    /// The new CA's certificate by the former one (a cross-certificate, RFC 4949), where there is
    /// one, then the former CA's chain.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// When the overlap ends, in seconds since 1970.
    pub(super) until: i64,
}

impl Former {
    /// The overlap of `old` and `new` from now on.
    ///
    /// # Errors
    /// The former CA may not certify another one; without `at_once`, which has those who know only
    /// the former one refuse the new one from now on.
    pub(super) fn begin(
        old: &Authority,
        new: &Authority,
        overlap: Duration,
        at_once: bool,
    ) -> Result<Self, StartError> {
        let until = (now() + overlap.as_secs() as i64).min(old.not_after);
        let mut chain = Vec::new();
        if old.may_certify() {
            let cross = forge::cross(old, new, until).map_err(|e| {
                refuse(format!("the former CA cannot certify the new ({})", e.0), "")
            })?;
            chain.push(cross);
        } else if !at_once {
            return Err(StartError::new(
                "the present CA may not certify another one (its path length is 0), so clients \
                 that do not trust the new one would refuse it from now on",
                old.subject_text(),
                "have clients trust the new one at once: --at-once",
            ));
        }
        chain.extend_from_slice(&old.chain);
        Ok(Self { chain, until })
    }

    /// What is kept of it between runs: the end of the overlap, then the certificates.
    pub(super) fn to_pem(&self) -> String {
        let certificates: String = self.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        format!("until {}\n{certificates}", self.until)
    }

    /// Reads what [`Former::to_pem`] wrote; `name` is what errors call it.
    pub(super) fn from_pem(text: &[u8], name: &str) -> Result<Self, StartError> {
        let wrong = || refuse("not what `meergate ca rotate` has written", name);
        let end = text.iter().position(|b| *b == b'\n').ok_or_else(wrong)?;
        let until = std::str::from_utf8(&text[..end])
            .ok()
            .and_then(|line| line.strip_prefix("until ")?.parse().ok())
            .ok_or_else(wrong)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&text[end..])
            .collect::<Result<_, _>>()
            .map_err(|_| wrong())?;
        if chain.is_empty() {
            return Err(wrong());
        }
        Ok(Self { chain, until })
    }

    /// What clients of the former CA trust.
    pub(super) fn trusted(&self) -> &CertificateDer<'static> {
        // `from_pem` and `begin` leave at least one.
        &self.chain[self.chain.len() - 1]
    }

    /// When the overlap ends, as text.
    pub fn until(&self) -> String {
        super::profile::date(self.until)
    }
}

impl Authority {
    /// Whether its certificates may be those of CAs (RFC 5280 section 4.2.1.9).
    fn may_certify(&self) -> bool {
        X509Certificate::from_der(self.certificate()).is_ok_and(|(_, certificate)| {
            let constraints = certificate.basic_constraints().ok().flatten();
            constraints.is_some_and(|c| c.value.path_len_constraint.is_none_or(|length| length > 0))
        })
    }
}
