//! A service that misbehaves on purpose, against every policy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::time::Duration;

use common::*;
use icap_client::{Adapted, Chain, Fail, FailPolicy, FailureKind, ServiceConfig, Span};

const BODY: usize = 3000;

/// What a misbehaving service does with a request, and the failure that this must be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Misdeed {
    AcceptsAndNeverAnswers,
    AnswersOneCrlfAndStops,
    ClosesAfter100,
    ClosesInBody,
    ClosesInHead,
    ClosesInHttpHead,
    Drips,
    EndlessHead,
    Garbage,
    Refuses500,
    Refuses503,
    RefusesTheConnection,
    SecondContinue,
    Unasked206,
    WrongEncapsulated,
}

use Misdeed::*;

const ALL: [(Misdeed, FailureKind); 14] = [
    (AcceptsAndNeverAnswers, FailureKind::Timeout),
    (AnswersOneCrlfAndStops, FailureKind::Timeout),
    (ClosesAfter100, FailureKind::Closed),
    (ClosesInHead, FailureKind::Closed),
    (ClosesInHttpHead, FailureKind::Closed),
    (Drips, FailureKind::Timeout),
    (EndlessHead, FailureKind::Protocol),
    (Garbage, FailureKind::Protocol),
    (Refuses500, FailureKind::Refused),
    (Refuses503, FailureKind::Overload),
    (RefusesTheConnection, FailureKind::Connect),
    (SecondContinue, FailureKind::Protocol),
    (Unasked206, FailureKind::Protocol),
    (WrongEncapsulated, FailureKind::Protocol),
];

async fn misbehave(misdeed: Misdeed) -> Server {
    serve(move |mut peer| async move {
        let options = "Methods: REQMOD, RESPMOD\r\nISTag: \"t\"\r\nAllow: 204\r\nPreview: 100\r\nTransfer-Preview: *\r\n";
        let Some(mut request) = peer.after_options(options).await else { return };
        match misdeed {
            AcceptsAndNeverAnswers => peer.drain().await,
            AnswersOneCrlfAndStops => {
                peer.send("ICAP/1.0 400 Bad Request\r\n").await;
                peer.drain().await;
            }
            ClosesAfter100 => peer.go_on(&mut request).await,
            ClosesInBody => {
                peer.go_on(&mut request).await;
                let whole = echo(&request);
                peer.send(&whole[..whole.len() - 500]).await;
            }
            ClosesInHead => peer.send("ICAP/1.0 200 OK\r\nISTag: ").await,
            ClosesInHttpHead => {
                peer.send("ICAP/1.0 200 OK\r\nEncapsulated: req-hdr=0, null-body=50\r\n\r\nPOST /").await;
            }
            Drips => {
                for byte in b"ICAP/1.0 204 No Content\r\n".iter().cycle() {
                    peer.send([*byte]).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    if peer.stream.try_read(&mut [0; 1024]).is_ok_and(|n| n == 0) {
                        return;
                    }
                }
            }
            EndlessHead => {
                peer.send("ICAP/1.0 200 OK\r\n").await;
                for n in 0..100_000 {
                    peer.send(format!("X-{n}: {n}\r\n")).await;
                }
            }
            Garbage => {
                peer.send("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
                peer.drain().await;
            }
            Refuses500 => {
                peer.send("ICAP/1.0 500 Internal Server Error\r\n\r\n").await;
                peer.drain().await;
            }
            Refuses503 => {
                peer.send("ICAP/1.0 503 Overloaded\r\n\r\n").await;
                peer.drain().await;
            }
            RefusesTheConnection => {}
            SecondContinue => {
                peer.go_on(&mut request).await;
                peer.send("ICAP/1.0 100 Continue\r\n\r\n").await;
                peer.drain().await;
            }
            Unasked206 => {
                peer.send("ICAP/1.0 206 Partial\r\nEncapsulated: req-hdr=0, req-body=18\r\n\r\nGET / HTTP/1.1\r\n\r\n0; use-original-body=0\r\n\r\n").await;
                peer.drain().await;
            }
            WrongEncapsulated => {
                peer.send("ICAP/1.0 200 OK\r\nEncapsulated: req-hdr=0, req-body=99999999999999999999\r\n\r\n").await;
                peer.drain().await;
            }
        }
    })
    .await
}

async fn set_up(misdeed: Misdeed, fail: FailPolicy) -> (Option<Server>, Chain) {
    let server = misbehave(misdeed).await;
    let mut config = ServiceConfig::new("the-culprit", server.url());
    config.fail = fail;
    config.allow_206 = false;
    config.timeouts.answer = Span(Duration::from_millis(300));
    config.timeouts.idle = Span(Duration::from_millis(300));
    // Bound and dropped: nobody listens there now.
    let server = (misdeed != RefusesTheConnection).then_some(server);
    if server.is_none() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.url = vec![format!("icap://{}/svc", free.local_addr().unwrap())];
    }
    (server, Chain::from_services(&[config]).unwrap())
}

#[tokio::test]
async fn every_failure_is_closed_by_default() {
    for (misdeed, kind) in ALL {
        let (_server, chain) = set_up(misdeed, FailPolicy::default()).await;
        let outcome = reqmod(&chain, post(BODY), full(&noise(BODY))).await;
        let failure = outcome.err().unwrap_or_else(|| panic!("{misdeed:?} let the message on"));
        assert_eq!(failure.kind(), kind, "{misdeed:?}: {failure}");
        assert_eq!(&**failure.service(), "the-culprit", "{misdeed:?}");
        let metrics = chain.services().next().unwrap().metrics();
        assert_eq!(metrics.failures(kind).value(), 1, "{misdeed:?}");
        assert_eq!(metrics.bypassed.value(), 0, "{misdeed:?}");
        assert_eq!(metrics.active.value(), 0, "{misdeed:?}");
    }
}

#[tokio::test]
async fn every_failure_can_be_open_and_is_counted() {
    for (misdeed, kind) in ALL {
        let (_server, chain) = set_up(misdeed, FailPolicy::all(Fail::Open)).await;
        let body = noise(BODY);
        let got = forward(&chain, post(BODY), full(&body)).await;
        assert_eq!(got.body, body, "{misdeed:?}");
        assert!(!got.changed, "{misdeed:?}");
        assert_eq!(got.bypassed, 1, "{misdeed:?}");
        let metrics = chain.services().next().unwrap().metrics();
        assert_eq!(metrics.bypassed.value(), 1, "{misdeed:?}");
        assert_eq!(metrics.unadapted_bytes.value(), BODY as u64, "{misdeed:?}");
        assert_eq!(metrics.failures(kind).value(), 1, "{misdeed:?}");
    }
}

#[tokio::test]
async fn causes_are_told_apart() {
    for (misdeed, kind) in ALL {
        let mut fail = FailPolicy::all(Fail::Open);
        match kind {
            FailureKind::Connect => fail.connect = Fail::Closed,
            FailureKind::Overload => fail.overload = Fail::Closed,
            _ => fail.error = Fail::Closed,
        }
        let (_server, chain) = set_up(misdeed, fail).await;
        let outcome = reqmod(&chain, post(BODY), full(&noise(BODY))).await;
        assert!(outcome.is_err(), "{misdeed:?}");
    }
}

#[tokio::test]
async fn a_body_cut_off_is_never_a_whole_one() {
    for fail in [Fail::Closed, Fail::Open] {
        let (_server, chain) = set_up(ClosesInBody, FailPolicy::all(fail)).await;
        match reqmod(&chain, post(BODY), full(&noise(BODY))).await {
            Ok(Adapted::Forward { body, .. }) => {
                let error = collect(body).await.expect_err("the body was cut off");
                assert_eq!(error.failure().map(|f| f.kind()), Some(FailureKind::Closed));
            }
            Ok(Adapted::Respond { .. }) => panic!("no response was sent"),
            Err(failure) => assert_eq!(failure.kind(), FailureKind::Closed),
        }
    }
}

#[tokio::test]
async fn a_body_too_long_to_keep_can_not_be_bypassed() {
    let server = misbehave(ClosesAfter100).await;
    let mut config = config(&server);
    config.fail = FailPolicy::all(Fail::Open);
    config.keep_copy = icap_client::Size(1000);
    let chain = Chain::from_services(&[config]).unwrap();
    let outcome = reqmod(&chain, post(BODY), full(&noise(BODY))).await;
    assert_eq!(outcome.err().map(|f| f.kind()), Some(FailureKind::Closed));
}

#[tokio::test]
async fn a_failing_sender_is_never_bypassed() {
    let server = serve_requests(OPTIONS_204, |mut peer, request| async move {
        peer.send(echo(&request)).await;
        Some(peer)
    })
    .await;
    let mut config = config(&server);
    config.fail = FailPolicy::all(Fail::Open);
    let chain = Chain::from_services(&[config]).unwrap();
    let (frames, body) = channel();
    frames.send(data(b"half of it")).await.unwrap();
    frames.send(Err(icap_client::BodyError::source("the client has gone"))).await.unwrap();
    match reqmod(&chain, post(BODY), body).await {
        Err(failure) => assert_eq!(failure.kind(), FailureKind::Source),
        Ok(_) => panic!("half a message went on"),
    }
}

#[tokio::test]
async fn a_service_that_stops_reading_is_given_up() {
    let server = serve(move |mut peer| async move {
        let Some(request) = peer.head().await else { return };
        if request.method == Some(icap::Method::Options) {
            peer.send(options_reply(OPTIONS_204)).await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let mut config = config(&server);
    config.timeouts.idle = Span(Duration::from_millis(300));
    config.timeouts.answer = Span(Duration::from_millis(300));
    let chain = Chain::from_services(&[config]).unwrap();
    let size = 64 << 20;
    let outcome = reqmod(&chain, post(size), full(&vec![0; size])).await;
    assert_eq!(outcome.err().map(|f| f.kind()), Some(FailureKind::Timeout));
}

/// Answers every request with `head`, `body` and `trailers`.
async fn answers(head: &'static str, body: usize, trailers: &'static str) -> (Server, Chain) {
    let server = serve_requests(OPTIONS_204, move |mut peer, _| async move {
        let whole = reply("res", head, Some(&noise(body)));
        peer.send(&whole[..whole.len() - 2]).await;
        peer.send(format!("{trailers}\r\n")).await;
        Some(peer)
    })
    .await;
    let chain = chain(&server);
    (server, chain)
}

#[tokio::test]
async fn trailers_that_no_peer_may_send_are_a_failure() {
    let head = "HTTP/1.1 403 Forbidden\r\n\r\n";
    for trailers in [
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X-Sum: 1\nX-More: 2\r\n",
        "no colon\r\n",
        "X-Sum : 1\r\n",
    ] {
        // One that is wholly here when the head is, and one that is not.
        for size in [3, 500_000] {
            let (_server, chain) = answers(head, size, trailers).await;
            let failure = match reqmod(&chain, get(), None).await {
                Err(failure) => failure,
                Ok(Adapted::Respond { body, .. }) => {
                    let error = collect(body).await.expect_err("they went on");
                    error.failure().expect("a failure of the service").clone()
                }
                Ok(Adapted::Forward { .. }) => panic!("no request was sent"),
            };
            assert_eq!(failure.kind(), FailureKind::Protocol, "{trailers:?}");
            let metrics = chain.services().next().unwrap().metrics();
            assert_eq!(metrics.failures(FailureKind::Protocol).value(), 1, "{trailers:?}");
        }
    }
}

#[tokio::test]
async fn responses_that_no_server_may_send_are_a_failure() {
    for head in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        let (_server, chain) = answers(head, 3, "").await;
        let failure = reqmod(&chain, get(), None).await.err().unwrap_or_else(|| panic!("{head}"));
        assert_eq!(failure.kind(), FailureKind::Protocol, "{head}: {failure}");
        let (info, head) = (info(), ok(5));
        let failure = chain.respmod(&info, &get(), head, full(b"hello")).await.err();
        assert_eq!(failure.map(|f| f.kind()), Some(FailureKind::Protocol));
    }
}

#[tokio::test]
async fn responses_that_can_have_no_content_lose_what_a_service_sends_with_them() {
    for head in [
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let (_server, chain) = answers(head, 3, "").await;
        let adapted = reqmod(&chain, get(), None).await.expect("a response");
        let Adapted::Respond { head: response, body, .. } = adapted else { panic!("{head}") };
        assert!(collect(body).await.expect("no content").0.is_empty(), "{head}");
        let announces = ["Content-Length", "Transfer-Encoding"].map(|name| response.field(name));
        // A 304 may say what a 200 would have.
        assert!(response.status() == 304 || announces.iter().all(Option::is_none), "{head}");
    }
}
