//! HTTP/2 through the program: every stream its own transaction.
#![allow(clippy::unwrap_used, reason = "helpers fail the test that calls them")]

mod support;

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use support::h2::{
    Origin, RawOrigin, collect, connect, gateway, get, handler, request, send, soon,
};
use support::icap::{Icap, Verdict};

/// More than one stream's window.
const UNREAD: usize = 8 << 20;

/// Content that tells streams apart; every seventh is malware.
fn content(number: usize) -> Vec<u8> {
    let mut all = format!("stream {number} ").into_bytes();
    let block: Vec<u8> = (0..251u32).map(|n| (n as usize * (number + 1)) as u8).collect();
    while all.len() < 40_000 + number * 500 {
        all.extend_from_slice(&block);
    }
    if number.is_multiple_of(7) {
        all.extend_from_slice(b"MALWARE");
    }
    all
}

fn numbered() -> support::h2::Handler {
    handler(|request, mut respond| async move {
        let path = request.uri().path();
        let content = match path {
            "/unread" => vec![b'u'; UNREAD],
            _ => content(path.trim_start_matches('/').parse().unwrap_or(1)),
        };
        let Ok(mut stream) = respond.send_response(http::Response::new(()), false) else { return };
        send(&mut stream, Bytes::from(content), true).await;
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_have_verdicts_of_their_own() {
    let origin = Origin::start(1, numbered()).await;
    let icap = Icap::start(|m| match m.body.ends_with(b"MALWARE") {
        true => Verdict::Block,
        false => Verdict::Pass,
    });
    let (gateway, _dir) = gateway(&origin, &icap.settings());
    let sender = connect(&gateway, &origin).await;
    // All the while there is one that nobody reads.
    let (unread, _) = sender
        .clone()
        .ready()
        .await
        .unwrap()
        .send_request(request(&origin, "GET", "/unread"), true)
        .unwrap();
    let unread = soon("a head", unread).await.unwrap();
    // The same way each time; another seed, another way.
    let mut state = 0x9e37_79b9_u32;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let asked = (0..100).map(|number| {
        let cancelled = random().is_multiple_of(5).then(|| random() % 4);
        let (sender, uri) = (sender.clone(), request(&origin, "GET", &format!("/{number}")));
        tokio::spawn(async move {
            let mut sender = sender.ready().await.unwrap();
            let (response, mut stream) = sender.send_request(uri, true).unwrap();
            match cancelled {
                // Before anything, after a while, after the head, amid the content.
                Some(0) => stream.send_reset(Reason::CANCEL),
                Some(1) => {
                    tokio::time::sleep(Duration::from_millis(number)).await;
                    stream.send_reset(Reason::CANCEL);
                }
                Some(2) => {
                    let _ = response.await.unwrap();
                    stream.send_reset(Reason::CANCEL);
                }
                Some(_) => {
                    let _ = response.await.unwrap().into_body().data().await;
                    stream.send_reset(Reason::CANCEL);
                }
                None => {
                    let response = response.await.unwrap();
                    let status = response.status().as_u16();
                    return Some((status, collect(response.into_body()).await.unwrap()));
                }
            }
            None
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut whole = 0;
    for (number, answer) in asked.into_iter().enumerate() {
        let Some((status, body)) = soon("a stream", answer).await.unwrap() else { continue };
        whole += 1;
        match number % 7 {
            0 => assert_eq!((status, body.as_slice()), (403, &b"blocked"[..]), "stream {number}"),
            _ => assert!(
                status == 200 && body == content(number),
                "stream {number}: {status}, {:?}",
                gateway.transactions(1).iter().find(|t| t["status"] == 502)
            ),
        }
    }
    assert!((60..95).contains(&whole), "{whole} were not cancelled");
    let late = soon("the one that nobody read", collect(unread.into_body())).await.unwrap();
    assert_eq!(late.len(), UNREAD);
    let seen = icap.asked();
    assert!(seen.iter().all(|m| m.icap.contains("X-Proto: h2\r\n")), "{}", seen[0].icap);
    let id = |m: &str| m.lines().find_map(|l| l.strip_prefix("X-Stream-Id: ")).map(str::to_owned);
    let ids: std::collections::HashSet<_> = seen.iter().map(|m| id(&m.icap).unwrap()).collect();
    assert!(ids.len() >= whole, "streams share ids");
    assert!(seen[0].heads.starts_with("GET /"), "{}", seen[0].heads);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_no_one_reads_stops_no_other() {
    let origin = Origin::start(
        1,
        handler(|request, mut respond| async move {
            let size = if request.uri().path() == "/big" { 64 << 20 } else { 1000 };
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            send(&mut stream, Bytes::from(vec![b'x'; size]), true).await;
        }),
    )
    .await;
    let (gateway, _dir) = gateway(&origin, "");
    let sender = connect(&gateway, &origin).await;
    let mut unread = Vec::new();
    for _ in 0..3 {
        let mut sender = sender.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request(&origin, "GET", "/big"), true).unwrap();
        unread.push(soon("a head", response).await.unwrap());
    }
    for _ in 0..50 {
        let (status, body) = soon("a neighbour", get(&sender, &origin, "/")).await.unwrap();
        assert_eq!((status, body.len()), (200, 1000));
    }
    let all = soon("the unread one", collect(unread.remove(0).into_body())).await.unwrap();
    assert_eq!(all.len(), 64 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_asked_for_when_the_client_waits_for_it() {
    let origin = Origin::start(
        1,
        handler(|request, mut respond| async move {
            let content = collect(request.into_body()).await.unwrap();
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            send(&mut stream, content.into(), true).await;
        }),
    )
    .await;
    let icap = Icap::start(|_| Verdict::Pass);
    let (gateway, _dir) = gateway(&origin, &icap.settings());
    let sender = connect(&gateway, &origin).await;
    for content in ["hello", "again"] {
        let mut sender = sender.clone().ready().await.unwrap();
        let mut asked = request(&origin, "PUT", "/");
        asked.headers_mut().insert("expect", "100-continue".parse().unwrap());
        let (mut response, mut stream) = sender.send_request(asked, false).unwrap();
        let interim = soon("100", poll_fn(|cx| response.poll_informational(cx))).await;
        assert_eq!(interim.unwrap().unwrap().status(), 100);
        send(&mut stream, content.into(), true).await;
        let response = soon("the answer", response).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(collect(response.into_body()).await.unwrap(), content.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_stream_and_trailers_pass() {
    let origin = Origin::start(
        1,
        handler(|request, mut respond| async move {
            assert_eq!(request.headers()["te"], "trailers");
            let mut body = request.into_body();
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                send(&mut stream, data, false).await;
            }
            let sum = body.trailers().await.unwrap().unwrap()["x-sum"].clone();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("x-sum", sum);
            stream.send_trailers(trailers).unwrap();
        }),
    )
    .await;
    let (gateway, _dir) = gateway(&origin, "");
    let mut sender = connect(&gateway, &origin).await;
    let mut asked = request(&origin, "POST", "/pkg.Service/Chat");
    asked.headers_mut().insert("te", "trailers".parse().unwrap());
    asked.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (response, mut stream) = sender.send_request(asked, false).unwrap();
    let mut body = soon("the head", response).await.unwrap().into_body();
    for round in 0..10 {
        // Each answer must arrive before the next question is asked.
        send(&mut stream, Bytes::from(format!("question {round}")), false).await;
        let answer = soon("an answer", body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(answer.len()).unwrap();
        assert_eq!(answer, format!("question {round}"));
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    assert!(soon("the end", body.data()).await.is_none());
    let trailers = soon("trailers", body.trailers()).await.unwrap().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-sum"]),
        (&"0".parse().unwrap(), &"7".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_falls_back_to_http1_is_translated() {
    let origin = Origin::start(1, numbered()).await;
    let (gateway, _dir) = gateway(&origin, "");
    let sender = connect(&gateway, &origin).await;
    assert_eq!(soon("HTTP/2", get(&sender, &origin, "/1")).await.unwrap().1, content(1));
    assert_eq!(soon("going away", get(&sender, &origin, "/goaway")).await.unwrap().0, 200);
    let many = (0..20).map(|_| async {
        let (status, body) = soon("HTTP/1", get(&sender, &origin, "/2")).await.unwrap();
        assert_eq!((status, body.as_slice()), (200, &b"http1"[..]));
    });
    for one in many {
        one.await;
    }
}

/// RST_STREAM (RFC 9113 section 6.4).
fn reset(stream: u32, reason: Reason) -> Vec<u8> {
    let head: &[u8] = &[0, 0, 4, 3, 0];
    [head, &stream.to_be_bytes(), &u32::from(reason).to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_requires_http1_tells_it_to_the_client() {
    let raw = RawOrigin::start().await;
    raw.answer(Box::new(|stream| reset(stream, Reason::HTTP_1_1_REQUIRED)));
    let icap = Icap::start(|_| Verdict::Pass);
    for settings in ["", &icap.settings()] {
        let (gateway, _dir) = gateway(&raw.origin, settings);
        let sender = connect(&gateway, &raw.origin).await;
        let e = soon("a reset", get(&sender, &raw.origin, "/")).await.unwrap_err();
        assert_eq!(e.reason(), Some(Reason::HTTP_1_1_REQUIRED));
        assert_eq!(gateway.transactions(1)[0]["outcome"], "http11-required");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_origin_did_not_process_is_sent_again() {
    let raw = RawOrigin::start().await;
    let (gateway, _dir) = gateway(&raw.origin, "");
    for (method, is_whole) in [("GET", true), ("POST", true), ("POST", false)] {
        let refused = AtomicBool::new(false);
        raw.answer(Box::new(move |stream| {
            match refused.swap(true, Ordering::SeqCst) {
                false => reset(stream, Reason::REFUSED_STREAM),
                // 200, and the stream's end.
                true => [&[0, 0, 1, 1, 5], &stream.to_be_bytes()[..], &[0x88]].concat(),
            }
        }));
        let mut sender = connect(&gateway, &raw.origin).await;
        let asked = request(&raw.origin, method, "/");
        let (response, _content) = sender.send_request(asked, is_whole).unwrap();
        let response = soon("an answer", response).await.unwrap();
        assert_eq!(response.status(), 200, "{method}, whole: {is_whole}");
    }
    // Not without end.
    raw.answer(Box::new(|stream| reset(stream, Reason::REFUSED_STREAM)));
    let sender = connect(&gateway, &raw.origin).await;
    assert_eq!(soon("a page", get(&sender, &raw.origin, "/")).await.unwrap().0, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_while_the_services_look_fails_nothing() {
    let origin = Origin::start(1, numbered()).await;
    let (came, has_come) = sync_channel(1);
    let (go_on, may_go_on) = sync_channel(1);
    let (came, may_go_on) = (Mutex::new(came), Mutex::new(may_go_on));
    let icap = Icap::start(move |m| {
        if m.method == "REQMOD" && m.heads.starts_with("POST ") {
            came.lock().unwrap().send(()).unwrap();
            may_go_on.lock().unwrap().recv().unwrap();
        }
        Verdict::Pass
    });
    let (gateway, _dir) = gateway(&origin, &icap.settings());
    let mut sender = connect(&gateway, &origin).await;
    let (response, _) = sender.send_request(request(&origin, "POST", "/"), true).unwrap();
    let response = tokio::spawn(response);
    let waited = tokio::task::spawn_blocking(move || has_come.recv_timeout(support::PATIENCE));
    waited.await.unwrap().unwrap();
    soon("going away", get(&sender, &origin, "/goaway")).await.unwrap();
    // The first connection takes no more streams, sooner or later.
    while soon("an answer", get(&sender, &origin, "/1")).await.unwrap().1 != b"http1" {}
    go_on.send(()).unwrap();
    assert_eq!(soon("its answer", response).await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_may_answer_with_absolute_targets() {
    let origin = Origin::start(3, numbered()).await;
    let to = origin.address.port();
    for scheme in ["http", "https", "HTTP"] {
        let icap = Icap::start(move |m| match m.heads.strip_prefix("GET /") {
            Some(rest) if m.method == "REQMOD" => {
                Verdict::Change(format!("GET {scheme}://localhost:{to}/{rest}"))
            }
            _ => Verdict::Pass,
        });
        let (gateway, _dir) = gateway(&origin, &icap.settings());
        let sender = connect(&gateway, &origin).await;
        let (status, came) = soon("an answer", get(&sender, &origin, "/1")).await.unwrap();
        assert!(status == 200 && came == content(1), "{scheme}: {status}");
    }
}

/// A request that its client withdraws once the origin has it.
async fn withdraw(origin: &Origin, sender: &h2::client::SendRequest<Bytes>) {
    let before = origin.reached();
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, mut stream) =
        sender.send_request(request(origin, "GET", "/slow"), true).unwrap();
    soon("the origin to be asked", async {
        while origin.reached() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_withdrawn_stream_is_no_other_streams() {
    let origin = Origin::start(1, numbered()).await;
    let (gateway, _dir) = gateway(&origin, "");
    let sender = connect(&gateway, &origin).await;
    assert_eq!(soon("going away", get(&sender, &origin, "/goaway")).await.unwrap().0, 200);
    withdraw(&origin, &sender).await;
    assert_eq!(gateway.transactions(2)[1]["outcome"], "client-gone");
    let (status, body) = soon("HTTP/1", get(&sender, &origin, "/next")).await.unwrap();
    assert_eq!((status, body.as_slice()), (200, &b"http1"[..]));
}

/// Extended CONNECT (RFC 8441), as soon as the gateway has said that it may be used.
async fn ask_for_a_tunnel(
    origin: &Origin,
    sender: h2::client::SendRequest<Bytes>,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let patience = tokio::time::Instant::now() + support::PATIENCE;
    while !sender.is_extended_connect_protocol_enabled() {
        assert!(tokio::time::Instant::now() < patience, "extended CONNECT is not offered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut asked = request(origin, "CONNECT", "/chat");
    asked.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    sender.ready().await.unwrap().send_request(asked, false).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_inside_a_stream_is_relayed_and_counted() {
    let origin = Origin::start(
        1,
        handler(|request, mut respond| async move {
            assert_eq!(request.method(), http::Method::CONNECT);
            let mut body = request.into_body();
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                send(&mut stream, data, false).await;
            }
            let _ = stream.send_data(Bytes::new(), true);
        }),
    )
    .await;
    let (gateway, _dir) = gateway(&origin, "");
    let sender = connect(&gateway, &origin).await;
    let (response, mut stream) = ask_for_a_tunnel(&origin, sender).await;
    let response = soon("the head", response).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    send(&mut stream, Bytes::from_static(b"frame"), false).await;
    assert_eq!(soon("an echo", body.data()).await.unwrap().unwrap(), "frame");
    send(&mut stream, Bytes::new(), true).await;
    assert_eq!(soon("the end", collect(body)).await.unwrap(), b"");
    let record = &gateway.transactions(1)[0];
    assert_eq!(
        (&record["outcome"], &record["uninspected"]),
        (&"upgraded".into(), &serde_json::json!(["no-service", "upgrade"]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_tunnel_is_a_response_like_any_other() {
    let origin = Origin::start(
        1,
        handler(|request, mut respond| async move {
            assert_eq!(request.method(), http::Method::CONNECT);
            let head = http::Response::builder().status(403).body(()).unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            send(&mut stream, Bytes::from_static(b"no, but here is MALWARE"), true).await;
        }),
    )
    .await;
    let icap = Icap::start(|m| match m.body.ends_with(b"MALWARE") {
        true => Verdict::Block,
        false => Verdict::Pass,
    });
    let (gateway, _dir) = gateway(&origin, &icap.settings());
    let sender = connect(&gateway, &origin).await;
    let (response, _stream) = ask_for_a_tunnel(&origin, sender).await;
    let response = soon("the head", response).await.unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(soon("the end", collect(response.into_body())).await.unwrap(), b"blocked");
    assert_eq!(gateway.transactions(1)[0]["outcome"], "blocked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_is_let_go_and_so_is_the_origin() {
    let (told, mut hears) = tokio::sync::mpsc::channel(1);
    let origin = Origin::start(
        1,
        handler(move |_, mut respond| {
            let told = told.clone();
            async move {
                let reason = poll_fn(|cx| respond.poll_reset(cx)).await;
                told.send(reason).await.unwrap();
            }
        }),
    )
    .await;
    let (gateway, _dir) = gateway(&origin, "");
    let sender = connect(&gateway, &origin).await;
    withdraw(&origin, &sender).await;
    soon("the reset to reach the origin", hears.recv()).await.unwrap().unwrap();
    assert_eq!(gateway.transactions(1)[0]["outcome"], "client-gone");
}
