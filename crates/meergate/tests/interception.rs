//! TLS through the program: what clients see of origins' certificates, good and bad.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;
mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use program::Program;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, GeneralSubtree, IsCa,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_ecdsa_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use socket2::{Domain, Socket, Type};
use support::icap::{Icap, Verdict};
use support::{Gateway, PATIENCE, connect, read_until, text, wait_for};

type Change = fn(&mut CertificateParams);
/// Whether a client's complaint is the one that is expected.
type Check = fn(&CertificateError) -> bool;

/// A CA that origins' certificates come from.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new(change: Change) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "Origins");
        change(&mut params);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn leaf(&self, names: &[&str], change: Change) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        (vec![leaf.der().clone(), self.0.der().clone()], key)
    }
}

fn plain(_: &mut CertificateParams) {}

fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
}

fn not_yet(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2090, 1, 1);
    params.not_after = rcgen::date_time_ymd(2091, 1, 1);
}

/// OCSP responses of the certificate with [`stapled`]'s serial number.
const REVOKED: &[u8] = include_bytes!("data/revoked.ocsp");
const GOOD: &[u8] = include_bytes!("data/good.ocsp");

fn stapled(params: &mut CertificateParams) {
    let serial = b"\x9a\x3b\x5c\x7d\x11\x22\x33\x44\x55\x66\x77\x88";
    params.serial_number = Some(serial.to_vec().into());
}

/// An HTTPS origin that answers every request of a connection with `hello`.
struct Origin {
    address: SocketAddr,
    handshakes: Arc<[AtomicUsize; 2]>,
}

impl Origin {
    fn start(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self::start_with(chain, key, rustls::ALL_VERSIONS)
    }

    fn start_with(
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        Self::run(Self::showing(chain, key, versions), Self::listener())
    }

    fn showing(
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ServerConfig {
        let key = any_ecdsa_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into())).unwrap();
        // Shown unread.
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        ServerConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown))
    }

    /// One that staples an OCSP response to full handshakes.
    fn start_stapling(
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
        staple: &[u8],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert_with_ocsp(chain, key, staple.to_vec())
            .unwrap();
        Self::run(config, Self::listener())
    }

    /// One that insists on a certificate of `clients`.
    fn start_asking(
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
        clients: &Ca,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Self {
        Self::run(Self::asking(chain, key, clients, version), Self::listener())
    }

    fn asking(
        chain: Vec<CertificateDer<'static>>,
        key: &KeyPair,
        clients: &Ca,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> ServerConfig {
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(clients.0.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap()
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    fn run(mut config: ServerConfig, listener: TcpListener) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let config = Arc::new(config);
        let address = listener.local_addr().unwrap();
        let handshakes = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let counts = handshakes.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, counts) = (config.clone(), counts.clone());
                thread::spawn(move || serve(stream?, config, &counts));
            }
        });
        Self { address, handshakes }
    }

    /// Full and resumed handshakes so far.
    fn handshakes(&self) -> [usize; 2] {
        [0, 1].map(|at| self.handshakes[at].load(Ordering::SeqCst))
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    counts: &[AtomicUsize; 2],
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    counts[usize::from(resumed)].fetch_add(1, Ordering::SeqCst);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        if head.windows(6).any(|w| w.eq_ignore_ascii_case(b" close")) {
            stream.conn.send_close_notify();
            return stream.flush();
        }
    }
}

/// What a client that trusts the gateway's CA gets.
#[derive(Debug)]
struct Seen {
    status: u16,
    body: String,
    leaf: CertificateDer<'static>,
    version: ProtocolVersion,
    kind: HandshakeKind,
}

struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    fn new(gateway: &Gateway) -> Self {
        Self::with_versions(gateway, rustls::ALL_VERSIONS)
    }

    fn with_versions(
        gateway: &Gateway,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let pem = std::fs::read(gateway.dir.path().join("state/ca.pem")).unwrap();
        Self::build(CertificateDer::from_pem_slice(&pem).unwrap(), versions)
    }

    /// One that trusts this CA and no other.
    fn trusting(ca: CertificateDer<'static>) -> Self {
        Self::build(ca, rustls::ALL_VERSIONS)
    }

    /// One that can do RSA alone, wherever something is signed.
    fn of_rsa(
        ca: CertificateDer<'static>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Self {
        let mut provider = default_provider();
        let known = &mut provider.signature_verification_algorithms;
        let is_rsa = |scheme| format!("{scheme:?}").starts_with("RSA_");
        let mapping = known.mapping.iter().copied().filter(|(scheme, _)| is_rsa(*scheme));
        known.mapping = mapping.collect::<Vec<_>>().leak();
        let all = known.mapping.iter().flat_map(|(_, all)| all.iter().copied());
        known.all = all.collect::<Vec<_>>().leak();
        Self::build_with(provider, ca, &[version])
    }

    fn build(
        ca: CertificateDer<'static>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        Self::build_with(default_provider(), ca, versions)
    }

    fn build_with(
        provider: CryptoProvider,
        ca: CertificateDer<'static>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { config: Arc::new(config) }
    }

    /// Asks for `/` of `origin`, which the client calls `name`.
    fn ask(&self, gateway: &Gateway, origin: SocketAddr, name: &str) -> io::Result<Seen> {
        self.ask_at(gateway, &origin.to_string(), name)
    }

    /// The same, where the tunnel is to lead to `target`.
    fn ask_at(&self, gateway: &Gateway, target: &str, name: &str) -> io::Result<Seen> {
        let mut tcp = gateway.connect();
        write!(tcp, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")?;
        let answer = read_until(&mut tcp, b"\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
        self.talk(tcp, name)
    }

    /// As a client whose connection to `origin` was redirected to `program`.
    fn ask_redirected(
        &self,
        program: &Program,
        origin: SocketAddr,
        name: &str,
    ) -> io::Result<Seen> {
        let mut tcp = connect(program.at("redirect"));
        let (ip, port) = (origin.ip(), origin.port());
        write!(tcp, "PROXY TCP4 192.0.2.77 {ip} 4711 {port}\r\n")?;
        self.talk(tcp, name)
    }

    fn talk(&self, tcp: TcpStream, name: &str) -> io::Result<Seen> {
        let name_of = ServerName::try_from(name.to_owned()).unwrap();
        let tls = ClientConnection::new(self.config.clone(), name_of).unwrap();
        let mut stream = StreamOwned::new(tls, tcp);
        write!(stream, "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(e),
            _ => {}
        }
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let tls = &stream.conn;
        Ok(Seen {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: body.to_owned(),
            leaf: tls.peer_certificates().unwrap()[0].clone(),
            version: tls.protocol_version().unwrap(),
            kind: tls.handshake_kind().unwrap(),
        })
    }
}

fn gateway(ca: &Ca, rules: &str) -> Gateway {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("origins.pem");
    std::fs::write(&path, ca.0.pem()).unwrap();
    // Read at the start, so it need not stay.
    Gateway::start(&format!("[upstream]\nca = [{path:?}]\n{rules}"))
}

fn fault(result: io::Result<Seen>) -> CertificateError {
    let error = result.expect_err("the client should have refused the certificate");
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(fault)) => fault.clone(),
        other => panic!("{other:?}, {error}"),
    }
}

/// Origins with each a certificate of another kind, the name that clients ask for, and what is
/// wrong: words of the page, and what a client sees where the fault is mimicked.
struct Case {
    what: &'static str,
    origin: Origin,
    name: &'static str,
    wrong: Option<(&'static str, Check)>,
}

fn is_expired(fault: &CertificateError) -> bool {
    matches!(fault, CertificateError::Expired | CertificateError::ExpiredContext { .. })
}

fn is_not_yet(fault: &CertificateError) -> bool {
    matches!(fault, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })
}

fn is_wrong_name(fault: &CertificateError) -> bool {
    matches!(
        fault,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    )
}

fn is_untrusted(fault: &CertificateError) -> bool {
    matches!(fault, CertificateError::UnknownIssuer)
}

fn cases(ca: &Ca) -> Vec<Case> {
    let stranger = Ca::new(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "Strangers");
    });
    let constrained = {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("elsewhere.test".into())],
            excluded_subtrees: Vec::new(),
        });
        let key = KeyPair::generate().unwrap();
        let issued = params.signed_by(&key, &ca.0).unwrap();
        (issued, rcgen::Issuer::new(params, key))
    };
    let own = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        (vec![params.self_signed(&key).unwrap().der().clone()], key)
    };
    let beyond = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &constrained.1).unwrap();
        (vec![leaf.der().clone(), constrained.0.der().clone()], key)
    };
    // Of names that are trusted, each of which may have issued each: 100 take an engine 30 ms.
    let endless = {
        let (mut chain, key) = Ca::new(plain).leaf(&["a.test"], plain);
        chain.truncate(1);
        chain.extend((1..100).map(|_| Ca::new(plain).0.der().clone()));
        (chain, key)
    };
    let not_signing = {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(rcgen::DnType::CommonName, "For lists alone");
        let key = KeyPair::generate().unwrap();
        let issued = params.signed_by(&key, &ca.0).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        (vec![leaf.der().clone(), issued.der().clone()], key)
    };
    let authority = ca.leaf(&["a.test"], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let mut cases = Vec::new();
    for (what, staple, wrong) in [
        ("revoked", REVOKED, Some(("has been revoked", is_untrusted as Check))),
        ("stapled as good", GOOD, None),
    ] {
        let (chain, key) = ca.leaf(&["a.test"], stapled);
        let origin = Origin::start_stapling(chain, &key, staple, rustls::ALL_VERSIONS);
        cases.push(Case { what, origin, name: "a.test", wrong });
    }
    // Certificates that TLS libraries don't read.
    for (what, words, spoil) in [
        ("a date that is none", "malformed", true),
        ("an unknown extension", "a critical extension that is not known", false),
    ] {
        for version in rustls::ALL_VERSIONS {
            let unknown: Change = |params| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 3, 9999], vec![5, 0]);
                unknown.set_criticality(true);
                params.custom_extensions.push(unknown);
            };
            let (mut chain, key) = ca.leaf(&["a.test"], if spoil { plain } else { unknown });
            if spoil {
                let mut leaf = chain[0].to_vec();
                let at = leaf.windows(2).position(|w| w == b"\x17\x0d").unwrap();
                leaf[at] = 0x0c;
                chain[0] = leaf.into();
            }
            let origin = Origin::start_with(chain, &key, &[version]);
            let wrong = Some((words, is_untrusted as Check));
            cases.push(Case { what, origin, name: "a.test", wrong });
        }
    }
    let mut case = |what, (chain, key), name, wrong| {
        cases.push(Case { what, origin: Origin::start(chain, &key), name, wrong });
    };
    case("good", ca.leaf(&["a.test"], plain), "a.test", None);
    case("wildcard", ca.leaf(&["*.wild.test"], plain), "a.wild.test", None);
    case("address", ca.leaf(&["127.0.0.1"], plain), "127.0.0.1", None);
    let usages: Change = |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    case("with key usage", ca.leaf(&["a.test"], usages), "a.test", None);
    let mut wrong = |what, identity, words, check: Check| {
        case(what, identity, "a.test", Some((words, check)));
    };
    wrong("expired", ca.leaf(&["a.test"], expired), "expired", is_expired);
    wrong("not yet valid", ca.leaf(&["a.test"], not_yet), "not valid yet", is_not_yet);
    wrong("another name", ca.leaf(&["b.test"], plain), "another name", is_wrong_name);
    wrong("a wildcard too far", ca.leaf(&["*.a.test"], plain), "another name", is_wrong_name);
    wrong("no name", ca.leaf(&[], plain), "another name", is_wrong_name);
    wrong("unknown CA", stranger.leaf(&["a.test"], plain), "not trusted", is_untrusted);
    wrong("self-signed", own, "not trusted", is_untrusted);
    wrong("beyond its CA's names", beyond, "certificate is not valid", is_untrusted);
    wrong("a chain without end", endless, "more than 10 certificates", is_untrusted);
    wrong("by one that may not sign", not_signing, "may not sign certificates", is_untrusted);
    wrong("a CA as a server", authority, "a CA&#39;s certificate", is_untrusted);
    cases
}

#[test]
fn certificates_are_judged_and_faults_told_as_the_rules_say() {
    let ca = Ca::new(plain);
    let cases = cases(&ca);
    let refusing = gateway(&ca, "");
    let mimicking = gateway(&ca, "[[rule]]\ninvalid_certificate = \"mimic\"");
    let allowing = gateway(&ca, "[[rule]]\ninvalid_certificate = \"allow\"");
    for Case { what, origin, name, wrong } in &cases {
        let ask = |gateway: &Gateway| Client::new(gateway).ask(gateway, origin.address, name);
        let refused = ask(&refusing).unwrap_or_else(|e| panic!("{what}: {e}"));
        let allowed = ask(&allowing).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!((allowed.status, &*allowed.body), (200, "hello"), "{what}");
        match wrong {
            None => {
                assert_eq!((refused.status, &*refused.body), (200, "hello"), "{what}");
                assert_eq!(ask(&mimicking).unwrap().status, 200, "{what}");
            }
            Some((words, is_it)) => {
                assert_eq!(refused.status, 502, "{what}");
                assert!(refused.body.contains(words), "{what}: {}", refused.body);
                let seen = fault(ask(&mimicking));
                assert!(is_it(&seen), "{what}: {seen:?}");
            }
        }
    }
    // Whom nobody trusts got nothing but handshakes from the gateway that refuses and mimics.
    assert!(cases.iter().all(|case| case.origin.handshakes()[0] > 0));
}

#[test]
fn an_origin_may_show_a_certificate_that_is_trusted_itself() {
    let own = |change: Change| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        let origin = Origin::start(vec![certificate.der().clone()], &key);
        (certificate.pem(), origin)
    };
    let clients: Change = |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    let all = [own(plain), own(expired), own(not_yet), own(clients)];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trusted.pem");
    std::fs::write(&path, all.iter().map(|(pem, _)| pem.as_str()).collect::<String>()).unwrap();
    let gateway = Gateway::start(&format!("[upstream]\nca = [{path:?}]\n"));
    let ask = |origin: &Origin, name| Client::new(&gateway).ask(&gateway, origin.address, name);
    let words = ["hello", "expired", "not valid yet", "not for servers"];
    for ((_, origin), words) in all.iter().zip(words) {
        let seen = ask(origin, "a.test").unwrap();
        assert_eq!(seen.status, if words == "hello" { 200 } else { 502 });
        assert!(seen.body.contains(words), "{}", seen.body);
    }
    assert!(ask(&all[0].1, "b.test").unwrap().body.contains("another name"));
    // One like it is not it.
    let stranger = own(plain);
    assert_eq!(ask(&stranger.1, "a.test").unwrap().status, 502);
}

/// A CA that another one vouches for.
struct Between {
    certificate: CertificateDer<'static>,
    issuer: rcgen::Issuer<'static, KeyPair>,
}

impl Between {
    fn new(ca: &Ca, change: Change) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Between");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca.0).unwrap().der().clone();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// An origin with a certificate for `name` that shows `others` along with it.
    fn origin(&self, name: &str, change: Change, others: &[&CertificateDer<'static>]) -> Origin {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let others = others.iter().map(|other| (*other).clone());
        Origin::start(std::iter::once(leaf).chain(others).collect(), &key)
    }
}

#[test]
fn an_intermediate_that_an_origin_leaves_out_is_known_from_others() {
    let ca = Ca::new(plain);
    let between = Between::new(&ca, plain);
    let gateway = gateway(&ca, "");
    let ask = |origin: &Origin, name| Client::new(&gateway).ask(&gateway, origin.address, name);
    let completed = || gateway.metric("meergate_certificate_checks_total{outcome=\"completed\"}");
    let alone = |name| between.origin(name, plain, &[]);
    let status = |origin: &Origin, name| ask(origin, name).unwrap().status;
    // What is not valid vouches for nothing.
    let invalid = between.origin("a.test", expired, &[&between.certificate]);
    assert_eq!(status(&invalid, "a.test"), 502);
    assert_eq!(status(&alone("b.test"), "b.test"), 502);
    let whole = between.origin("a.test", plain, &[&between.certificate]);
    assert_eq!((status(&whole, "a.test"), completed()), (200, 0));
    let seen = ask(&alone("c.test"), "c.test").unwrap();
    assert_eq!((seen.status, &*seen.body, completed()), (200, "hello", 1));
    // All else is judged as ever.
    let late = ask(&between.origin("d.test", expired, &[]), "d.test").unwrap();
    assert!(late.status == 502 && late.body.contains("has expired"), "{}", late.body);
    assert_eq!(status(&alone("e.test"), "f.test"), 502);
    // One that has the name, and not the key.
    let impostor = Between::new(&Ca::new(plain), plain).origin("g.test", plain, &[]);
    assert_eq!(status(&impostor, "g.test"), 502);
    assert_eq!(completed(), 1);
}

#[test]
fn an_intermediate_from_elsewhere_is_verified_as_if_the_origin_had_shown_it() {
    let ca = Ca::new(plain);
    let constrained = Between::new(&ca, |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("elsewhere.test".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    let stranger = Between::new(&Ca::new(plain), |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "Strange");
    });
    let known = Between::new(&ca, |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "Known");
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("intermediates.pem");
    let blocks = [&stranger.certificate, &known.certificate].map(|certificate| {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    });
    std::fs::write(&path, blocks.concat()).unwrap();
    let gateway = gateway(&ca, &format!("intermediates = [{path:?}]\n"));
    let status = |between: &Between, name, others: &[&CertificateDer<'static>]| {
        let origin = between.origin(name, plain, others);
        Client::new(&gateway).ask(&gateway, origin.address, name).unwrap().status
    };
    assert_eq!(status(&constrained, "a.elsewhere.test", &[&constrained.certificate]), 200);
    assert_eq!(status(&constrained, "b.elsewhere.test", &[]), 200);
    assert_eq!(status(&constrained, "a.test", &[]), 502);
    // Of the settings, but no CA that is trusted.
    assert_eq!(status(&known, "a.test", &[]), 200);
    assert_eq!(status(&stranger, "a.test", &[]), 502);
    assert_eq!(status(&stranger, "a.test", &[&stranger.certificate]), 502);
}

#[test]
fn intermediates_are_still_known_when_settings_were_reloaded() {
    let (ca, other) = (Ca::new(plain), Ca::new(plain));
    let between = Between::new(&ca, plain);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("origins.pem");
    std::fs::write(&path, ca.0.pem()).unwrap();
    let program = Program::start(&format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nca = [{path:?}]\n"
    ));
    let pem = std::fs::read(program.authority()).unwrap();
    let client = Client::trusting(CertificateDer::from_pem_slice(&pem).unwrap());
    let status = |name: &str, others: &[&CertificateDer<'static>]| {
        let origin = between.origin(name, plain, others);
        let mut tcp = connect(program.at("proxy"));
        write!(tcp, "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address).unwrap();
        assert!(read_until(&mut tcp, b"\r\n\r\n").starts_with(b"HTTP/1.1 200 "));
        client.talk(tcp, name).unwrap().status
    };
    assert_eq!(status("a.test", &[&between.certificate]), 200);
    program.signal("HUP");
    program.wait_for_log("settings reloaded", 1);
    assert_eq!(status("b.test", &[]), 200);
    // Where the CA is trusted no longer, they lead nowhere.
    std::fs::write(&path, other.0.pem()).unwrap();
    program.signal("HUP");
    program.wait_for_log("settings reloaded", 2);
    assert_eq!(status("c.test", &[]), 502);
}

#[test]
fn what_is_not_valid_is_bypassed_where_rules_say_so() {
    let (ca, stranger) = (Ca::new(plain), Ca::new(plain));
    let start = |ca: &Ca| {
        let (chain, key) = ca.leaf(&["a.test"], plain);
        Origin::start(chain, &key)
    };
    let (good, bad) = (start(&ca), start(&stranger));
    let strangers = Client::trusting(stranger.0.der().clone());
    let rule =
        |hosts: &str| format!("[[rule]]\nhost = [{hosts}]\ninvalid_certificate = \"bypass\"\n");
    let passed = "meergate_uninspected_bytes_total{reason=\"bypass\",direction=\"to_client\"}";
    let gateway_of = |rule: &str| gateway(&ca, rule);
    let bypassing = gateway_of(&rule("\"127.0.0.1\", \"a.test\""));
    let seen = Client::new(&bypassing).ask(&bypassing, good.address, "a.test").unwrap();
    assert_eq!((seen.status, bypassing.metric(passed)), (200, 0));
    let seen = strangers.ask(&bypassing, bad.address, "a.test").unwrap();
    assert_eq!((seen.status, &*seen.body), (200, "hello"));
    wait_for("the count", || (bypassing.metric(passed) > 5).then_some(()));
    // Both who is asked for and who is named must be allowed it.
    for hosts in ["\"127.0.0.1\"", "\"a.test\"", "\"b.test\""] {
        let gateway = gateway_of(&rule(hosts));
        let seen = Client::new(&gateway).ask(&gateway, bad.address, "a.test").unwrap();
        assert_eq!((seen.status, gateway.metric(passed)), (502, 0), "{hosts}");
    }
    // Rules that refuse the host do so first.
    let rules = format!("[[rule]]\nhost = [\"a.test\"]\naction = \"block\"\n{}", rule("\"*\""));
    let gateway = gateway_of(&rules);
    let seen = Client::new(&gateway).ask(&gateway, bad.address, "a.test").unwrap();
    assert_eq!((seen.status, gateway.metric(passed)), (403, 0));
}

/// A chain that may be put together in many ways; all end in the name of a [`Ca`], and none in its key.
fn costly() -> (Vec<CertificateDer<'static>>, KeyPair) {
    let (mut chain, key) = Ca::new(plain).leaf(&["*.costly.test"], plain);
    chain.extend((1..9).map(|_| Ca::new(plain).0.der().clone()));
    (chain, key)
}

#[test]
fn what_was_wrong_with_a_certificate_is_known_for_a_while() {
    let ca = Ca::new(plain);
    let (chain, key) = Ca::new(plain).leaf(&["a.test"], plain);
    let origin = Origin::start(chain, &key);
    let gateway = gateway(&ca, "");
    let client = Client::new(&gateway);
    let pages: Vec<Seen> =
        (0..4).map(|_| client.ask(&gateway, origin.address, "a.test").unwrap()).collect();
    assert!(pages.iter().all(|page| page.status == 502));
    assert_eq!(gateway.metric("meergate_certificate_checks_total{outcome=\"bad\"}"), 1);
}

#[test]
fn certificates_are_checked_at_the_expense_of_those_who_ask() {
    let ca = Ca::new(plain);
    let (chain, key) = costly();
    let costly = Origin::start(chain, &key);
    let (chain, key) = ca.leaf(&["a.test"], plain);
    let good = Origin::start(chain, &key);
    let gateway = gateway(&ca, "handshake_timeout = \"1s\"\n[limits]\nverification = \"1ms\"");
    let limited = || gateway.metric("meergate_limited_total{limit=\"verification\"}");
    let client = Client::new(&gateway);
    // Each name is another question.
    let asked = (0..1000).find(|number| {
        let name = format!("n{number}.costly.test");
        let page = client.ask(&gateway, costly.address, &name).unwrap();
        assert!([502, 504].contains(&page.status), "{}", page.body);
        limited() > 0
    });
    assert!(asked.is_some(), "checks cost nothing");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&gateway.proxy.into()).unwrap();
    let mut tcp = TcpStream::from(socket);
    write!(tcp, "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", good.address).unwrap();
    assert!(read_until(&mut tcp, b"\r\n\r\n").starts_with(b"HTTP/1.1 200 "));
    assert_eq!(client.talk(tcp, "a.test").unwrap().status, 200);
}

#[test]
fn names_at_the_operators_own_target_are_checked_at_their_expense_too() {
    let ca = Ca::new(plain);
    let (chain, key) = costly();
    let origin = Origin::start(chain, &key);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("origins.pem");
    std::fs::write(&path, ca.0.pem()).unwrap();
    let program = Program::start(&format!(
        "[upstream]\nca = [{path:?}]\nhandshake_timeout = \"1s\"\n[limits]\nverification = \"1ms\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"target\"\ntarget = \"{}\"\n",
        origin.address
    ));
    let pem = std::fs::read(program.authority()).unwrap();
    let client = Client::trusting(CertificateDer::from_pem_slice(&pem).unwrap());
    let asked = (0..1000).find(|number| {
        let name = format!("n{number}.costly.test");
        client.talk(connect(program.at("target")), &name).unwrap().status == 504
    });
    assert!(asked.is_some(), "checks cost nothing");
}

#[test]
fn a_resumed_session_does_not_make_a_revoked_certificate_good() {
    let ca = Ca::new(plain);
    let (chain, key) = ca.leaf(&["a.test"], stapled);
    // Where sessions can be resumed as soon as the handshake is over.
    let origin = Origin::start_stapling(chain, &key, REVOKED, &[&rustls::version::TLS12]);
    let gateway = gateway(&ca, "[[rule]]\ninvalid_certificate = \"mimic\"");
    for _ in 0..3 {
        let seen = fault(Client::new(&gateway).ask(&gateway, origin.address, "a.test"));
        assert!(is_untrusted(&seen), "{seen:?}");
    }
    // The origin ends the resumed ones, so it may count them after the client has its answer.
    let counts = wait_for("three handshakes", || {
        Some(origin.handshakes()).filter(|[full, resumed]| full + resumed == 3)
    });
    assert_eq!(counts, [1, 2], "full and resumed");
}

#[test]
fn both_versions_are_spoken_and_sessions_resumed_on_both_sides() {
    let ca = Ca::new(plain);
    let gateway = gateway(&ca, "");
    for (version, expected) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let name = if expected == ProtocolVersion::TLSv1_2 { "two.test" } else { "three.test" };
        let (chain, key) = ca.leaf(&[name], plain);
        let origin = Origin::start_with(chain, &key, &[version]);
        let client = Client::with_versions(&gateway, &[version]);
        let first = client.ask(&gateway, origin.address, name).unwrap();
        let second = client.ask(&gateway, origin.address, name).unwrap();
        assert_eq!((first.version, second.version), (expected, expected));
        assert_eq!(second.status, 200);
        assert_eq!(second.kind, HandshakeKind::Resumed, "{expected:?}");
        assert_eq!(origin.handshakes(), [1, 1], "{expected:?}");
        assert_eq!(first.leaf, second.leaf);
    }
}

#[test]
fn one_certificate_of_an_origin_makes_one_leaf() {
    let ca = Ca::new(plain);
    let gateway = gateway(&ca, "");
    let (chain, key) = ca.leaf(&["a.test", "b.test"], plain);
    let origin = Origin::start(chain, &key);
    let leaf = |name| Client::new(&gateway).ask(&gateway, origin.address, name).unwrap().leaf;
    assert_eq!(leaf("a.test"), leaf("b.test"));
    let (chain, key) = ca.leaf(&["a.test", "b.test"], plain);
    let other = Origin::start(chain, &key);
    let seen = Client::new(&gateway).ask(&gateway, other.address, "a.test").unwrap();
    assert_ne!(seen.leaf, leaf("a.test"));
}

fn has_rsa_key(certificate: &CertificateDer<'_>) -> bool {
    // rsaEncryption (RFC 8017 appendix A.1), which names no signature.
    certificate.windows(11).any(|w| w == b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01")
}

#[test]
fn clients_without_ecdsa_get_leaves_that_they_can_do_with() {
    let ca = Ca::new(plain);
    let (chain, key) = ca.leaf(&["a.test"], plain);
    let good = Origin::start(chain, &key);
    let (chain, key) = ca.leaf(&["a.test"], expired);
    let bad = Origin::start(chain, &key);
    let own = {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let size = rcgen::RsaKeySize::_2048;
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
        CertifiedIssuer::self_signed(params, key).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let [cert, own_key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    std::fs::write(&cert, own.pem()).unwrap();
    std::fs::write(&own_key, own.key().serialize_pem()).unwrap();
    let gateway = gateway(&ca, &format!("[ca]\ncert = {cert:?}\nkey = {own_key:?}"));
    let usual = Client::trusting(own.der().clone());
    let ask = |client: &Client| client.ask(&gateway, good.address, "a.test").unwrap();
    let before = ask(&usual);
    let leaves: Vec<_> =
        [&rustls::version::TLS12, &rustls::version::TLS13, &rustls::version::TLS12]
            .map(|version| {
                let client = Client::of_rsa(own.der().clone(), version);
                let seen = ask(&client);
                assert_eq!((seen.status, &*seen.body), (200, "hello"), "{version:?}");
                let page = client.ask(&gateway, bad.address, "a.test").unwrap();
                assert!(page.status == 502 && page.body.contains("expired"), "{}", page.body);
                seen.leaf
            })
            .into();
    assert!(has_rsa_key(&leaves[0]) && !has_rsa_key(&before.leaf));
    assert!(leaves.iter().all(|leaf| *leaf == leaves[0]));
    assert_eq!(ask(&usual).leaf, before.leaf);
    // One of each kind, and one for the page.
    assert_eq!(gateway.metric("meergate_forged_certificates_total"), 3);
}

/// With nothing but the CA that is made by default.
#[test]
fn openssl_without_ecdsa_is_served() {
    let ca = Ca::new(plain);
    let (chain, key) = ca.leaf(&["a.test"], plain);
    let origin = Origin::start(chain, &key);
    let gateway = gateway(&ca, "");
    let run = |restricted: &[&str]| {
        let [proxy, target] = [gateway.proxy, origin.address].map(|a| a.to_string());
        let output = Command::new("openssl")
            .args(["s_client", "-proxy", &proxy, "-connect", &target, "-servername", "a.test"])
            .args(["-verify_hostname", "a.test", "-verify_return_error", "-CAfile"])
            .arg(gateway.dir.path().join("state/ca.pem"))
            .args(restricted)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for restricted in [
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"][..],
        &["-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"],
        &["-tls1_2", "-sigalgs", "RSA+SHA256:RSA+SHA512"],
        &["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"],
        &["-sigalgs", "rsa_pss_rsae_sha384:RSA+SHA256"],
    ] {
        let told = run(restricted);
        assert!(told.contains("Verification: OK"), "{restricted:?}: {told}");
        assert!(told.contains("Server public key is 2048 bit"), "{restricted:?}: {told}");
    }
    let told = run(&[]);
    assert!(told.contains("Server public key is 256 bit"), "{told}");
}

#[test]
fn rules_block_and_bypass_before_anything_is_decrypted() {
    let ca = Ca::new(plain);
    let gateway = gateway(
        &ca,
        "[[rule]]\nname = \"no games\"\nhost = [\"*.games.test\"]\naction = \"block\"\n\
         [[rule]]\nhost = [\"bank.test\"]\naction = \"bypass\"\n\
         [[rule]]\nport = [1]\naction = \"reset\"",
    );
    let (chain, key) = ca.leaf(&["a.games.test", "bank.test"], plain);
    let real = chain[0].clone();
    let origin = Origin::start(chain, &key);

    let blocked = Client::new(&gateway).ask(&gateway, origin.address, "a.games.test").unwrap();
    assert_eq!(blocked.status, 403);
    assert!(blocked.body.contains("no games"), "{}", blocked.body);
    assert_eq!(origin.handshakes(), [0, 0], "the origin must not be asked");

    // CONNECT names the address and SNI the bank: that the address may be intercepted holds too,
    // since the client could say any name.
    let seen = Client::new(&gateway).ask(&gateway, origin.address, "bank.test").unwrap();
    assert_ne!(seen.leaf, real);
}

#[test]
fn rules_look_at_the_certificate_of_the_origin() {
    let ca = Ca::new(plain);
    let (chain, key) = ca.leaf(&["a.example", "b.example"], plain);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &chain[0]);
    let fingerprint: String = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    let origin = Origin::start(chain, &key);
    for (rule, status) in [
        ("certificate_issuer = [\"*cn=origins*\"]", 403),
        ("certificate_issuer = [\"*cn=others*\"]", 200),
        (&*format!("certificate_fingerprint = [\"{fingerprint}\"]"), 403),
        (&*format!("certificate_fingerprint = [\"{}\"]", "0".repeat(64)), 200),
        ("certificate_issuer = [\"*\"]\npath = [\"/\"]", 403),
        ("certificate_issuer = [\"*\"]\npath = [\"/other\"]", 200),
    ] {
        let gateway = gateway(&ca, &format!("[[rule]]\n{rule}\naction = \"block\"\n"));
        let client = Client::new(&gateway);
        assert_eq!(
            client.ask(&gateway, origin.address, "a.example").unwrap().status,
            status,
            "{rule}"
        );
    }
    // A bypass shows the origin's own certificate.
    let (chain, key) = ca.leaf(&["localhost"], plain);
    let origin = Origin::start(chain, &key);
    let rule = "[[rule]]\ncertificate_issuer = [\"*CN=Origins*\"]\naction = \"bypass\"\n";
    let gateway = gateway(&ca, rule);
    let client = Client::trusting(ca.0.der().clone());
    let target = format!("localhost:{}", origin.address.port());
    assert_eq!(client.ask_at(&gateway, &target, "localhost").unwrap().status, 200);
}

/// What a client has done already when it is to be bypassed: refused certificates for `name`, though
/// it trusts the CA. `ask` asks for it as the client given.
fn refuse_enough(ca: &Ca, trusting: &Client, ask: impl Fn(&Client) -> io::Result<Seen>) -> Client {
    let pinning = Client::trusting(ca.0.der().clone());
    assert_eq!(ask(trusting).unwrap().status, 200);
    for _ in 0..3 {
        assert!(is_untrusted(&fault(ask(&pinning))));
    }
    pinning
}

/// Listeners at the same port of 127.0.0.1, where `localhost` leads, and of 127.0.0.2.
fn twins() -> [TcpListener; 2] {
    wait_for("a port that is free at both addresses", || {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        Some([one, TcpListener::bind(("127.0.0.2", port)).ok()?])
    })
}

#[test]
fn a_name_that_may_be_a_lie_leads_a_bypass_to_where_the_name_leads() {
    let ca = Ca::new(plain);
    let clients = Ca::new(plain);
    let dir = tempfile::tempdir().unwrap();
    let cas = dir.path().join("origins.pem");
    std::fs::write(&cas, ca.0.pem()).unwrap();
    let name = "host = [\"localhost\"]\n";
    let address = "address = [\"127.0.0.2/32\"]\n";
    let certificate = "certificate_issuer = [\"*CN=Origins*\"]\naction = \"bypass\"\n";
    for (rule, lied_to) in [
        (format!("{name}action = \"bypass\"\n"), true),
        (format!("{name}pinned = \"bypass\"\n"), true),
        (format!("{name}certificate_asked = \"bypass\"\n"), true),
        (format!("{name}{certificate}"), true),
        // The address has shown that certificate only for now.
        (format!("{address}{certificate}"), true),
        (format!("{address}action = \"bypass\"\n"), false),
        (format!("{address}pinned = \"bypass\"\n"), false),
    ] {
        // Both have a certificate that is valid, as one has that relays what the other says.
        let [right, wrong] = twins();
        let (chain, key) = ca.leaf(&["localhost"], plain);
        let leaf = chain[0].clone();
        Origin::run(Origin::showing(chain, &key, rustls::ALL_VERSIONS), right);
        let (chain, key) = ca.leaf(&["localhost"], plain);
        let other = chain[0].clone();
        let wrong = match rule.contains("certificate_asked") {
            true => {
                Origin::run(Origin::asking(chain, &key, &clients, &rustls::version::TLS12), wrong)
            }
            false => Origin::run(Origin::showing(chain, &key, rustls::ALL_VERSIONS), wrong),
        };
        let program = Program::start(&format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"redirect\"\n\
             proxy_protocol = [\"127.0.0.1\"]\n[upstream]\nca = [{cas:?}]\n[[rule]]\n{rule}"
        ));
        let ask = |client: &Client| client.ask_redirected(&program, wrong.address, "localhost");
        let client = match rule.contains("pinned") {
            true => {
                let pem = std::fs::read(program.authority()).unwrap();
                let own = CertificateDer::from_pem_slice(&pem).unwrap();
                refuse_enough(&ca, &Client::trusting(own), ask)
            }
            false => Client::trusting(ca.0.der().clone()),
        };
        // The last refusal is noted after the client has ended its connection.
        let seen = match rule.contains("pinned") {
            true => wait_for("the bypass", || ask(&client).ok()),
            false => ask(&client).unwrap_or_else(|e| panic!("{rule}: {e}")),
        };
        assert_eq!(seen.leaf == leaf, lied_to, "{rule}");
        assert_eq!(seen.leaf == other, !lied_to, "{rule}");
    }
}

#[test]
fn a_name_in_tls_leads_past_no_rule_about_the_host_that_was_asked_for() {
    let ca = Ca::new(plain);
    let clients = Ca::new(plain);
    let rule = "[[rule]]\nhost = [\"a.test\"]\n";

    let (chain, key) = ca.leaf(&["a.test"], plain);
    let origin = Origin::start(chain, &key);
    let pins = gateway(&ca, &format!("{rule}pinned = \"bypass\"\n"));
    let ask = |client: &Client| client.ask(&pins, origin.address, "a.test");
    let pinning = refuse_enough(&ca, &Client::new(&pins), ask);
    wait_for("the third refusal", || {
        let log = std::fs::read_to_string(pins.dir.path().join("stderr.log")).unwrap();
        log.contains("it pins the real one").then_some(())
    });
    assert!(is_untrusted(&fault(ask(&pinning))));

    let certificate = "certificate_issuer = [\"*CN=Origins*\"]\naction = \"bypass\"\n";
    for certificate_rule in [format!("{rule}{certificate}"), format!("[[rule]]\n{certificate}")] {
        let gateway = gateway(&ca, &certificate_rule);
        let seen = Client::new(&gateway).ask(&gateway, origin.address, "a.test").unwrap();
        assert_eq!(seen.status, 200, "{certificate_rule}");
    }

    let (chain, key) = ca.leaf(&["a.test"], plain);
    let origin = Origin::start_asking(chain, &key, &clients, &rustls::version::TLS12);
    let asked = gateway(&ca, &format!("{rule}certificate_asked = \"bypass\"\n"));
    assert_eq!(Client::new(&asked).ask(&asked, origin.address, "a.test").unwrap().status, 502);
}

#[test]
fn a_certificate_that_is_insisted_on_lets_its_name_choose_the_services() {
    let ca = Ca::new(plain);
    let (chain, key) = ca.leaf(&["a.test"], plain);
    let origin = Origin::start(chain, &key);
    let (usual, special) = (Icap::start(|_| Verdict::Pass), Icap::start(|_| Verdict::Pass));
    for (more, expected) in [("", [0, 2]), ("invalid_certificate = \"allow\"\n", [2, 0])] {
        let before = [&usual, &special].map(|s| s.asked().len());
        let gateway = gateway(
            &ca,
            &format!(
                "[[icap.service]]\nname = \"usual\"\nurl = \"icap://{}/u\"\n\
                 [[icap.service]]\nname = \"special\"\nurl = \"icap://{}/s\"\n\
                 [[icap.chain]]\nname = \"default\"\nservices = [\"usual\"]\n\
                 [[icap.chain]]\nname = \"special\"\nservices = [\"special\"]\n\
                 [[rule]]\nhost = [\"a.test\"]\nchain = \"special\"\n{more}",
                usual.address, special.address
            ),
        );
        let seen = Client::new(&gateway).ask(&gateway, origin.address, "a.test").unwrap();
        assert_eq!(seen.status, 200);
        let after = [&usual, &special].map(|s| s.asked().len());
        assert_eq!([after[0] - before[0], after[1] - before[1]], expected, "{more}");
    }
}

#[test]
fn only_an_origin_that_is_believed_can_ask_for_a_certificate() {
    let (ca, stranger, clients) = (Ca::new(plain), Ca::new(plain), Ca::new(plain));
    let rule = "[[rule]]\ncertificate_asked = \"bypass\"\n";
    let refusing = gateway(&ca, rule);
    let allowing = gateway(&ca, &format!("{rule}invalid_certificate = \"allow\"\n"));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (chain, key) = stranger.leaf(&["a.test"], plain);
        let origin = Origin::start_asking(chain, &key, &clients, version);
        let ask = |gateway: &Gateway| Client::new(gateway).ask(gateway, origin.address, "a.test");
        assert_eq!(ask(&refusing).unwrap().status, 502, "{version:?}");
        // Bypassed, the client sees the origin's own certificate.
        assert!(is_untrusted(&fault(ask(&allowing))), "{version:?}");
    }
}

#[test]
fn an_issuer_that_nobody_vouches_for_opens_nothing() {
    let (ca, forger) = (Ca::new(plain), Ca::new(plain));
    let (chain, key) = forger.leaf(&["a.example"], plain);
    let origin = Origin::start(chain, &key);
    let ask = |action| {
        let settings = format!(
            "[[rule]]\ncertificate_issuer = [\"*CN=Origins*\"]\naction = \"{action}\"\n\n\
             [[rule]]\ninvalid_certificate = \"allow\"\n"
        );
        let gateway = gateway(&ca, &settings);
        Client::new(&gateway).ask(&gateway, origin.address, "a.example")
    };
    // Bypassed, the origin's own certificate would be shown, which this client does not trust.
    assert_eq!(ask("bypass").unwrap().status, 200);
    // What refuses needs no proof.
    assert_eq!(ask("block").unwrap().status, 403);
}

#[test]
fn origins_that_ask_for_a_certificate_get_what_the_rules_say() {
    let ca = Ca::new(plain);
    let clients = Ca::new(plain);
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = clients.leaf(&["us.test"], plain);
    let (cert_file, key_file) = (dir.path().join("us.pem"), dir.path().join("us.key"));
    std::fs::write(&cert_file, pem::encode(&chain[0])).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let showing = gateway(
        &ca,
        &format!(
            "[[client_certificate]]\nname = \"us\"\ncert = {cert_file:?}\nkey = {key_file:?}\n\
             [[rule]]\nclient_certificate = \"us\"\n"
        ),
    );
    let ignoring = gateway(&ca, "");
    let refusing = gateway(&ca, "[[rule]]\ncertificate_asked = \"refuse\"");
    let bypassing = gateway(&ca, "[[rule]]\ncertificate_asked = \"bypass\"");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (chain, key) = ca.leaf(&["a.test"], plain);
        let origin = Origin::start_asking(chain, &key, &clients, version);
        let ask = |gateway: &Gateway| Client::new(gateway).ask(gateway, origin.address, "a.test");
        assert_eq!(ask(&showing).unwrap().status, 200, "{version:?}");
        assert_eq!(ask(&showing).unwrap().status, 200, "{version:?}");
        assert_eq!(ask(&ignoring).unwrap().status, 502, "{version:?}");
        let refused = ask(&refusing).unwrap();
        assert!(refused.body.contains("client certificate"), "{version:?}: {}", refused.body);
        assert!(is_untrusted(&fault(ask(&bypassing))), "{version:?}");
    }
}

#[test]
fn clients_that_pin_are_named_and_bypassed_where_a_rule_says_so() {
    let ca = Ca::new(plain);
    let gateway = gateway(&ca, "[[rule]]\npinned = \"bypass\"");
    let (chain, key) = ca.leaf(&["a.test", "b.test"], plain);
    let origin = Origin::start(chain, &key);
    // It trusts origins' CA alone, as if it pinned the real certificate.
    let pinning = Client::trusting(ca.0.der().clone());
    let trusting = Client::new(&gateway);
    let pinned = || pinning.ask(&gateway, origin.address, "a.test");
    for _ in 0..3 {
        assert!(is_untrusted(&fault(pinned())));
    }
    // So far it might as well be a client that does not trust the CA: nothing is bypassed.
    assert!(is_untrusted(&fault(pinned())));
    assert_eq!(trusting.ask(&gateway, origin.address, "b.test").unwrap().status, 200);
    wait_for("the bypass", || pinned().ok().filter(|seen| seen.status == 200));
    // Other hosts are intercepted as before.
    let other = pinning.ask(&gateway, origin.address, "b.test");
    assert!(is_untrusted(&fault(other)));
}

/// PEM of a certificate.
mod pem {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    pub(crate) fn encode(der: &[u8]) -> String {
        let body = STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }
}

#[test]
fn what_is_bypassed_is_not_touched_and_counted() {
    let ca = Ca::new(plain);
    let gateway =
        gateway(&ca, "[[rule]]\nhost = [\"127.0.0.1\", \"bank.test\"]\naction = \"bypass\"");
    let (chain, key) = ca.leaf(&["bank.test"], plain);
    let origin = Origin::start(chain, &key);
    // It trusts the gateway's CA alone, so the real certificate shows as one of an unknown CA.
    let seen = Client::new(&gateway).ask(&gateway, origin.address, "bank.test");
    assert!(is_untrusted(&fault(seen)));

    // A client that speaks neither TLS nor HTTP is bypassed as well.
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = echo.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = echo.accept()?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting)?;
        stream.write_all(&greeting)
    });
    let mut tcp = gateway.connect();
    write!(tcp, "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    read_until(&mut tcp, b"\r\n\r\n");
    tcp.write_all(b"\x00abc").unwrap();
    assert_eq!(read_until(&mut tcp, b"c"), b"\x00abc");
}

#[test]
fn what_cannot_be_inspected_is_closed() {
    let gateway = Gateway::start("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for opening in
        [&b"\x00\x01\x02"[..], b"\x16\x03\x01\x00\x05\x02\x00\x00\x00\x00", b"\x80\x2e\x01"]
    {
        let mut tcp = gateway.connect();
        write!(tcp, "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        read_until(&mut tcp, b"\r\n\r\n");
        tcp.write_all(opening).unwrap();
        assert_eq!(support::read_to_end(&mut tcp), b"", "{opening:?}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the origin must not be connected to");
}

#[test]
fn connections_have_records() {
    let ca = Ca::new(plain);
    let log = tempfile::tempdir().unwrap();
    let path = log.path().join("connections.json");
    let dir = tempfile::tempdir().unwrap();
    let cas = dir.path().join("origins.pem");
    std::fs::write(&cas, ca.0.pem()).unwrap();
    let gateway = Gateway::start(&format!(
        "connections = {path:?}\n[upstream]\nca = [{cas:?}]\n[[rule]]\nname = \"all\"\n"
    ));
    let (chain, key) = ca.leaf(&["a.test"], plain);
    let origin = Origin::start(chain, &key);
    Client::new(&gateway).ask(&gateway, origin.address, "a.test").unwrap();
    let record = wait_for("a connection record", || {
        let text = std::fs::read_to_string(&path).ok()?;
        let line = text.lines().next().filter(|_| text.ends_with('\n'))?;
        serde_json::from_str::<serde_json::Value>(line).ok()
    });
    assert_eq!(record["listener"], "proxy");
    assert_eq!(record["target"], origin.address.to_string());
    assert_eq!(record["server"], origin.address.to_string());
    assert_eq!(record["action"], "intercept");
    assert_eq!(record["rule"], "all");
    assert_eq!(record["tls"]["sni"], "a.test");
    assert_eq!(record["tls"]["version"], "TLSv1.3");
    assert_eq!(record["tls"]["upstream"]["version"], "TLSv1.3");
    assert_eq!(record["transactions"], 1);
    let transaction = &gateway.transactions(1)[0];
    assert_eq!(transaction["connection_id"], record["connection_id"]);
}

#[test]
fn what_is_not_http_inside_tls_is_closed_at_once() {
    let ca = Ca::new(plain);
    let (chain, key) = ca.leaf(&["localhost"], plain);
    let origin = Origin::start(chain, &key);
    let gateway = gateway(&ca, "[limits]\nbegin_timeout = \"1h\"\n");
    let client = Client::new(&gateway);
    for hello in
        [&b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"[..], b"\r\n<?xml version='1.0'?>", b"\0"]
    {
        let mut tcp = gateway.connect();
        let target = origin.address;
        write!(tcp, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").unwrap();
        read_until(&mut tcp, b"\r\n\r\n");
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(client.config.clone(), name).unwrap();
        let mut stream = StreamOwned::new(tls, tcp);
        stream.write_all(hello).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => panic!("not closed: {e}"),
            _ => assert!(answer.is_empty(), "{answer:?}"),
        }
    }
    assert_eq!(client.ask(&gateway, origin.address, "localhost").unwrap().body, "hello");
}

#[test]
fn of_an_origin_with_old_tls_alone_the_page_says_what_it_was_offered() {
    let ca = Ca::new(plain);
    // What servers answer that have no version, or no cipher suite, in common with the client.
    for alert in [b"\x15\x03\x03\0\x02\x02\x28", b"\x15\x03\x01\0\x02\x02\x46"] {
        let listener = Origin::listener();
        let origin = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(alert);
            }
        });
        let gateway = gateway(&ca, "");
        let seen = Client::new(&gateway).ask(&gateway, origin, "localhost").unwrap();
        assert_eq!(seen.status, 502);
        assert!(seen.body.contains("none of TLS 1.2 and 1.3"), "{}", seen.body);
    }
}

/// A place where `answer` is to be had over HTTP, and how often it was asked for.
fn place(address: &str, answer: Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = text(&read_until(&mut stream, b"\r\n\r\n"));
            let host = format!("\r\nHost: {}\r\n", stream.local_addr().unwrap());
            assert!(head.starts_with("GET /ca.crt HTTP/1.1\r\n") && head.contains(&host), "{head}");
            count.fetch_add(1, Ordering::SeqCst);
            // The question may be broken off where the answer is too long.
            let _ = stream.write_all(&answer);
        }
    });
    (address, asked)
}

fn answer(content: &[u8]) -> Vec<u8> {
    let length = content.len();
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(), content].concat()
}

/// An origin that shows its own certificate alone, which says where its issuer's is.
fn origin_naming(between: &Between, name: &str, place: SocketAddr) -> Origin {
    let url = format!("http://{place}/ca.crt");
    let mut access = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x02\x86".to_vec();
    access.push(url.len() as u8);
    access.extend_from_slice(url.as_bytes());
    let list = [&[0x30, access.len() as u8 + 2, 0x30, access.len() as u8], &access[..]].concat();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    params.custom_extensions.push(CustomExtension::from_oid_content(&oid, list));
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &between.issuer).unwrap().der().clone();
    Origin::start(vec![leaf], &key)
}

#[test]
fn an_intermediate_that_an_origin_leaves_out_is_fetched() {
    let ca = Ca::new(plain);
    let between = Between::new(&ca, plain);
    let (fetching, off) = (gateway(&ca, ""), gateway(&ca, "fetch_intermediates = false\n"));
    let status = |gateway: &Gateway, between: &Between, name: &str, place: SocketAddr| {
        let origin = origin_naming(between, name, place);
        Client::new(gateway).ask(gateway, origin.address, name).unwrap().status
    };
    let asked = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    let loopback = "127.0.0.1:0";
    let (right, count) = place(loopback, answer(&between.certificate));
    assert_eq!((status(&off, &between, "a.test", right), asked(&count)), (502, 0));
    assert_eq!((status(&fetching, &between, "a.test", right), asked(&count)), (200, 1));
    // It is known now, wherever others say that it is.
    let (other, unasked) = place(loopback, answer(b"no certificate"));
    assert_eq!((status(&fetching, &between, "b.test", other), asked(&unasked)), (200, 0));
    // Once more it is believed as if the origin had shown it, and no more than that.
    let stranger = Between::new(&Ca::new(plain), |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "Strange");
    });
    let (strange, _) = place(loopback, answer(&stranger.certificate));
    assert_eq!(status(&fetching, &stranger, "a.test", strange), 502);
    for wrong in [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        answer(b""),
        answer(&[0x30; 40_000]),
        b"ok, this is no HTTP".to_vec(),
    ] {
        let fresh = gateway(&ca, "");
        let (wrong, count) = place(loopback, wrong);
        assert_eq!(status(&fresh, &between, "a.test", wrong), 502);
        // What is not there is not asked for again at once.
        assert_eq!((status(&fresh, &between, "b.test", wrong), asked(&count)), (502, 1));
    }
}

#[test]
fn nobody_is_asked_for_an_intermediate_to_whom_clients_are_not_led() {
    let ca = Ca::new(plain);
    let between = Between::new(&ca, plain);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("origins.pem");
    std::fs::write(&path, ca.0.pem()).unwrap();
    let settings = |allowed: &str| {
        format!(
            "destinations = {{ allow = [{allowed}], connect_ports = [\"1-65535\"] }}\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\n[upstream]\nca = [{path:?}]\n"
        )
    };
    for (allowed, status, questions) in
        [("\"127.0.0.1\"", 502, 0), ("\"127.0.0.1\", \"127.0.0.2\"", 200, 1)]
    {
        let (there, count) = place("127.0.0.2:0", answer(&between.certificate));
        let program = Program::start(&settings(allowed));
        let pem = std::fs::read(program.authority()).unwrap();
        let client = Client::trusting(CertificateDer::from_pem_slice(&pem).unwrap());
        let origin = origin_naming(&between, "a.test", there);
        let mut tcp = connect(program.at("proxy"));
        write!(tcp, "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address).unwrap();
        assert!(read_until(&mut tcp, b"\r\n\r\n").starts_with(b"HTTP/1.1 200 "));
        assert_eq!(client.talk(tcp, "a.test").unwrap().status, status);
        assert_eq!(count.load(Ordering::SeqCst), questions, "{allowed}");
    }
}

/// What one thinks of `leaf` who trusts `root` and believes nothing that is on no list.
fn believes(
    root: &CertificateDer<'static>,
    leaf: &CertificateDer<'_>,
    list: &[u8],
) -> Result<(), rustls::Error> {
    use rustls::client::danger::ServerCertVerifier;
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(default_provider());
    let builder =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let list = rustls::pki_types::CertificateRevocationListDer::from(list.to_vec());
    let verifier = builder.with_crls([list]).enforce_revocation_expiration().build().unwrap();
    let (name, now) = (ServerName::try_from("a.test").unwrap(), rustls::pki_types::UnixTime::now());
    verifier.verify_server_cert(leaf, &[], &name, &[], now).map(drop)
}

#[test]
fn leaves_say_where_their_revocations_are_listed_and_the_list_is_there() {
    use x509_parser::prelude::{
        CertificateRevocationList, FromDer, ParsedExtension, X509Certificate,
    };
    let ca = Ca::new(plain);
    let (chain, key) = ca.leaf(&["a.test"], plain);
    let origin = Origin::start(chain, &key);
    let listing = gateway(&ca, "[tls]\ncrl_url = \"http://pki.test/a.crl\"\n");
    for (gateway, expected) in [(&listing, true), (&gateway(&ca, ""), false)] {
        for name in ["a.test", "b.test"] {
            let seen = Client::new(gateway).ask(gateway, origin.address, name).unwrap();
            let (_, leaf) = X509Certificate::from_der(&seen.leaf).unwrap();
            let named = leaf.extensions().iter().any(|extension| {
                matches!(extension.parsed_extension(), ParsedExtension::CRLDistributionPoints(_))
                    && extension.value.windows(21).any(|w| w == b"http://pki.test/a.crl")
            });
            assert_eq!(named, expected, "{name}");
        }
    }
    // It is answered on every way that leads through, and nothing else of that host is.
    let direct = |path: &str| {
        let close = "Connection: close";
        let request =
            format!("GET http://pki.test{path} HTTP/1.1\r\nHost: pki.test\r\n{close}\r\n\r\n");
        listing.ask(request.as_bytes())
    };
    let mut tunnel = listing.connect();
    tunnel.write_all(b"CONNECT pki.test:80 HTTP/1.1\r\nHost: pki.test:80\r\n\r\n").unwrap();
    read_until(&mut tunnel, b"\r\n\r\n");
    tunnel.write_all(b"GET /a.crl HTTP/1.1\r\nHost: PKI.test\r\n\r\n").unwrap();
    let other = gateway(&ca, "[tls]\ncrl_url = \"http://pki.test/a.crl\"\n");
    let request = b"GET http://pki.test/a.crl HTTP/1.1\r\nHost: pki.test\r\n\r\n";
    let of_another = other.ask(request);
    let leaf = Client::new(&listing).ask(&listing, origin.address, "a.test").unwrap().leaf;
    let root = std::fs::read(listing.dir.path().join("state/ca.pem")).unwrap();
    let root = CertificateDer::from_pem_slice(&root).unwrap();
    for (answer, convinces) in [
        (direct("/a.crl"), true),
        (support::read_to_end(&mut tunnel), true),
        (listing.of_console("/ca.crl"), true),
        (of_another, false),
    ] {
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let head = text(&answer[..end]);
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n")
                && head.to_lowercase().contains("content-type: application/pkix-crl\r\n"),
            "{head}"
        );
        let (rest, list) = CertificateRevocationList::from_der(&answer[end..]).unwrap();
        assert!(rest.is_empty());
        assert_eq!(list.iter_revoked_certificates().count(), 0);
        assert!(list.next_update().is_some());
        assert_eq!(believes(&root, &leaf, &answer[end..]).is_ok(), convinces);
    }
    assert!(!text(&direct("/b.crl")).starts_with("HTTP/1.1 200 "));
}

#[test]
fn tls_that_cannot_be_intercepted_is_bypassed_where_rules_say_so() {
    let ca = Ca::new(plain);
    let rule = "[[rule]]\nhost = [\"127.0.0.1\", \"*.test\"]\nunsupported_tls = \"bypass\"\n";
    let (bypassing, refusing) = (gateway(&ca, rule), gateway(&ca, ""));
    let passed = "meergate_uninspected_bytes_total{reason=\"bypass\",direction=\"to_client\"}";

    // An origin that finds nothing in what it is offered, whoever asks.
    let listener = Origin::listener();
    let old = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"\x15\x03\x03\0\x02\x02\x28");
        }
    });
    let seen = Client::new(&refusing).ask(&refusing, old, "a.test").unwrap();
    assert_eq!((seen.status, refusing.metric(passed)), (502, 0));
    let error = Client::new(&bypassing).ask(&bypassing, old, "a.test").unwrap_err();
    assert!(error.to_string().contains("HandshakeFailure"), "{error}");
    wait_for("the count", || (bypassing.metric(passed) == 7).then_some(()));
}

/// Of each version that clients and origins speak alone.
#[test]
fn the_nearest_bounds_of_versions_hold_on_both_sides() {
    use rustls::version::{TLS12, TLS13};
    let ca = Ca::new(plain);
    let (chain, key) = ca.leaf(&["a.test"], plain);
    let origin = |versions| Origin::start_with(chain.clone(), &key, versions);
    let (old, new, both) = (origin(&[&TLS12]), origin(&[&TLS13]), origin(rustls::ALL_VERSIONS));
    let rule = |keys: &str| {
        gateway(
            &ca,
            &format!("[tls]\nmin = \"1.3\"\n[[rule]]\nhost = [\"127.0.0.1\", \"a.test\"]\n{keys}"),
        )
    };
    let passed = "meergate_uninspected_bytes_total{reason=\"bypass\",direction=\"to_client\"}";
    for (gateway, oldest, newest) in [
        (gateway(&ca, ""), 2, 3),
        (gateway(&ca, "[tls]\nmax = \"1.2\"\n"), 2, 2),
        (gateway(&ca, "[tls]\nmin = \"1.3\"\n"), 3, 3),
        (rule("tls_min = \"1.2\"\n"), 2, 3),
        (rule("tls_max = \"1.2\"\n"), 2, 2),
        (rule("unsupported_tls = \"bypass\"\n"), 3, 3),
    ] {
        let spoken = oldest..=newest;
        for (version, versions) in [(2, &TLS12), (3, &TLS13)] {
            let client = Client::with_versions(&gateway, &[versions]);
            let asked = client.ask(&gateway, both.address, "a.test");
            assert_eq!(asked.is_ok(), spoken.contains(&version), "{version} of {spoken:?}");
        }
        let client = Client::new(&gateway);
        let seen = client.ask(&gateway, both.address, "a.test").unwrap();
        let version = if newest == 3 { ProtocolVersion::TLSv1_3 } else { ProtocolVersion::TLSv1_2 };
        assert_eq!((seen.status, seen.version), (200, version), "{spoken:?}");
        for (version, origin) in [(2, &old), (3, &new)] {
            let seen = client.ask(&gateway, origin.address, "a.test").unwrap();
            let is_spoken = spoken.contains(&version);
            assert_eq!(seen.status == 200, is_spoken, "{version} of {spoken:?}: {}", seen.body);
            assert!(is_spoken || seen.body.contains("tls.min"), "{}", seen.body);
        }
        assert_eq!(gateway.metric(passed), 0);
    }
}

#[test]
fn a_listener_has_its_own_versions() {
    use rustls::version::{TLS12, TLS13};
    let ca = Ca::new(plain);
    let (chain, key) = ca.leaf(&["a.test"], plain);
    let origin = Origin::start(chain, &key);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("origins.pem");
    std::fs::write(&path, ca.0.pem()).unwrap();
    let program = Program::start(&format!(
        "[upstream]\nca = [{path:?}]\n[[listen]]\naddress = \"127.0.0.1:0\"\ntls_min = \"1.3\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"target\"\ntarget = \"{}\"\n",
        origin.address
    ));
    let pem = std::fs::read(program.authority()).unwrap();
    let own = CertificateDer::from_pem_slice(&pem).unwrap();
    for (versions, status) in [(&TLS12, None), (&TLS13, Some(200))] {
        let client = Client::build(own.clone(), &[versions]);
        let mut tcp = connect(program.at("proxy"));
        write!(tcp, "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address).unwrap();
        assert!(read_until(&mut tcp, b"\r\n\r\n").starts_with(b"HTTP/1.1 200 "));
        assert_eq!(client.talk(tcp, "a.test").ok().map(|seen| seen.status), status);
        let seen = client.talk(connect(program.at("target")), "a.test").unwrap();
        assert_eq!(seen.status, 200);
    }
}

/// The TLS library takes none, of clients and towards origins.
#[test]
fn names_with_a_hyphen_at_the_edge_of_a_label_can_be_bypassed() {
    let ca = Ca::new(plain);
    let rule = "[[rule]]\nhost = [\"127.0.0.1\", \"*.-a.test\"]\nunsupported_tls = \"bypass\"\n";
    let (bypassing, refusing) = (gateway(&ca, rule), gateway(&ca, ""));
    let listener = Origin::listener();
    let address = listener.local_addr().unwrap();
    let (came, comes) = std::sync::mpsc::sync_channel(16);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut bytes) = (stream.unwrap(), [0; 4096]);
            let length = stream.read(&mut bytes).unwrap_or(0);
            let _ = stream.write_all(b"\x15\x03\x03\0\x02\x02\x28");
            came.send(bytes[..length].to_vec()).unwrap();
        }
    });
    let client = Client::new(&refusing);
    let name = ServerName::try_from("x.xa.test").unwrap();
    let mut tls = ClientConnection::new(client.config.clone(), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let at = hello.windows(9).position(|w| w == b"x.xa.test").unwrap();
    hello[at + 2] = b'-';
    let ask = |gateway: &Gateway| {
        let mut tcp = gateway.connect();
        write!(tcp, "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        read_until(&mut tcp, b"\r\n\r\n");
        tcp.write_all(&hello).unwrap();
        let mut answer = [0; 7];
        tcp.read_exact(&mut answer).unwrap();
        answer
    };
    // Illegal parameter: nobody has said anything else. The origin was reached, and heard nothing.
    assert_eq!(ask(&refusing), *b"\x15\x03\x03\0\x02\x02\x2f");
    assert!(comes.recv_timeout(PATIENCE).unwrap().is_empty());
    assert_eq!(ask(&bypassing), *b"\x15\x03\x03\0\x02\x02\x28");
    let heard = std::iter::repeat_with(|| comes.recv_timeout(PATIENCE).unwrap());
    assert!(heard.take(2).any(|heard| heard == hello));

    let plain = support::Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let mut tunnel = support::tunnel(&refusing, &plain);
    tunnel.write_all(b"GET / HTTP/1.1\r\nHost: a-.test\r\n\r\n").unwrap();
    assert!(read_until(&mut tunnel, b"\r\n\r\n").starts_with(b"HTTP/1.1 200 "));
}
