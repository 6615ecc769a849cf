//! TLS handshakes are shown to the engine before the client has any answer: both hellos and the real
//! certificates, of intercepted connections and of bypassed ones.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use e2e::curl::Fetched;
use e2e::origin::After;
use e2e::peers::nginx::Nginx;
use e2e::pki::{Authority, Identity};
use e2e::{Curl, Gateway, Inspector, Origin, peers, process};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

const RULES: &str = "\
drop tls any any -> any any (msg:\"the name\"; tls.sni; content:\"sni.example\"; sid:1;)
drop tls any any -> any any (msg:\"JA3\"; ja3.string; content:\"771,\"; tls.sni; content:\"ja3.example\"; sid:2;)
drop tls any any -> any any (msg:\"JA4\"; ja4.hash; content:\"t13d\"; tls.sni; content:\"ja4.example\"; sid:3;)
drop tls any any -> any any (msg:\"the subject\"; tls.cert_subject; content:\"CN=subject.example\"; sid:4;)
drop tls any any -> any any (msg:\"the issuer\"; tls.cert_issuer; content:\"CN=A wicked issuer\"; sid:5;)
alert tls any any -> any any (msg:\"seen\"; tls.cert_subject; content:\"CN=again.example\"; sid:7;)
alert tls any any -> any any (msg:\"remembered\"; tls.sni; content:\"ja3s.example\"; flowbits:set,ja3s; flowbits:noalert; sid:9;)
drop tls any any -> any any (msg:\"the server's hello\"; flowbits:isset,ja3s; ja3s.string; content:\"771,\"; sid:8;)
";

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Both programs, and what the tests know of them.
struct Lab {
    gateway: Gateway,
    inspector: Inspector,
    good: Authority,
    wicked: Authority,
    folder: TempDir,
}

impl Lab {
    /// With these rules besides ours, and these settings of the inspector's and of the gateway's.
    fn start(rules: &str, inspector: &str, gateway: &str) -> Self {
        Self::with(Authority::new("Origin"), rules, inspector, gateway)
    }

    fn with(good: Authority, rules: &str, inspector: &str, gateway: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a file");
            path.display().to_string()
        };
        let wicked = Authority::new("A wicked issuer");
        let trusted = file("trusted.pem", &(good.pem() + &wicked.pem()));
        let rules = file("my.rules", &format!("{RULES}{rules}"));
        let config = file("inspector.toml", inspector);
        let inspector = Inspector::start(["--config", &config, "--rules", &rules]);
        let log = folder.path().join("connections.log").display().to_string();
        let settings = format!(
            "{gateway}\n[[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"proxy\"\n\
             [log]\nconnections = {log:?}\n"
        )
        .replace("ECHO", &inspector.echo_url())
        .replace("INSPECTOR", &inspector.url());
        let gateway = Gateway::with_settings(&settings, ["--upstream-ca", &trusted]);
        Self { gateway, inspector, good, wicked, folder }
    }

    fn with_defaults() -> Self {
        Self::start("", "", ICAP)
    }

    fn bypassing() -> Self {
        Self::start("", "", &format!("{ICAP}{}", bypass("*.example")))
    }

    fn trusted(&self) -> PathBuf {
        self.folder.path().join("trusted.pem")
    }

    /// An origin of that name, whose certificate is bad where the name says so.
    fn origin(&self, name: &str, version: &'static SupportedProtocolVersion) -> Origin {
        let authority = if name == "issuer.example" { &self.wicked } else { &self.good };
        serve(&authority.leaf(&[name]), &[version])
    }

    /// What a client that goes through the gateway to `origin` by that `name` gets. It asks for
    /// `localhost`, so that names need not be resolved.
    fn get(&self, name: &str, origin: SocketAddr, trust: &[PathBuf]) -> Fetched {
        self.curl(name, origin, trust).run(&format!("https://{name}/"))
    }

    fn curl(&self, name: &str, origin: SocketAddr, trust: &[PathBuf]) -> Curl {
        let all: String =
            trust.iter().map(|path| fs::read_to_string(path).expect("certificates")).collect();
        let (mut file, trusted) = NamedTempFile::new_in(self.folder.path())
            .and_then(|file| Ok(file.keep()?))
            .expect("a file");
        file.write_all(all.as_bytes()).expect("a file");
        Curl::through(self.gateway.proxy())
            .trust(&trusted)
            .arg("--connect-to")
            .arg(&format!("{name}:443:localhost:{}", origin.port()))
    }

    /// The lines of the connection log, of which there are to be so many.
    fn log(&mut self, lines: usize) -> Vec<Value> {
        let path = self.folder.path().join("connections.log");
        let read = || -> Vec<Value> {
            let text = fs::read_to_string(&path).unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        self.gateway.process.wait_until("the connection log", || read().len() >= lines);
        read()
    }

    fn metric(&self, name: &str) -> u64 {
        let page = Curl::direct().run(&format!("http://{}/metrics", self.gateway.console()));
        let text = page.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().expect("a number"))
    }

    fn mirrored(&self, outcome: &str) -> u64 {
        self.metric(&format!("meergate_tls_mirrors_total{{outcome=\"{outcome}\"}}"))
    }
}

/// A rule for this name. Clients ask for `localhost`, and both must be allowed to pass.
fn bypass(name: &str) -> String {
    format!("[[rule]]\nhost = [\"localhost\", {name:?}]\naction = \"bypass\"\n")
}

const ICAP: &str = "icap.urls = [\"INSPECTOR\"]\n";

fn chain(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificates = CertificateDer::pem_slice_iter(identity.certificates.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
    (certificates.collect::<Result<_, _>>().expect("certificates"), key)
}

fn serve(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> Origin {
    let (chain, key) = chain(identity);
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    Origin::with_tls(config, |_, wire| wire.ok("text/plain", b"clean"))
}

#[test]
fn what_is_dropped_of_an_intercepted_handshake_is_a_page() {
    let mut lab = Lab::with_defaults();
    let trust = [lab.gateway.authority()];
    let mut lines = 0;
    for version in VERSIONS {
        for (name, sid) in [
            ("good.example", None),
            ("sni.example", Some(1)),
            ("ja3.example", Some(2)),
            ("ja4.example", Some(3)),
            ("subject.example", Some(4)),
            ("issuer.example", Some(5)),
        ] {
            let origin = lab.origin(name, version);
            let got = lab.get(name, origin.addr(), &trust);
            lines += 1;
            let line = lab.log(lines).pop().expect("a line");
            match sid {
                None => {
                    got.expect_body(b"clean");
                    assert_eq!(line["mirror"]["outcome"], "passed", "{line}");
                }
                Some(sid) => {
                    got.expect_status(403);
                    assert!(got.text().contains(&format!("signature {sid}")), "{}", got.text());
                    assert!(origin.requests().is_empty(), "{name}");
                    assert_eq!(line["mirror"]["outcome"], "blocked", "{line}");
                    assert_eq!(line["mirror"]["block"]["signature_id"], sid.to_string(), "{line}");
                }
            }
        }
    }
    assert_eq!((lab.mirrored("passed"), lab.mirrored("blocked")), (2, 10));
    // What a rule looks at in the client's hello stops it before the origin hears anything.
    let origin = lab.origin("sni.example", &TLS13);
    lab.get("sni.example", origin.addr(), &trust).expect_status(403);
    lab.inspector.wait_for_alert(1, |_| true);
    lab.inspector.wait_for_alert(4, |alert| alert["tls"]["version"] == "TLS 1.3");
}

#[test]
fn what_was_dropped_is_not_asked_for_again_on_the_same_connection() {
    let lab = Lab::with_defaults();
    let trust = [lab.gateway.authority()];
    for version in VERSIONS {
        let origin = lab.origin("subject.example", version);
        let got = lab
            .curl("subject.example", origin.addr(), &trust)
            .arg("https://subject.example/first")
            .arg("--output")
            .arg("/dev/null")
            .run("https://subject.example/second");
        assert_eq!(got.heads.matches("HTTP/1.1 403").count(), 2, "{}", got.heads);
        assert!(origin.requests().is_empty());
    }
}

/// What a client is shown of a certificate with another name in it.
fn leaf(lab: &Lab, name: &str, version: &'static SupportedProtocolVersion) -> Vec<u8> {
    let origin = serve(&lab.good.leaf(&[name, "within.example"]), &[version]);
    let mut trusted = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(lab.gateway.authority()).expect("an authority");
    trusted.add(authority).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let host = name.to_owned().try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), host).expect("a client");
    let mut socket = lab.tunnel(origin.addr());
    while client.is_handshaking() {
        client.complete_io(&mut socket).expect("a handshake");
    }
    client.peer_certificates().expect("certificates")[0].to_vec()
}

#[test]
fn nothing_of_a_dropped_certificate_is_in_the_leaf_that_comes_with_the_page() {
    let lab = Lab::with_defaults();
    let tells = |leaf: &[u8]| leaf.windows(14).any(|part| part == b"within.example");
    for version in VERSIONS {
        assert!(tells(&leaf(&lab, "good.example", version)), "the names are there");
        assert!(!tells(&leaf(&lab, "subject.example", version)));
    }
}

#[test]
fn what_is_dropped_of_a_bypassed_handshake_is_an_alert_and_nothing_before_it() {
    let mut lab = Lab::bypassing();
    let trust = [lab.trusted()];
    let mut lines = 0;
    for version in VERSIONS {
        let sealed = *version == TLS13;
        for (name, sid) in [
            ("good.example", None),
            ("sni.example", Some(1)),
            ("ja3.example", Some(2)),
            ("ja4.example", Some(3)),
            // What TLS 1.3 encrypts nobody sees who does not look into the connection.
            ("subject.example", (!sealed).then_some(4)),
            ("issuer.example", (!sealed).then_some(5)),
            ("ja3s.example", Some(8)),
        ] {
            let origin = lab.origin(name, version);
            lines += 1;
            match sid {
                None => {
                    lab.get(name, origin.addr(), &trust).expect_body(b"clean");
                    let line = lab.log(lines).pop().expect("a line");
                    assert_eq!(line["mirror"]["outcome"], "passed", "{line}");
                    // However the peers end it.
                    let end = line["end"].as_str().expect("an end");
                    assert!(end.starts_with("bypassed"), "{line}");
                }
                Some(sid) => {
                    let answer = lab.say(origin.addr(), &hello(name));
                    // access_denied, and the end.
                    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49], "{name}");
                    let line = lab.log(lines).pop().expect("a line");
                    assert_eq!(line["end"], "dropped", "{line}");
                    assert_eq!(line["mirror"]["block"]["signature_id"], sid.to_string(), "{line}");
                }
            }
        }
    }
}

/// What a client says first to a server of that name.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    hello
}

impl Lab {
    /// A tunnel to `origin`.
    fn tunnel(&self, origin: SocketAddr) -> TcpStream {
        let mut socket = TcpStream::connect(self.gateway.proxy()).expect("a connection");
        socket.set_read_timeout(Some(process::DEADLINE)).expect("a limit");
        let to = format!("localhost:{}", origin.port());
        write!(socket, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").expect("a request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        socket
    }

    /// All that comes back for these bytes in a tunnel to `origin`.
    fn say(&self, origin: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        let mut socket = self.tunnel(origin);
        socket.write_all(bytes).expect("sent");
        let mut answer = Vec::new();
        // Whether the end is orderly or not.
        let _ = socket.read_to_end(&mut answer);
        answer
    }
}

#[test]
fn http_2_is_no_way_around() {
    let lab = Lab::with_defaults();
    let trust = [lab.gateway.authority()];
    for (name, status) in [("good.example", 200), ("subject.example", 403)] {
        let nginx = Nginx::http2(&lab.good.leaf(&[name]));
        nginx.put("index.txt", b"clean");
        let origin = SocketAddr::from((Ipv4Addr::LOCALHOST, nginx.port()));
        let got =
            lab.curl(name, origin, &trust).arg("--http2").run(&format!("https://{name}/index.txt"));
        got.expect_status(status);
        assert_eq!(got.heads.contains("HTTP/2 200"), status == 200, "{}", got.heads);
    }
}

#[test]
fn a_resumed_session_shows_the_certificate_that_it_began_with() {
    let mut lab = Lab::with_defaults();
    let trust = [lab.gateway.authority()];
    let mut lines = 0;
    for version in VERSIONS {
        let origin = lab.origin("again.example", version);
        for _ in 0..2 {
            lab.get("again.example", origin.addr(), &trust).expect_body(b"clean");
            lines += 1;
            lab.log(lines);
        }
    }
    let log = lab.log(4);
    let resumed = log.iter().map(|line| line["tls"]["upstream"]["resumed"].clone());
    let resumed: Vec<Value> = resumed.collect();
    assert_eq!(resumed, [false, true, false, true]);
    for line in log {
        let id = format!("{}-tls", line["connection_id"].as_str().expect("an id"));
        lab.inspector.wait_for_alert(7, |event| event.to_string().contains(&id));
    }
}

#[test]
fn settings_and_rules_say_how_much_is_shown() {
    let settings = format!(
        "{ICAP}tls.mirror = \"off\"\n[[rule]]\nname = \"some\"\nhost = [\"sni.example\", \
         \"subject.example\"]\nmirror = \"hello\"\n[[rule]]\nname = \"all\"\n\
         host = [\"issuer.example\"]\nmirror = \"full\"\n"
    );
    let mut lab = Lab::start("", "", &settings);
    let trust = [lab.gateway.authority()];
    let mut lines = 0;
    for (name, status) in [
        ("ja3.example", 200),
        ("sni.example", 403),
        ("subject.example", 200),
        ("issuer.example", 403),
    ] {
        let origin = lab.origin(name, &TLS13);
        lab.get(name, origin.addr(), &trust).expect_status(status);
        lines += 1;
        lab.log(lines);
    }
    let outcomes: Vec<Value> =
        lab.log(4).iter().map(|line| line["mirror"]["outcome"].clone()).collect();
    assert_eq!(outcomes, ["off", "blocked", "passed", "blocked"]);
}

#[test]
fn where_no_service_takes_streams_nothing_fails_and_that_is_said() {
    let rule = bypass("ja3.example");
    let mut lab = Lab::start("", "", &format!("icap.urls = [\"ECHO\"]\n{rule}"));
    let trust = [lab.gateway.authority(), lab.trusted()];
    for name in ["sni.example", "ja3.example"] {
        let origin = lab.origin(name, &TLS13);
        lab.get(name, origin.addr(), &trust).expect_body(b"clean");
    }
    for line in lab.log(2) {
        assert_eq!(line["mirror"]["outcome"], "no-service", "{line}");
    }
    assert_eq!(lab.mirrored("no-service"), 2);
    // Nor does it when that service, which never took any, is down.
    lab.inspector.process.kill_group();
    let origin = lab.origin("ja3.example", &TLS13);
    lab.get("ja3.example", origin.addr(), &trust).expect_body(b"clean");
    assert_eq!(lab.mirrored("no-service"), 3);
}

#[test]
fn without_the_engine_nothing_passes_or_it_is_counted() {
    let lab = Lab::start("", "", &format!("{ICAP}{}", bypass("ja3.example")));
    let trust = [lab.gateway.authority(), lab.trusted()];
    let origins = ["good.example", "ja3.example"].map(|name| (name, lab.origin(name, &TLS13)));
    lab.get("good.example", origins[0].1.addr(), &trust).expect_body(b"clean");
    lab.inspector.process.kill_group();
    while TcpStream::connect(lab.inspector.addr()).is_ok() {
        thread::yield_now();
    }
    let before = origins[0].1.requests().len();
    lab.get("good.example", origins[0].1.addr(), &trust).expect_status(502);
    assert_eq!(origins[0].1.requests().len(), before);
    let answer = lab.say(origins[1].1.addr(), &hello("ja3.example"));
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 80]);
    assert_eq!(lab.mirrored("failed"), 2);
}

#[test]
fn a_service_that_fails_open_is_counted() {
    let service = "[[icap.service]]\nname = \"s\"\nurl = \"INSPECTOR\"\nfail = \"open\"\n";
    let mut lab = Lab::start("", "", &format!("{service}{}", bypass("ja3.example")));
    let trust = [lab.gateway.authority(), lab.trusted()];
    let origin = lab.origin("good.example", &TLS13);
    lab.inspector.process.kill_group();
    while TcpStream::connect(lab.inspector.addr()).is_ok() {
        thread::yield_now();
    }
    lab.get("good.example", origin.addr(), &trust).expect_body(b"clean");
    let past = lab.origin("ja3.example", &TLS13);
    lab.get("ja3.example", past.addr(), &trust).expect_body(b"clean");
    for line in lab.log(2) {
        assert_eq!(line["mirror"]["outcome"], "service-bypassed", "{line}");
    }
    let unseen = |towards: &str| {
        let labels = format!("{{reason=\"service-bypassed\",direction=\"{towards}\"}}");
        lab.metric(&format!("meergate_uninspected_bytes_total{labels}"))
    };
    assert!(unseen("to_server") > 500 && unseen("to_client") > 900);
}

/// The same hello, in records of so many bytes each.
fn cut(hello: &[u8], length: usize) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = hello;
    while let [_, _, _, high, low, after @ ..] = rest {
        let (content, more) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend_from_slice(content);
        rest = more;
    }
    let mut out = Vec::new();
    for piece in message.chunks(length) {
        out.extend_from_slice(&[22, 3, 1]);
        out.extend_from_slice(&u16::try_from(piece.len()).expect("a record").to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

/// The same hello, with so many bytes more of an extension in front of all others.
fn padded(hello: &[u8], length: usize) -> Vec<u8> {
    let mut message = cut(hello, 1 << 14);
    message.drain(..5);
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(message[at]);
    at += 2 + usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
    at += 1 + usize::from(message[at]);
    let extensions = usize::from(u16::from_be_bytes([message[at], message[at + 1]])) + 4 + length;
    message[at..at + 2].copy_from_slice(&u16::try_from(extensions).expect("fits").to_be_bytes());
    let mut padding = vec![0xff, 0x77];
    padding.extend_from_slice(&u16::try_from(length).expect("fits").to_be_bytes());
    padding.resize(4 + length, 0);
    message.splice(at + 2..at + 2, padding);
    let body = u32::try_from(message.len() - 4).expect("fits").to_be_bytes();
    message[1..4].copy_from_slice(&body[1..]);
    let mut out = Vec::new();
    for piece in message.chunks(1 << 14) {
        out.extend_from_slice(&[22, 3, 1]);
        out.extend_from_slice(&u16::try_from(piece.len()).expect("a record").to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

#[test]
fn no_way_of_cutting_or_padding_a_hello_hides_its_name() {
    let mut lab = Lab::bypassing();
    let mut expected = 0;
    for (name, is_bad) in [("sni.example", true), ("good.example", false)] {
        let origin = lab.origin(name, &TLS13);
        let hello = hello(name);
        for shown in [
            cut(&hello, 50),
            cut(&hello, 7),
            padded(&hello, 1_000),
            padded(&hello, 15_000),
            padded(&hello, 30_000),
        ] {
            // The client ends its side, so that the tunnel ends: the server does not wait for more.
            let mut socket = lab.tunnel(origin.addr());
            socket.write_all(&shown).expect("sent");
            let mut first = [0; 1];
            socket.read_exact(&mut first).expect("an answer");
            assert_eq!(first, [if is_bad { 21 } else { 22 }], "{name}: {}", shown.len());
            expected += 1;
        }
    }
    assert_eq!(lab.log(expected).len(), expected);
}

#[test]
fn no_version_of_its_records_hides_a_hello() {
    for extent in ["hello", "full"] {
        let lab = Lab::start("", "", &format!("{ICAP}tls.mirror = {extent:?}\n"));
        let (bad, good) = (lab.origin("sni.example", &TLS13), lab.origin("good.example", &TLS13));
        for minor in [0, 3, 4, 5, 0xff] {
            let say = |origin: &Origin, name: &str| {
                let mut hello = cut(&hello(name), 50);
                let mut at = 0;
                while at < hello.len() {
                    hello[at + 2] = minor;
                    at += 5 + usize::from(u16::from_be_bytes([hello[at + 3], hello[at + 4]]));
                }
                let mut socket = lab.tunnel(origin.addr());
                socket.write_all(&hello).expect("sent");
                let mut first = [0; 6];
                socket.read_exact(&mut first).expect("an answer");
                (first[0], first[5])
            };
            // Its handshake goes on, so that a page can say why; nothing of it came to the origin.
            say(&bad, "sni.example");
            say(&good, "good.example");
        }
        assert_eq!((lab.mirrored("blocked"), lab.mirrored("passed")), (5, 5), "{extent}");

        // Nor where nobody looks into it.
        let lab = Lab::start("", "", &format!("{ICAP}tls.mirror = {extent:?}\n{}", bypass("*")));
        for minor in [0, 3, 4, 5, 0xff] {
            let mut hello = hello("sni.example");
            hello[2] = minor;
            assert_eq!(lab.say(bad.addr(), &hello), [21, 3, 3, 0, 2, 2, 49], "{extent}, {minor}");
        }
    }
}

#[test]
fn a_client_that_waits_or_sends_garbage_gets_no_way_past() {
    let lab = Lab::bypassing();
    let origin = lab.origin("good.example", &TLS13);
    let unreadable = [&[22, 3, 1, 0, 5, 9, 0, 0, 1, 0][..], &[0; 50]].concat();
    for bytes in [&padded(&hello("sni.example"), 40_000), &unreadable] {
        // internal_error
        assert_eq!(lab.say(origin.addr(), bytes), [21, 3, 3, 0, 2, 2, 80]);
    }
    // The server may be the one that speaks first, until this client does.
    let mut socket = lab.tunnel(origin.addr());
    thread::sleep(std::time::Duration::from_secs(4));
    socket.write_all(&hello("sni.example")).expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49]);
    // A server that does not speak TLS is not let through either, and one that closes is no harm.
    for (said, expected) in [(&b"SSH-2.0-x\r\n"[..], &[21, 3, 3, 0, 2, 2, 80][..]), (b"", b"")] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let server = listener.local_addr().expect("an address");
        let said = said.to_vec();
        let serving = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a connection");
            let mut hello = [0; 100];
            let _ = socket.read(&mut hello);
            let _ = socket.write_all(&said);
        });
        assert_eq!(lab.say(server, &hello("good.example")), expected);
        serving.join().expect("served");
    }
}

#[test]
fn a_hello_that_is_asked_for_again_hides_nothing() {
    let mut lab = Lab::start("", "", &format!("{ICAP}{}", bypass("past.example")));
    let trust = [lab.gateway.authority(), lab.trusted()];
    let retrying = |name: &str| {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::SECP384R1];
        let (chain, key) = chain(&lab.good.leaf(&[name]));
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
        Origin::with_tls(config, |_, wire| wire.ok("text/plain", b"clean"))
    };
    for (name, status) in [("good.example", 200), ("subject.example", 403), ("past.example", 200)] {
        let origin = retrying(name);
        let got = lab.curl(name, origin.addr(), &trust).arg("--curves").arg("X25519:P-384");
        got.run(&format!("https://{name}/")).expect_status(status);
    }
    // The second hello must not ask for somebody else.
    let origin = retrying("past.example");
    let mut socket = lab.tunnel(origin.addr());
    socket.write_all(&hello("past.example")).expect("sent");
    let mut retry = [0; 5];
    socket.read_exact(&mut retry).expect("a HelloRetryRequest");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([retry[3], retry[4]]))];
    socket.read_exact(&mut rest).expect("all of it");
    assert_eq!((retry[0], rest[0]), (22, 2));
    socket.write_all(&hello("other.example")).expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert!(answer.ends_with(&[21, 3, 3, 0, 2, 2, 80]) && answer.len() < 20, "{answer:?}");
    let lines = lab.log(4);
    assert!(lines.iter().any(|line| line["end"] == "uninspected"), "{lines:?}");
}

#[test]
fn long_chains_are_shown() {
    let lab = Lab::with_defaults();
    let trust = [lab.gateway.authority()];
    // About 50 KB, of which rustls takes 64.
    let names: Vec<String> = (0..200).map(|i| format!("a-name-of-nobody-{i}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let long = lab.good.leaf(&names).certificates;
    let long = &long[..=long.find("END CERTIFICATE-----\n").expect("an end") + 20];
    for (name, status) in [("good.example", 200), ("subject.example", 403)] {
        let mut identity = lab.good.leaf(&[name]);
        identity.certificates += &long.repeat(8);
        for version in VERSIONS {
            let origin = serve(&identity, &[version]);
            lab.get(name, origin.addr(), &trust).expect_status(status);
        }
    }
}

#[test]
fn more_connections_than_streams_wait_for_their_turn_or_fail() {
    let settings = "[limits]\nmax_streams = 2\nper_client_percent = 100\n";
    let service = "[[icap.service]]\nname = \"s\"\nurl = \"INSPECTOR\"\ntimeouts = { wait = 60 }\n";
    let lab = Lab::start("", settings, service);
    let trust = [lab.gateway.authority()];
    let (good, bad) = (lab.origin("good.example", &TLS13), lab.origin("subject.example", &TLS13));
    let statuses: Vec<(bool, u16)> = thread::scope(|scope| {
        let clients: Vec<_> = (0..24)
            .map(|i| {
                let is_bad = i % 3 == 0;
                let (name, origin) =
                    if is_bad { ("subject.example", &bad) } else { ("good.example", &good) };
                let curl = lab.curl(name, origin.addr(), &trust);
                scope.spawn(move || (is_bad, curl.run(&format!("https://{name}/")).status))
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a status")).collect()
    });
    for (is_bad, status) in statuses {
        assert_eq!(status, if is_bad { 403 } else { 200 });
    }
    assert_eq!((lab.mirrored("passed"), lab.mirrored("blocked")), (16, 8));
    assert!(bad.requests().is_empty());
}

#[test]
fn the_fingerprint_of_the_real_certificate_is_known() {
    let authority = Authority::new("Origin");
    let identity = authority.leaf(&["print.example"]);
    let folder = TempDir::new().expect("a folder");
    let (file, _) = identity.write(folder.path());
    let openssl = peers::client("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha1", "-in"])
        .arg(&file)
        .output()
        .expect("openssl runs");
    let said = String::from_utf8_lossy(&openssl.stdout).into_owned();
    let print = said.trim().split('=').nth(1).expect("a fingerprint").to_lowercase();
    let rule = format!(
        "drop tls any any -> any any (msg:\"the print\"; tls.cert_fingerprint; content:\"{print}\"; sid:6;)\n"
    );
    let lab = Lab::with(authority, &rule, "", ICAP);
    let trust = [lab.gateway.authority()];
    for version in VERSIONS {
        let origin = serve(&identity, &[version]);
        let got = lab.get("print.example", origin.addr(), &trust);
        got.expect_status(403);
        assert!(got.text().contains("signature 6"), "{}", got.text());
    }
}

/// Shows the first of its certificates once, then always the second.
#[derive(Debug)]
struct Turning {
    asked: AtomicUsize,
    keys: [Arc<CertifiedKey>; 2],
}

impl ResolvesServerCert for Turning {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.keys[self.asked.fetch_add(1, Ordering::SeqCst).min(1)].clone())
    }
}

#[test]
fn another_certificate_on_a_further_connection_is_shown_too() {
    let lab = Lab::with_defaults();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let keys = ["good.example", "subject.example"].map(|name| {
        let (chain, key) = chain(&lab.good.leaf(&[name, "good.example"]));
        Arc::new(CertifiedKey::from_der(chain, key, &provider).expect("a key"))
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("a version")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Turning { asked: AtomicUsize::new(0), keys }));
    config.send_tls13_tickets = 0;
    let origin = Origin::with_tls(config, |_, wire| {
        wire.ok("text/plain", b"clean")?;
        Ok(After::Close)
    });
    let got = lab
        .curl("good.example", origin.addr(), &[lab.gateway.authority()])
        .arg("https://good.example/first")
        .arg("--output")
        .arg("/dev/null")
        .run("https://good.example/second");
    assert_eq!(origin.requests().len(), 1, "{}", got.heads);
    assert!(
        got.heads.contains("HTTP/1.1 200") && got.heads.contains("HTTP/1.1 403"),
        "{}",
        got.heads
    );
}

/// A rule of a public set that one content in `keyword` is enough for, as one that drops, with that
/// content.
fn simple(rule: &str, keyword: &str) -> Option<(String, String)> {
    let options = rule.strip_prefix("alert tls ")?.split_once(" (")?.1;
    let is_simple = options.contains(keyword)
        && options.matches("content:").count() == 1
        && ["content:!", "pcre:", "flowbits:", "threshold:", "|", "bsize:", "isdataat:", "xbits:"]
            .iter()
            .all(|word| !options.contains(word))
        && options.matches("tls.").count() == 1;
    let content = options.split_once("content:\"")?.1.split_once('"')?.0;
    is_simple.then(|| (content.to_owned(), format!("drop tls any any -> any any ({options}\n")))
}

#[test]
fn rules_of_a_public_set_stop_the_handshakes_that_they_are_about() {
    let shared = std::env::var_os("MEERGATE_SHARED")
        .map_or_else(|| e2e::programs::root().join("../shared"), PathBuf::from);
    let at = shared.join("data/et-open/emerging-2025-08.rules");
    let Ok(all) = fs::read_to_string(&at) else {
        println!("skipped: {} is not there (set MEERGATE_SHARED)", at.display());
        return;
    };
    let most: usize =
        std::env::var("MEERGATE_E2E_TLS_RULES").map_or(40, |n| n.parse().expect("a number"));
    let of = |keyword: &str| -> Vec<_> {
        all.lines().filter_map(|rule| simple(rule, keyword)).collect()
    };
    let choose = |of: Vec<(String, String)>, most: usize| -> Vec<_> {
        let every = (of.len() / most).max(1);
        of.into_iter().step_by(every).take(most).collect()
    };
    let mut names = of("tls.sni;");
    for (name, _) in &mut names {
        *name = format!("x{}{name}", if name.starts_with('.') { "" } else { "." });
    }
    // What no client can ask for, or a rule does not want to have anything in front.
    let exact = |rule: &str| rule.contains("startswith") || rule.contains("depth:");
    names.retain(|(name, rule)| {
        !exact(rule) && !name.ends_with('.') && !name.contains("..") && !name.contains('/')
    });
    let names = choose(names, most);
    let mut subjects = of("tls.cert_subject;");
    subjects.retain(|(content, _)| !content.contains('/') && !content.contains(", "));
    let subjects = choose(subjects, most / 4);
    let rules: String = names.iter().chain(&subjects).map(|(_, rule)| rule.as_str()).collect();
    let lab = Lab::start(&rules, "", &format!("{ICAP}{}", bypass("*")));
    let origin = lab.origin("good.example", &TLS13);
    let mut missed = Vec::new();
    for (name, _) in &names {
        if lab.say(origin.addr(), &hello(name)) != [21, 3, 3, 0, 2, 2, 49] {
            missed.push(name);
        }
    }
    let seen = Lab::start(&rules, "", ICAP);
    let trust = [seen.gateway.authority()];
    for (number, (content, _)) in subjects.iter().enumerate() {
        let value = content.split_once('=').map_or(&**content, |(_, value)| value).to_owned();
        let identity = seen.good.leaf_with(&["good.example"], |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            let kind = match content.split('=').next() {
                Some("O") => rcgen::DnType::OrganizationName,
                Some("OU") => rcgen::DnType::OrganizationalUnitName,
                _ => rcgen::DnType::CommonName,
            };
            params.distinguished_name.push(kind, value);
        });
        let origin = serve(&identity, &[VERSIONS[number % 2]]);
        if seen.get("good.example", origin.addr(), &trust).status != 403 {
            missed.push(content);
        }
    }
    let tried = names.len() + subjects.len();
    println!("{tried} tried ({} by name), {} missed", names.len(), missed.len());
    assert!(
        tried >= most && missed.len() * 100 <= tried,
        "{} of {tried}: {missed:?}",
        missed.len()
    );
}
