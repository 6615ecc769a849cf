//! Whom we believe: the CAs that origins' certificates are checked against.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use nix::time::{ClockId, clock_gettime};
use prometheus_client::metrics::counter::Counter;
use quick_cache::sync::Cache;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use shares::{Client, Rate, Rates};
use start_error::StartError;
use tokio::time::sleep;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::fault::{Fault, explain};
use super::intermediates::{Intermediates, may_sign, read};
use crate::config::{Config, Upstream};
use crate::lately::{Lately, Question};
use crate::metrics::{CheckLabels, LimitLabels, Metrics};
use crate::words::{Checked, Limited};

/// How long a chain that was found valid is not checked again. A certificate that expires, or a CA
/// that a reload removes, is noticed at the latest then.
const KEEP: Duration = Duration::from_secs(300);
/// How long one that was found bad is not: long enough for a page's many connections, short enough
/// for whoever mends the origin.
const KEEP_FAULT: Duration = Duration::from_secs(10);
/// Chains kept, of valid ones and of bad ones.
const CHAINS: usize = 8192;
/// Certificates that an origin may show, its own included, as OpenSSL has it by default: real chains
/// have 2 to 5. Intermediates of one name can be tried in any order, so each more multiplies the work.
const MAX_CHAIN: usize = 10;
/// Clients whose checks are remembered.
const CLIENTS: usize = 16_384;
/// What a client may spend at once, after a time of rest, in seconds of its rate.
const BURST: f64 = 10.0;

/// The trusted CAs, and what was found out about chains lately: without that, every new connection
/// would pay for the same signatures again.
#[derive(Debug)]
pub(super) struct Trust {
    verifier: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates of `upstream.ca`, as they are: origins may show one of these themselves.
    named: Named,
    /// What origins leave out of their chains.
    intermediates: Intermediates,
    /// The intermediates of which it was found out what chains need, by a digest of them all.
    weighed: Lately<()>,
    valid: Lately<()>,
    /// Apart from the valid ones, so that whoever makes many bad ones displaces none of those.
    bad: Lately<(Fault, String)>,
    /// Seconds of computing that clients had chains checked for: origins, and so clients, choose what
    /// a check costs.
    spent: Rates,
    rate: Rate,
    counters: Counters,
    /// Leaves that their own origins called revoked, by SHA-256: later sessions may be resumed, or
    /// come without the staple that said it.
    revoked: Cache<[u8; 32], ()>,
}

#[derive(Debug)]
struct Counters {
    valid: Counter,
    completed: Counter,
    bad: Counter,
    postponed: Counter,
}

/// Why a chain is not believed.
#[derive(Clone, Debug)]
pub(super) enum Doubt {
    /// Something is wrong with it; in words for the people who see the error page.
    Fault(Fault, String),
    /// It was not looked at in time: too much was looked at for this client lately.
    Unchecked,
}

impl Trust {
    /// Reads the system's CAs and those of the settings.
    pub(super) fn load(
        config: &Config,
        provider: &Arc<CryptoProvider>,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let (roots, named) = roots(&config.upstream)?;
        let verifier = match roots.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                    .build()
                    .map_err(|e| {
                        StartError::new(
                            format!("the trusted CAs cannot be used ({e})"),
                            "upstream.ca",
                            "remove the files that hold no CA certificates",
                        )
                    })?,
            ),
        };
        let checked =
            |outcome| metrics.certificate_checks.get_or_create(&CheckLabels { outcome }).clone();
        let postponed =
            metrics.limited.get_or_create(&LimitLabels { limit: Limited::Verification });
        let counters = Counters {
            valid: checked(Checked::Valid),
            completed: checked(Checked::Completed),
            bad: checked(Checked::Bad),
            postponed: postponed.clone(),
        };
        let per_second = config.limits.verification.0.as_secs_f64().max(0.001);
        Ok(Self {
            verifier,
            named,
            intermediates: Intermediates::load(&config.upstream)?,
            weighed: Lately::new(CHAINS),
            valid: Lately::new(CHAINS),
            bad: Lately::new(CHAINS),
            spent: Rates::new(CLIENTS),
            rate: Rate { burst: BURST * per_second, per_second },
            counters,
            revoked: Cache::new(CHAINS),
        })
    }

    /// Keeps what `former` knows of intermediates.
    pub(super) fn learn_from(&self, former: &Self) {
        self.intermediates.learn_from(&former.intermediates);
    }

    /// Never again believes the leaf with this fingerprint.
    pub(super) fn revoke(&self, fingerprint: [u8; 32]) {
        self.revoked.insert(fingerprint, ());
    }

    /// Whether the origin's `chain`, leaf first, is valid for `name` now; if not, why not.
    /// `fingerprint` is the leaf's. Waits up to `patience` for the client's turn.
    pub(super) async fn check(
        &self,
        chain: &[CertificateDer<'_>],
        fingerprint: &[u8; 32],
        name: &ServerName<'_>,
        client: Option<Client>,
        patience: Duration,
    ) -> Result<(), Doubt> {
        let question = key(chain, &name.to_str());
        if self.valid.answer(&question).is_none() {
            if let Some((fault, why)) = self.bad.answer(&question) {
                return Err(Doubt::Fault(fault, why));
            }
            self.turn(client, patience).await?;
            self.look(question, chain, name, client)?;
        }
        match self.revoked.get(fingerprint) {
            Some(()) => {
                Err(Doubt::Fault(Fault::Revoked, "it has been revoked, as the server says".into()))
            }
            None => Ok(()),
        }
    }

    /// Waits until what `client` has spent is forgiven.
    async fn turn(&self, client: Option<Client>, patience: Duration) -> Result<(), Doubt> {
        let Some(client) = client else { return Ok(()) };
        let began = Instant::now();
        let mut postponed = false;
        loop {
            let wait = self.spent.wait(client, self.rate, Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            if !postponed {
                postponed = true;
                self.counters.postponed.inc();
            }
            if began.elapsed().saturating_add(wait) > patience {
                return Err(Doubt::Unchecked);
            }
            sleep(wait).await;
        }
    }

    /// Looks at the chain, at the client's expense, and remembers what comes of it.
    fn look(
        &self,
        question: Question,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        client: Option<Client>,
    ) -> Result<(), Doubt> {
        let began = computed();
        let found = self.verify(chain, name);
        if let Some(client) = client {
            let took = computed().saturating_sub(began).as_secs_f64();
            self.spent.spend(client, took, self.rate, Instant::now());
        }
        match found {
            Ok(whole) => {
                match whole {
                    Whole::AsShown => self.counters.valid.inc(),
                    Whole::Completed => self.counters.completed.inc(),
                };
                self.valid.note(question, (), KEEP);
                Ok(())
            }
            Err((fault, why)) => {
                self.counters.bad.inc();
                self.bad.note(question, (fault, why.clone()), KEEP_FAULT);
                Err(Doubt::Fault(fault, why))
            }
        }
    }

    fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<Whole, (Fault, String)> {
        let untrusted = |why: String| Err((Fault::Untrusted, why));
        let Some((leaf, intermediates)) = chain.split_first() else {
            return untrusted("it presented no certificate".into());
        };
        if chain.len() > MAX_CHAIN {
            return untrusted(format!("its chain has more than {MAX_CHAIN} certificates"));
        }
        let Some(verifier) = &self.verifier else {
            return untrusted("no CA is trusted here".into());
        };
        let verifies = |signers: &[CertificateDer<'_>]| {
            let checked = verifier.verify_server_cert(leaf, signers, name, &[], UnixTime::now());
            checked.map(drop).map_err(|e| explain(&e))
        };
        let mut signers: Vec<CertificateDer<'_>> =
            intermediates.iter().filter(|c| may_sign(c)).cloned().collect();
        let all_may_sign = signers.len() == intermediates.len();
        let mut found = verifies(&signers);
        if found.is_ok() {
            self.remember(&signers, verifies);
            return Ok(Whole::AsShown);
        }
        if self.named.contains(leaf) && matches!(found, Err((Fault::Untrusted, _))) {
            return as_named(leaf, name).map(|()| Whole::AsShown);
        }
        let missing = self.intermediates.missing(chain, MAX_CHAIN - chain.len());
        if !missing.is_empty() {
            signers.extend(missing);
            found = verifies(&signers);
        }
        match found {
            Ok(()) => Ok(Whole::Completed),
            Err((fault @ Fault::Untrusted, why)) if !all_may_sign => {
                Err((fault, format!("{why}; one in its chain may not sign certificates")))
            }
            Err(explained) => Err(explained),
        }
    }

    /// Remembers those of a valid chain's `signers` without which it would not be valid. Only of those a
    /// trusted CA is sure to have vouched for: an origin can show along with them what it likes.
    fn remember<E>(
        &self,
        signers: &[CertificateDer<'_>],
        verifies: impl Fn(&[CertificateDer<'_>]) -> Result<(), E>,
    ) {
        let question = key(signers, "");
        if signers.is_empty() || self.weighed.answer(&question).is_some() {
            return;
        }
        self.weighed.note(question, (), KEEP);
        let mut needed = signers.to_vec();
        let mut at = 0;
        while at < needed.len() {
            let mut without = needed.clone();
            let left_out = without.remove(at);
            if verifies(&without).is_ok() {
                needed = without;
            } else {
                self.intermediates.remember(&left_out);
                at += 1;
            }
        }
    }
}

/// How a valid chain became whole.
#[derive(Clone, Copy, Debug)]
enum Whole {
    /// The origin showed all of it.
    AsShown,
    /// With intermediates that other origins showed, or of the settings.
    Completed,
}

/// Whether a certificate that is trusted as it is, whoever issued it and a CA's or not, is valid for `name`
/// now.
fn as_named(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), (Fault, String)> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|e| explain(&e))?;
    let bad = |e: CertificateError| explain(&e.into());
    let (_, fields) =
        X509Certificate::from_der(certificate).map_err(|_| bad(CertificateError::BadEncoding))?;
    let (validity, now) = (fields.validity(), i64::try_from(UnixTime::now().as_secs()));
    let now = now.map_err(|_| bad(CertificateError::Expired))?;
    if now < validity.not_before.timestamp() {
        return Err(bad(CertificateError::NotValidYet));
    }
    if now > validity.not_after.timestamp() {
        return Err(bad(CertificateError::Expired));
    }
    match fields.extended_key_usage() {
        Ok(None) => {}
        Ok(Some(usage)) if usage.value.server_auth || usage.value.any => {}
        _ => return Err(bad(CertificateError::InvalidPurpose)),
    }
    verify_server_name(&parsed, name).map_err(|e| explain(&e))
}

/// How long this thread has computed. Zero where the system does not say.
fn computed() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

type Named = HashSet<CertificateDer<'static>>;

/// All trusted CAs, and those of the settings once more.
fn roots(upstream: &Upstream) -> Result<(RootCertStore, Named), StartError> {
    let (mut roots, mut named) = (RootCertStore::empty(), Named::new());
    if upstream.system_ca {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the system's CAs cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
    }
    for path in &upstream.ca {
        add_file(&mut roots, &mut named, path)?;
    }
    if roots.is_empty() {
        tracing::warn!(
            "no CA is trusted, so every TLS origin will be refused; install the system's CAs \
             (Debian: ca-certificates) or name one with --upstream-ca"
        );
    }
    Ok((roots, named))
}

fn key(chain: &[CertificateDer<'_>], name: &str) -> Question {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(name.len() as u64).to_be_bytes());
    context.update(name.as_bytes());
    for certificate in chain {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

fn add_file(roots: &mut RootCertStore, named: &mut Named, path: &Path) -> Result<(), StartError> {
    let remedy = "name a readable PEM file with CA certificates (upstream.ca, --upstream-ca)";
    for certificate in read(path, remedy)? {
        roots.add(certificate.clone()).map_err(|e| {
            let what = format!("a CA cannot be used ({e})");
            StartError::new(what, path.display().to_string(), remedy)
        })?;
        named.insert(certificate);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
