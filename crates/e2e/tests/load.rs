//! Two thousand idle and two hundred busy connections, all intercepted and inspected, in no more
//! memory than docs/settings.md says.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use e2e::{Gateway, Inspected, Origin, content, process};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const IDLE: usize = 2000;
const BUSY: usize = 200;
const ROUNDS: usize = 5;
const SIZE: usize = 50_000;

/// What docs/settings.md states, in KiB.
const BOUND: usize = 320 << 10;

struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    origin: String,
}

impl Client {
    /// Opens a tunnel through the gateway and TLS inside it.
    fn connect(gateway: &Gateway, config: &Arc<ClientConfig>, port: u16) -> Self {
        let origin = format!("localhost:{port}");
        let mut tcp = TcpStream::connect(gateway.proxy()).unwrap();
        tcp.set_read_timeout(Some(process::DEADLINE)).unwrap();
        write!(tcp, "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        let name = "localhost".try_into().unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        Self { stream: StreamOwned::new(session, tcp), origin }
    }

    /// One request, whose answer must be right.
    fn ask(&mut self) {
        write!(self.stream, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.origin).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        let mut body = vec![0; SIZE];
        self.stream.read_exact(&mut body).unwrap();
        assert!(body == content::noise(5, SIZE));
    }
}

/// A line of `/proc/PID/status` in KiB.
fn memory(gateway: &Gateway, name: &str) -> usize {
    let path = format!("/proc/{}/status", gateway.process.pid());
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap()
}

#[test]
fn many_connections_fit_into_the_memory_that_the_documentation_states() {
    let most = getrlimit(Resource::Nofile).maximum;
    assert!(most.is_none_or(|most| most >= 8192), "too few open files are allowed: ulimit -Hn");
    setrlimit(Resource::Nofile, Rlimit { current: most.or(Some(65_536)), maximum: most }).unwrap();

    let inspected = Inspected::start();
    let body = content::noise(5, SIZE);
    let origin = Origin::https(&inspected.identity(), move |_, wire| {
        wire.ok("application/octet-stream", &body)
    });
    let port = origin.addr().port();
    let gateway = inspected.proxy();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gateway.authority()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let empty = memory(&gateway, "VmRSS");

    let connect = || Client::connect(&gateway, &config, port);
    let mut idle: Vec<Client> = thread::scope(|scope| {
        let some = || {
            (0..IDLE / 8).map(|_| {
                let mut client = connect();
                client.ask();
                client
            })
        };
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(move || some().collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let with_idle = memory(&gateway, "VmRSS");
    thread::scope(|scope| {
        for _ in 0..BUSY {
            scope.spawn(|| {
                let mut client = connect();
                (0..ROUNDS).for_each(|_| client.ask());
            });
        }
    });
    let most = memory(&gateway, "VmHWM");
    println!(
        "{empty} KiB empty, {with_idle} with {IDLE} idle ones, at most {most} with {BUSY} busy ones"
    );
    // The idle ones are there all the while.
    for client in idle.iter_mut().step_by(100) {
        client.ask();
    }
    assert!(most < BOUND, "{most} KiB");
}
