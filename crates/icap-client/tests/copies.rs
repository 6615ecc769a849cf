//! Memory for copies of bodies: each client has its share, nobody waits for it, and all comes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::*;
use icap_client::{
    Adapted, Body, Chain, Copies, Fail, FailPolicy, FailureKind, Frame, Full, ServiceConfig, Size,
    TransactionInfo, next_frame,
};
use shares::{Ledger, Limit};
use tokio::sync::{Semaphore, mpsc};

const BODY: usize = 10_000;

struct Memory(Copies);

impl Memory {
    fn of(bytes: u64) -> Self {
        Self(Copies { ledger: Ledger::new(), limit: Limit::of(bytes) })
    }

    fn taken(&self) -> u64 {
        self.0.ledger.taken()
    }

    /// A transaction of the client with this address.
    fn info(&self, client: u8) -> TransactionInfo {
        let client = Some(SocketAddr::from(([192, 0, 2, client], 1)));
        TransactionInfo { client, copies: Some(self.0.clone()), ..info() }
    }
}

/// 204 where it is allowed, else the message.
async fn passing(options: &'static str) -> Server {
    serve_requests(options, |mut peer, request| async move {
        peer.send(pass(&request)).await;
        Some(peer)
    })
    .await
}

/// A request's body on its way on, and whether the service sent it back.
async fn send(chain: &Chain, info: &TransactionInfo, body: Option<Body>) -> (Body, bool) {
    let outcome = tokio::time::timeout(PATIENCE, chain.reqmod(info, post(BODY), body)).await;
    match outcome.expect("an outcome in time").expect("no failure") {
        Adapted::Forward { body, changed, .. } => (body.expect("a body"), changed),
        Adapted::Respond { .. } => panic!("no response was sent"),
    }
}

fn refused(chain: &Chain) -> u64 {
    chain.services().map(|service| service.metrics().copies_refused.value()).sum()
}

#[tokio::test]
async fn one_client_leaves_memory_for_the_copies_of_others() {
    let server = passing(OPTIONS_204).await;
    let (chain, memory) = (chain(&server), Memory::of(100_000));
    let body = noise(BODY);
    let mut held = Vec::new();
    for n in 0..12 {
        let (rest, changed) = send(&chain, &memory.info(1), full(&body)).await;
        assert_eq!(changed, n >= 5, "half of it, and the message back where there is no more");
        held.push(rest);
    }
    assert_eq!((memory.taken(), refused(&chain)), (50_000, 7));
    for n in 0..4 {
        let (rest, changed) = send(&chain, &memory.info(2), full(&body)).await;
        assert_eq!(changed, n >= 2, "another client has its share");
        held.push(rest);
    }
    assert_eq!(memory.taken(), 70_000);
    for rest in held {
        assert!(collect(Some(rest)).await.unwrap().0 == body, "nothing is lost");
    }
    assert_eq!((memory.taken(), memory.0.ledger.clients()), (0, 0));
    assert!(!send(&chain, &memory.info(1), full(&body)).await.1);
    assert_eq!(memory.taken(), 0, "a body that is dropped gives back its memory, too");
}

#[tokio::test]
async fn without_memory_a_preview_is_short_and_may_be_passed_all_the_same() {
    let options = "Methods: REQMOD\r\nISTag: \"t\"\r\nAllow: 204, 206\r\nPreview: 8000\r\n\
                   Transfer-Preview: *\r\n";
    let (told, mut sent) = mpsc::channel(1);
    let server = serve_requests(options, move |mut peer, mut request| {
        let told = told.clone();
        async move {
            // Every other one is wanted wholly.
            if request.uri.ends_with("whole") {
                peer.go_on(&mut request).await;
                peer.send(pass(&request)).await;
            } else {
                peer.send(PASS).await;
            }
            told.send(request).await.unwrap();
            Some(peer)
        }
    })
    .await;
    let memory = Memory::of(BODY as u64 - 1);
    let body = noise(BODY);
    for wanted in ["svc", "whole"] {
        let url = format!("icap://{}/{wanted}", server.addr);
        let chain = Chain::from_urls(&[url]).unwrap();
        let chunks = body.chunks(1000).map(bytes::Bytes::copy_from_slice);
        let source = Full::new(chunks, None).boxed();
        let (rest, changed) = send(&chain, &memory.info(1), Some(source)).await;
        assert!(collect(Some(rest)).await.unwrap().0 == body);
        assert_eq!(changed, wanted == "whole");
        let sent = sent.recv().await.unwrap();
        assert_eq!((sent.preview, sent.header("Allow")), (Some(4096), None));
        assert_eq!((refused(&chain), memory.taken()), (1, 0));
    }
}

#[tokio::test]
async fn memory_comes_back_as_a_copy_goes_on() {
    let server = passing(OPTIONS_204).await;
    let (chain, memory) = (chain(&server), Memory::of(100_000));
    let body = noise(BODY);
    let source = Full::new([body[..5500].to_vec().into(), body[5500..].to_vec().into()], None);
    let (mut rest, _) = send(&chain, &memory.info(1), Some(source.boxed())).await;
    assert_eq!(memory.taken(), 10_000);
    let first = next_frame(&mut rest).await.unwrap().unwrap();
    assert!(matches!(first, Frame::Data(data) if data.len() == 5500));
    assert_eq!(memory.taken(), 4500);
    drop(rest);
    assert_eq!(memory.taken(), 0);
}

#[tokio::test]
async fn a_copy_that_is_given_up_gives_back_its_memory_while_the_message_goes_on() {
    let (read, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (reading, waiting) = (read.clone(), go_on.clone());
    let server = serve(move |mut peer| {
        let (reading, waiting) = (reading.clone(), waiting.clone());
        async move {
            let options = peer.request().await.unwrap();
            assert_eq!(options.method, Some(icap::Method::Options));
            peer.send(options_reply(OPTIONS_204)).await;
            let mut request = peer.head().await.unwrap();
            while request.body.len() < BODY {
                assert_eq!(peer.piece(&mut request).await, Some(true));
            }
            reading.add_permits(1);
            waiting.acquire().await.unwrap().forget();
            assert!(peer.body(&mut request).await);
            peer.send(echo(&request)).await;
        }
    })
    .await;
    let mut config = config(&server);
    config.keep_copy = Size(BODY as u64 / 2);
    let chain = Chain::from_services(&[config]).unwrap();
    let memory = Memory::of(100_000);
    let (frames, source) = channel();
    let info = memory.info(1);
    let task = tokio::spawn(async move {
        let (rest, changed) = send(&chain, &info, source).await;
        assert!(changed);
        collect(Some(rest)).await.unwrap().0
    });
    let body = noise(BODY);
    for piece in body.chunks(1000) {
        frames.send(data(piece)).await.unwrap();
    }
    tokio::time::timeout(PATIENCE, read.acquire()).await.unwrap().unwrap().forget();
    assert_eq!(memory.taken(), 0, "it has outgrown keep_copy");
    go_on.add_permits(1);
    drop(frames);
    assert!(task.await.unwrap() == body);
}

#[tokio::test]
async fn services_in_series_share_one_copy() {
    // The first sees all of it, the second a preview.
    let (first, second) = (passing(OPTIONS_204).await, passing(OPTIONS_PREVIEW).await);
    let services: Vec<_> = [("first", &first), ("second", &second)]
        .map(|(name, server)| ServiceConfig::new(name, server.url()))
        .into();
    let chain = Chain::from_services(&services).unwrap();
    let memory = Memory::of(20_000);
    let body = noise(BODY);
    let (rest, changed) = send(&chain, &memory.info(1), full(&body)).await;
    assert_eq!((changed, refused(&chain)), (false, 0));
    assert_eq!(memory.taken(), 10_000, "what has not been sent again is held as well");
    assert!(collect(Some(rest)).await.unwrap().0 == body);
    assert_eq!(memory.taken(), 0);
}

#[tokio::test]
async fn a_message_without_a_copy_goes_over_no_connection_that_may_be_stale() {
    let server = serve(|mut peer| async move {
        let Some(request) = peer.after_options(OPTIONS_204).await else { return };
        peer.send(pass(&request)).await;
        // Kept, and closed when it is used again.
        peer.head().await;
    })
    .await;
    let (chain, memory) = (chain(&server), Memory::of(0));
    let body = noise(BODY);
    for _ in 0..3 {
        let (rest, changed) = send(&chain, &memory.info(1), full(&body)).await;
        assert!(collect(Some(rest)).await.unwrap().0 == body);
        assert!(changed);
    }
    assert_eq!(refused(&chain), 3);
}

#[tokio::test]
async fn a_message_without_a_copy_fails_closed() {
    let server = serve(|mut peer| async move {
        peer.after_options(OPTIONS_204).await;
    })
    .await;
    let mut config = config(&server);
    config.fail = FailPolicy::all(Fail::Open);
    let chain = Chain::from_services(&[config]).unwrap();
    let memory = Memory::of(0);
    let outcome = chain.reqmod(&memory.info(1), post(BODY), full(&noise(BODY))).await;
    assert_eq!(outcome.err().map(|failure| failure.kind()), Some(FailureKind::Closed));
}
