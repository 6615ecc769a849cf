//! Real sockets: listeners, the limit on connections, replies that survive a close, and moving
//! between threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use bytes::BytesMut;
use common::{RES, local, reqmod, respmod};
use icap::IsTag;
use icap_server::{
    Config, ConnectionLimit, Echo, Listener, Options, Outcome, Peer, Router, Service, Shutdown,
    TransactError, Transaction, refuse_overloaded, serve_connection,
};

#[test]
fn tcp_and_unix_sockets_are_served_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("icap.sock");
    for address in ["127.0.0.1:0".to_owned(), "[::1]:0".into(), format!("unix:{}", path.display())]
    {
        local(async {
            let listener = match Listener::bind(&address).await {
                Err(_) if address.starts_with("[::1]") => {
                    println!("skipped: no IPv6 on this machine");
                    return;
                }
                listener => listener.unwrap(),
            };
            let local = listener.local().unwrap();
            let client = thread::spawn(move || {
                let text = reqmod("/echo", "Connection: close\r\n");
                let mut reply = String::new();
                if let Some(path) = local.strip_prefix("unix:") {
                    let mut io = std::os::unix::net::UnixStream::connect(path).unwrap();
                    io.write_all(text.as_bytes()).unwrap();
                    io.read_to_string(&mut reply).unwrap();
                } else {
                    let mut io = TcpStream::connect(local).unwrap();
                    io.write_all(text.as_bytes()).unwrap();
                    io.read_to_string(&mut reply).unwrap();
                }
                reply
            });
            let (stream, peer) = listener.accept().await.unwrap();
            assert_eq!(peer == Peer::Unix, address.starts_with("unix:"));
            let router = Router::new().route("/echo", Echo::new());
            let (config, shutdown) = (Config::default(), Shutdown::new());
            serve_connection(stream, BytesMut::new(), peer, &router, &config, &shutdown).await;
            assert!(client.join().unwrap().starts_with("ICAP/1.0 200 OK\r\n"));
        });
    }
    assert!(!path.exists(), "the socket file is removed");
}

#[test]
fn a_stale_socket_file_is_replaced_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("icap.sock");
    let address = format!("unix:{}", path.display());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    local(async {
        let listener = Listener::bind(&address).await.unwrap();
        assert!(Listener::bind(&address).await.is_err(), "another one listens");
        drop(listener);
        std::fs::write(&path, "precious").unwrap();
        assert!(Listener::bind(&address).await.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    });
}

#[test]
fn one_connection_too_many_is_told_503() {
    let limit = ConnectionLimit::new(2);
    let first = limit.try_acquire().unwrap();
    let second = limit.clone().try_acquire().unwrap();
    assert!(limit.try_acquire().is_none());
    drop(first);
    assert!(limit.try_acquire().is_some());
    drop(second);
    assert_eq!(limit.open(), 0);

    local(async {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local().unwrap();
        let client = thread::spawn(move || {
            let mut io = TcpStream::connect(address).unwrap();
            io.write_all(b"OPTIONS icap://h/echo ICAP/1.0\r\n\r\n").unwrap();
            let mut reply = String::new();
            io.read_to_string(&mut reply).unwrap();
            reply
        });
        let (stream, _) = listener.accept().await.unwrap();
        refuse_overloaded(stream).await.unwrap();
        let reply = client.join().unwrap();
        assert!(reply.starts_with("ICAP/1.0 503 Service Overloaded\r\n"), "{reply}");
        assert!(reply.contains("Connection: close\r\n"), "{reply}");
    });
}

#[test]
fn a_last_reply_reaches_a_client_that_is_still_sending() {
    local(async {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local().unwrap();
        let client = thread::spawn(move || {
            let mut io = TcpStream::connect(address).unwrap();
            let head = respmod("").replace("/echo", "/nobody");
            io.write_all(head.as_bytes()).unwrap();
            let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
            for _ in 0..32 {
                io.write_all(&chunk).unwrap();
            }
            let mut reply = String::new();
            io.read_to_string(&mut reply).unwrap();
            reply
        });
        let (stream, peer) = listener.accept().await.unwrap();
        let router = Router::new().route("/echo", Echo::new());
        let config = Config { max_drain: 1000, ..Config::default() };
        serve_connection(stream, BytesMut::new(), peer, &router, &config, &Shutdown::new()).await;
        assert!(client.join().unwrap().starts_with("ICAP/1.0 404 "));
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

#[test]
fn a_connection_moves_between_threads_with_all_its_bytes() {
    let (address_tx, address_rx) = std::sync::mpsc::sync_channel(1);
    let server = thread::spawn(move || {
        let (mut stream, peer, mut leftover) = local(async {
            let listener = Listener::bind("127.0.0.1:0").await.unwrap();
            address_tx.send(listener.local().unwrap()).unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            (stream.detach().unwrap(), peer, BytesMut::new())
        });
        let mut place = 0;
        let mut moves = Vec::new();
        loop {
            // Each turn is a new thread with a new runtime.
            let outcome = thread::spawn(move || {
                local(async move {
                    let router = Router::new().route("/echo", Pinned(place));
                    let config = Config::default();
                    let stream = stream.attach().unwrap();
                    let shutdown = Shutdown::new();
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
    let mut io = TcpStream::connect(address_rx.recv().unwrap()).unwrap();
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let requests = reqmod("/echo", "X-Worker: 0\r\n")
        + &respmod("X-Worker: 7\r\nX-Folded: a,\r\n b\r\n")
        + body
        + &respmod("X-Worker: 7\r\n")
        + body
        + &reqmod("/echo", "X-Worker: 3\r\nConnection: close\r\n");
    io.write_all(requests.as_bytes()).unwrap();
    let mut reply = String::new();
    io.read_to_string(&mut reply).unwrap();
    assert_eq!(reply.matches("ICAP/1.0 200 OK").count(), 4, "{reply}");
    assert_eq!(reply.matches(&format!("{RES}{body}")).count(), 2, "{reply}");
    let tags: Vec<_> = reply.matches("ISTag: \"pinned-0000000000000007\"").collect();
    assert_eq!(tags.len(), 2);
    assert_eq!(server.join().unwrap(), [7, 3]);
}
