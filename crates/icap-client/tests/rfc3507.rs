//! RFC 3507, its errata and draft-icap-ext-partial-content-07 as they bind a client: a test for
//! each requirement, the section in its name. Wire states that need no socket are in the tests
//! of the crate `icap`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::time::Duration;

use common::*;
use icap_client::{Adapted, FailureKind, Size, Span};

/// Answers with an echo and hands each request to the test.
async fn recording(options: &'static str) -> (Server, tokio::sync::mpsc::Receiver<Received>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let server = serve_requests(options, move |mut peer, mut request| {
        let sender = sender.clone();
        async move {
            if request.at_preview_end {
                peer.go_on(&mut request).await;
            }
            peer.send(echo(&request)).await;
            let _ = sender.send(request).await;
            Some(peer)
        }
    })
    .await;
    (server, receiver)
}

#[tokio::test]
async fn s4_2_the_request_line_holds_the_full_uri() {
    let (server, mut requests) = recording(OPTIONS_204).await;
    forward(&chain(&server), get(), None).await;
    let request = requests.recv().await.unwrap();
    assert_eq!(request.uri, server.url());
    assert!(request.raw.starts_with(&format!("REQMOD {} ICAP/1.0\r\n", server.url())));
}

#[tokio::test]
async fn s4_3_2_host_is_sent() {
    let (server, mut requests) = recording(OPTIONS_204).await;
    forward(&chain(&server), get(), None).await;
    assert_eq!(requests.recv().await.unwrap().header("Host"), Some(server.addr.to_string()));
}

#[tokio::test]
async fn s4_3_3_a_folded_reply_header_is_read() {
    let server = serve_requests(OPTIONS_204, |mut peer, _| async move {
        let lines = "X-Violations-Found: 1\r\n\t-\r\n\tEicar\r\n\t0\r\n\t0\r\n";
        peer.send(reply_with(lines, "res", "HTTP/1.1 403 No\r\n\r\n", Some(b"page"))).await;
        Some(peer)
    })
    .await;
    match reqmod(&chain(&server), get(), None).await {
        Ok(Adapted::Respond { block, .. }) => {
            assert_eq!(block.unwrap().violations.as_deref(), Some("1 - Eicar 0 0"));
        }
        _ => panic!("the page must be the answer"),
    }
}

#[tokio::test]
async fn s4_3_3_a_status_without_a_reason_is_read() {
    let server = serve_requests(OPTIONS_204, |mut peer, _| async move {
        peer.send("ICAP/1.0 204\r\nistag: x\r\n\r\n").await;
        Some(peer)
    })
    .await;
    assert!(!forward(&chain(&server), get(), None).await.changed);
}

#[tokio::test]
async fn s4_4_1_encapsulated_says_where_each_part_is() {
    let (server, mut requests) = recording(OPTIONS_204).await;
    let chain = chain(&server);
    forward(&chain, get(), None).await;
    let head = get().bytes().len();
    let sent = requests.recv().await.unwrap();
    assert_eq!(sent.header("Encapsulated"), Some(format!("req-hdr=0, null-body={head}")));
    forward(&chain, post(3), full(b"abc")).await;
    let head = post(3).bytes().len();
    let sent = requests.recv().await.unwrap();
    assert_eq!(sent.header("Encapsulated"), Some(format!("req-hdr=0, req-body={head}")));
    respmod(&chain, ok(3), full(b"abc")).await;
    let (req, res) = (get().bytes().len(), ok(3).bytes().len());
    let sent = requests.recv().await.unwrap();
    assert_eq!(
        sent.header("Encapsulated"),
        Some(format!("req-hdr=0, res-hdr={req}, res-body={}", req + res))
    );
    assert_eq!(sent.req_hdr, get().bytes());
    assert_eq!(sent.res_hdr, ok(3).bytes());
}

#[tokio::test]
async fn s4_4_2_hop_by_hop_fields_do_not_travel() {
    let (server, mut requests) = recording(OPTIONS_204).await;
    let head = request(
        "POST /a HTTP/1.1\r\nHost: o.test\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Authorization: Basic eA==\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nX-Theirs: 2\r\n\r\n",
    );
    forward(&chain(&server), head, full(b"abc")).await;
    let sent = requests.recv().await.unwrap();
    assert_eq!(sent.req_hdr, &b"POST /a HTTP/1.1\r\nHost: o.test\r\nX-Theirs: 2\r\n\r\n"[..]);
    assert_eq!(sent.body, b"abc");
}

#[tokio::test]
async fn s4_4_2_a_message_that_came_back_as_it_was_keeps_its_connection_fields() {
    let (server, _requests) = recording(OPTIONS_204).await;
    let head = request("GET /a HTTP/1.1\r\nHost: o.test\r\nConnection: close\r\n\r\n");
    let got = forward(&chain(&server), head.clone(), None).await;
    assert_eq!(got.head.bytes(), head.bytes());
}

#[tokio::test]
async fn s4_4_2_what_comes_back_is_framed_anew() {
    for (declared, body) in
        [("Content-Length: 999\r\n", "four"), ("Transfer-Encoding: chunked\r\n", "four")]
    {
        let server = serve_requests(OPTIONS_204, move |mut peer, _| async move {
            let head = format!("HTTP/1.1 200 OK\r\n{declared}Trailer: X\r\nX-Other: 1\r\n\r\n");
            peer.send(reply("res", &head, Some(body.as_bytes()))).await;
            Some(peer)
        })
        .await;
        let got = respmod(&chain(&server), ok(10), full(&noise(10))).await;
        assert!(got.changed);
        // Small enough to have come with its head: so its length is known.
        let length = got.head.field("Content-Length").map(|f| f.value.to_vec());
        assert_eq!(length.as_deref(), Some(&b"4"[..]), "{declared}");
        assert!(
            got.head.field("Transfer-Encoding").is_none() && got.head.field("Trailer").is_none()
        );
        assert!(got.head.field("X-Other").is_some());
        assert_eq!(collect(got.body).await.unwrap().0, b"four");
    }
}

#[tokio::test]
async fn s4_5_no_preview_that_options_did_not_offer() {
    let (server, mut requests) = recording(OPTIONS_204).await;
    forward(&chain(&server), post(5000), full(&noise(5000))).await;
    assert_eq!(requests.recv().await.unwrap().preview, None);
}

#[tokio::test]
async fn s4_5_previews_of_every_size() {
    let options: [(&'static str, usize); 3] = [
        (
            "Methods: REQMOD, RESPMOD\r\nISTag: \"t\"\r\nAllow: 204\r\nPreview: 0\r\nTransfer-Preview: *\r\n",
            0,
        ),
        (
            "Methods: REQMOD, RESPMOD\r\nISTag: \"t\"\r\nAllow: 204\r\nPreview: 1\r\nTransfer-Preview: *\r\n",
            1,
        ),
        (OPTIONS_PREVIEW, 1024),
    ];
    for (options, preview) in options {
        for size in [0, 1, preview.saturating_sub(1), preview, preview + 1, 3 * preview + 5] {
            for piece in [1, 7, 1024, 1 << 20] {
                let (server, mut requests) = recording(options).await;
                let body = noise(size);
                let (frames, source) = channel();
                let chain = chain(&server);
                let pieces = body.clone();
                let feed = async move {
                    for piece in pieces.chunks(piece) {
                        frames.send(data(piece)).await.unwrap();
                    }
                };
                let (got, ()) = tokio::join!(forward(&chain, post(size), source), feed);
                assert_eq!(got.body, body, "{size} bytes by {piece}, preview {preview}");
                let sent = requests.recv().await.unwrap();
                assert_eq!(sent.body, body);
                assert_eq!(sent.preview, Some(preview as u64));
                // Body that ends with or before the preview is announced as such.
                assert_eq!(sent.at_preview_end, size > preview, "{size} bytes, preview {preview}");
                assert_eq!(sent.ieof, size <= preview);
            }
        }
    }
}

#[tokio::test]
async fn s4_5_a_sender_that_pauses_gets_a_shorter_preview() {
    let (server, mut requests) = recording(OPTIONS_PREVIEW).await;
    let mut config = config(&server);
    config.timeouts.preview = Span(Duration::from_millis(20));
    let chain = icap_client::Chain::from_services(&[config]).unwrap();
    let (frames, body) = channel();
    frames.send(data(b"an event, ")).await.unwrap();
    let info = info();
    let (Adapted::Forward { body, .. }, sent) = ({
        let (adapted, ()) = tokio::join!(chain.reqmod(&info, post(17), body), async {
            // The service answers once it has the rest.
            tokio::time::sleep(Duration::from_millis(100)).await;
            frames.send(data(b"another")).await.unwrap();
            drop(frames);
        });
        (adapted.unwrap(), requests.recv().await.unwrap())
    }) else {
        panic!("the request must go on");
    };
    assert_eq!(sent.preview, Some(10));
    assert_eq!(sent.body, b"an event, another");
    assert_eq!(collect(body).await.unwrap().0, b"an event, another");
}

#[tokio::test]
async fn s4_5_a_preview_without_bounds_is_bounded() {
    let options = "Methods: REQMOD\r\nISTag: \"t\"\r\nPreview: 18446744073709551615\r\nTransfer-Preview: *\r\n";
    let (server, mut requests) = recording(options).await;
    forward(&chain(&server), post(3 << 20), full(&noise(3 << 20))).await;
    assert_eq!(requests.recv().await.unwrap().preview, Some(1 << 20));
}

#[tokio::test]
async fn s4_5_a_204_within_the_preview_needs_no_allow() {
    let server = serve_requests(OPTIONS_PREVIEW, |mut peer, request| async move {
        assert!(request.at_preview_end);
        assert_eq!(request.header("Allow"), None, "a body of unknown length can't be promised");
        peer.send(PASS).await;
        Some(peer)
    })
    .await;
    let chain = chain(&server);
    let body = noise(5000);
    for _ in 0..3 {
        let (frames, source) = channel();
        for piece in body.chunks(500) {
            frames.send(data(piece)).await.unwrap();
        }
        let feed = async {
            tokio::task::yield_now().await;
            drop(frames);
        };
        // The end is not in sight when the request is sent.
        let (got, ()) = tokio::join!(forward(&chain, post(5000), source), feed);
        assert_eq!(got.body, body);
        assert!(!got.changed);
    }
    assert_eq!(server.connections(), 1, "it is kept");
}

#[tokio::test]
async fn s4_5_after_a_refused_preview_the_rest_is_not_sent() {
    let server = serve_requests(OPTIONS_PREVIEW, |mut peer, request| async move {
        assert_eq!(request.body.len(), 1024);
        peer.send(reply("req", "GET /b HTTP/1.1\r\nHost: o.test\r\n\r\n", Some(b"new"))).await;
        Some(peer)
    })
    .await;
    let chain = chain(&server);
    for _ in 0..3 {
        let got = forward(&chain, post(100_000), full(&noise(100_000))).await;
        assert_eq!(got.body, b"new");
    }
    assert_eq!(server.connections(), 1, "it is kept");
}

#[tokio::test]
async fn s4_5_a_100_after_ieof_is_an_error() {
    let server = serve_requests(OPTIONS_PREVIEW, |mut peer, request| async move {
        assert!(request.ieof);
        peer.send("ICAP/1.0 100 Continue\r\n\r\n").await;
        peer.drain().await;
        None
    })
    .await;
    let outcome = reqmod(&chain(&server), post(10), full(&noise(10))).await;
    assert_eq!(outcome.err().map(|f| f.kind()), Some(FailureKind::Protocol));
}

#[tokio::test]
async fn s4_6_allow_204_is_sent_when_the_original_can_go_on() {
    for (size, allowed) in [(0, true), (1000, true), (2000, true), (2001, false)] {
        let (server, mut requests) = recording(OPTIONS_204).await;
        let mut config = config(&server);
        config.keep_copy = Size(2000);
        let chain = icap_client::Chain::from_services(&[config]).unwrap();
        forward(&chain, post(size), full(&noise(size))).await;
        let sent = requests.recv().await.unwrap();
        assert_eq!(sent.header("Allow").as_deref(), allowed.then_some("204"), "{size}");
    }
}

#[tokio::test]
async fn s4_6_a_small_body_within_its_preview_costs_no_echo() {
    let server = serve_requests(OPTIONS_PREVIEW, |mut peer, request| async move {
        // What virus_scan does: 204 only where it is allowed, even within a preview.
        let allowed = request.header("Allow").is_some_and(|a| a.contains("204"));
        peer.send(if allowed { PASS.into() } else { echo(&request) }).await;
        Some(peer)
    })
    .await;
    let chain = chain(&server);
    let (frames, source) = channel();
    frames.send(data(b"short, of unknown length")).await.unwrap();
    drop(frames);
    let got = forward(&chain, post(24), source).await;
    assert!(!got.changed);
    assert_eq!(got.body, b"short, of unknown length");
}

#[tokio::test]
async fn s4_6_a_204_outside_a_preview_brings_back_all_of_the_original() {
    let server = serve_requests(OPTIONS_204, |mut peer, _| async move {
        peer.send(PASS).await;
        Some(peer)
    })
    .await;
    let chain = chain(&server);
    for size in [0, 1, 100, 65_536, 1 << 20] {
        let body = noise(size);
        let got = forward(&chain, post(size), full(&body)).await;
        assert!(!got.changed && got.body == body, "{size}");
        assert_eq!(got.head.bytes(), post(size).bytes());
    }
    assert_eq!(server.connections(), 1, "it is kept");
}

#[tokio::test]
async fn s4_6_a_204_after_100_brings_back_all_of_the_original() {
    let server = serve_requests(OPTIONS_PREVIEW, |mut peer, mut request| async move {
        peer.go_on(&mut request).await;
        peer.send(PASS).await;
        Some(peer)
    })
    .await;
    let body = noise(5000);
    let got = forward(&chain(&server), post(5000), full(&body)).await;
    assert!(!got.changed && got.body == body);
}

#[tokio::test]
async fn s4_6_a_204_that_was_not_allowed_is_an_error() {
    let server = serve_requests(OPTIONS_204, |mut peer, _| async move {
        peer.send(PASS).await;
        Some(peer)
    })
    .await;
    let mut config = config(&server);
    config.keep_copy = Size(10);
    let chain = icap_client::Chain::from_services(&[config]).unwrap();
    let outcome = reqmod(&chain, post(11), full(&noise(11))).await;
    assert_eq!(outcome.err().map(|f| f.kind()), Some(FailureKind::Protocol));
}

#[tokio::test]
async fn s4_7_a_new_istag_makes_options_due() {
    let server = serve(|mut peer| async move {
        while let Some(request) = peer.request().await {
            match request.method {
                Some(icap::Method::Options) => peer.send(options_reply(OPTIONS_204)).await,
                _ => peer.send("ICAP/1.0 204 No\r\nISTag: \"another\"\r\n\r\n").await,
            }
        }
    })
    .await;
    let chain = chain(&server);
    let metrics = chain.services().next().unwrap();
    forward(&chain, get(), None).await;
    assert_eq!(metrics.metrics().options.value(), 1);
    let asked_again = async {
        while metrics.metrics().options.value() < 2 {
            forward(&chain, get(), None).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked_again).await.expect("OPTIONS asked again");
}

#[tokio::test]
async fn s4_8_1_an_adapted_request_goes_on() {
    let server = serve_requests(OPTIONS_204, |mut peer, _| async move {
        let head = "POST /other HTTP/1.1\r\nHost: p.test\r\nContent-Length: 3\r\n\r\n";
        peer.send(reply("req", head, Some(b"new"))).await;
        Some(peer)
    })
    .await;
    let got = forward(&chain(&server), post(4), full(b"orig")).await;
    assert!(got.changed);
    assert_eq!(got.head.target(), b"/other");
    assert_eq!(got.body, b"new");
}

#[tokio::test]
async fn s4_8_3_a_request_is_answered_by_the_service() {
    let server = serve_requests(OPTIONS_204, |mut peer, _| async move {
        // An empty reason and no length, as E2Guardian sends.
        peer.send(reply(
            "res",
            "HTTP/1.1 200 \r\nContent-type: text/html\r\n\r\n",
            Some(&noise(50_000)),
        ))
        .await;
        Some(peer)
    })
    .await;
    match reqmod(&chain(&server), get(), None).await {
        Ok(Adapted::Respond { head, body, by, .. }) => {
            assert_eq!(&*by, "svc");
            assert_eq!(head.status(), 200);
            assert!(head.framing(b"GET").is_ok());
            assert_eq!(collect(body).await.unwrap().0, noise(50_000));
        }
        _ => panic!("the page must be the answer"),
    }
}

/// E2Guardian returns requests so, after it has blocked one.
#[tokio::test]
async fn s4_4_1_a_request_without_body_returned_as_with_a_response_body_goes_on_without() {
    let server = serve_requests(OPTIONS_204, |mut peer, request| async move {
        let head = request.req_hdr.clone();
        let parts = format!("Encapsulated: req-hdr=0, res-body={}", head.len());
        peer.send(format!("ICAP/1.0 200 OK\r\n{parts}\r\n\r\n")).await;
        peer.send(&head).await;
        Some(peer)
    })
    .await;
    let chain = chain(&server);
    for _ in 0..3 {
        match reqmod(&chain, get(), None).await {
            Ok(Adapted::Forward { head, body, .. }) => {
                assert_eq!(head.bytes(), get().bytes());
                assert!(body.is_none());
            }
            _ => panic!("the request must go on"),
        }
    }
    // What else that server may send is not taken for the next answer.
    assert_eq!(server.connections(), 3);
    // Where a body was sent, nobody can say what follows.
    let (frames, source) = channel();
    frames.send(data(b"abc")).await.unwrap();
    drop(frames);
    let failure = reqmod(&chain, post(3), source).await.err().expect("a failure");
    assert_eq!(failure.kind(), FailureKind::Protocol);
}

#[tokio::test]
async fn s4_8_an_early_answer_is_read_while_the_body_is_still_sent() {
    // The service answers from the head alone and never reads the body.
    let server = serve(|mut peer| async move {
        while let Some(request) = peer.head().await {
            if request.method == Some(icap::Method::Options) {
                peer.send(options_reply(OPTIONS_204)).await;
                continue;
            }
            peer.send(reply("res", "HTTP/1.1 403 No\r\n\r\n", Some(b"page"))).await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let (frames, source) = channel();
    frames.send(data(b"an upload that never ends")).await.unwrap();
    match reqmod(&chain(&server), post(1 << 30), source).await {
        Ok(Adapted::Respond { body, .. }) => assert_eq!(collect(body).await.unwrap().0, b"page"),
        _ => panic!("the page must be the answer"),
    }
}

#[tokio::test]
async fn s4_9_both_directions_run_at_once() {
    let server = serve(|mut peer| async move {
        while let Some(mut request) = peer.head().await {
            if request.method == Some(icap::Method::Options) {
                peer.send(options_reply(OPTIONS_204)).await;
                continue;
            }
            let whole = echo(&request);
            let head = whole.len() - request.body.len() - 5;
            peer.send(&whole[..head]).await;
            let mut sent = 0;
            while peer.piece(&mut request).await == Some(true) {
                let mut chunk = Vec::new();
                icap::encode_chunk(&mut chunk, &request.body[sent..]);
                sent = request.body.len();
                peer.send(chunk).await;
            }
            peer.send("0\r\n\r\n").await;
        }
    })
    .await;
    let size = 20 << 20;
    let body = noise(size);
    let chain = chain(&server);
    let got = forward(&chain, post(size), full(&body)).await;
    assert!(got.body == body);
    forward(&chain, get(), None).await;
    assert_eq!(server.connections(), 1, "it is kept");
}

#[tokio::test]
async fn s4_10_options_is_asked_before_the_first_request_and_then_cached() {
    let (server, mut requests) = recording(OPTIONS_PREVIEW).await;
    let chain = chain(&server);
    for _ in 0..5 {
        forward(&chain, post(5000), full(&noise(5000))).await;
        assert_eq!(requests.recv().await.unwrap().preview, Some(1024));
    }
    assert_eq!(chain.services().next().unwrap().metrics().options.value(), 1);
}

#[tokio::test]
async fn s4_10_2_a_method_that_is_not_offered_is_not_used() {
    let (server, mut requests) =
        recording("Methods: RESPMOD\r\nISTag: \"t\"\r\nAllow: 204\r\n").await;
    let chain = chain(&server);
    let got = forward(&chain, post(3), full(b"abc")).await;
    assert_eq!(got.body, b"abc");
    respmod(&chain, ok(3), full(b"abc")).await;
    assert_eq!(requests.recv().await.unwrap().method, Some(icap::Method::Respmod));
}

#[tokio::test]
async fn s4_10_2_an_answer_that_offers_no_method_is_a_failure() {
    for (options, named) in [
        ("ISTag: \"t\"\r\nAllow: 204\r\n", "without Methods"),
        ("Methods: REQMOD RESPMOD\r\nISTag: \"t\"\r\n", "\"REQMOD RESPMOD\""),
        ("Methods: \r\nISTag: \"t\"\r\n", "\"\""),
        ("Methods: OPTIONS\r\nISTag: \"t\"\r\n", "\"OPTIONS\""),
    ] {
        let (server, _requests) = recording(options).await;
        let mut config = config(&server);
        config.health.failures = 2;
        let chain = icap_client::Chain::from_services(&[config]).unwrap();
        for _ in 0..2 {
            let failure = reqmod(&chain, post(3), full(b"abc")).await.err().expect("a failure");
            assert_eq!(failure.kind(), FailureKind::Protocol, "{options}");
            assert!(failure.detail().contains(named), "{failure}");
        }
        let service = chain.services().next().unwrap();
        assert!(service.endpoints().all(|(_, up)| !up), "it counts as down");
        assert_eq!(service.metrics().passed.value(), 0);
    }
}

/// A service whose OPTIONS offers the methods that it is told to, with that ISTag.
async fn changing(offers: &tokio::sync::watch::Sender<[&'static str; 2]>) -> Server {
    let offers = offers.subscribe();
    serve(move |mut peer| {
        let offers = offers.clone();
        async move {
            while let Some(request) = peer.request().await {
                let [methods, istag] = *offers.borrow();
                let istag = format!("ISTag: \"{istag}\"\r\n");
                let reply = match request.method {
                    Some(icap::Method::Options) => {
                        options_reply(&format!("Methods: {methods}\r\n{istag}Allow: 204\r\n"))
                    }
                    _ => format!("ICAP/1.0 204 No\r\n{istag}\r\n"),
                };
                peer.send(reply).await;
            }
        }
    })
    .await
}

/// Sends responses until one fares as it is expected to.
async fn until_respmod(
    chain: &icap_client::Chain,
    expected: impl Fn(&Result<icap_client::AdaptedResponse, icap_client::Failure>) -> bool,
) {
    let tried = async {
        loop {
            // An answer tells of the new ISTag.
            forward(chain, get(), None).await;
            let outcome = chain.respmod(&info(), &get(), ok(3), full(b"abc")).await;
            if expected(&outcome) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("the expected outcome");
}

#[tokio::test]
async fn s4_10_2_a_method_that_is_no_longer_offered_is_a_failure_until_it_is() {
    let offers = tokio::sync::watch::Sender::new(["REQMOD, RESPMOD", "a"]);
    let server = changing(&offers).await;
    let mut config = config(&server);
    config.health.interval = Span(Duration::from_millis(20));
    let chain = icap_client::Chain::from_services(&[config]).unwrap();
    respmod(&chain, ok(3), full(b"abc")).await;
    offers.send_replace(["REQMOD", "b"]);
    until_respmod(&chain, |outcome| match outcome {
        // Whatever was sent has been seen.
        Ok(adapted) => {
            assert!(adapted.trail.is_inspected());
            false
        }
        Err(failure) => {
            assert_eq!(failure.kind(), FailureKind::Unsuitable);
            assert!(failure.detail().contains("`methods`"), "{failure}");
            true
        }
    })
    .await;
    // It is asked again soon, although no ISTag says that anything is new.
    offers.send_replace(["REQMOD, RESPMOD", "b"]);
    until_respmod(&chain, |outcome| outcome.is_ok()).await;
}

#[tokio::test]
async fn s4_10_2_a_method_that_settings_leave_out_may_go() {
    let offers = tokio::sync::watch::Sender::new(["REQMOD, RESPMOD", "a"]);
    let server = changing(&offers).await;
    let mut config = config(&server);
    config.methods = Some(vec![icap_client::MethodName::Reqmod]);
    let chain = icap_client::Chain::from_services(&[config]).unwrap();
    forward(&chain, get(), None).await;
    offers.send_replace(["REQMOD", "b"]);
    let metrics = chain.services().next().unwrap().metrics();
    let asked_again = async {
        while metrics.options.value() < 2 {
            forward(&chain, get(), None).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked_again).await.expect("OPTIONS asked again");
    assert!(!respmod(&chain, ok(3), full(b"abc")).await.trail.is_inspected());
}

#[tokio::test]
async fn s4_10_2_transfer_ignore_is_obeyed_and_counted() {
    let options =
        "Methods: REQMOD\r\nISTag: \"t\"\r\nTransfer-Ignore: txt\r\nTransfer-Complete: *\r\n";
    let (server, mut requests) = recording(options).await;
    let chain = chain(&server);
    forward(&chain, get(), None).await;
    assert_eq!(chain.services().next().unwrap().metrics().ignored.value(), 1);
    forward(&chain, request("GET /b.exe?x=/a.txt HTTP/1.1\r\nHost: o.test\r\n\r\n"), None).await;
    assert!(requests.recv().await.unwrap().req_hdr.starts_with(b"GET /b.exe"));
}

#[tokio::test]
async fn erratum_a_204_may_carry_encapsulated() {
    let server = serve_requests(OPTIONS_204, |mut peer, _| async move {
        peer.send("ICAP/1.0 204 No\r\nISTag: \"t\"\r\nEncapsulated: null-body=0\r\n\r\n").await;
        Some(peer)
    })
    .await;
    assert!(!forward(&chain(&server), get(), None).await.changed);
}

/// Answers `206` with a new beginning and the original from byte 4 on.
async fn partial(options: &'static str, after_100: bool) -> Server {
    serve_requests(options, move |mut peer, mut request| async move {
        if after_100 && request.at_preview_end {
            peer.go_on(&mut request).await;
        }
        let head = std::str::from_utf8(&request.req_hdr).unwrap();
        peer.send(format!(
            "ICAP/1.0 206 Partial Content\r\nISTag: \"t\"\r\nEncapsulated: req-hdr=0, req-body={}\r\n\r\n{head}\
             3\r\nnew\r\n0; use-original-body=4\r\n\r\n",
            head.len()
        ))
        .await;
        Some(peer)
    })
    .await
}

#[tokio::test]
async fn partial_content_s3_the_rest_comes_from_the_original() {
    for (options, after_100) in
        [(OPTIONS_206, false), (OPTIONS_PREVIEW, false), (OPTIONS_PREVIEW, true)]
    {
        for size in [4, 5, 1024, 1025, 100_000] {
            let server = partial(options, after_100).await;
            let chain = chain(&server);
            let body = noise(size);
            for _ in 0..2 {
                let got = forward(&chain, post(size), full(&body)).await;
                assert!(got.changed);
                assert!(got.body == [b"new", &body[4..]].concat(), "{size} {options} {after_100}");
                // The length that the service left in the head is stale.
                let length = got.head.field("Content-Length").unwrap().value.to_vec();
                assert_eq!(length, (size - 1).to_string().as_bytes());
            }
        }
    }
}

#[tokio::test]
async fn partial_content_s3_an_offset_beyond_the_body_is_an_error() {
    let server = partial(OPTIONS_206, false).await;
    let outcome = reqmod(&chain(&server), post(3), full(b"abc")).await;
    assert_eq!(outcome.err().map(|f| f.kind()), Some(FailureKind::Protocol));
}

#[tokio::test]
async fn partial_content_outside_a_preview_ends_the_connection() {
    let server = partial(OPTIONS_206, false).await;
    let chain = chain(&server);
    for _ in 0..3 {
        forward(&chain, post(10), full(&noise(10))).await;
    }
    assert_eq!(server.connections(), 3, "a new one each time");
}

#[tokio::test]
async fn partial_content_is_allowed_only_along_with_204_and_for_what_is_kept() {
    for (size, allow) in [(1000, Some("204, 206")), (3000, None)] {
        let (server, mut requests) = recording(OPTIONS_206).await;
        let mut config = config(&server);
        config.keep_copy = Size(2000);
        let chain = icap_client::Chain::from_services(&[config]).unwrap();
        forward(&chain, post(size), full(&noise(size))).await;
        assert_eq!(requests.recv().await.unwrap().header("Allow").as_deref(), allow);
    }
}

#[tokio::test]
async fn trailers_go_only_to_services_that_offer_them() {
    let offers = "Methods: REQMOD\r\nISTag: \"t\"\r\nAllow: 204, trailers\r\n";
    for (options, sent) in [(OPTIONS_204, &b""[..]), (offers, &b"X-Sum: 1\r\n"[..])] {
        let server = serve_requests(options, move |mut peer, request| async move {
            assert_eq!(request.trailers, sent);
            peer.send(PASS).await;
            Some(peer)
        })
        .await;
        let body = icap_client::Full::new([b"abc".to_vec().into()], Some("X-Sum: 1\r\n".into()));
        let head =
            request("POST /a HTTP/1.1\r\nHost: o.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chain = chain(&server);
        let got = forward(&chain, head, Some(body.boxed())).await;
        assert_eq!(got.trailers.as_deref(), Some(&b"X-Sum: 1\r\n"[..]));
        // What went on without having been seen is counted.
        let unseen = if sent.is_empty() { 10 } else { 0 };
        let metrics = chain.services().next().unwrap().metrics();
        assert_eq!(metrics.unadapted_bytes.value(), unseen);
        assert_eq!(metrics.request_trailer_bytes.value(), unseen);
        assert_eq!(metrics.response_trailer_bytes.value(), 0);
    }
}

#[tokio::test]
async fn trailers_of_an_answer_are_handed_on() {
    let server = serve_requests(OPTIONS_204, |mut peer, request| async move {
        let whole = echo(&request);
        peer.send(&whole[..whole.len() - 2]).await;
        peer.send("X-Sum: 1\r\n\r\n").await;
        Some(peer)
    })
    .await;
    let got = forward(&chain(&server), post(3), full(b"abc")).await;
    assert_eq!(got.trailers.as_deref(), Some(&b"X-Sum: 1\r\n"[..]));
}
