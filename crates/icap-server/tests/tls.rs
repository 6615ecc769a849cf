//! ICAP inside TLS, over real sockets.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::BytesMut;
use common::{in_no_time, local, reqmod, respmod};
use icap::IsTag;
use icap_server::{
    Config, Echo, Listener, Options, Outcome, Router, Service, Shutdown, Tls, TlsIdentity,
    TransactError, Transaction, serve_connection,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn identity(&self, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

fn server(authority: &Authority, clients: Option<&Authority>) -> Tls {
    let Identity { certificate, key } = authority.identity(ExtendedKeyUsagePurpose::ServerAuth);
    let clients = clients.map(|authority| authority.0.pem());
    let identity = TlsIdentity {
        certificates: certificate.as_bytes(),
        key: key.as_bytes(),
        client_authorities: clients.as_deref().map(str::as_bytes),
    };
    Tls::new(Arc::new(rustls_graviola::default_provider()), &identity).unwrap()
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: &str, trusted: &Authority, own: Option<&Identity>) -> Connection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.0.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls_graviola::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some(Identity { certificate, key }) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, TcpStream::connect(address).unwrap())
}

/// Sends all of it from a thread of its own, and reads to the end.
fn exchange(mut connection: Connection, requests: Vec<u8>) -> JoinHandle<std::io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut reply = Vec::new();
        connection.write_all(&requests)?;
        connection.read_to_end(&mut reply)?;
        Ok(reply)
    })
}

/// Serves one connection on this thread.
async fn serve(listener: &Listener) {
    let (stream, peer) = listener.accept().await.unwrap();
    let router = Router::new().route("/echo", Echo::new());
    let (config, shutdown) = (Config::default(), Shutdown::new());
    serve_connection(stream, BytesMut::new(), peer, &router, &config, &shutdown).await;
}

#[test]
fn a_connection_inside_tls_is_served_as_any_other() {
    let authority = Authority::new();
    local(async {
        let listener = Listener::bind_tls("127.0.0.1:0", server(&authority, None)).await.unwrap();
        let body: Vec<u8> = (0..40_000u32).flat_map(u32::to_le_bytes).collect();
        let requests = [
            respmod("").as_bytes(),
            format!("{:x}\r\n", body.len()).as_bytes(),
            &body,
            b"\r\n0\r\n\r\n",
            reqmod("/echo", "Connection: close\r\n").as_bytes(),
        ]
        .concat();
        let client = connect(&listener.local().unwrap(), &authority, None);
        let client = exchange(client, requests);
        serve(&listener).await;
        let reply = client.join().unwrap().unwrap();
        let heads = reply.windows(12).filter(|w| w == b"ICAP/1.0 200").count();
        assert_eq!(heads, 2);
        assert_eq!(unchunked(&reply), body);
    });
}

/// The first chunked body in `reply`.
fn unchunked(reply: &[u8]) -> Vec<u8> {
    let find = |from: usize, what: &[u8]| {
        from + reply[from..].windows(what.len()).position(|w| w == what).unwrap()
    };
    // ICAP head, request or response head.
    let mut at = find(find(0, b"\r\n\r\n") + 4, b"\r\n\r\n") + 4;
    let mut body = Vec::new();
    loop {
        let end = find(at, b"\r\n");
        let size = std::str::from_utf8(&reply[at..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&reply[end + 2..end + 2 + size]);
        at = end + 2 + size + 2;
    }
}

#[test]
fn clients_are_let_in_by_their_certificates() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let usage = || ExtendedKeyUsagePurpose::ClientAuth;
    local(async {
        let tls = server(&authority, Some(&clients));
        let listener = Listener::bind_tls("127.0.0.1:0", tls).await.unwrap();
        let address = listener.local().unwrap();
        let request = || reqmod("/echo", "Connection: close\r\n").into_bytes();
        let known = clients.identity(usage());
        let client = exchange(connect(&address, &authority, Some(&known)), request());
        serve(&listener).await;
        assert!(client.join().unwrap().unwrap().starts_with(b"ICAP/1.0 200 OK\r\n"));
        for (who, own) in [
            ("without a certificate", None),
            ("of another authority", Some(authority.identity(usage()))),
            ("for servers", Some(clients.identity(ExtendedKeyUsagePurpose::ServerAuth))),
        ] {
            let client = exchange(connect(&address, &authority, own.as_ref()), request());
            serve(&listener).await;
            let error = client.join().unwrap().expect_err(who);
            assert!(error.to_string().contains("alert"), "{who}: {error}");
        }
    });
}

#[test]
fn a_client_that_speaks_no_tls_gets_nothing() {
    let authority = Authority::new();
    local(async {
        let listener = Listener::bind_tls("127.0.0.1:0", server(&authority, None)).await.unwrap();
        let address = listener.local().unwrap();
        let client = thread::spawn(move || {
            let mut io = TcpStream::connect(address).unwrap();
            io.write_all(reqmod("/echo", "").as_bytes()).unwrap();
            let mut reply = Vec::new();
            match io.read_to_end(&mut reply) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                Ok(_) => assert!(!reply.windows(4).any(|w| w == b"ICAP"), "{reply:?}"),
            }
        });
        serve(&listener).await;
        client.join().unwrap();
    });
}

#[test]
fn a_handshake_that_does_not_go_on_has_an_end() {
    let authority = Authority::new();
    in_no_time(async {
        let listener = Listener::bind_tls("127.0.0.1:0", server(&authority, None)).await.unwrap();
        let mut io = TcpStream::connect(listener.local().unwrap()).unwrap();
        io.write_all(b"\x16\x03\x01").unwrap();
        let began = tokio::time::Instant::now();
        serve(&listener).await;
        assert!(began.elapsed() < Config::default().idle_timeout);
    });
}

/// Runs on the worker that `X-Worker` names.
struct Pinned(usize);

impl Service for Pinned {
    fn istag(&self) -> IsTag {
        IsTag::from_state("pinned", self.0 as u64)
    }

    fn options(&self) -> Options {
        Options::default()
    }

    async fn transact(&self, transaction: &mut Transaction<'_>) -> Result<(), TransactError> {
        let worker = transaction.head().headers().text("X-Worker").map(|worker| worker.parse());
        if let Some(Ok(worker)) = worker
            && worker != self.0
        {
            return Err(TransactError::Elsewhere(worker));
        }
        Echo::new().transact(transaction).await
    }
}

/// Before its handshake, and between transactions of which the next ones are decrypted already.
#[test]
fn a_connection_inside_tls_moves_between_threads() {
    let authority = Authority::new();
    let tls = server(&authority, None);
    let (address_tx, address_rx) = std::sync::mpsc::sync_channel(1);
    let server = thread::spawn(move || {
        let (mut stream, peer) = local(async {
            let listener = Listener::bind_tls("127.0.0.1:0", tls).await.unwrap();
            address_tx.send(listener.local().unwrap()).unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            (stream.detach().unwrap(), peer)
        });
        let (mut place, mut leftover, mut moves) = (0, BytesMut::new(), Vec::new());
        loop {
            let outcome = thread::spawn(move || {
                local(async move {
                    let router = Router::new().route("/echo", Pinned(place));
                    let (config, shutdown) = (Config::default(), Shutdown::new());
                    let stream = stream.attach().unwrap();
                    match serve_connection(stream, leftover, peer, &router, &config, &shutdown)
                        .await
                    {
                        Outcome::Closed => None,
                        Outcome::Migrate { io, leftover, worker } => {
                            Some((io.detach().unwrap(), leftover, worker))
                        }
                    }
                })
            });
            match outcome.join().unwrap() {
                Some((io, rest, worker)) => {
                    (stream, leftover, place) = (io, rest, worker);
                    moves.push(worker);
                }
                None => return moves,
            }
        }
    });
    let client = connect(&address_rx.recv().unwrap(), &authority, None);
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let mut requests = String::new();
    for worker in [0, 7, 7, 3, 1] {
        requests += &(respmod(&format!("X-Worker: {worker}\r\n")) + body);
    }
    requests += &reqmod("/echo", "X-Worker: 2\r\nConnection: close\r\n");
    let reply = exchange(client, requests.into_bytes()).join().unwrap().unwrap();
    let reply = String::from_utf8(reply).unwrap();
    assert_eq!(reply.matches("ICAP/1.0 200 OK").count(), 6, "{reply}");
    assert_eq!(reply.matches(body).count(), 5, "{reply}");
    assert_eq!(server.join().unwrap(), [7, 3, 1, 2]);
}

#[test]
fn an_identity_that_can_not_work_is_refused_in_words() {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.identity(ExtendedKeyUsagePurpose::ServerAuth);
    let other = authority.identity(ExtendedKeyUsagePurpose::ServerAuth);
    for (certificates, key, client_authorities, word) in [
        ("", key.as_str(), None, "certificate"),
        (certificate.as_str(), "", None, "key"),
        (&certificate, &other.key, None, "certificate and its key"),
        (&certificate, &key, Some(""), "clients"),
    ] {
        let identity = TlsIdentity {
            certificates: certificates.as_bytes(),
            key: key.as_bytes(),
            client_authorities: client_authorities.map(str::as_bytes),
        };
        let provider = Arc::new(rustls_graviola::default_provider());
        let error = Tls::new(provider, &identity).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    }
}
