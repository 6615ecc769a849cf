//! TCP streams shown by our client to our inspector (`docs/stream-carrier.md`): what was passed may
//! leave, and nothing else ever.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use e2e::{Inspector, Port, content};
use icap_client::{
    Chain, Fail, FailPolicy, Failure, FailureKind, Mark, OnOverload, Opening, Phase, Reason,
    ServiceConfig, StreamDrop, StreamEvent, Streams, TransactionInfo, Way,
};
use tempfile::TempDir;
use tokio::time::timeout;

/// Bounds how long a failing test hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = "\
drop tcp any any -> any any (msg:\"a bad word\"; content:\"EVIL\"; classtype:trojan-activity; sid:77; rev:2;)
drop tcp 192.0.2.7 4711 -> 198.51.100.9 2525 (msg:\"the tuple\"; content:\"WHOAMI\"; sid:78;)
drop tls any any -> any any (msg:\"a bad name\"; tls.sni; content:\"evil.example\"; sid:79;)
";

/// What only a stream's end tells.
const SMALL: &str = "drop tcp any any -> any any (msg:\"a small stream\"; flow:to_client; flags:F+; \
    stream_size:server,<,10; sid:80;)\n";

fn inspector(rules: &str, settings: &str) -> (Inspector, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let (file, config) = (folder.path().join("my.rules"), folder.path().join("my.toml"));
    fs::write(&file, rules).expect("rules");
    fs::write(&config, settings).expect("settings");
    let [file, config] = [file, config].map(|path| path.display().to_string());
    (Inspector::start(["--config", &config, "--rules", &file]), folder)
}

fn chain(urls: &[String]) -> Chain {
    Chain::from_urls(urls).expect("a chain")
}

async fn open(chain: &Chain) -> Result<Streams, Failure> {
    ask(chain).await.map(|streams| streams.expect("somebody to inspect it"))
}

async fn ask(chain: &Chain) -> Result<Option<Streams>, Failure> {
    let mut info = TransactionInfo::new("smtp", "c1", "t1");
    info.client = Some("192.0.2.7:4711".parse().expect("an address"));
    info.server = Some("198.51.100.9:2525".parse().expect("an address"));
    timeout(PATIENCE, chain.stream(&info, "mail.example:2525")).await.expect("in time")
}

async fn event(streams: &mut Streams) -> Result<StreamEvent, Failure> {
    timeout(PATIENCE, streams.event()).await.expect("a word in time")
}

/// Shows bytes, and waits until all of them are cleared, or dropped.
async fn show(streams: &mut Streams, way: Way, bytes: &[u8], mark: Mark) -> Option<StreamDrop> {
    streams.show(way, bytes, mark).expect("shown");
    let before = streams.cleared(way);
    loop {
        match event(streams).await.expect("a verdict") {
            StreamEvent::Dropped(dropped) => return Some(dropped),
            StreamEvent::Passed(_) if !mark.end || streams.end_cleared(way) => {
                if streams.cleared(way) >= before + bytes.len() as u64 {
                    return None;
                }
            }
            StreamEvent::Passed(_) | StreamEvent::Proto(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn finish(streams: Streams) {
    timeout(PATIENCE, streams.finish()).await.expect("in time").expect("in order");
}

fn sid(dropped: &StreamDrop) -> u32 {
    dropped.why.signature.as_ref().expect("a signature").id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_leave_as_they_are_passed_and_a_drop_stops_them() {
    let (inspector, _folder) = inspector(RULES, "");
    let chain = chain(&[inspector.url()]);
    let mut streams = open(&chain).await.expect("a stream");
    assert!(streams.is_inspected());
    let (client, server) = (Way::ToClient, Way::ToServer);
    for _ in 0..100 {
        assert_eq!(show(&mut streams, client, b"220 mail.example\r\n", Mark::NONE).await, None);
        assert_eq!(show(&mut streams, server, b"NOOP\r\n", Mark::NONE).await, None);
    }
    assert_eq!((streams.cleared(client), streams.cleared(server)), (1_800, 600));

    // In two pieces: the first has left by then, the second never does.
    assert_eq!(show(&mut streams, server, b"EV", Mark::NONE).await, None);
    let dropped = show(&mut streams, server, b"IL\r\n", Mark::NONE).await.expect("a drop");
    assert_eq!((dropped.way, dropped.late, sid(&dropped)), (server, false, 77));
    let signature = dropped.why.signature.expect("a signature");
    assert_eq!((&*signature.message, signature.revision), ("a bad word", 2));
    assert_eq!(dropped.why.reason, "rules");
    assert_eq!((streams.cleared(server), streams.room(server)), (602, 0));
    assert!(streams.show(server, b"more", Mark::NONE).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_phase_begins_with_nothing_of_the_last() {
    let (inspector, _folder) = inspector(RULES, "");
    let chain = chain(&[inspector.url()]);
    let mut streams = open(&chain).await.expect("a stream");
    assert_eq!(show(&mut streams, Way::ToServer, b"EV", Mark::NONE).await, None);
    // In order: the halves of the word are on two flows.
    assert!(streams.may_begin_phase());
    streams.phase(&Phase::new(Reason::NextMail)).expect("a phase");
    assert_eq!(show(&mut streams, Way::ToServer, b"IL\r\n", Mark::NONE).await, None);
    let dropped = show(&mut streams, Way::ToServer, b"EVIL", Mark::NONE).await.expect("a drop");
    assert_eq!((sid(&dropped), streams.cleared(Way::ToServer)), (77, 6));
    // After a drop: the count goes on behind what was thrown away.
    streams.phase(&Phase::new(Reason::Blocked)).expect("a phase");
    assert_eq!(streams.cleared(Way::ToServer), 10);
    streams.replay(Way::ToClient, b"220 mail.example\r\n").expect("replayed");
    streams.ping().expect("asked");
    assert_eq!(event(&mut streams).await.expect("an answer"), StreamEvent::Pong);
    assert_eq!(show(&mut streams, Way::ToServer, b"QUIT\r\n", Mark::NONE).await, None);
    // Other addresses, and a replay that is dropped.
    let tuple = ("10.9.8.7:1".parse().unwrap(), "10.9.8.6:2".parse().unwrap());
    streams.phase(&Phase { tuple: Some(tuple), ..Phase::new(Reason::StartTls) }).expect("a phase");
    assert_eq!(show(&mut streams, Way::ToServer, b"WHOAMI", Mark::NONE).await, None);
    streams.replay(Way::ToClient, b"EVIL").expect("replayed");
    let StreamEvent::Dropped(dropped) = event(&mut streams).await.expect("a verdict") else {
        panic!("not dropped")
    };
    assert_eq!((dropped.way, sid(&dropped)), (Way::ToClient, 77));
    finish(streams).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_sees_the_true_tuple_and_what_the_bytes_are() {
    let (inspector, _folder) = inspector(RULES, "");
    let chain = chain(&[inspector.url()]);
    let mut streams = open(&chain).await.expect("a stream");
    let dropped = show(&mut streams, Way::ToServer, b"WHOAMI", Mark::NONE).await.expect("a drop");
    assert_eq!(sid(&dropped), 78);

    for (name, cut, expected) in [
        ("evil.example", 1_500, Some(79)),
        ("evil.example", 50, Some(79)),
        ("good.example", 50, None),
    ] {
        let mut streams = open(&chain).await.expect("a stream");
        let hello = client_hello(name);
        let mut dropped = None;
        for piece in hello.chunks(cut) {
            dropped = show(&mut streams, Way::ToServer, piece, Mark::NONE).await;
            if dropped.is_some() {
                break;
            }
        }
        assert_eq!(dropped.as_ref().map(sid), expected, "{name} in pieces of {cut}");
        let cleared = streams.cleared(Way::ToServer);
        assert_eq!(cleared == hello.len() as u64, expected.is_none(), "{cleared}");
    }
}

/// What a client says first.
fn client_hello(name: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    hello
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_to_be_tls_is_recognised_as_such_or_fails() {
    let (inspector, _folder) = inspector(RULES, "");
    let chain = chain(&[inspector.url()]);
    let hello = client_hello("good.example");
    let mut unknown = hello.clone();
    unknown[2] = 9;
    for (bytes, is_tls) in [(&hello[..], true), (&unknown, false), (b"HELO\r\n", false)] {
        for by_ping in [true, false] {
            let mut info = TransactionInfo::new("tls", "c1", "t1");
            info.client = Some("192.0.2.7:4711".parse().expect("an address"));
            info.server = Some("198.51.100.9:443".parse().expect("an address"));
            let streams = chain.stream(&info, "a.example:443").await.expect("no failure");
            let mut streams = streams.expect("somebody to inspect it");
            streams.replay(Way::ToServer, bytes).expect("replayed");
            match by_ping {
                true => streams.ping().expect("asked"),
                false => {
                    for way in Way::BOTH {
                        streams.show(way, b"", Mark::END).expect("shown");
                    }
                }
            }
            let said = loop {
                match event(&mut streams).await {
                    Ok(StreamEvent::Proto(_)) => {}
                    said => break said,
                }
            };
            match said {
                Ok(StreamEvent::Pong | StreamEvent::Passed(_)) => assert!(is_tls),
                Err(failure) => {
                    assert!(!is_tls && failure.to_string().contains("recognise"), "{failure}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A way to `to` that can be cut.
struct Detour {
    port: u16,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Detour {
    fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sockets = Arc::new(Mutex::new(Vec::new()));
        let kept = sockets.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = TcpStream::connect(to).expect("a connection");
                let ends = [near, far];
                for (from, to) in [(0, 1), (1, 0)] {
                    let [mut from, mut to] =
                        [from, to].map(|at: usize| ends[at].try_clone().expect("a handle"));
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                kept.lock().expect("sockets").extend(ends);
            }
        });
        Self { port, sockets }
    }

    fn cut(&self) {
        for socket in self.sockets.lock().expect("sockets").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_begins_with_needs_no_answer_first() {
    let (inspector, _folder) = inspector(RULES, "");
    let detour = Detour::to(inspector.addr());
    let way = format!("127.0.0.1:{}", detour.port);
    let chain = chain(&[inspector.url().replace(&inspector.addr().to_string(), &way)]);
    let mut info = TransactionInfo::new("tls", "c1", "t1");
    info.client = Some("192.0.2.7:4711".parse().expect("an address"));
    info.server = Some("198.51.100.9:443".parse().expect("an address"));
    for n in 0..12 {
        let (is_good, is_all) = (n % 2 == 0, n % 4 < 2);
        let hello = client_hello(if is_good { "good.example" } else { "evil.example" });
        let opening = Opening { way: Way::ToServer, bytes: &hello, is_all };
        let streams = chain.stream_with(&info, "a.example:443", &opening).await;
        let mut streams = streams.expect("no failure").expect("somebody to inspect it");
        loop {
            match event(&mut streams).await.expect("a verdict") {
                StreamEvent::Dropped(dropped) => {
                    break assert_eq!((sid(&dropped), is_good), (79, false));
                }
                StreamEvent::Pong => {
                    assert!(is_good && !is_all);
                    streams.end().expect("the end");
                }
                StreamEvent::Passed(_) if Way::BOTH.iter().all(|way| streams.end_cleared(*way)) => {
                    break assert!(is_good);
                }
                _ => {}
            }
        }
        finish(streams).await;
        // The next one finds the connection that was kept closed, and says it all again.
        if n % 3 == 0 {
            detour.cut();
        }
    }
    let metrics = chain.services().next().expect("one").metrics().clone();
    assert_eq!((metrics.passed.value(), metrics.blocked.value()), (6, 6));
    // Kept, but for those that were cut.
    let before = detour.sockets.lock().expect("sockets").len();
    assert!(before <= 2, "{before} connections");
}

/// A record of TLS that says to be encrypted.
fn record(content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("a record");
    [&[23, 3, 3][..], &len.to_be_bytes(), content].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_says_to_be_encrypted_is_inspected_as_bytes() {
    let (inspector, _folder) = inspector(RULES, "");
    let chain = chain(&[inspector.url()]);
    let (to_server, to_client) = (Way::ToServer, Way::ToClient);
    let key_exchange = |code: u8| [&[0, 0, 0, 12, 4, code][..], &[0; 10]].concat();
    let ssh = [
        (to_server, b"SSH-2.0-ok\r\n".to_vec()),
        (to_client, b"SSH-2.0-ok\r\n".to_vec()),
        (to_server, key_exchange(20)),
        (to_client, key_exchange(20)),
        (to_server, key_exchange(21)),
        (to_client, key_exchange(21)),
        (to_server, content::noise(1, 100_000)),
        (to_client, content::noise(2, 100_000)),
    ];
    let server_hello =
        [&[22, 3, 3, 0, 46, 2, 0, 0, 42, 3, 3][..], &[7; 32], &[0, 0x13, 0x01, 0, 0, 2, 0x2b, 0]]
            .concat();
    let tls = [
        (to_server, client_hello("good.example")),
        (to_client, server_hello),
        (to_client, record(&content::noise(3, 5_000))),
        (to_server, record(&content::noise(4, 5_000))),
    ];
    for (steps, way) in
        [(&ssh[..], to_server), (&ssh, to_client), (&tls, to_server), (&tls, to_client)]
    {
        let mut streams = open(&chain).await.expect("a stream");
        for (way, bytes) in steps {
            assert_eq!(show(&mut streams, *way, bytes, Mark::NONE).await, None);
        }
        let dropped = show(&mut streams, way, &record(b"EVIL"), Mark::NONE).await;
        assert_eq!(dropped.as_ref().map(sid), Some(77), "{way:?} after {} steps", steps.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_in_a_stream_is_blocked_when_it_is_recognised() {
    let (inspector, _folder) = inspector(RULES, "");
    let chain = chain(&[inspector.url()]);
    let response: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n";
    let empty_line: &[u8] = b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let unknown_method: &[u8] = b"QUERY / HTTP/1.1\r\nHost: a\r\n\r\n";
    let request: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let http2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for request in [request, http2, empty_line, unknown_method] {
        let mut streams = open(&chain).await.expect("a stream");
        for (way, bytes) in [(Way::ToServer, request), (Way::ToClient, response)] {
            // The stream may be over already.
            let _ = streams.show(way, bytes, Mark::NONE);
        }
        let dropped = loop {
            if let StreamEvent::Dropped(dropped) = event(&mut streams).await.expect("a verdict") {
                break dropped;
            }
        };
        assert!(dropped.why.reason.contains("HTTP within a stream"), "{dropped:?}");
        assert_eq!(streams.cleared(Way::ToClient), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_passed_when_what_waited_for_it_was_judged() {
    let (inspector, _folder) = inspector(&format!("{RULES}{SMALL}"), "");
    let chain = chain(&[inspector.url()]);
    for (body, expected) in [(&b"short"[..], Some(80)), (b"long enough", None)] {
        let mut streams = open(&chain).await.expect("a stream");
        assert_eq!(show(&mut streams, Way::ToServer, b"? ", Mark::NONE).await, None);
        let dropped = show(&mut streams, Way::ToClient, body, Mark::END).await;
        assert_eq!(dropped.as_ref().map(sid), expected);
        if expected.is_none() {
            assert!(streams.end_cleared(Way::ToClient) && !streams.end_cleared(Way::ToServer));
            assert_eq!(show(&mut streams, Way::ToServer, b"", Mark::END).await, None);
        }
        finish(streams).await;
    }
    let metrics = chain.services().next().expect("one").metrics().clone();
    assert_eq!((metrics.transactions.value(), metrics.passed.value()), (2, 1));
    assert_eq!((metrics.blocked.value(), metrics.active.value()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_pass_both_ways_within_the_window() {
    let (inspector, _folder) = inspector(RULES, "[limits]\nstream_window = 100_000\n");
    let chain = chain(&[inspector.url()]);
    let mut streams = open(&chain).await.expect("a stream");
    assert_eq!(streams.room(Way::ToServer), 100_000);
    let sent = content::noise(7, 8 << 20);
    let mut shown = [0; 2];
    while shown != [sent.len(); 2] {
        for way in Way::BOTH {
            let at = &mut shown[way as usize];
            let len = streams.room(way).min(sent.len() - *at).min(1 + *at % 90_000);
            if len > 0 {
                let mark = Mark { end: *at + len == sent.len(), unit: true };
                streams.show(way, &sent[*at..*at + len], mark).expect("shown");
                *at += len;
            }
        }
        let full = Way::BOTH.iter().all(|way| streams.room(*way) == 0);
        if full || shown == [sent.len(); 2] {
            assert!(matches!(event(&mut streams).await, Ok(StreamEvent::Passed(_))));
        }
    }
    while !Way::BOTH.iter().all(|way| streams.end_cleared(*way)) {
        assert!(matches!(event(&mut streams).await, Ok(StreamEvent::Passed(_))));
    }
    assert_eq!(streams.cleared(Way::ToClient), sent.len() as u64);
    finish(streams).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_of_several_services_counts_and_any_drop_drops() {
    let (strict, _folder) = inspector(RULES, "[limits]\nstream_window = 5000\n");
    let (lax, _other) = inspector(&RULES.replace("EVIL", "WICKED"), "");
    // Services without streams are not asked; where there is no other, nothing passes.
    let mixed = [lax.url(), strict.echo_url(), strict.url()];
    let mut streams = open(&chain(&mixed)).await.expect("a stream");
    assert_eq!(streams.room(Way::ToServer), 5_000);
    assert_eq!(show(&mut streams, Way::ToServer, b"HELO\r\n", Mark::NONE).await, None);
    let dropped = show(&mut streams, Way::ToServer, b"EVIL", Mark::NONE).await.expect("a drop");
    assert_eq!((&*dropped.service, sid(&dropped)), (&*strict.url(), 77));
    assert_eq!(streams.cleared(Way::ToServer), 6);
    let nobody = ask(&chain(&[strict.echo_url()])).await.expect("no failure");
    assert!(nobody.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_answered_once_when_all_services_have_judged() {
    let (one, _folder) = inspector(RULES, "");
    let (other, _other) = inspector(&RULES.replace("EVIL", "WICKED"), "");
    let chain = chain(&[one.url(), other.url()]);
    for (replayed, expected) in [("harmless", None), ("EVIL", Some(77)), ("WICKED", Some(77))] {
        let mut streams = open(&chain).await.expect("a stream");
        streams.replay(Way::ToClient, replayed.as_bytes()).expect("replayed");
        streams.ping().expect("asked");
        let dropped = loop {
            match event(&mut streams).await.expect("a word") {
                StreamEvent::Pong => break None,
                StreamEvent::Dropped(dropped) => break Some(sid(&dropped)),
                _ => {}
            }
        };
        assert_eq!(dropped, expected, "{replayed}");
        if expected.is_none() {
            // The next word is about what is shown next.
            streams.show(Way::ToServer, b"NOOP", Mark::NONE).expect("shown");
            while streams.cleared(Way::ToServer) < 4 {
                let said = event(&mut streams).await.expect("a word");
                assert!(matches!(said, StreamEvent::Passed(Way::ToServer)), "{said:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_comes_back_without_streams_lets_nothing_pass() {
    let port = Port::claim();
    let at = format!("127.0.0.1:{}", port.number());
    let folder = TempDir::new().expect("a folder");
    let start = |settings: &str| {
        let (rules, config) = (folder.path().join("my.rules"), folder.path().join("my.toml"));
        fs::write(&rules, RULES).expect("rules");
        fs::write(&config, settings).expect("settings");
        let [rules, config] = [rules, config].map(|path| path.display().to_string());
        Inspector::start(["--config", &config, "--rules", &rules, "--listen", &at])
    };
    let chain = chain(&[format!("icap://{at}/suricata")]);
    let first = start("");
    let mut streams = open(&chain).await.expect("a stream");
    assert_eq!(show(&mut streams, Way::ToServer, b"NOOP\r\n", Mark::NONE).await, None);
    first.process.kill_group();
    let gone = async {
        while TcpStream::connect(&at).is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("all of it ends");
    drop(first);
    let _second = start("[limits]\nmax_streams = 0\n");
    // Until it was asked what it takes it may be tried, and refuses.
    let told = async {
        while ask(&chain).await.expect_err("nothing passes").kind() != FailureKind::Unsuitable {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("it is said why");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_and_pass_nothing() {
    let (inspector, _folder) = inspector(RULES, "[limits]\nmax_streams = 1\n");
    let [one, other] = [chain(&[inspector.url()]), chain(&[inspector.url()])];
    let mut streams = open(&one).await.expect("a stream");
    assert_eq!(show(&mut streams, Way::ToServer, b"HELO\r\n", Mark::NONE).await, None);
    // No room: known here, and by another client there.
    for full in [&one, &other] {
        let failure = open(full).await.expect_err("no room");
        assert_eq!(failure.kind(), FailureKind::Overload, "{failure}");
    }
    // A service that fails open is left out before the first byte, and named.
    let mut config = ServiceConfig::new("open", inspector.url());
    config.fail = FailPolicy::all(Fail::Open);
    config.on_overload = OnOverload::Bypass;
    let lenient = Chain::from_services(&[config]).expect("a chain");
    let unseen = open(&lenient).await.expect("goes on");
    assert!(!unseen.is_inspected());
    assert_eq!(unseen.bypassed().len(), 1);

    inspector.process.kill_group();
    // The engine's process, which ends with its supervisor, has the listening socket too.
    let gone = async {
        while TcpStream::connect(inspector.addr()).is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("all of it ends");
    let _ = streams.show(Way::ToServer, b"NOOP\r\n", Mark::NONE);
    let failure = loop {
        if let Err(failure) = event(&mut streams).await {
            break failure;
        }
    };
    assert_eq!(failure.kind(), FailureKind::Closed, "{failure}");
    assert_eq!(streams.cleared(Way::ToServer), 6);
    assert!(streams.show(Way::ToServer, b"NOOP\r\n", Mark::NONE).is_err());
}

#[test]
fn a_gateway_that_breaks_the_rules_is_told() {
    let (inspector, _folder) = inspector(RULES, "");
    let ask = |version: &str, frame: &[u8]| {
        let mut socket = TcpStream::connect(inspector.addr()).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let connect = "CONNECT o.test:25 HTTP/1.1\r\nHost: o.test:25\r\n\r\n";
        write!(
            socket,
            "REQMOD {} ICAP/1.0\r\nHost: i\r\nConnection: close\r\nX-Meergate-Stream: {version}\r\n\
             Encapsulated: req-hdr=0, req-body={}\r\n\r\n{connect}{:x}\r\n",
            inspector.url(),
            connect.len(),
            frame.len()
        )
        .expect("a head");
        socket.write_all(frame).expect("a frame");
        socket.write_all(b"\r\n0\r\n\r\n").expect("an end");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let cancel = [6, 0, 0, 0, 0, 0, 0, 0];
    let answer = ask("1", &cancel);
    assert!(answer.starts_with("ICAP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.contains("X-Meergate-Stream: 1\r\n") && answer.ends_with("\r\n\r\n0\r\n\r\n"));
    // Who knows later versions gets this one.
    assert!(ask("2", &cancel).contains("X-Meergate-Stream: 1\r\n"));
    for version in ["0", "one"] {
        assert!(ask(version, &cancel).starts_with("ICAP/1.0 400 "), "{version}");
    }
    for (frame, told) in [
        (&[7, 0, 0, 0, 0, 0, 0, 0][..], "unknown frame at byte 0"),
        (&[1, 0, 0, 0, 0, 1, 0, 1], "bad length at byte 0"),
        (&[1, 0, 0, 0, 0, 0, 0, 5, 1], "cut short at byte 9"),
        (&[1, 0, 0, 0, 0, 0, 0, 1, 1], "cut short at byte 9"),
    ] {
        let answer = ask("1", frame);
        assert!(answer.contains(told), "{told}: {answer}");
    }
}
