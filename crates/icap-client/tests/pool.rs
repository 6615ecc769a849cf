//! Connections: kept, preferred, limited, found stale; endpoints: balanced, left alone, revived.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use icap_client::{
    Adapted, Balance, Chain, Fail, FailPolicy, FailureKind, OnOverload, Span, TransactionInfo,
};

async fn passing(options: &'static str) -> Server {
    serve_requests(options, |mut peer, request| async move {
        peer.send(pass(&request)).await;
        Some(peer)
    })
    .await
}

fn from(connection: usize, transaction: usize) -> TransactionInfo {
    TransactionInfo::new("http", format!("c{connection}"), format!("t{transaction}"))
}

#[tokio::test]
async fn transactions_of_one_client_connection_stay_together() {
    // Which ICAP connection each client connection's transactions came by.
    let seen: Arc<Mutex<HashMap<String, HashSet<usize>>>> = Arc::default();
    let record = seen.clone();
    let server = serve_requests(OPTIONS_204, move |mut peer, request| {
        let client = request.header("X-Connection-Id").unwrap();
        record.lock().unwrap().entry(client).or_default().insert(peer.number);
        async move {
            peer.send(pass(&request)).await;
            Some(peer)
        }
    })
    .await;
    let chain = chain(&server);
    // Five at once, so that there are five connections.
    let mut frames = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..5 {
        let (sender, body) = channel();
        sender.send(data(b"abc")).await.unwrap();
        frames.push(sender);
        let chain = chain.clone();
        tasks.spawn(
            async move { forward_as(&chain, &from(client, 0), post(3), body).await.bypassed },
        );
    }
    while server.connections() < 5 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(frames);
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap(), 0);
    }
    for round in 1..20 {
        for client in [3, 1, 4, 0, 2] {
            forward_as(&chain, &from(client, round), get(), None).await;
        }
    }
    for (client, connections) in seen.lock().unwrap().iter() {
        assert_eq!(connections.len(), 1, "{client} moved");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_loop_keeps_to_its_own_connections_while_it_may_open_some() {
    for (max_connections, expected) in [(None, 2), (Some(1), 1)] {
        let server = passing(OPTIONS_204).await;
        let mut config = config(&server);
        config.max_connections = max_connections;
        let chain = Chain::from_services(&[config]).unwrap();
        forward(&chain, get(), None).await;
        forward(&chain, get(), None).await;
        assert_eq!(server.connections(), 1);
        let elsewhere = std::thread::spawn(move || {
            let event_loop = tokio::runtime::Builder::new_current_thread().enable_all().build();
            event_loop.unwrap().block_on(async {
                forward(&chain, get(), None).await;
                forward(&chain, get(), None).await;
            });
        });
        elsewhere.join().unwrap();
        assert_eq!(server.connections(), expected, "at most {max_connections:?}");
    }
}

#[tokio::test]
async fn connections_are_not_taken_from_clients_that_are_there_while_more_may_be_opened() {
    let server = passing(OPTIONS_204).await;
    let mut config = config(&server);
    config.idle_connections = Some(3);
    let chain = Chain::from_services(&[config]).unwrap();
    let clients: Vec<_> = (0..4).map(|client| from(client, 0)).collect();
    for _ in 0..3 {
        for client in &clients[..3] {
            forward_as(&chain, client, get(), None).await;
        }
        assert_eq!(server.connections(), 3);
    }
    // No more are kept anyway, so one of them serves the fourth.
    forward_as(&chain, &clients[3], get(), None).await;
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once() {
    // Each connection is closed after one answer, without a word.
    let server = serve(|mut peer| async move {
        if let Some(request) = peer.request().await {
            match request.method {
                Some(icap::Method::Options) => peer.send(options_reply(OPTIONS_204)).await,
                _ => peer.send(PASS).await,
            }
        }
    })
    .await;
    let chain = chain(&server);
    for _ in 0..20 {
        forward(&chain, post(3), full(b"abc")).await;
    }
}

#[tokio::test]
async fn a_connection_lost_with_the_request_is_tried_again_once() {
    for losses in [1, 2] {
        let lost = Arc::new(AtomicUsize::new(0));
        let counter = lost.clone();
        let server = serve_requests(OPTIONS_204, move |mut peer, request| {
            let counter = counter.clone();
            async move {
                if counter.fetch_add(1, Ordering::SeqCst) < losses {
                    return None;
                }
                assert_eq!(request.body, b"abc");
                peer.send(PASS).await;
                Some(peer)
            }
        })
        .await;
        let chain = chain(&server);
        let outcome = reqmod(&chain, post(3), full(b"abc")).await;
        match losses {
            1 => assert!(outcome.is_ok()),
            _ => assert_eq!(outcome.err().map(|f| f.kind()), Some(FailureKind::Closed)),
        }
        assert_eq!(chain.services().next().unwrap().metrics().retries.value(), 1);
    }
}

#[tokio::test]
async fn what_was_answered_in_part_is_not_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = tries.clone();
    let server = serve_requests(OPTIONS_204, move |mut peer, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            peer.send("ICAP/1.0 20").await;
            None
        }
    })
    .await;
    assert!(reqmod(&chain(&server), post(3), full(b"abc")).await.is_err());
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

/// A service with room for one connection, which a first transaction holds.
async fn full_house(on_overload: OnOverload, fail: FailPolicy) -> (Server, Chain, Frames) {
    let options = "Methods: REQMOD\r\nISTag: \"t\"\r\nAllow: 204\r\nMax-Connections: 1\r\n";
    let server = passing(options).await;
    let mut config = config(&server);
    config.on_overload = on_overload;
    config.fail = fail;
    config.timeouts.wait = Span(Duration::from_millis(100));
    let chain = Chain::from_services(&[config]).unwrap();
    let (frames, body) = channel();
    frames.send(data(b"abc")).await.unwrap();
    let holder = chain.clone();
    tokio::spawn(async move {
        let info = from(1, 1);
        let adapted = holder.reqmod(&info, post(3), body).await;
        assert!(adapted.is_ok());
    });
    let metrics = chain.services().next().unwrap();
    while metrics.metrics().reused.value() < 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (server, chain, frames)
}

#[tokio::test]
async fn max_connections_block() {
    let open = FailPolicy::all(Fail::Open);
    let (_server, chain, _frames) = full_house(OnOverload::Block, open).await;
    let outcome = reqmod(&chain, get(), None).await;
    assert_eq!(outcome.err().map(|f| f.kind()), Some(FailureKind::Overload));
}

#[tokio::test]
async fn max_connections_bypass() {
    let (_server, chain, _frames) = full_house(OnOverload::Bypass, FailPolicy::default()).await;
    let got = forward(&chain, get(), None).await;
    assert_eq!(got.bypassed, 1);
}

#[tokio::test]
async fn max_connections_force() {
    let (server, chain, _frames) = full_house(OnOverload::Force, FailPolicy::default()).await;
    assert_eq!(forward(&chain, get(), None).await.bypassed, 0);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn max_connections_wait() {
    let (server, chain, frames) = full_house(OnOverload::Wait, FailPolicy::default()).await;
    let outcome = reqmod(&chain, get(), None).await;
    assert_eq!(outcome.err().map(|f| f.kind()), Some(FailureKind::Overload));
    // The holder comes to its end while another waits.
    let next = chain.clone();
    let info = from(2, 2);
    let (adapted, ()) = tokio::join!(next.reqmod(&info, get(), None), async {
        drop(frames);
    });
    assert!(matches!(adapted, Ok(Adapted::Forward { .. })));
    assert_eq!(server.connections(), 1);
}

/// A transaction of a client that is known by this address.
fn of_client(last: u8, transaction: usize) -> TransactionInfo {
    let mut info = from(usize::from(last), transaction);
    info.client = Some(([192, 0, 2, last], 1000).into());
    info
}

#[tokio::test]
async fn no_client_takes_all_connections() {
    let options = "Methods: REQMOD\r\nISTag: \"t\"\r\nAllow: 204\r\nMax-Connections: 10\r\n";
    let server = passing(options).await;
    let mut config = config(&server);
    config.timeouts.wait = Span(Duration::from_secs(60));
    let chain = Chain::from_services(&[config]).unwrap();
    // Content that comes without end, of one client: all wait, some with a connection.
    let mut frames = Vec::new();
    let mut greedy = tokio::task::JoinSet::new();
    for transaction in 0..30 {
        let (sender, body) = channel();
        sender.send(data(b"abc")).await.unwrap();
        frames.push(sender);
        let chain = chain.clone();
        greedy.spawn(async move {
            let outcome = chain.reqmod(&of_client(1, transaction), post(3), body).await;
            outcome.map(drop)
        });
    }
    while server.connections() < 5 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for transaction in 0..20 {
        forward_as(&chain, &of_client(2, transaction), get(), None).await;
    }
    // Those who are too many for others' good are served in their turn.
    drop(frames);
    while let Some(done) = greedy.join_next().await {
        done.unwrap().unwrap();
    }
    assert!(server.connections() <= 10);
}

#[tokio::test]
async fn a_connection_is_taken_when_content_comes() {
    let options = "Methods: REQMOD\r\nISTag: \"t\"\r\nAllow: 204\r\nMax-Connections: 1\r\n";
    let server = passing(options).await;
    let mut config = config(&server);
    config.timeouts.preview = Span(Duration::from_secs(600));
    let chain = Chain::from_services(&[config]).unwrap();
    let (frames, body) = channel();
    let waiting = {
        let chain = chain.clone();
        tokio::spawn(async move {
            forward_as(&chain, &of_client(1, 0), post(3), body).await;
        })
    };
    while chain.services().next().unwrap().metrics().active.value() < 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for transaction in 1..5 {
        forward_as(&chain, &of_client(1, transaction), get(), None).await;
    }
    frames.send(data(b"abc")).await.unwrap();
    drop(frames);
    waiting.await.unwrap();
}

#[tokio::test]
async fn least_outstanding_takes_turns() {
    let servers =
        [passing(OPTIONS_204).await, passing(OPTIONS_204).await, passing(OPTIONS_204).await];
    let mut config = config(&servers[0]);
    config.url = servers.iter().map(Server::url).collect();
    config.balance = Balance::LeastOutstanding;
    let chain = Chain::from_services(&[config]).unwrap();
    for n in 0..9 {
        forward_as(&chain, &from(0, n), get(), None).await;
    }
    assert!(servers.iter().all(|s| s.connections() == 1));
}

#[tokio::test]
async fn by_client_connection_stays_until_the_endpoint_goes() {
    let seen: Arc<Mutex<HashMap<String, HashSet<usize>>>> = Arc::default();
    let mut servers = Vec::new();
    for number in 0..4 {
        let record = seen.clone();
        servers.push(
            serve_requests(OPTIONS_204, move |mut peer, request| {
                let client = request.header("X-Connection-Id").unwrap();
                record.lock().unwrap().entry(client).or_default().insert(number);
                async move {
                    peer.send(PASS).await;
                    Some(peer)
                }
            })
            .await,
        );
    }
    let mut config = config(&servers[0]);
    config.url = servers.iter().map(Server::url).collect();
    let chain = Chain::from_services(&[config]).unwrap();
    for round in 0..3 {
        for client in 0..64 {
            forward_as(&chain, &from(client, round), get(), None).await;
        }
    }
    let used: HashSet<usize> = seen.lock().unwrap().values().flatten().copied().collect();
    assert_eq!(used.len(), 4, "all take part");
    assert!(seen.lock().unwrap().values().all(|s| s.len() == 1), "nobody moved");
    let gone = servers.pop().unwrap();
    drop(gone);
    for client in 0..64 {
        forward_as(&chain, &from(client, 9), get(), None).await;
    }
    let moved = |s: &HashSet<usize>| s.len() > 1;
    for endpoints in seen.lock().unwrap().values() {
        assert_eq!(moved(endpoints), endpoints.contains(&3), "only its own clients move");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone_and_revived() {
    let sick = Arc::new(AtomicBool::new(true));
    let state = sick.clone();
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = tries.clone();
    let server = serve(move |mut peer| {
        let (state, counter) = (state.clone(), counter.clone());
        async move {
            while let Some(request) = peer.request().await {
                let options = request.method == Some(icap::Method::Options);
                if state.load(Ordering::SeqCst) {
                    counter.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if options {
                    peer.send(options_reply(OPTIONS_204)).await;
                } else {
                    peer.send(PASS).await;
                }
            }
        }
    })
    .await;
    let mut config = config(&server);
    config.health.failures = 3;
    config.health.delay = Span(Duration::from_millis(50));
    config.health.max_delay = Span(Duration::from_millis(50));
    config.health.interval = Span(Duration::from_millis(20));
    let chain = Chain::from_services(&[config]).unwrap();
    let service = chain.services().next().unwrap();
    let up = || service.endpoints().next().unwrap().1;
    for _ in 0..50 {
        let failure = reqmod(&chain, get(), None).await.err().unwrap();
        assert!(matches!(failure.kind(), FailureKind::Closed | FailureKind::Connect));
    }
    assert!(!up());
    assert!(tries.load(Ordering::SeqCst) < 40, "it was left alone");
    sick.store(false, Ordering::SeqCst);
    // Nobody has to try: it is looked after.
    let revived = async {
        while !up() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, revived).await.expect("revived");
    forward(&chain, get(), None).await;
}

#[tokio::test]
async fn answers_that_break_off_do_not_take_the_service_away_from_others() {
    let (break_off, told) = tokio::sync::watch::channel(false);
    let server = serve_requests(OPTIONS_204, move |mut peer, request| {
        let mut told = told.clone();
        async move {
            if !request.has_body {
                peer.send(pass(&request)).await;
                return Some(peer);
            }
            let answer = echo(&request);
            // As when the answer's reader reads nothing for so long that it is given up.
            peer.send(&answer[..answer.len() - 5]).await;
            let _ = told.wait_for(|is_over| *is_over).await;
            None
        }
    })
    .await;
    let mut config = config(&server);
    config.health.failures = 3;
    config.health.delay = Span(Duration::from_secs(60));
    let chain = Chain::from_services(&[config]).unwrap();
    let mut bodies = Vec::new();
    for _ in 0..10 {
        let adapted = reqmod(&chain, post(1000), full(&noise(1000))).await.unwrap();
        let Adapted::Forward { body, .. } = adapted else { panic!("it was answered") };
        bodies.push(body);
    }
    break_off.send_replace(true);
    for body in bodies {
        assert!(collect(body).await.is_err());
    }
    let (_, is_up) = chain.services().next().unwrap().endpoints().next().unwrap();
    assert!(is_up);
    forward(&chain, get(), None).await;
}

/// Contents that make the service close are one client's. Open failure is what such a client would like most.
#[tokio::test]
async fn contents_that_a_service_closes_at_do_not_take_it_away_from_others() {
    let server = serve_requests(OPTIONS_204, |mut peer, request| async move {
        if request.has_body {
            return None;
        }
        peer.send(pass(&request)).await;
        Some(peer)
    })
    .await;
    let mut config = config(&server);
    config.fail = FailPolicy::all(Fail::Open);
    config.health.failures = 3;
    config.health.delay = Span(Duration::from_secs(60));
    let chain = Chain::from_services(&[config]).unwrap();
    let service = chain.services().next().unwrap();
    for _ in 0..10 {
        forward(&chain, post(1000), full(&noise(1000))).await;
    }
    assert_eq!(service.metrics().bypassed.value(), 10);
    assert!(service.endpoints().next().unwrap().1, "it is up");
    forward(&chain, get(), None).await;
    assert_eq!(service.metrics().bypassed.value(), 10, "it was shown");
}

/// The service is asked whether it is there, and if it is not, no transaction has to find out.
#[tokio::test]
async fn an_endpoint_whose_answers_break_off_is_asked() {
    let server = serve_requests(OPTIONS_204, |mut peer, request| async move {
        let answer = echo(&request);
        peer.send(&answer[..answer.len() - 5]).await;
        None
    })
    .await;
    let mut config = config(&server);
    config.health.failures = 1;
    config.health.delay = Span(Duration::from_secs(60));
    let chain = Chain::from_services(&[config]).unwrap();
    let adapted = reqmod(&chain, post(1000), full(&noise(1000))).await.unwrap();
    let Adapted::Forward { body, .. } = adapted else { panic!("it was answered") };
    drop(server);
    assert!(collect(body).await.is_err());
    let up = || chain.services().next().unwrap().endpoints().next().unwrap().1;
    let down = async {
        while up() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, down).await.expect("it is down");
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_made_up_for_by_the_others() {
    let good = passing(OPTIONS_204).await;
    let mut config = config(&good);
    config.url = vec!["icap://127.0.0.1:1/none".into(), good.url()];
    let chain = Chain::from_services(&[config]).unwrap();
    for n in 0..20 {
        let got = forward_as(&chain, &from(n, n), post(3), full(b"abc")).await;
        assert_eq!((got.bypassed, &got.body[..]), (0, &b"abc"[..]));
    }
}

#[tokio::test]
async fn options_that_expire_are_asked_again() {
    let options = "Methods: REQMOD\r\nISTag: \"t\"\r\nAllow: 204\r\nOptions-TTL: 1\r\n";
    let server = passing(options).await;
    let chain = chain(&server);
    forward(&chain, get(), None).await;
    let metrics = chain.services().next().unwrap();
    assert_eq!(metrics.metrics().options.value(), 1);
}

#[tokio::test]
async fn a_service_whose_tag_changes_all_the_time_is_not_asked_all_the_time() {
    let answered = AtomicUsize::new(0);
    let server = serve_requests(OPTIONS_204, move |mut peer, _| {
        let tag = answered.fetch_add(1, Ordering::SeqCst);
        async move {
            peer.send(format!("ICAP/1.0 204 No Content\r\nISTag: \"t{tag}\"\r\n\r\n")).await;
            Some(peer)
        }
    })
    .await;
    let chain = chain(&server);
    for n in 0..20 {
        assert_eq!(forward_as(&chain, &from(1, n), get(), None).await.bypassed, 0);
    }
    let options = chain.services().next().unwrap().metrics().options.value();
    assert!(options <= 2, "{options} OPTIONS");
    assert!(server.connections() <= 3, "{} connections", server.connections());
}

/// A new tag is news all the same.
#[tokio::test]
async fn a_service_whose_tag_changes_is_asked_again() {
    let server = serve_requests(OPTIONS_204, |mut peer, _| async move {
        peer.send("ICAP/1.0 204 No Content\r\nISTag: \"new\"\r\n\r\n").await;
        Some(peer)
    })
    .await;
    let mut config = config(&server);
    config.health.interval = Span(Duration::from_millis(1));
    let chain = Chain::from_services(&[config]).unwrap();
    let asked = || chain.services().next().unwrap().metrics().options.value();
    let end = Instant::now() + PATIENCE;
    while asked() < 2 && Instant::now() < end {
        forward(&chain, get(), None).await;
    }
    assert!(asked() >= 2);
}

#[tokio::test]
async fn many_at_once_ask_options_once() {
    let server = passing(OPTIONS_204).await;
    let chain = chain(&server);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        let chain = chain.clone();
        tasks.spawn(async move { forward_as(&chain, &from(n, n), get(), None).await.bypassed });
    }
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap(), 0);
    }
    assert_eq!(chain.services().next().unwrap().metrics().options.value(), 1);
}

#[tokio::test]
async fn many_at_once_share_the_failure_of_one_options() {
    let (sender, mut asked) = tokio::sync::mpsc::channel(64);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let server = serve(move |mut peer| {
        let (sender, mut stopped) = (sender.clone(), stopped.clone());
        async move {
            peer.head().await;
            sender.send(()).await.unwrap();
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    })
    .await;
    let mut config = config(&server);
    config.timeouts.options = Span(PATIENCE);
    // They are one failure of the endpoint.
    config.health.failures = 3;
    let chain = Chain::from_services(&[config]).unwrap();
    let metrics = chain.services().next().unwrap().metrics().clone();
    // Whoever asked gives up, and the others still wait for the same answer.
    let (info, alone) = (info(), chain.clone());
    let impatient = tokio::spawn(async move { alone.reqmod(&info, get(), None).await.err() });
    asked.recv().await.unwrap();
    impatient.abort();
    assert!(impatient.await.is_err());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let chain = chain.clone();
        tasks.spawn(async move { reqmod(&chain, get(), None).await.err().map(|f| f.kind()) });
    }
    while metrics.active.value() < 20 {
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    while let Some(failed) = tasks.join_next().await {
        assert_eq!(failed.unwrap(), Some(FailureKind::Closed));
    }
    assert_eq!(metrics.options.value(), 1);
    // Who comes later has a try of his own.
    assert!(reqmod(&chain, get(), None).await.is_err());
    assert_eq!(metrics.options.value(), 2);
}

#[tokio::test]
async fn an_endpoint_that_lacks_what_another_offers_is_made_up_for() {
    let both = passing(OPTIONS_204).await;
    let less = passing("Methods: RESPMOD\r\nISTag: \"t\"\r\nAllow: 204\r\n").await;
    let mut config = config(&both);
    config.url = vec![both.url(), less.url()];
    config.balance = Balance::LeastOutstanding;
    let chain = Chain::from_services(&[config]).unwrap();
    // Until it is known what the others offer, nobody can tell that something is missing.
    while both.connections() == 0 || less.connections() == 0 {
        respmod(&chain, ok(3), full(b"abc")).await;
    }
    let metrics = chain.services().next().unwrap().metrics();
    let passed = metrics.passed.value();
    for _ in 0..20 {
        forward(&chain, post(3), full(b"abc")).await;
    }
    assert_eq!(metrics.passed.value(), passed + 20);
}

#[tokio::test]
async fn unix_sockets() {
    let folder = std::env::temp_dir().join(format!("icap-client-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("s.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut seen).await {
                    let reply = if seen.starts_with(b"OPTIONS icap://localhost/svc ICAP/1.0\r\n") {
                        options_reply(OPTIONS_204)
                    } else {
                        PASS.to_owned()
                    };
                    if seen.ends_with(b"\r\n\r\n") {
                        stream.write_all(reply.as_bytes()).await.unwrap();
                        seen.clear();
                    }
                }
            });
        }
    });
    let chain = Chain::from_urls(&[format!("unix:{}:/svc", path.display())]).unwrap();
    for _ in 0..3 {
        assert!(!forward(&chain, get(), None).await.changed);
    }
    task.abort();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn ipv6_and_names() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: no IPv6 loopback here");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut peer = Peer { stream, buf: bytes::BytesMut::new(), number: 0 };
            tokio::spawn(async move {
                while peer.after_options(OPTIONS_204).await.is_some() {
                    peer.send(PASS).await;
                }
            });
        }
    });
    let chain = Chain::from_urls(&[format!("icap://[::1]:{port}/svc")]).unwrap();
    assert!(!forward(&chain, get(), None).await.changed);
    task.abort();
    let server = passing(OPTIONS_204).await;
    let chain =
        Chain::from_urls(&[format!("icap://localhost:{}/svc", server.addr.port())]).unwrap();
    assert!(!forward(&chain, get(), None).await.changed);
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_close_or_stray_bytes() {
    for reply in [
        "ICAP/1.0 204 No\r\nConnection: close\r\n\r\n",
        "ICAP/1.0 204 No\r\n\r\nICAP/1.0 204 No\r\n\r\n",
        "ICAP/1.0 404 Not Found\r\n\r\n",
    ] {
        let server = serve_requests(OPTIONS_204, move |mut peer, _| async move {
            peer.send(reply).await;
            Some(peer)
        })
        .await;
        let chain = chain(&server);
        for _ in 0..3 {
            let _ = reqmod(&chain, get(), None).await;
        }
        assert_eq!(server.connections(), 3, "{reply}");
    }
}

/// What is sent of a body beyond the copy that is kept is not held anywhere.
#[tokio::test]
async fn memory_does_not_grow_with_the_body() {
    use std::sync::atomic::AtomicIsize;
    /// Counts the bytes that are alive.
    struct Counted(Vec<u8>, Arc<AtomicIsize>);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0.len() as isize, Ordering::SeqCst);
        }
    }
    let server = serve(|mut peer| async move {
        while let Some(mut request) = peer.head().await {
            if request.method == Some(icap::Method::Options) {
                peer.send(options_reply(OPTIONS_PREVIEW)).await;
                continue;
            }
            // All is read before anything is answered.
            let mut length = 0;
            loop {
                match peer.piece(&mut request).await {
                    Some(true) => length += std::mem::take(&mut request.body).len(),
                    Some(false) if request.at_preview_end && length == 1024 => {
                        peer.go_on(&mut request).await;
                        length += request.body.len();
                        break;
                    }
                    _ => break,
                }
            }
            let head = std::str::from_utf8(&request.req_hdr).unwrap().to_owned();
            peer.send(reply("req", &head, Some(length.to_string().as_bytes()))).await;
        }
    })
    .await;
    let chain = chain(&server);
    let alive = Arc::new(AtomicIsize::new(0));
    let most = Arc::new(AtomicIsize::new(0));
    let (frames, body) = channel_of(4);
    let (count, peak) = (alive.clone(), most.clone());
    let feed = async move {
        for _ in 0..1000 {
            let now = count.fetch_add(65536, Ordering::SeqCst) + 65536;
            peak.fetch_max(now, Ordering::SeqCst);
            let piece = bytes::Bytes::from_owner(Counted(vec![7; 65536], count.clone()));
            frames.send(Ok(icap_client::Frame::Data(piece))).await.unwrap();
        }
    };
    let (got, ()) = tokio::join!(forward(&chain, post(65_536_000), body), feed);
    assert_eq!(got.body, b"65536000");
    let most = most.load(Ordering::SeqCst);
    assert!(most < 4 << 20, "{most} bytes of the body were held at once");
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
