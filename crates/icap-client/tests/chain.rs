//! Services in series: what each sees, what is carried on, who may be left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use icap_client::{
    Adapted, Answers, Chain, ChainConfig, Chains, Did, Fail, FailPolicy, Filter, ServiceConfig,
    Shown, Size,
};

/// A server with one method at each of two URLs, as E2Guardian is: every request is answered with a
/// page, and no response is taken whose request did not come by.
async fn halves() -> Server {
    serve(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let half = if request.uri.ends_with("/request") { "REQMOD" } else { "RESPMOD" };
            match request.method {
                Some(icap::Method::Options) => {
                    let lines = format!("Methods: {half}\r\nISTag: \"t\"\r\nAllow: 204\r\n");
                    peer.send(options_reply(&lines)).await;
                }
                Some(icap::Method::Reqmod) => {
                    peer.send(reply("res", "HTTP/1.1 403 No\r\n\r\n", Some(b"page"))).await;
                }
                _ => peer.send("ICAP/1.0 418 No\r\n\r\n").await,
            }
        }
    })
    .await
}

/// A service that adds its mark to the end of a body.
async fn marking(mark: &'static str) -> Server {
    serve_requests(OPTIONS_204, move |mut peer, request| async move {
        let (kind, head) = match request.method {
            Some(icap::Method::Respmod) => ("res", &request.res_hdr),
            _ => ("req", &request.req_hdr),
        };
        let head = std::str::from_utf8(head).unwrap();
        let body = [&request.body[..], mark.as_bytes()].concat();
        peer.send(reply(kind, head, Some(&body))).await;
        Some(peer)
    })
    .await
}

async fn passing() -> Server {
    serve_requests(OPTIONS_204, |mut peer, _| async move {
        peer.send(PASS).await;
        Some(peer)
    })
    .await
}

async fn blocking() -> Server {
    serve_requests(OPTIONS_204, |mut peer, _| async move {
        let lines = "X-Violations-Found: 1\r\nX-Response-Info: blocked\r\nX-Signature-Id: 7\r\n";
        peer.send(reply_with(lines, "res", "HTTP/1.1 403 No\r\n\r\n", Some(b"page"))).await;
        Some(peer)
    })
    .await
}

fn named(name: &str, server: &Server) -> ServiceConfig {
    ServiceConfig::new(name, server.url())
}

#[tokio::test]
async fn each_sees_the_last_ones_result() {
    let servers = [marking("-a").await, marking("-b").await, passing().await, marking("-c").await];
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let chain = Chain::from_urls(&urls).unwrap();
    let got = forward(&chain, post(4), full(b"body")).await;
    assert_eq!(got.body, b"body-a-b-c");
    let got = respmod(&chain, ok(4), full(b"body")).await;
    let did: Vec<_> = got.trail.steps.iter().map(|s| s.did).collect();
    assert_eq!(did, [Did::Adapted, Did::Adapted, Did::Passed, Did::Adapted]);
    assert_eq!(collect(got.body).await.unwrap().0, b"body-a-b-c");
}

#[tokio::test]
async fn long_bodies_stream_through_all() {
    let servers = [marking("-a").await, marking("-b").await, marking("-c").await];
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let chain = Chain::from_urls(&urls).unwrap();
    let body = noise(10 << 20);
    let got = forward(&chain, post(body.len()), full(&body)).await;
    assert!(got.body == [&body[..], b"-a-b-c"].concat());
}

#[tokio::test]
async fn a_block_ends_the_chain() {
    let (first, block, last) = (marking("-a").await, blocking().await, marking("-b").await);
    let services = [named("first", &first), named("block", &block), named("last", &last)];
    let names = ["first", "block", "last"].map(str::to_owned).to_vec();
    let config = ChainConfig { answers: Answers::Pass, ..ChainConfig::new("x", names) };
    let chains = Chains::from_config(&services, &[config]).unwrap();
    let chain = chains.chain("x").unwrap();
    match reqmod(chain, post(4), full(b"body")).await {
        Ok(Adapted::Respond { by, block, body, trail, .. }) => {
            assert_eq!(&*by, "block");
            assert_eq!(block.unwrap().signature_id.as_deref(), Some("7"));
            assert_eq!(collect(body).await.unwrap().0, b"page");
            assert_eq!(trail.steps.len(), 2);
        }
        _ => panic!("the page must be the answer"),
    }
    let got = respmod(chain, ok(4), full(b"body")).await;
    assert_eq!(&*got.blocked_by.unwrap().service, "block");
    assert_eq!(collect(got.body).await.unwrap().0, b"page");
    assert_eq!(last.connections(), 0);
    let metrics = chain.services().nth(1).unwrap().metrics();
    assert_eq!(metrics.blocked.value(), 2);
}

#[tokio::test]
async fn only_answers_that_are_blocks_count_as_such() {
    for (head, account, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "", 0),
        ("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", "", 0),
        ("HTTP/1.1 302 Found\r\nLocation: /why\r\n\r\n", "X-Response-Info: blocked\r\n", 1),
        ("HTTP/1.1 403 No\r\n\r\n", "", 1),
    ] {
        let server = serve_requests(OPTIONS_204, move |mut peer, _| async move {
            peer.send(reply_with(account, "res", head, Some(b"page"))).await;
            Some(peer)
        })
        .await;
        let chain = Chain::from_urls(&[server.url()]).unwrap();
        match reqmod(&chain, get(), None).await {
            Ok(Adapted::Respond { body, .. }) => {
                assert_eq!(collect(body).await.unwrap().0, b"page");
            }
            _ => panic!("the page must be the answer"),
        }
        let metrics = chain.services().next().unwrap().metrics();
        assert_eq!((metrics.adapted.value(), metrics.blocked.value()), (1, expected), "{head}");
    }
}

#[tokio::test]
async fn an_answer_is_shown_to_others_but_not_to_the_other_half_of_who_gave_it() {
    let (halves, other) = (halves().await, marking("-seen").await);
    let url = |half: &str| format!("icap://{}/{half}", halves.addr);
    let pair = Chain::from_urls(&[url("request"), url("response")]).unwrap();
    match reqmod(&pair, get(), None).await {
        Ok(Adapted::Respond { body, shown: Shown::Alone, .. }) => {
            assert_eq!(collect(body).await.unwrap().0, b"page");
        }
        _ => panic!("the page must be the answer, and nobody else is there to see it"),
    }
    let three = Chain::from_urls(&[url("request"), url("response"), other.url()]).unwrap();
    match reqmod(&three, get(), None).await {
        Ok(Adapted::Respond { body, shown: Shown::Others(trail), .. }) => {
            assert_eq!(collect(body).await.unwrap().0, b"page-seen");
            assert_eq!(trail.steps.len(), 1);
        }
        _ => panic!("the page must be shown to the other one"),
    }
    // One of another server is no half of it, whatever its methods.
    let elsewhere = self::halves().await;
    let stranger =
        Chain::from_urls(&[url("request"), format!("icap://{}/response", elsewhere.addr)]);
    assert!(reqmod(&stranger.unwrap(), get(), None).await.is_err());
}

#[tokio::test]
async fn shared_headers_reach_later_services_and_the_response() {
    let first = serve_requests(OPTIONS_204, |mut peer, request| async move {
        match (request.method, request.header("X-ICAP-E2G")) {
            (Some(icap::Method::Respmod), None) => peer.send("ICAP/1.0 418 No\r\n\r\n").await,
            _ => peer.send("ICAP/1.0 204 No\r\nX-ICAP-E2G: -,G,0\r\nX-Private: 1\r\n\r\n").await,
        }
        Some(peer)
    })
    .await;
    let second = serve_requests(OPTIONS_204, |mut peer, request| async move {
        assert_eq!(request.header("X-ICAP-E2G").as_deref(), Some("-,G,0"));
        assert_eq!(request.header("X-Private"), None);
        peer.send(PASS).await;
        Some(peer)
    })
    .await;
    let chain = Chain::from_urls(&[first.url(), second.url()]).unwrap();
    let info = info();
    forward_as(&chain, &info, get(), None).await;
    chain.respmod(&info, &get(), ok(0), None).await.expect("the header was carried over");
    // Another transaction shares nothing with it.
    assert!(chain.respmod(&common::info(), &get(), ok(0), None).await.is_err());
}

#[tokio::test]
async fn x_next_services_decides_what_follows_where_it_may() {
    let first = serve_requests(OPTIONS_204, |mut peer, _| async move {
        peer.send("ICAP/1.0 204 No\r\nX-Next-Services: c, nobody\r\n\r\n").await;
        Some(peer)
    })
    .await;
    let (b, c) = (marking("-b").await, marking("-c").await);
    for (routing, body) in [(true, &b"body-c"[..]), (false, b"body-b")] {
        let mut a = named("a", &first);
        a.routing = routing;
        let chains = Chains::from_config(
            &[a, named("b", &b), named("c", &c)],
            &[ChainConfig::new("x", vec!["a".into(), "b".into()])],
        )
        .unwrap();
        let got = forward(chains.chain("x").unwrap(), post(4), full(b"body")).await;
        assert_eq!(got.body, body);
    }
}

#[tokio::test]
async fn services_that_route_to_each_other_come_to_an_end() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let server = serve_requests(OPTIONS_204, move |mut peer, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            peer.send("ICAP/1.0 204 No\r\nX-Next-Services: a\r\n\r\n").await;
            Some(peer)
        }
    })
    .await;
    let mut a = named("a", &server);
    a.routing = true;
    let chain = Chain::from_services(&[a]).unwrap();
    let failure = reqmod(&chain, get(), None).await.err().unwrap();
    assert!(failure.to_string().contains("longer than 16"), "{failure}");
    assert_eq!(count.load(Ordering::SeqCst), 16);
}

#[tokio::test]
async fn what_nobody_has_seen_is_counted() {
    let server =
        serve_requests("Methods: REQMOD\r\nISTag: \"t\"\r\n", |mut peer, request| async move {
            peer.send(echo(&request)).await;
            Some(peer)
        })
        .await;
    let chain = chain(&server);
    forward(&chain, get(), None).await;
    assert_eq!(chain.unseen().value(), 0);
    let got = respmod(&chain, ok(3), full(b"abc")).await;
    assert!(!got.trail.is_inspected());
    assert_eq!(chain.unseen().value(), 1);
    let metrics = chain.services().next().unwrap().metrics();
    assert_eq!((metrics.transactions.value(), metrics.ignored.value()), (1, 0));
}

#[tokio::test]
async fn a_message_that_was_cleaned_goes_on_to_the_others() {
    let cleaner = serve_requests(OPTIONS_204, |mut peer, _| async move {
        let lines = "X-Infection-Found: Type=0; Resolution=1; Threat=x;\r\n";
        peer.send(reply_with(lines, "res", "HTTP/1.1 200 OK\r\n\r\n", Some(b"clean"))).await;
        Some(peer)
    })
    .await;
    let last = marking("-b").await;
    let chain = Chain::from_services(&[named("a", &cleaner), named("b", &last)]).unwrap();
    let got = respmod(&chain, ok(4), full(b"body")).await;
    assert!(got.blocked_by.is_none());
    assert_eq!(collect(got.body).await.unwrap().0, b"clean-b");
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_nothing_behind() {
    let server = serve_requests(OPTIONS_204, |peer, _| async move {
        std::future::pending::<()>().await;
        Some(peer)
    })
    .await;
    let chain = chain(&server);
    let info = info();
    let waiting = chain.reqmod(&info, post(3), full(b"abc"));
    assert!(tokio::time::timeout(Duration::from_millis(100), waiting).await.is_err());
    let metrics = chain.services().next().unwrap().metrics();
    assert_eq!(metrics.active.value(), 0);
    assert_eq!(metrics.connections.value(), 0);
}

#[tokio::test]
async fn filters_decide_what_goes_where() {
    let server = marking("-a").await;
    let with = |set: &dyn Fn(&mut ServiceConfig)| {
        let mut config = named("a", &server);
        set(&mut config);
        Chain::from_services(&[config]).unwrap()
    };
    let host = |host: &str| vec![Filter { host: vec![host.into()], ..Filter::default() }];
    let sent = |chain: Chain| async move {
        forward(&chain, post(4), full(b"body")).await.body == b"body-a"
    };
    assert!(sent(with(&|c| c.only = host("*.test"))).await);
    assert!(!sent(with(&|c| c.only = host("other.test"))).await);
    assert!(!sent(with(&|c| c.except = host("o.test"))).await);
    let sized = |min, max| {
        vec![Filter { min_size: Some(Size(min)), max_size: Some(Size(max)), ..Filter::default() }]
    };
    assert!(sent(with(&|c| c.only = sized(4, 4))).await);
    assert!(!sent(with(&|c| c.only = sized(5, 9))).await);
    let method = |m: &str| vec![Filter { method: vec![m.into()], ..Filter::default() }];
    assert!(sent(with(&|c| c.only = method("POST"))).await);
    assert!(!sent(with(&|c| c.only = method("GET"))).await);
    let path = |p: &str| vec![Filter { path: vec![p.into()], ..Filter::default() }];
    assert!(sent(with(&|c| c.only = path("/a"))).await);
    assert!(!sent(with(&|c| c.except = path("/"))).await);
}

#[tokio::test]
async fn of_several_content_types_one_that_is_looked_at_is_enough() {
    let server = marking("-a").await;
    let images = || vec![Filter { content_type: vec!["image/*".into()], ..Filter::default() }];
    let pages = || vec![Filter { content_type: vec!["text/html".into()], ..Filter::default() }];
    let (png, html) = ("Content-Type: image/png\r\n", "Content-Type: text/html; a=b\r\n");
    let list = "Content-Type: image/png, text/html\r\n";
    for (types, except_images, only_pages) in [
        (String::new(), true, false),
        (png.to_owned(), false, false),
        (png.repeat(2), false, false),
        (html.to_owned(), true, true),
        (format!("{png}{html}"), true, true),
        (format!("{html}{png}"), true, true),
        (list.to_owned(), true, true),
    ] {
        for (only, except, expected) in
            [(vec![], images(), except_images), (pages(), vec![], only_pages)]
        {
            let mut config = named("a", &server);
            (config.only, config.except) = (only, except);
            let chain = Chain::from_services(&[config]).unwrap();
            let head = response(&format!("HTTP/1.1 200 OK\r\n{types}Content-Length: 4\r\n\r\n"));
            let got = respmod(&chain, head, full(b"body")).await;
            assert_eq!(got.trail.is_inspected(), expected, "{types}");
            let marked = collect(got.body).await.unwrap().0 == b"body-a";
            assert_eq!(marked, expected, "{types}");
        }
    }
}

#[tokio::test]
async fn a_monitor_gets_a_copy_and_changes_nothing() {
    let (sender, mut copies) = tokio::sync::mpsc::channel(8);
    let monitor = serve_requests(OPTIONS_204, move |mut peer, request| {
        let sender = sender.clone();
        async move {
            peer.send(reply("res", "HTTP/1.1 403 No\r\n\r\n", Some(b"page"))).await;
            let _ = sender.send(request).await;
            Some(peer)
        }
    })
    .await;
    let last = marking("-b").await;
    let mut config = named("monitor", &monitor);
    config.monitor = true;
    let chain = Chain::from_services(&[config, named("last", &last)]).unwrap();
    let body = noise(500_000);
    let got = forward(&chain, post(body.len()), full(&body)).await;
    assert!(got.body == [&body[..], b"-b"].concat());
    let copy = tokio::time::timeout(PATIENCE, copies.recv()).await.unwrap().unwrap();
    assert!(copy.body == body);
    assert_eq!(copy.req_hdr, post(body.len()).bytes());
}

#[tokio::test]
async fn a_monitor_that_hangs_holds_nothing_up() {
    let monitor = serve(|mut peer| async move {
        if peer.head().await.is_some() {
            peer.send(options_reply(OPTIONS_204)).await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let mut config = named("monitor", &monitor);
    config.monitor = true;
    let chain = Chain::from_services(&[config]).unwrap();
    let body = noise(4096);
    // More pieces than a copy may lag behind.
    for _ in 0..3 {
        let pieces = (0..5000).map(|_| body.clone().into());
        let source = icap_client::Full::new(pieces, None).boxed();
        let got = forward(&chain, post(5000 * 4096), Some(source)).await;
        assert_eq!(got.body.len(), 5000 * 4096);
        assert_eq!(got.bypassed, 0);
    }
    assert!(chain.services().next().unwrap().metrics().monitor_lost.value() > 0);
}

#[tokio::test]
async fn copies_for_a_monitor_that_hangs_stay_within_its_memory() {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let monitor = serve(move |mut peer| {
        let mut stopped = stopped.clone();
        async move {
            if peer.head().await.is_some() {
                peer.send(options_reply(OPTIONS_204)).await;
            }
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    })
    .await;
    let mut config = named("monitor", &monitor);
    config.monitor = true;
    config.monitor_memory = Size(200_000);
    let chain = Chain::from_services(&[config]).unwrap();
    let metrics = chain.services().next().unwrap().metrics();
    let body = noise(65536);
    for n in 1..=20 {
        // Of a known length and of an unknown one, which says nothing of what is to be held.
        let (frames, source) = match n % 2 {
            0 => (None, full(&body)),
            _ => {
                let (frames, source) = channel();
                frames.send(data(&body)).await.unwrap();
                (Some(frames), source)
            }
        };
        drop(frames);
        let got = forward(&chain, post(body.len()), source).await;
        assert!(got.body == body);
        let held = metrics.monitor_bytes.value();
        assert!((1..=200_000).contains(&held), "{held} bytes held after {n} messages");
    }
    assert!(metrics.monitor_lost.value() >= 16, "{} lost", metrics.monitor_lost.value());
    stop.send(true).unwrap();
    let given_back = async {
        while metrics.monitor_bytes.value() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.expect("nothing held any more");
}

#[tokio::test]
async fn one_that_fails_open_leaves_the_others_at_work() {
    let (a, c) = (marking("-a").await, marking("-c").await);
    let mut b = ServiceConfig::new("b", "icap://127.0.0.1:1/none");
    b.fail = FailPolicy { connect: Fail::Open, ..FailPolicy::default() };
    let chain = Chain::from_services(&[named("a", &a), b, named("c", &c)]).unwrap();
    let got = forward(&chain, post(4), full(b"body")).await;
    assert_eq!(got.body, b"body-a-c");
    assert_eq!(got.bypassed, 1);
    let metrics = chain.services().nth(1).unwrap().metrics();
    assert_eq!(metrics.unadapted_bytes.value(), 6);
}

#[tokio::test]
async fn a_later_failure_is_told_with_its_name() {
    let a = marking("-a").await;
    let b = ServiceConfig::new("b", "icap://127.0.0.1:1/none");
    let chain = Chain::from_services(&[named("a", &a), b]).unwrap();
    let failure = reqmod(&chain, post(4), full(b"body")).await.err().unwrap();
    assert_eq!(&**failure.service(), "b");
    assert!(failure.to_string().contains("127.0.0.1:1"), "{failure}");
}

#[tokio::test]
async fn an_empty_chain_hands_everything_back() {
    let got = forward(&Chain::empty(), post(4), full(b"body")).await;
    assert!(!got.changed && got.body == b"body");
}

#[tokio::test]
async fn facts_go_to_the_service_as_it_may_know_them() {
    use icap_client::Identity;
    let include =
        "Methods: REQMOD\r\nISTag: \"t\"\r\nX-Include: X-Client-IP, X-Authenticated-User\r\n";
    for identity in [Identity::Full, Identity::Asked, Identity::None] {
        let (sender, mut requests) = tokio::sync::mpsc::channel(8);
        let server = serve_requests(include, move |mut peer, request| {
            let sender = sender.clone();
            async move {
                peer.send(echo(&request)).await;
                let _ = sender.send(request).await;
                Some(peer)
            }
        })
        .await;
        let mut config = named("a", &server);
        config.identity = identity;
        let chain = Chain::from_services(&[config]).unwrap();
        let mut info = info();
        info.client = Some("[::ffff:192.0.2.1]:5".parse().unwrap());
        info.server = Some("[2001:db8::1]:443".parse().unwrap());
        info.username = Some("eve\r\nX-Evil: 1".into());
        info.stream_id = Some(3);
        forward_as(&chain, &info, get(), None).await;
        let sent = requests.recv().await.unwrap();
        let full = identity == Identity::Full;
        let some = identity != Identity::None;
        assert_eq!(sent.header("X-Client-IP").as_deref(), some.then_some("192.0.2.1"));
        assert_eq!(sent.header("X-Server-IP").as_deref(), full.then_some("2001:db8::1"));
        assert_eq!(sent.header("X-Client-Port").as_deref(), full.then_some("5"));
        assert_eq!(sent.header("X-Server-Port").as_deref(), full.then_some("443"));
        assert_eq!(sent.header("X-Proto").as_deref(), full.then_some("http"));
        assert_eq!(sent.header("X-Connection-Id").as_deref(), full.then_some("connection-1"));
        assert_eq!(sent.header("X-Transaction-Id").as_deref(), full.then_some("transaction-1"));
        assert_eq!(sent.header("X-Stream-Id").as_deref(), full.then_some("3"));
        assert_eq!(sent.header("X-Authenticated-User").is_some(), some);
        assert_eq!(sent.header("X-Evil"), None);
        assert_eq!(sent.header("X-Client-Username"), None);
    }
}

#[tokio::test]
async fn codings_and_overlaps_are_what_services_say_and_are_told() {
    let methods = "Methods: REQMOD\r\nISTag: \"t\"\r\n";
    for (ours, decoded) in [
        ("", ["gzip", "deflate"].as_slice()),
        ("X-Meergate: raw-heads, hold=10\r\n", &["gzip", "deflate"]),
        ("X-Meergate: raw-heads, decodes=gzip+br+zstd\r\n", &["gzip", "br", "zstd"]),
    ] {
        let (sender, mut requests) = tokio::sync::mpsc::channel(8);
        let options: &'static str = format!("{methods}{ours}").leak();
        let server = serve_requests(options, move |mut peer, request| {
            let sender = sender.clone();
            async move {
                peer.send(echo(&request)).await;
                let _ = sender.send(request).await;
                Some(peer)
            }
        })
        .await;
        let chain = Chain::from_services(&[named("a", &server)]).unwrap();
        // Before it has said anything.
        assert!(chain.decodes_requests(b"gzip") && !chain.decodes_requests(b"br"));
        let mut info = info();
        info.range_overlap = Some(65_536);
        forward_as(&chain, &info, get(), None).await;
        let told = requests.recv().await.unwrap().header("X-Range-Overlap");
        assert_eq!(told.as_deref(), (!ours.is_empty()).then_some("65536"));
        for coding in ["gzip", "deflate", "br", "zstd", "dcb"] {
            let expected = decoded.contains(&coding);
            assert_eq!(chain.decodes_requests(coding.as_bytes()), expected, "{ours} {coding}");
            // It has no part in responses, so it stands in nobody's way.
            assert!(chain.decodes_responses(coding.as_bytes()));
        }
    }
}

#[tokio::test]
async fn our_inspector_gets_heads_as_they_were_and_every_body_may_be_passed() {
    let options =
        "Methods: REQMOD\r\nISTag: \"t\"\r\nAllow: 204\r\nX-Meergate: raw-heads, hold=65536\r\n";
    let head = request(
        "POST /a HTTP/1.1\r\nhOST:  o.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let raw = head.bytes().clone();
    let server = serve(move |mut peer| {
        let raw = raw.clone();
        async move {
            while let Some(mut request) = peer.head().await {
                if request.method == Some(icap::Method::Options) {
                    peer.send(options_reply(options)).await;
                    continue;
                }
                assert_eq!(request.req_hdr, raw);
                assert_eq!(request.header("Allow").as_deref(), Some("204, trailers"));
                // Holds 64 KiB, then starts to answer.
                let mut going = true;
                while going && request.body.len() < 65536 {
                    going = peer.piece(&mut request).await == Some(true);
                }
                if !going {
                    peer.send(PASS).await;
                    continue;
                }
                let head = request.req_hdr.len();
                peer.send(format!(
                    "ICAP/1.0 200 OK\r\nEncapsulated: req-hdr=0, req-body={head}\r\n\r\n"
                ))
                .await;
                peer.send(&request.req_hdr).await;
                let mut sent = 0;
                loop {
                    let mut chunk = Vec::new();
                    icap::encode_chunk(&mut chunk, &request.body[sent..]);
                    sent = request.body.len();
                    peer.send(chunk).await;
                    if peer.piece(&mut request).await != Some(true) {
                        break;
                    }
                }
                peer.send("0\r\n\r\n").await;
            }
        }
    })
    .await;
    let chain = Chain::from_services(&[named("inspector", &server)]).unwrap();
    for size in [0, 1, 65535, 65536, 65537, 400_000, 5 << 20] {
        let body = noise(size);
        let (frames, source) = channel();
        let feed = async {
            for piece in body.chunks(30_000) {
                frames.send(data(piece)).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(frames);
        };
        let (got, ()) = tokio::join!(forward(&chain, head.clone(), source), feed);
        assert!(got.body == body, "{size}");
        assert_eq!(got.head.bytes(), head.bytes());
        assert_eq!(got.changed, size >= 65536, "{size}");
    }
    assert_eq!(server.connections(), 1, "it is kept");
}

#[tokio::test]
async fn an_announced_length_is_kept_and_held_to() {
    let options = "Methods: REQMOD\r\nISTag: \"t\"\r\nX-Meergate: raw-heads, hold=10\r\n";
    for (announced, sent, whole) in
        [(300_000, 300_000, true), (300_000, 299_999, false), (300_000, 300_001, false)]
    {
        let server = serve_requests(options, move |mut peer, request| async move {
            let mut request = request;
            request.body = noise(sent);
            let whole = echo(&request);
            // The head first, so that the end is not in sight with it.
            peer.send(&whole[..1000]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            peer.send(&whole[1000..]).await;
            Some(peer)
        })
        .await;
        let chain = Chain::from_services(&[named("inspector", &server)]).unwrap();
        let (frames, source) = channel();
        frames.send(data(b"abc")).await.unwrap();
        drop(frames);
        match reqmod(&chain, post(announced), source).await {
            Ok(Adapted::Forward { head, body, .. }) => {
                assert_eq!(head.bytes(), post(announced).bytes());
                assert_eq!(body.as_ref().unwrap().exact_length(), Some(announced as u64));
                assert_eq!(collect(body).await.is_ok(), whole, "{sent}");
            }
            _ => panic!("the request must go on"),
        }
    }
}

#[test]
fn settings_that_can_not_work_are_refused_with_a_reason() {
    let service = |text: &str| toml::from_str::<ServiceConfig>(text);
    let good = service(
        "name = 'a'\nurl = ['icap://h/a', 'unix:/run/a.sock:/a']\nmethods = ['respmod']\n\
         fail = { connect = 'open' }\non_overload = 'force'\nbalance = 'least-outstanding'\n\
         keep_copy = '2MiB'\ntimeouts = { answer = '90s', idle = 5 }\nonly = [{ host = ['*.test'] }]\n\
         health = { failures = 1 }\nshare = ['X-A']\n",
    )
    .unwrap();
    assert_eq!(good.keep_copy, Size(2 << 20));
    assert_eq!(good.timeouts.answer.0, Duration::from_secs(90));
    assert_eq!(good.fail.connect, Fail::Open);
    assert_eq!(good.fail.error, Fail::Closed);
    for (text, says) in [
        ("name = 'a'\nurl = 'icap://h'\nbypas = true", "bypas"),
        ("name = 'a'", "url"),
        ("name = 'a'\nurl = 'icap://h'\nfail = 'maybe'", "closed"),
        ("name = 'a'\nurl = 'icap://h'\nkeep_copy = '1MB'", "64KiB"),
        ("name = 'a'\nurl = 'icap://h'\ntimeouts = { answer = 'long' }", "10s"),
        ("name = 'a'\nurl = 'icap://h'\nonly = [{ client = ['10.0.0.0/40'] }]", "10.0.0.0/8"),
    ] {
        let error = service(text).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let chains = |services: &[ServiceConfig], names: &[&str]| {
        let services_of = names.iter().map(|n| (*n).to_owned()).collect();
        let chain = ChainConfig::new("x", services_of);
        Chains::from_config(services, &[chain]).map(|_| ()).unwrap_err().to_string()
    };
    let a = ServiceConfig::new("a", "icap://h/a");
    assert!(chains(std::slice::from_ref(&a), &["b"]).contains("no service \"b\""));
    assert!(chains(&[a.clone(), a.clone()], &[]).contains("twice"));
    assert!(chains(std::slice::from_ref(&a), &["a"; 17]).contains("at most 16"));
    let error = chains(&[ServiceConfig::new("a", "http://h/a")], &[]);
    assert!(error.contains("icap://host:port/service"), "{error}");
}
