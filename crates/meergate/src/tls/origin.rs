//! The TLS handshake with an origin, and what is believed of it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    AlertDescription, CipherSuite, DigitallySignedStruct, HandshakeKind, ProtocolVersion,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use shares::Client;
use start_error::StartError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::fault::Fault;
use super::identity::Identity;
use super::issuers::{self, Issuers};
use super::observed::{Observed, note, observe};
use super::odd::readable;
use super::plan::TlsPlan;
use super::recorded::Recorded;
use super::server_side::ServerSide;
use super::trust::{Doubt, Trust};
use super::{OriginStream, staple};
use crate::config::{Config, InvalidCertificate, TlsVersion, TlsVersions};
use crate::words::{Alpn, SERVED, Target, UpstreamError, UpstreamErrorKind};

/// Certificates that are fetched for one chain.
const MOST_FETCHED: usize = 3;

/// What the handshake with the origin told.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// The version, as `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, as rustls names it.
    pub cipher: &'static str,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// The protocol agreed on.
    pub alpn: Option<Alpn>,
    /// The leaf certificate.
    pub certificate: CertificateDer<'static>,
    /// SHA-256 of the leaf certificate.
    pub fingerprint: [u8; 32],
    /// Its issuer, as `C=US, O=Example, CN=Example R1`; empty if it cannot be read.
    pub issuer: String,
    /// What is wrong with it, where a rule says to go on all the same.
    pub fault: Option<Fault>,
    /// Whether it asked for a certificate and got none.
    pub certificate_asked: bool,
    /// How long the handshake took, without connecting.
    pub took: Duration,
}

/// Client configurations, one for each list of protocols, versions and identity, shared by all connections
/// so that sessions are resumed, but never under another identity.
pub(super) struct Origins {
    configs: HashMap<Terms, Arc<ClientConfig>>,
    trust: Trust,
}

/// An identity (the name of a `[[client_certificate]]`), and the protocols and versions offered.
type Terms = (Option<Arc<str>>, Vec<Alpn>, TlsVersions);

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").finish_non_exhaustive()
    }
}

impl Origins {
    pub(super) fn new(
        trust: Trust,
        provider: &Arc<CryptoProvider>,
        key_log: &Arc<dyn rustls::KeyLog>,
        config: &Config,
    ) -> Result<Self, StartError> {
        let mut identities = vec![(None, Arc::new(Identity::nobody()))];
        for setting in &config.client_certificate {
            let identity = Arc::new(Identity::load(setting, provider)?);
            identities.push((Some(Arc::from(setting.name.as_str())), identity));
        }
        let preferring = Arc::new(preferring_short_keys(provider));
        let mut configs = HashMap::new();
        for (name, identity) in identities {
            let offers = orders(SERVED).into_iter();
            let offers = offers
                .flat_map(|alpn| TlsVersions::CHOICES.map(|versions| (alpn.clone(), versions)));
            for (alpn, versions) in offers {
                let mut client = ClientConfig::builder_with_provider(preferring.clone())
                    .with_protocol_versions(supported(versions))
                    .map_err(|e| broken(&e))?
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(SignatureOnly(provider.clone())))
                    .with_client_cert_resolver(identity.clone());
                client.alpn_protocols = alpn.iter().map(|alpn| alpn.wire().to_vec()).collect();
                client.key_log = key_log.clone();
                client.resumption = Resumption::in_memory_sessions(config.tls.session_cache);
                configs.insert((name.clone(), alpn, versions), Arc::new(client));
            }
        }
        Ok(Self { configs, trust })
    }

    pub(super) fn learn_from(&self, former: &Self) {
        self.trust.learn_from(&former.trust);
    }

    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        target: &Target,
        plan: &TlsPlan,
        tcp: S,
        client: Option<Client>,
        limit: Duration,
        issuers: Option<&impl Issuers>,
    ) -> Result<(OriginStream<S>, UpstreamTls, ServerSide), UpstreamError> {
        let fail = |kind, detail: String| UpstreamError::new(kind, target, detail);
        let config = self.config(plan).ok_or_else(|| {
            fail(UpstreamErrorKind::Tls, "no such protocols or client certificate".into())
        })?;
        let name = ServerName::try_from(plan.server_name.to_string()).map_err(|_| {
            // Such as one with a hyphen at the edge of a label: the library asks for none, and takes none of clients.
            let detail = format!("TLS here takes no such server name as {:?}", plan.server_name);
            fail(UpstreamErrorKind::Tls, detail).unsupported_tls()
        })?;
        let began = Instant::now();
        let handshake = TlsConnector::from(config).connect(name.clone(), Recorded::new(tcp));
        let (done, observed) = timeout(limit, observe(handshake)).await.map_err(|_| {
            fail(UpstreamErrorKind::Timeout, "the TLS handshake took too long".into())
        })?;
        let certificate_asked = observed.certificate_asked && plan.identity.is_none();
        let mut stream = match done {
            Ok(stream) => stream,
            Err(e) => {
                let is_whole = plan.versions == TlsVersions::ALL;
                let error = fail(UpstreamErrorKind::Tls, why_none(&e, is_whole));
                // Of one that asked for a certificate the same alert says that it misses that.
                if is_whole && is_unsupported(&e) && !observed.certificate_asked {
                    return Err(error.unsupported_tls());
                }
                // Anybody can ask for a certificate and go: it counts only of who was known by then.
                let known =
                    certificate_asked && self.believes(&observed, plan, &name, client, limit).await;
                return Err(if known { error.certificate_asked() } else { error });
            }
        };
        let took = began.elapsed();
        let hello = stream.get_mut().0.take_hello();
        if stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_2) {
            stream.get_mut().0.settle();
        }
        let connection = stream.get_ref().1;
        let chain = connection.peer_certificates().unwrap_or_default();
        // Checked before a single byte of the client's goes there. Resumed sessions are checked
        // like full handshakes, with the chain that the session began with.
        let certificate = chain
            .first()
            .cloned()
            .ok_or_else(|| fail(UpstreamErrorKind::Certificate, "there is none".into()))?;
        let fingerprint = fingerprint(&certificate);
        if observed.revoked {
            self.trust.revoke(fingerprint);
        }
        let mut judged = self.trust.check(chain, &fingerprint, &name, client, limit).await;
        if let (Err(Doubt::Fault(Fault::Untrusted, _)), Some(issuers)) = (&judged, issuers) {
            let who = (&name, client, limit);
            if self.is_completed(chain, &fingerprint, who, issuers).await {
                judged = Ok(());
            }
        }
        let fault = match judged {
            Ok(()) => None,
            Err(Doubt::Unchecked) => {
                let why = "too many certificates had to be checked for this client";
                return Err(fail(UpstreamErrorKind::Timeout, why.into()));
            }
            Err(Doubt::Fault(_, why)) if plan.invalid == InvalidCertificate::Refuse => {
                return Err(fail(UpstreamErrorKind::Certificate, why));
            }
            Err(Doubt::Fault(fault, _)) => Some(fault),
        };
        let facts = UpstreamTls {
            version: connection.protocol_version().map_or("", named),
            cipher: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or(""),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: connection.alpn_protocol().and_then(Alpn::from_wire),
            issuer: issuer(&certificate),
            certificate,
            fingerprint,
            fault,
            certificate_asked,
            took,
        };
        let side = ServerSide { hello, chain: chain.to_vec() };
        Ok((stream, facts, side))
    }

    /// Whether the chain is valid with certificates that `issuers` find, each where the one below it says. They are judged
    /// as if the origin had shown them.
    async fn is_completed(
        &self,
        chain: &[CertificateDer<'_>],
        fingerprint: &[u8; 32],
        (name, client, limit): (&ServerName<'_>, Option<Client>, Duration),
        issuers: &impl Issuers,
    ) -> bool {
        let mut chain = chain.to_vec();
        'next: for _ in 0..MOST_FETCHED {
            for place in issuers::places(&chain) {
                let Some(found) = issuers.fetch(&place).await.filter(|der| !chain.contains(der))
                else {
                    continue;
                };
                chain.push(found);
                match self.trust.check(&chain, fingerprint, name, client, limit).await {
                    Ok(()) => return true,
                    Err(Doubt::Fault(Fault::Untrusted, _)) => continue 'next,
                    Err(_) => return false,
                }
            }
            return false;
        }
        false
    }

    fn config(&self, plan: &TlsPlan) -> Option<Arc<ClientConfig>> {
        let served = plan.alpn.iter().all(|alpn| alpn.is_served());
        let offered = if served { plan.alpn.clone() } else { Vec::new() };
        let config = self.configs.get(&(plan.identity.clone(), offered, plan.versions))?;
        if served {
            return Some(config.clone());
        }
        // Clients may offer any others: their sessions are not kept.
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = plan.alpn.iter().map(|alpn| alpn.wire().to_vec()).collect();
        config.resumption = Resumption::disabled();
        Some(Arc::new(config))
    }

    /// Whether the origin of a handshake that failed later had proved to be one that we would have
    /// gone on with.
    async fn believes(
        &self,
        observed: &Observed,
        plan: &TlsPlan,
        name: &ServerName<'_>,
        client: Option<Client>,
        limit: Duration,
    ) -> bool {
        let Some(leaf) = observed.shown.first().filter(|_| observed.proved) else { return false };
        if plan.invalid != InvalidCertificate::Refuse {
            return true;
        }
        let leaf = fingerprint(leaf);
        !observed.revoked
            && self.trust.check(&observed.shown, &leaf, name, client, limit).await.is_ok()
    }
}

/// SHA-256 of a certificate.
fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    fingerprint
}

fn issuer(certificate: &CertificateDer<'_>) -> String {
    X509Certificate::from_der(certificate)
        .map(|(_, certificate)| certificate.issuer().to_string())
        .unwrap_or_default()
}

fn broken(error: &rustls::Error) -> StartError {
    StartError::new(
        format!("TLS cannot be set up ({error})"),
        "the cryptographic library",
        "report this as a bug",
    )
}

/// All orders of all subsets: few, since few protocols are served.
fn orders(served: &[Alpn]) -> Vec<Vec<Alpn>> {
    let mut all: Vec<Vec<Alpn>> = vec![Vec::new()];
    let mut last = all.clone();
    for _ in served {
        let mut longer = Vec::new();
        for list in &last {
            for alpn in served.iter().filter(|alpn| !list.contains(alpn)) {
                longer.push([list.as_slice(), &[*alpn]].concat());
            }
        }
        all.extend(longer.iter().cloned());
        last = longer;
    }
    all
}

/// The same, with AES of 128-bit keys offered first, as browsers do: it takes a quarter less time.
fn preferring_short_keys(provider: &CryptoProvider) -> CryptoProvider {
    let mut provider = provider.clone();
    provider.cipher_suites.sort_by_key(|offered| {
        !matches!(
            offered.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

/// Checks that the origin holds the key of the certificate it shows. Whether the certificate
/// itself is believed is decided after the handshake, by [`Trust`]: only so can a session that is
/// resumed be checked, and a fault be explained or mimicked.
#[derive(Debug)]
struct SignatureOnly(Arc<CryptoProvider>);

impl ServerCertVerifier for SignatureOnly {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if staple::revokes(staple, certificate) {
            note(|observed| observed.revoked = true);
        }
        note(|observed| {
            if observed.certificate_asked {
                let chain = iter::once(certificate).chain(intermediates);
                observed.shown = chain.map(|c| c.clone().into_owned()).collect();
            }
        });
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        let certificate = &readable(certificate).ok_or(KEYLESS)?;
        verify_tls12_signature(message, certificate, signature, algorithms).inspect(proved)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        let certificate = &readable(certificate).ok_or(KEYLESS)?;
        verify_tls13_signature(message, certificate, signature, algorithms).inspect(proved)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What is said of a certificate without a key.
const KEYLESS: rustls::Error =
    rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);

fn proved(_: &HandshakeSignatureValid) {
    note(|observed| observed.proved = true);
}

/// Whether a handshake failed for what the origin can.
fn is_unsupported(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(
        cause,
        Some(
            rustls::Error::AlertReceived(
                AlertDescription::HandshakeFailure
                    | AlertDescription::InsufficientSecurity
                    | AlertDescription::ProtocolVersion
            ) | rustls::Error::PeerIncompatible(_)
        )
    )
}

/// Why there was no handshake. Of one that failed for what the origin can, also what it was offered.
fn why_none(error: &io::Error, is_whole: bool) -> String {
    match is_unsupported(error) {
        true if !is_whole => {
            format!(
                "{error}; it was offered the one version of TLS that tls.min and tls.max, or those of a listener or rule, allow"
            )
        }
        true => format!(
            "{error}; it seems to have none of TLS 1.2 and 1.3 with AES-GCM or ChaCha20-Poly1305 and ephemeral keys, \
             and only a rule that bypasses it leads there"
        ),
        false => error.to_string(),
    }
}

/// What the library calls them.
pub(super) fn supported(
    versions: TlsVersions,
) -> &'static [&'static rustls::SupportedProtocolVersion] {
    const OLD: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    const NEW: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    match versions.ends() {
        (TlsVersion::Tls12, TlsVersion::Tls12) => OLD,
        (TlsVersion::Tls13, TlsVersion::Tls13) => NEW,
        _ => rustls::ALL_VERSIONS,
    }
}

/// The usual spelling of `version`.
pub(super) fn named(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        other => other.as_str().unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keys_are_offered_first_and_nothing_is_left_out() {
        let all = rustls::crypto::aws_lc_rs::default_provider();
        let offered = preferring_short_keys(&all).cipher_suites;
        assert_eq!(offered.len(), all.cipher_suites.len());
        assert!(all.cipher_suites.iter().all(|suite| offered.contains(suite)));
        let is_short =
            |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).contains("_128_");
        let short = offered.iter().take_while(|suite| is_short(suite)).count();
        assert_eq!(short, 3);
        assert!(!offered[short..].iter().any(is_short));
        // Where a server takes no AES of 128 bits, it is to take AES of 256 bits before ChaCha20.
        let left = format!("{:?}", offered[short..].iter().map(|s| s.suite()).collect::<Vec<_>>());
        assert!(left.find("_256_") < left.find("CHACHA20"), "{left}");
    }
}
