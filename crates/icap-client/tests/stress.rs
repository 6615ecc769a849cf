//! Ten thousand transactions from 64 client connections over small pools, while endpoints are
//! killed and come back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use common::*;
use icap_client::{Adapted, Balance, Chain, FailureKind, Seconds, ServiceConfig, TransactionInfo};
use tokio::net::{TcpListener, TcpSocket};

const TRANSACTIONS: usize = 10_000;
const CLIENTS: usize = 64;
const POOL: u32 = 8;

/// Answers with the body, marked; every third is passed, and every body must say whose it is.
async fn serve_one(mut peer: Peer, answered: Arc<AtomicUsize>) {
    while let Some(request) = peer.after_options(OPTIONS_204).await {
        let id = request.header("X-Transaction-Id").unwrap();
        assert!(request.body.starts_with(format!("{id};").as_bytes()), "bodies mixed up");
        answered.fetch_add(1, Ordering::SeqCst);
        if id.ends_with(['0', '3', '6', '9']) {
            peer.send(PASS).await;
        } else {
            let head = std::str::from_utf8(&request.req_hdr).unwrap();
            let body = [b"marked;", &request.body[..]].concat();
            peer.send(reply("req", head, Some(&body))).await;
        }
    }
}

/// An endpoint that can be killed with all its connections, and started again at its address.
struct Endpoint {
    addr: SocketAddr,
    answered: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

fn listen(addr: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(addr).unwrap();
    socket.listen(1024).unwrap()
}

impl Endpoint {
    fn start(addr: SocketAddr, answered: Arc<AtomicUsize>) -> Self {
        let listener = listen(addr);
        let addr = listener.local_addr().unwrap();
        let counter = answered.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        let peer = Peer { stream, buf: BytesMut::new(), number: 0 };
                        connections.spawn(serve_one(peer, counter.clone()));
                    }
                    Some(done) = connections.join_next() => done.expect("no panic in the service"),
                }
            }
        });
        Self { addr, answered, task }
    }

    async fn kill(self) -> (SocketAddr, Arc<AtomicUsize>) {
        self.task.abort();
        // Its sockets are closed once it is gone.
        let _ = self.task.await;
        (self.addr, self.answered)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_transactions_while_endpoints_come_and_go() {
    let answered = Arc::new(AtomicUsize::new(0));
    let any = "127.0.0.1:0".parse().unwrap();
    let mut endpoints: Vec<_> = (0..3).map(|_| Endpoint::start(any, answered.clone())).collect();
    let mut config = ServiceConfig::new("svc", "");
    config.url = endpoints.iter().map(|e| format!("icap://{}/svc", e.addr)).collect();
    config.max_connections = Some(POOL);
    config.balance = Balance::LeastOutstanding;
    config.timeouts.wait = Seconds(PATIENCE);
    config.health.delay = Seconds(Duration::from_millis(20));
    config.health.interval = Seconds(Duration::from_millis(20));
    let chain = Chain::from_services(&[config]).unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let stop = over.clone();
    let killer = tokio::spawn(async move {
        let mut turn = 0;
        while !stop.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let (addr, answered) = endpoints.remove(0).kill().await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            endpoints.push(Endpoint::start(addr, answered));
            turn += 1;
        }
        turn
    });

    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (chain, next) = (chain.clone(), next.clone());
        clients.spawn(async move {
            let (mut done, mut failed) = (0, 0);
            loop {
                let id = next.fetch_add(1, Ordering::SeqCst);
                if id >= TRANSACTIONS {
                    return (done, failed);
                }
                let info = TransactionInfo::new("http", format!("c{client}"), format!("t{id}"));
                let mut body = format!("t{id};").into_bytes();
                body.resize(body.len() + id % 3000, b'x');
                let outcome = chain.reqmod(&info, post(body.len()), full(&body));
                match tokio::time::timeout(PATIENCE, outcome).await.expect("none hangs") {
                    Ok(Adapted::Forward { body: got, changed, .. }) => {
                        let got = collect(got).await.expect("a small answer comes whole").0;
                        let expected = match changed {
                            true => [b"marked;", &body[..]].concat(),
                            false => body,
                        };
                        assert!(got == expected, "answers mixed up");
                        assert_eq!(changed, !(id % 10).is_multiple_of(3));
                        done += 1;
                    }
                    Ok(Adapted::Respond { .. }) => panic!("nobody answered with a response"),
                    Err(failure) => {
                        let kind = failure.kind();
                        assert!(
                            matches!(kind, FailureKind::Closed | FailureKind::Connect),
                            "{failure}"
                        );
                        failed += 1;
                    }
                }
            }
        });
    }
    let (mut done, mut failed) = (0, 0);
    while let Some(result) = clients.join_next().await {
        let (d, f) = result.unwrap();
        done += d;
        failed += f;
    }
    over.store(true, Ordering::SeqCst);
    let kills = killer.await.unwrap();
    let metrics = chain.services().next().unwrap().metrics();
    eprintln!("{done} done, {failed} failed, {} retried, {kills} kills", metrics.retries.value());
    assert_eq!(done + failed, TRANSACTIONS, "none lost");
    // Only what was hit twice in a row, or in the midst of its answer, may fail; and closed.
    assert!(failed * 100 < TRANSACTIONS, "{failed} failed");
    assert!(kills > 0);
    assert_eq!(metrics.active.value(), 0);
    let seen = answered.load(Ordering::SeqCst);
    assert!(seen as u64 <= TRANSACTIONS as u64 + metrics.retries.value(), "{seen}: duplicated");
}
