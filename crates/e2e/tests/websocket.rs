//! WebSocket through both programs: messages arrive as they were said, and one that a rule drops never does.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use e2e::peers::python;
use e2e::pki::Authority;
use e2e::process::DEADLINE;
use e2e::{Curl, Gateway, Inspector, origin, programs};
use icap_client::{Chain, Mark, StreamEvent, Streams, TransactionInfo, Way};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

/// What the script plants, as the parser of WebSocket sees it and as bytes of the stream.
const RULES: &str = "\
drop websocket any any -> any any (msg:\"a payload\"; websocket.payload; content:\"x-planted-payload-x\"; sid:4712001; rev:1;)
drop tcp any any -> any any (msg:\"bytes\"; content:\"x-planted-bytes-x\"; sid:4712002; rev:1;)
";
/// None of which has a use for WebSocket.
const OTHER_RULES: &str = "\
drop http any any -> any any (msg:\"a path\"; http.uri; content:\"/never\"; sid:4712003; rev:1;)
";

/// Both programs, and what clients and servers need to be certified.
struct Setup {
    gateway: Gateway,
    inspector: Inspector,
    folder: TempDir,
    /// The servers' certificates, and their key.
    identity: (PathBuf, PathBuf),
}

impl Setup {
    fn start(rules: &str) -> Self {
        Self::with(rules, "suricata", "")
    }

    /// With the service of this name, and more settings.
    fn with(rules: &str, service: &str, more: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let at = folder.path();
        fs::write(at.join("my.rules"), rules).unwrap();
        let inspector = Inspector::start(["--rules", &at.join("my.rules").display().to_string()]);
        let authority = Authority::new("Origin");
        authority.write(at);
        let identity = authority.leaf(&origin::NAMES).write(at);
        let settings = format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"proxy\"\n[log]\nconnections = {:?}\n{more}",
            at.join("connections.json")
        );
        let url = inspector.url().replace("/suricata", &format!("/{service}"));
        let trusted = at.join("authority.pem").display().to_string();
        let gateway =
            Gateway::with_settings(&settings, ["--icap", &url, "--upstream-ca", &trusted]);
        Self { gateway, inspector, folder, identity }
    }

    /// Runs a part of the script, all of which has to succeed; how many cases there were.
    fn run(&self, what: &str) -> u64 {
        let script = programs::root().join("crates/e2e/clients/sockets.py");
        let (certificates, key) = &self.identity;
        let output = python()
            .arg(script)
            .arg(self.gateway.proxy().port().to_string())
            .args([certificates, key, &self.gateway.authority()])
            .arg(what)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let cases = said.lines().find_map(|line| {
            line.strip_prefix("done: ")?.strip_suffix(" cases, 0 failed")?.parse().ok()
        });
        let error = String::from_utf8_lossy(&output.stderr);
        cases.unwrap_or_else(|| panic!("{said}\n{}", &error[error.len().saturating_sub(2_000)..]))
    }

    /// A metric's value; 0 if it is not there.
    fn metric(&self, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.gateway.console());
        let text = String::from_utf8(Curl::direct().run(&url).body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse::<f64>().unwrap() as u64)
    }

    fn ended(&self, how: &str) -> u64 {
        self.metric(&format!("meergate_websockets_total{{outcome=\"{how}\"}}"))
    }

    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("connections.json")).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[test]
fn what_a_library_says_is_heard_as_it_was_said() {
    let setup = Setup::start(RULES);
    let cases = setup.run("MATRIX");
    assert!(cases > 200, "{cases}");
    assert_eq!(setup.ended("malformed") + setup.ended("too-long") + setup.ended("blocked"), 0);
    assert!(setup.ended("done") >= 12);
    // No more than the heads of the answers.
    let unseen = |way| {
        let labels = format!("{{reason=\"upgrade\",direction=\"{way}\"}}");
        setup.metric(&format!("meergate_uninspected_bytes_total{labels}"))
    };
    assert_eq!(unseen("to_server"), 0);
    assert!((1..10_000).contains(&unseen("to_client")), "{}", unseen("to_client"));
}

#[test]
fn the_bytes_that_arrive_are_those_that_were_sent() {
    let setup = Setup::start(OTHER_RULES);
    assert_eq!(setup.run("BYTES"), 12);
}

#[test]
fn a_planted_message_never_arrives_and_both_sides_are_told() {
    let mut setup = Setup::start(RULES);
    let cases = setup.run("BAD");
    assert!(cases >= 8 * 14, "{cases}");
    assert_eq!(setup.ended("blocked"), cases);
    for sid in [4_712_001, 4_712_002] {
        setup.inspector.wait_for_alert(sid, |event| event["alert"]["action"] == "blocked");
    }
    let records = setup.records();
    let blocked = records.iter().find(|record| record["end"] == "stream-blocked").unwrap();
    let sid = blocked["block"]["signature_id"].as_str().unwrap();
    assert!(sid.starts_with("471200"), "{blocked}");
}

#[test]
fn what_breaks_the_protocol_is_closed() {
    let setup = Setup::start(RULES);
    let cases = setup.run("MALFORMED");
    assert!(cases >= 4 * 20, "{cases}");
    assert_eq!(setup.ended("malformed") + setup.ended("too-long"), cases);
    assert!(setup.ended("too-long") >= 4);
    assert!(setup.records().iter().any(|record| record["end"] == "upgraded-refused"));
}

const ASK: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const AGREE: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";

/// Reads a head.
fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A client's end of what `serve` serves after an answer with `more` fields; and the answer's head.
fn open(
    setup: &Setup,
    more: &'static str,
    serve: impl Fn(TcpStream) + Send + 'static,
) -> (TcpStream, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        head(&mut socket);
        socket.write_all(&[AGREE, more.as_bytes(), b"\r\n"].concat()).unwrap();
        serve(socket);
    });
    let mut socket = TcpStream::connect(setup.gateway.proxy()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let ask =
        format!("GET http://localhost:{port}/ HTTP/1.1\r\nHost: localhost:{port}\r\n{ASK}\r\n");
    socket.write_all(ask.as_bytes()).unwrap();
    let answer = head(&mut socket);
    (socket, answer)
}

fn echo(mut socket: TcpStream) {
    let mut reading = socket.try_clone().unwrap();
    // It ends with the connection.
    let _ = std::io::copy(&mut reading, &mut socket);
}

/// A client's text, masked with zeros.
const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";

#[test]
fn a_service_that_fails_ends_it_and_nothing_more_arrives() {
    let mut setup = Setup::start(RULES);
    let (mut socket, _) = open(&setup, "", |mut socket| {
        socket.write_all(b"\x81\x02hi").unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        assert!(!rest.windows(5).any(|window| window == b"hello"));
    });
    let mut hi = [0; 4];
    socket.read_exact(&mut hi).unwrap();
    assert_eq!(&hi, b"\x81\x02hi");
    setup.inspector.process.kill_group();
    socket.write_all(HELLO).unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest[..4], [0x88, rest.len() as u8 - 2, 3, 0xf3], "{}", rest.escape_ascii());
    assert_eq!(setup.ended("not-inspected"), 1);
    // And the next one does not begin.
    let (_, answer) = open(&setup, "", echo);
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    setup
        .gateway
        .process
        .wait_for("why", |line| line.contains("a WebSocket is closed").then_some(()));
}

#[test]
fn what_is_not_complete_never_arrives_and_ends_with_its_connection() {
    let setup = Setup::start(RULES);
    let (tell, told) = std::sync::mpsc::sync_channel(10);
    for said in [&b""[..], &HELLO[..9], b"\x01\x81\0\0\0\0h", b"\x81"] {
        let tell = tell.clone();
        let (socket, _) = open(&setup, "", move |mut socket| {
            let mut got = Vec::new();
            socket.read_to_end(&mut got).unwrap();
            tell.send(got).unwrap();
        });
        (&socket).write_all(said).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(told.recv_timeout(DEADLINE).unwrap(), b"", "{}", said.escape_ascii());
    }
    assert_eq!(setup.ended("not-inspected"), 0);
}

#[test]
fn extensions_that_nobody_offered_are_no_agreement() {
    let setup = Setup::start(RULES);
    for more in
        ["Sec-WebSocket-Extensions: permessage-deflate\r\n", "Sec-WebSocket-Extensions: x\r\n"]
    {
        let (_, answer) = open(&setup, more, echo);
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
}

#[test]
fn without_a_service_that_takes_streams_it_is_relayed_and_counted() {
    let setup = Setup::with(RULES, "echo", "");
    let (mut socket, _) = open(&setup, "Sec-WebSocket-Extensions: x\r\n", echo);
    let sent = b"\x81\x93\0\0\0\0x-planted-payload-x";
    socket.write_all(sent).unwrap();
    let mut back = [0; 25];
    socket.read_exact(&mut back).unwrap();
    assert_eq!(&back, sent);
    let unseen = "meergate_uninspected_bytes_total{reason=\"upgrade\",direction=\"to_server\"}";
    assert_eq!(setup.metric(unseen), 25);
}

#[test]
fn messages_take_no_more_memory_than_there_is() {
    let setup = Setup::with(
        RULES,
        "suricata",
        "[limits]\nwebsocket_message = \"4MiB\"\nwebsocket_memory = \"2MiB\"\n",
    );
    let (mut socket, _) = open(&setup, "", echo);
    let length = 3u64 << 20;
    let mut message = [&[0x82, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
    message.resize(message.len() + length as usize, 7);
    // It is closed before it has taken all.
    let mut writing = socket.try_clone().unwrap();
    let writer = thread::spawn(move || drop(writing.write_all(&message)));
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    writer.join().unwrap();
    assert_eq!(rest[..4], [0x88, rest.len() as u8 - 2, 3, 0xf5], "{}", rest.escape_ascii());
    assert_eq!(setup.ended("crowded"), 1);
    // It is given back when both sides are gone.
    drop(socket);
    let end = Instant::now() + DEADLINE;
    while setup.metric("meergate_websocket_messages_bytes") != 0 {
        assert!(Instant::now() < end, "memory that is not given back");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Frames that a gateway shows, and whether they go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inspector_takes_websocket_in_one_form_only() {
    let setup = Setup::start(RULES);
    let chain = Chain::from_urls(&[setup.inspector.url()]).unwrap();
    let long = [&[0x82, 127][..], &(LONGEST + 1).to_be_bytes()].concat();
    for (what, frames, reason) in [
        ("nothing", &b""[..], None),
        ("in order", b"\x81\x02hi\x89\x00\x01\x01a\x80\x01b", None),
        ("masked", b"\x81\x82\0\0\0\0hi", Some("masked or compressed")),
        ("compressed", b"\xc1\x01\0", Some("masked or compressed")),
        ("too long", &long, Some("16 MiB")),
        ("no frame", b"\x83\x00", Some("malformed")),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", Some("malformed")),
    ] {
        let mut info = TransactionInfo::new("websocket", "c1", "t1");
        info.client = Some("192.0.2.7:4711".parse().unwrap());
        info.server = Some("198.51.100.9:80".parse().unwrap());
        let streams = timeout(DEADLINE, chain.stream(&info, "a.example:80")).await.unwrap();
        let mut streams = streams.unwrap().unwrap();
        for way in Way::BOTH {
            if frames.is_empty() {
                continue;
            }
            streams.show(way, frames, Mark::NONE).unwrap();
            loop {
                match timeout(DEADLINE, streams.event()).await.unwrap().unwrap() {
                    StreamEvent::Dropped(dropped) => {
                        let said = &dropped.why.reason;
                        let reason = reason.unwrap_or_else(|| panic!("{what}: {said}"));
                        assert!(said.contains(reason), "{what}: {said}");
                        break;
                    }
                    StreamEvent::Passed(_) if streams.cleared(way) == frames.len() as u64 => {
                        assert_eq!(reason, None, "{what}");
                        break;
                    }
                    _ => {}
                }
            }
            if reason.is_some() {
                break;
            }
        }
        // It is asked for a sign of life whatever was said, and may end.
        if reason.is_none() {
            streams.ping().unwrap();
            assert!(hear(&mut streams, |event, _| *event == StreamEvent::Pong).await, "{what}");
            streams.end().unwrap();
            let ended = |_: &StreamEvent, streams: &Streams| {
                Way::BOTH.iter().all(|way| streams.end_cleared(*way))
            };
            assert!(hear(&mut streams, ended).await, "{what}");
        }
    }
}

/// Waits for an event that `wanted` accepts; false after a drop or failure.
async fn hear(streams: &mut Streams, wanted: impl Fn(&StreamEvent, &Streams) -> bool) -> bool {
    loop {
        match timeout(DEADLINE, streams.event()).await.unwrap() {
            Ok(event) if wanted(&event, streams) => return true,
            Ok(StreamEvent::Dropped(_)) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

const LONGEST: u64 = 16 << 20;

#[test]
fn the_longest_silence_ends_it() {
    let setup = Setup::with(RULES, "suricata", "[limits]\nrelay_timeout = \"1s\"\n");
    let (mut socket, _) = open(&setup, "", echo);
    socket.write_all(HELLO).unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    // The server says nothing that is a server's: a mask.
    assert_eq!(rest[2..4], [3, 0xea], "{}", rest.escape_ascii());
    let (mut socket, _) = open(&setup, "", |socket| {
        thread::sleep(Duration::from_secs(20));
        drop(socket);
    });
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest[2..4], [3, 0xe9], "{}", rest.escape_ascii());
    assert_eq!((setup.ended("malformed"), setup.ended("idle")), (1, 1));
}
