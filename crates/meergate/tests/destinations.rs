//! Where clients may not be led: the proxy's own machine, the metadata services of clouds, and its own
//! listeners, however they are named and whatever the way in.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use program::Program;
use rustls::pki_types::ServerName;
use support::{Origin, connect, read_to_end, text};

/// Names and spellings of what is near. All lead to a canary at some port if they lead anywhere.
const NEAR: &[&str] = &[
    "127.0.0.1",
    "127.1.2.3",
    "127.0.0.1.",
    "localhost",
    "LocalHost.",
    "a.b.localhost",
    "0.0.0.0",
    "0.1.2.3",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0.0.0.0]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::1]",
    "[2001:0:1:2:3:4:80ff:fffe]",
    "[fe80::5efe:127.0.0.1]",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "127.0.0.0x1",
    "127.1",
    "127.0.1",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "168.63.129.16",
];

/// Answers whoever connects, and counts them.
struct Canary {
    port: u16,
    count: Arc<AtomicUsize>,
}

impl Canary {
    fn start() -> Self {
        let both = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0"));
        let listener = both.unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary";
                let _ = stream.and_then(|mut stream| {
                    let _ = stream.read(&mut [0; 4096]);
                    stream.write_all(answer)
                });
            }
        });
        Self { port, count }
    }

    fn visits(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// What a client that speaks TLS says first; of HTTP/2, too.
fn hello(host: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let bare = host.trim_matches(['[', ']']).trim_end_matches('.').to_owned();
    let fallback = || ServerName::try_from("localhost").unwrap();
    let name = ServerName::try_from(bare).unwrap_or_else(|_| fallback());
    let mut bytes = Vec::new();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Reads what comes first, which may be nothing.
fn first(stream: &mut TcpStream) -> Vec<u8> {
    let mut piece = vec![0; 65536];
    let length = stream.read(&mut piece).unwrap_or(0);
    piece.truncate(length);
    piece
}

fn socks(host: &str, port: u16) -> Vec<u8> {
    let mut request = vec![5, 1, 0, 5, 1, 0];
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(ip)) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
        Err(_) => {
            request.extend_from_slice(&[3, host.len() as u8]);
            request.extend_from_slice(host.as_bytes());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    request
}

/// All ways in that let the client name a host; each gives what came back.
fn ways(program: &Program, host: &str, port: u16) -> Vec<(&'static str, Vec<u8>)> {
    let at = format!("{host}:{port}");
    let proxied = |request: String| {
        let mut stream = connect(program.at("proxy"));
        let _ = stream.write_all(request.as_bytes());
        read_to_end(&mut stream)
    };
    let head = format!("Host: {at}\r\nConnection: close\r\n\r\n");
    let tunnelled = |inside: &[u8]| {
        let mut stream = connect(program.at("proxy"));
        write!(stream, "CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n").unwrap();
        let mut answer = first(&mut stream);
        if answer.starts_with(b"HTTP/1.1 200") {
            let _ = stream.write_all(inside);
            answer = first(&mut stream);
        }
        answer
    };
    let through_socks = |inside: &[u8]| {
        let mut stream = connect(program.at("socks5"));
        let _ = stream.write_all(&socks(host, port));
        let mut reply = [0; 12];
        let _ = stream.read_exact(&mut reply);
        if reply[3] != 0 {
            return Vec::new();
        }
        let _ = stream.write_all(inside);
        first(&mut stream)
    };
    let origin_form = format!("GET / HTTP/1.1\r\n{head}");
    vec![
        ("absolute", proxied(format!("GET http://{at}/ HTTP/1.1\r\n{head}"))),
        ("absolute https", proxied(format!("GET https://{at}/ HTTP/1.1\r\n{head}"))),
        (
            "upgrade",
            proxied(
                format!(
                    "GET http://{at}/ HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nHost: {at}\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                ) + "GET / HTTP/1.0\r\n\r\n",
            ),
        ),
        ("CONNECT", tunnelled(origin_form.as_bytes())),
        ("CONNECT, TLS", tunnelled(&hello(host))),
        ("SOCKS5", through_socks(origin_form.as_bytes())),
        ("SOCKS5, TLS", through_socks(&hello(host))),
        ("SNI", {
            let mut stream = connect(program.at("sni"));
            let _ = stream.write_all(&hello(host));
            first(&mut stream)
        }),
    ]
}

#[test]
fn an_attackers_afternoon() {
    let canary = Canary::start();
    let program = Program::start(&format!(
        "[destinations]\nconnect_ports = [\"1-65535\"]\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"socks5\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"sni\"\nport = {}\n",
        canary.port
    ));
    let mut cases = 0;
    for host in NEAR {
        for (way, answer) in ways(&program, host, canary.port) {
            let answer = text(&answer);
            assert!(!answer.contains("canary"), "{host} by {way}");
            let plain = answer.starts_with("HTTP/");
            assert!(!plain || answer.starts_with("HTTP/1.1 4"), "{host} by {way}: {answer}");
            cases += 1;
        }
    }
    assert!(cases >= 200, "{cases}");
    assert_eq!(canary.visits(), 0);
    // Nothing was even tried.
    let metrics = program.console("/metrics");
    for line in metrics.lines().filter(|l| l.starts_with("meergate_upstream_connects_total{")) {
        assert!(line.contains("\"destination\"") || line.contains("\"blocked\""), "{line}");
    }
    assert!(metrics.contains("meergate_upstream_connects_total{outcome=\"destination\"}"));
}

/// An address of this machine that is not loopback, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn our_own_listeners_are_no_destinations_though_loopback_is_allowed() {
    let canary = Canary::start();
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = Program::start(&format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"sni\"\n\
         [[listen]]\naddress = \"0.0.0.0:0\"\nkind = \"socks5\"\n\
         [icap]\nurls = [\"icap://localhost:{}/x\"]\n\
         [[rule]]\naction = \"bypass\"\n",
        service.local_addr().unwrap().port()
    ));
    let ask = |host: &str, port: u16| {
        let mut stream = connect(program.at("proxy"));
        write!(
            stream,
            "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        text(&read_to_end(&mut stream))
    };
    assert!(ask("127.0.0.1", canary.port).ends_with("canary"));
    let socks = program.at("socks5").port();
    let mut denied = vec![
        ("127.0.0.1".to_owned(), program.at("proxy").port()),
        ("localhost".to_owned(), program.at("proxy").port()),
        ("[::ffff:127.0.0.1]".to_owned(), program.at("proxy").port()),
        ("127.0.0.1".to_owned(), program.at("sni").port()),
        ("127.0.0.1".to_owned(), program.at("console").port()),
        ("localhost".to_owned(), program.at("console").port()),
        ("127.0.0.1".to_owned(), socks),
        ("127.3.4.5".to_owned(), socks),
        ("127.0.0.1".to_owned(), service.local_addr().unwrap().port()),
        ("127.3.4.5".to_owned(), service.local_addr().unwrap().port()),
    ];
    denied.extend(own_address().map(|ip| (ip.to_string(), socks)));
    for (host, port) in &denied {
        let answer = ask(host, *port);
        if host == "localhost" && answer.starts_with("HTTP/1.1 502 ") {
            // The listener is at 127.0.0.1; what the name stands for besides is not ours, and nobody.
            continue;
        }
        assert!(answer.starts_with("HTTP/1.1 403 "), "{host}:{port}: {answer}");
        assert!(answer.contains("of this proxy"), "{host}:{port}: {answer}");
    }
    service.set_nonblocking(true).unwrap();
    assert!(service.accept().is_err(), "the ICAP service has a visitor");
}

#[test]
fn an_sni_listener_does_not_connect_to_itself() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let program = Program::start(&format!(
        "[[listen]]\naddress = \"127.0.0.1:{port}\"\nkind = \"sni\"\nport = {port}\n"
    ));
    let mut stream = connect(program.at("sni"));
    stream.write_all(&hello("localhost")).unwrap();
    // Our own handshake, for a page that says why.
    assert_eq!(first(&mut stream).first(), Some(&22));
    let metrics = program.console("/metrics");
    assert!(metrics.contains("meergate_accepted_total{listener=\"sni\"} 1\n"), "{metrics}");
}

#[test]
fn rules_on_addresses_see_what_names_stand_for() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let program = Program::start(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"socks5\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"sni\"\n\
         [[rule]]\nname = \"near\"\naddress = [\"127.0.0.0/8\", \"::1\"]\naction = \"block\"\n\
         [[rule]]\naction = \"bypass\"\n",
    );
    for host in ["127.0.0.1", "localhost", "a.localhost", "[::ffff:127.0.0.1]", "[::1]"] {
        for (way, answer) in ways(&program, host, origin.address.port()) {
            let answer = text(&answer);
            let plain = answer.starts_with("HTTP/");
            assert!(!plain || answer.starts_with("HTTP/1.1 403 "), "{host} by {way}: {answer}");
        }
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn one_host_in_two_spellings_is_one_host_to_rules() {
    let program = Program::start(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[rule]]\nname = \"this host\"\nhost = [\"192.0.2.7\"]\naction = \"block\"\n",
    );
    for host in ["192.0.2.7", "[::ffff:192.0.2.7]", "[::FFFF:C000:207]"] {
        let mut stream = connect(program.at("proxy"));
        write!(stream, "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let answer = text(&read_to_end(&mut stream));
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("this host"), "{answer}");
    }
}

#[test]
fn tunnels_lead_to_the_ports_that_are_set() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let port = origin.address.port();
    let start = |ports: &str| {
        Program::start(&format!(
            "destinations.allow = [\"127.0.0.0/8\"]\n{ports}\n[[listen]]\naddress = \"127.0.0.1:0\"\n"
        ))
    };
    let ask = |program: &Program| {
        let mut stream = connect(program.at("proxy"));
        let at = origin.address;
        write!(stream, "CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n").unwrap();
        text(&first(&mut stream))
    };
    let answer = ask(&start(""));
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("destinations.connect_ports"), "{answer}");
    let answer = ask(&start(&format!("destinations.connect_ports = [443, \"{port}-{port}\"]")));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn where_the_operator_leads_is_no_clients_choice() {
    let canary = Canary::start();
    let program = Program::start(&format!(
        "destinations.allow = []\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"target\"\ntarget = \"127.0.0.1:{0}\"\n\
         [[upstream_proxy]]\nname = \"parent\"\nurl = \"http://127.0.0.1:{0}\"\n\
         [[rule]]\nhost = [\"far.example\", \"127.0.0.9\", \"localhost\"]\nupstream_proxy = \"parent\"\n",
        canary.port
    ));
    let ask = |at: SocketAddr, target: &str, host: &str| {
        let mut stream = connect(at);
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
            .unwrap();
        text(&read_to_end(&mut stream))
    };
    assert!(ask(program.at("target"), "/", "a.example").ends_with("canary"));
    let proxy = program.at("proxy");
    assert!(ask(proxy, "http://far.example/", "far.example").ends_with("canary"));
    assert_eq!(canary.visits(), 2);
    for host in ["127.0.0.9", "localhost"] {
        let answer = ask(proxy, &format!("http://{host}/"), host);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
}
