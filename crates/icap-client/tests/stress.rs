//! Ten thousand transactions from 64 client connections over small pools, while endpoints are
//! killed and come back.
//!
//! A transaction whose connection dies unanswered is sent once more, on a new connection; one that
//! is hit twice fails closed (`a_connection_lost_with_the_request_is_tried_again_once` in
//! `pool.rs`). Here the next endpoint is killed only when all that the last kill can have hit is
//! done, and somebody serves in its place: so not one transaction may fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use common::*;
use icap_client::{Adapted, Balance, Chain, ServiceConfig, Span, TransactionInfo};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;

const TRANSACTIONS: usize = 10_000;
const CLIENTS: usize = 64;
const POOL: u32 = 8;

/// What became of each transaction.
#[derive(Default)]
struct Ledger {
    /// How often a service has answered it.
    answered: HashMap<usize, u32>,
    /// Those that are not done.
    under_way: HashSet<usize>,
    /// Those that were under way when an endpoint was killed.
    hit: HashSet<usize>,
}

type Shared = Arc<Mutex<Ledger>>;

/// Answers with the body, marked; every third is passed, and every body must say whose it is.
async fn serve_one(mut peer: Peer, ledger: Shared, served: Arc<AtomicUsize>) {
    while let Some(request) = peer.after_options(OPTIONS_204).await {
        let id = request.header("X-Transaction-Id").unwrap();
        assert!(request.body.starts_with(format!("{id};").as_bytes()), "bodies mixed up");
        *ledger.lock().unwrap().answered.entry(id[1..].parse().unwrap()).or_default() += 1;
        if id.ends_with(['0', '3', '6', '9']) {
            peer.send(PASS).await;
        } else {
            let head = std::str::from_utf8(&request.req_hdr).unwrap();
            let body = [b"marked;", &request.body[..]].concat();
            peer.send(reply("req", head, Some(&body))).await;
        }
        served.fetch_add(1, Ordering::SeqCst);
    }
}

/// An endpoint that can be killed with all its connections, and started again at its address.
struct Endpoint {
    addr: SocketAddr,
    served: Arc<AtomicUsize>,
    kill: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

fn listen(addr: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(addr).unwrap();
    socket.listen(1024).unwrap()
}

impl Endpoint {
    fn start(addr: SocketAddr, ledger: Shared) -> Self {
        let listener = listen(addr);
        let addr = listener.local_addr().unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let counter = served.clone();
        let (kill, mut killed) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        let peer = Peer { stream, buf: BytesMut::new(), number: 0 };
                        connections.spawn(serve_one(peer, ledger.clone(), counter.clone()));
                    }
                    Some(done) = connections.join_next() => done.expect("no panic in the service"),
                    _ = &mut killed => break,
                }
            }
            drop(listener);
            connections.shutdown().await;
        });
        Self { addr, served, kill, task }
    }

    /// Returns when all its sockets are closed.
    async fn kill(self) -> SocketAddr {
        self.kill.send(()).unwrap();
        self.task.await.unwrap();
        self.addr
    }
}

async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect(what);
}

/// Kills one endpoint after the other until `over`; how many times.
async fn kill_and_revive(
    mut endpoints: Vec<Endpoint>,
    ledger: Shared,
    over: Arc<AtomicBool>,
) -> usize {
    let mut kills = 0;
    while !over.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let addr = endpoints.remove(0).kill().await;
        kills += 1;
        let hit = {
            let mut ledger = ledger.lock().unwrap();
            let hit = ledger.under_way.clone();
            ledger.hit.extend(&hit);
            hit
        };
        tokio::time::sleep(Duration::from_millis(30)).await;
        let revived = Endpoint::start(addr, ledger.clone());
        wait_until("the revived endpoint's turn", || {
            over.load(Ordering::SeqCst)
                || revived.served.load(Ordering::SeqCst) > 0
                    && ledger.lock().unwrap().under_way.is_disjoint(&hit)
        })
        .await;
        endpoints.push(revived);
    }
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_transactions_while_endpoints_come_and_go() {
    let ledger = Shared::default();
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoints: Vec<_> = (0..3).map(|_| Endpoint::start(any, ledger.clone())).collect();
    let mut config = ServiceConfig::new("svc", "");
    config.url = endpoints.iter().map(|e| format!("icap://{}/svc", e.addr)).collect();
    config.max_connections = Some(POOL);
    config.balance = Balance::LeastOutstanding;
    config.timeouts.wait = Span(PATIENCE);
    config.health.delay = Span(Duration::from_millis(20));
    config.health.max_delay = Span(Duration::from_millis(100));
    config.health.interval = Span(Duration::from_millis(20));
    config.health.revival = Span(Duration::from_millis(100));
    let chain = Chain::from_services(&[config]).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn(kill_and_revive(endpoints, ledger.clone(), over.clone()));

    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (chain, next, ledger) = (chain.clone(), next.clone(), ledger.clone());
        clients.spawn(async move {
            let mut done = 0;
            loop {
                let id = next.fetch_add(1, Ordering::SeqCst);
                if id >= TRANSACTIONS {
                    return done;
                }
                ledger.lock().unwrap().under_way.insert(id);
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
                    Err(failure) => panic!("lost: {id}: {failure}"),
                }
                ledger.lock().unwrap().under_way.remove(&id);
            }
        });
    }
    let mut done = 0;
    while let Some(result) = clients.join_next().await {
        done += result.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    let kills = killer.await.unwrap();
    let metrics = chain.services().next().unwrap().metrics();
    let retries = metrics.retries.value();
    eprintln!("{done} done, {retries} tried again, {kills} kills");
    assert_eq!(done, TRANSACTIONS, "none lost");
    assert_eq!(metrics.active.value(), 0);
    assert!(kills > 0);
    // A service may have answered what it could no longer send: that is the one reason for which
    // a transaction is seen twice, and each time it was tried again.
    let ledger = ledger.lock().unwrap();
    assert_eq!(ledger.answered.len(), TRANSACTIONS, "each has been seen");
    let mut again = 0;
    for (id, times) in &ledger.answered {
        assert!(*times == 1 || (*times == 2 && ledger.hit.contains(id)), "{id}: {times} times");
        again += u64::from(times - 1);
    }
    assert!(again <= retries, "{again} seen twice, {retries} tried again");
}
