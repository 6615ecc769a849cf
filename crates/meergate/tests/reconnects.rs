//! Origins that show another certificate on a later connection of the same client connection.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use support::h2::{self, get, handler, soon};
use support::icap::{Icap, Verdict};
use support::{Gateway, PATIENCE, read_until};

/// What the origin shows on each connection after the first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Later {
    /// A valid certificate of another CA; it asks for the client's.
    Asking,
    /// One that has expired.
    Expired,
    /// One of another CA.
    Other,
    /// The same.
    Same,
}

/// The CAs "Usual" and "Other", as PEM, and an origin at `localhost` whose connections end after one
/// answer.
fn origin(later: Later) -> (String, SocketAddr) {
    let ca = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), certificate.der().clone(), Issuer::new(params, key))
    };
    let (usual, other) = (ca("Usual"), ca("Other"));
    let leaf = |issuer: &Issuer<'_, KeyPair>, expired: bool| {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, issuer).unwrap().der().clone(), key)
    };
    let config = |(leaf, key): (CertificateDer<'static>, KeyPair), asks: bool| {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap();
        let builder = match asks {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(usual.1.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .allow_unauthenticated()
                    .build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = builder.with_single_cert(vec![leaf], key).unwrap();
        // No resumption: each connection shows its certificate.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Arc::new(config)
    };
    let first = config(leaf(&usual.2, false), false);
    let later = match later {
        Later::Asking => config(leaf(&other.2, false), true),
        Later::Expired => config(leaf(&usual.2, true), false),
        Later::Other => config(leaf(&other.2, false), false),
        Later::Same => first.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, tcp) in listener.incoming().enumerate() {
            let config = if number == 0 { first.clone() } else { later.clone() };
            thread::spawn(move || {
                let tcp = tcp.unwrap();
                tcp.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    tls.read_exact(&mut byte)?;
                    head.push(byte[0]);
                }
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
                tls.conn.send_close_notify();
                tls.flush()
            });
        }
    });
    (usual.0 + &other.0, address)
}

fn gateway(cas: &str, settings: &str) -> Gateway {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("origins.pem");
    std::fs::write(&path, cas).unwrap();
    Gateway::start(&format!("[upstream]\nca = [{path:?}]\n{settings}"))
}

/// One client connection through the gateway.
struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    fn connect(gateway: &Gateway, origin: SocketAddr) -> Self {
        let mut tcp = gateway.connect();
        let port = origin.port();
        write!(tcp, "CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").unwrap();
        read_until(&mut tcp, b"\r\n\r\n");
        let ca = CertificateDer::from_pem_file(gateway.dir.path().join("state/ca.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        Self(StreamOwned::new(ClientConnection::new(config.into(), name).unwrap(), tcp))
    }

    /// The status of the answer, and whether the connection goes on; `None` if it ends without one.
    fn ask(&mut self, path: &str) -> Option<(u16, bool)> {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.split_once("content-length: ")?.1.split("\r\n").next()?.parse().ok()?;
        let mut content = vec![0; length];
        self.0.read_exact(&mut content).ok()?;
        Some((head.split(' ').nth(1)?.parse().ok()?, !head.contains("connection: close")))
    }
}

#[test]
fn rules_about_certificates_hold_for_every_connection_to_the_origin() {
    let other = "[[rule]]\nname = \"other\"\ncertificate_issuer = [\"*CN=Other*\"]\n";
    let (go_on, new_connection) = (Some((200, true)), Some((421, false)));
    for (later, rule, expected) in [
        (Later::Same, format!("{other}action = \"block\"\n"), go_on),
        (Later::Other, String::new(), go_on),
        (Later::Other, format!("{other}action = \"block\"\n"), Some((403, true))),
        (Later::Other, format!("{other}action = \"reset\"\n"), None),
        (Later::Other, format!("{other}path = [\"/b\"]\naction = \"block\"\n"), Some((403, true))),
        (Later::Other, format!("{other}path = [\"/c\"]\naction = \"block\"\n"), go_on),
        (Later::Other, format!("{other}chain = \"more\"\n"), new_connection),
        (Later::Other, format!("{other}path = [\"/b\"]\nchain = \"more\"\n"), new_connection),
        // Less would pass: it stays as it began.
        (Later::Other, format!("{other}action = \"bypass\"\n"), go_on),
        (Later::Other, format!("{other}chain = \"none\"\n"), go_on),
        (Later::Asking, format!("{other}certificate_asked = \"refuse\"\n"), Some((403, true))),
        (Later::Asking, String::new(), go_on),
        (Later::Expired, String::new(), Some((502, true))),
        (Later::Expired, "[[rule]]\ninvalid_certificate = \"mimic\"\n".into(), Some((502, true))),
        (Later::Expired, "[[rule]]\ninvalid_certificate = \"allow\"\n".into(), go_on),
    ] {
        let (cas, address) = origin(later);
        let services = [Icap::start(|_| Verdict::Pass), Icap::start(|_| Verdict::Pass)];
        let gateway = gateway(
            &cas,
            &format!(
                "[[icap.service]]\nname = \"a\"\nurl = \"icap://{}/a\"\n\
                 [[icap.service]]\nname = \"b\"\nurl = \"icap://{}/b\"\n\
                 [[icap.chain]]\nname = \"default\"\nservices = [\"a\"]\n\
                 [[icap.chain]]\nname = \"more\"\nservices = [\"a\", \"b\"]\n\
                 [[icap.chain]]\nname = \"none\"\nservices = []\n{rule}",
                services[0].address, services[1].address
            ),
        );
        let mut client = Client::connect(&gateway, address);
        assert_eq!(client.ask("/a"), go_on, "{rule}");
        assert_eq!(client.ask("/b"), expected, "{rule}");
        if expected == go_on {
            assert_eq!(services[0].asked().len(), 4, "{rule}");
        }
        if expected == new_connection {
            assert_eq!(Client::connect(&gateway, address).ask("/b"), go_on);
            assert_eq!(services[1].asked().len(), 2, "{rule}");
        }
    }
}

#[test]
fn a_tls_origin_without_a_tunnel_has_its_certificate_looked_at_too() {
    let (cas, address) = origin(Later::Same);
    let rule = "[[rule]]\ncertificate_issuer = [\"*CN=Usual*\"]\naction = \"block\"\n";
    for (rule, status) in [("", "HTTP/1.1 200 "), (rule, "HTTP/1.1 403 ")] {
        let gateway = gateway(&cas, rule);
        let to = format!("localhost:{}", address.port());
        let request =
            format!("GET https://{to}/ HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
        let answer = support::text(&gateway.ask(request.as_bytes()));
        assert!(answer.starts_with(status), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_need_another_connection_are_decided_about_again() {
    let answer = handler(|_, mut respond| async move {
        respond.send_response(http::Response::new(()), true).unwrap();
    });
    let origin = h2::Origin::start_changing(answer).await;
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, origin.later.as_ref().unwrap());
    let fingerprint: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let rule =
        format!("[[rule]]\ncertificate_fingerprint = [\"{fingerprint}\"]\naction = \"block\"\n");
    let (gateway, _dir) = h2::gateway(&origin, &rule);
    let sender = soon("a connection", h2::connect(&gateway, &origin)).await;
    let ask = async |path| soon("an answer", get(&sender, &origin, path)).await.unwrap().0;
    assert_eq!(ask("/a").await, 200);
    assert_eq!(ask("/goaway").await, 200);
    // The first connection takes no more streams, sooner or later.
    let mut status = 200;
    for _ in 0..1000 {
        status = ask("/a").await;
        if status != 200 {
            break;
        }
    }
    assert_eq!(status, 403);
}
