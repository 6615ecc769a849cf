//! What hides in a stream from those who look into it: mail that the engine does not see as its server does, HTTP, TLS
//! with changed roles, and whatever stands behind a header of its own.

#[path = "hidden/mime.rs"]
mod mime;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use e2e::Inspector;
use icap_client::{Chain, Failure, Mark, StreamDrop, StreamEvent, Streams, TransactionInfo, Way};
use tempfile::TempDir;
use tokio::time::timeout;

/// Bounds how long a failing test hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const METRICS: &str = "metrics = \"127.0.0.1:0\"\n";

const RULES: &str = "\
drop smtp any any -> any any (msg:\"a bad file\"; file.data; content:\"EVILMARK\"; sid:20;)
drop tls any any -> any any (msg:\"a bad name\"; tls.sni; content:\"evil.example\"; sid:9;)
drop tcp any any -> any any (msg:\"bad bytes\"; content:\"EVILRAW\"; sid:8;)
";

/// What one side says.
type Step = (Way, Vec<u8>);

/// An inspector, and a client of it.
struct Lab {
    inspector: Inspector,
    chain: Chain,
    metrics: String,
    folder: TempDir,
}

impl Lab {
    fn start(rules: &str, settings: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (file, config) = (folder.path().join("my.rules"), folder.path().join("my.toml"));
        fs::write(&file, rules).expect("rules");
        fs::write(&config, format!("{METRICS}{settings}")).expect("settings");
        let [file, config] = [file, config].map(|path| path.display().to_string());
        let mut inspector = Inspector::start(["--config", &config, "--rules", &file]);
        let metrics = inspector.process.wait_for("the address of the metrics", |line| {
            Some(line.strip_prefix("listening on ")?.strip_suffix(" (metrics)")?.to_owned())
        });
        let chain = Chain::from_urls(&[inspector.url()]).expect("a chain");
        Self { inspector, chain, metrics, folder }
    }

    /// Takes these rules into use.
    fn reload(&mut self, rules: &str) {
        let before = self.metric("reloads_total");
        fs::write(self.folder.path().join("my.rules"), rules).expect("rules");
        let (process, metrics) = (&mut self.inspector.process, &self.metrics);
        process.wait_until("new rules", || metric(metrics, "reloads_total") > before);
    }

    fn metric(&self, name: &str) -> u64 {
        metric(&self.metrics, name)
    }

    async fn open(&self, port: u16) -> Streams {
        let mut info = TransactionInfo::new("tcp", "c1", "t1");
        info.client = Some("192.0.2.7:4711".parse().expect("an address"));
        info.server = Some(([198, 51, 100, 9], port).into());
        let authority = format!("mail.example:{port}");
        let opened = timeout(PATIENCE, self.chain.stream(&info, &authority)).await;
        opened.expect("in time").expect("a stream").expect("somebody to inspect it")
    }

    /// Has both sides say that, each after the last was passed. What was dropped, and how many of the steps passed.
    async fn talk(&self, port: u16, steps: &[Step]) -> (Option<StreamDrop>, usize) {
        self.try_to_talk(port, steps).await.expect("verdicts")
    }

    /// The same, where it may also come to nothing because the engine gives up.
    async fn try_to_talk(
        &self,
        port: u16,
        steps: &[Step],
    ) -> Result<(Option<StreamDrop>, usize), Failure> {
        let mut streams = self.open(port).await;
        for (number, (way, bytes)) in steps.iter().enumerate() {
            if let Some(dropped) = show(&mut streams, *way, bytes).await? {
                return Ok((Some(dropped), number));
            }
        }
        for way in Way::BOTH {
            streams.show(way, b"", Mark::END).expect("an end");
            while !streams.end_cleared(way) {
                match event(&mut streams).await? {
                    StreamEvent::Dropped(dropped) => return Ok((Some(dropped), steps.len())),
                    StreamEvent::Passed(_) | StreamEvent::Proto(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        timeout(PATIENCE, streams.finish()).await.expect("in time").expect("in order");
        Ok((None, steps.len()))
    }
}

fn metric(metrics: &str, name: &str) -> u64 {
    let mut socket = TcpStream::connect(metrics).expect("a connection");
    write!(socket, "GET /metrics HTTP/1.0\r\n\r\n").expect("a request");
    let mut page = String::new();
    socket.read_to_string(&mut page).expect("a page");
    let prefix = format!("meergate_inspector_{name} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
}

async fn event(streams: &mut Streams) -> Result<StreamEvent, Failure> {
    timeout(PATIENCE, streams.event()).await.expect("a word in time")
}

/// Shows bytes and waits until the inspector has judged them: what it keeps until more comes may wait.
async fn show(
    streams: &mut Streams,
    way: Way,
    bytes: &[u8],
) -> Result<Option<StreamDrop>, Failure> {
    streams.show(way, bytes, Mark::NONE).expect("shown");
    streams.ping().expect("asked");
    loop {
        match event(streams).await? {
            StreamEvent::Dropped(dropped) => return Ok(Some(dropped)),
            StreamEvent::Pong => return Ok(None),
            StreamEvent::Passed(_) | StreamEvent::Proto(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn client(bytes: impl AsRef<[u8]>) -> Step {
    (Way::ToServer, bytes.as_ref().to_vec())
}

fn server(bytes: impl AsRef<[u8]>) -> Step {
    (Way::ToClient, bytes.as_ref().to_vec())
}

fn other(way: Way) -> Way {
    match way {
        Way::ToClient => Way::ToServer,
        Way::ToServer => Way::ToClient,
    }
}

/// Why it was dropped: the signature, or what the inspector says.
fn why(dropped: Option<&StreamDrop>) -> String {
    match dropped.map(|dropped| &dropped.why) {
        None => String::new(),
        Some(why) => {
            why.signature.as_ref().map_or_else(|| why.reason.clone(), |s| s.id.to_string())
        }
    }
}

/// A mail with a file in base64, and the dot at its end.
fn mail(is_bad: bool) -> String {
    let dots = "Li4u".repeat(19);
    // Nine bytes: the mark, and a dot.
    let mark = if is_bad { "RVZJTE1BUksu" } else { "" };
    format!(
        "From: a@b\r\nTo: c@d\r\nSubject: x\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=QQ\r\n\r\npreamble. with. dots.\r\n\
         --QQ\r\nContent-Type: text/plain\r\n\r\nhi\r\n\
         --QQ\r\nContent-Type: application/octet-stream; name=a.bin\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n\
         {dots}\r\n{dots}\r\n{mark}{dots}\r\n--QQ--\r\n.\r\n"
    )
}

fn bad_mail() -> String {
    mail(true)
}

const EHLO: &str = "EHLO x\r\n";
const FROM: &str = "MAIL FROM:<a@b>\r\n";
const TO: &str = "RCPT TO:<c@d>\r\n";

/// All up to DATA, and the server's word to go on.
fn before_data() -> Vec<Step> {
    let ok = || server("250 ok\r\n");
    vec![
        server("220 mx.example ESMTP\r\n"),
        client(EHLO),
        server("250-mx.example\r\n250 SIZE\r\n"),
        client(FROM),
        ok(),
        client(TO),
        ok(),
    ]
}

fn with_data() -> Vec<Step> {
    [before_data(), vec![client("DATA\r\n"), server("354 go\r\n")]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_is_seen_however_its_bytes_are_cut() {
    let lab = Lab::start(RULES, "");
    let (good, bad) = (mail(false), bad_mail());
    for (content, expected) in [(&good, ""), (&bad, "20")] {
        for cut in [1, 2, 3, 7, 20, 60, 4_000] {
            let pieces = content.as_bytes().chunks(cut).map(client).collect();
            let after = vec![server("250 taken\r\n"), client("QUIT\r\n"), server("221 bye\r\n")];
            let steps = [with_data(), pieces, after].concat();
            let (dropped, passed) = lab.talk(2525, &steps).await;
            assert_eq!(why(dropped.as_ref()), expected, "in pieces of {cut}, {passed} passed");
        }
    }
    // Inside TLS a server does not greet again.
    let (dropped, _) = lab.talk(2525, &[&with_data()[1..], &[client(&bad)]].concat()).await;
    assert_eq!(why(dropped.as_ref()), "20");
    // Behind a long line the engine skips what comes with it.
    let long = format!("NOOP {}\r\nDATA\r\n", "x".repeat(5_000));
    let go_on = vec![client(long), server("250 ok\r\n354 go\r\n"), client(&bad)];
    let (dropped, _) = lab.talk(25, &[before_data(), go_on].concat()).await;
    assert_eq!(why(dropped.as_ref()), "20");
    // Two in one session, with commands in groups (RFC 2920).
    let group = || client(format!("{FROM}{TO}DATA\r\n"));
    let replies = || server("250 ok\r\n250 ok\r\n354 go\r\n");
    for (second, expected) in [(&good, ""), (&bad, "20")] {
        for banner in ["250 SIZE\r\n", "250-PIPELINING\r\n250 SIZE\r\n"] {
            let steps = [
                server("220 mx.example ESMTP\r\n"),
                client(EHLO),
                server(format!("250-mx.example\r\n{banner}")),
                group(),
                replies(),
                client(format!("{good}{FROM}{TO}DATA\r\n")),
                server("250 taken\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
                client(second),
                server("250 taken\r\n"),
            ];
            let (dropped, _) = lab.talk(25, &steps).await;
            assert_eq!(why(dropped.as_ref()), expected, "{banner}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_mail_are_seen_whatever_they_are_called() {
    let lab = Lab::start(RULES, "");
    let typed = "Content-Type: application/octet-stream; name=a.bin";
    let coded = "Content-Transfer-Encoding: base64";
    for (what, instead, expected) in [
        (typed, "Content-Type: application/octet-stream", "20"),
        (typed, "Content-Type: application/octet-stream; NAME=a", "20"),
        (typed, "Content-Type: text/csv", "20"),
        (typed, "Content-Disposition: attachment", "20"),
        (
            typed,
            "Content-Type: text/plain\r\nContent-Disposition: inline; filename*=utf-8''a%20b",
            "20",
        ),
        (typed, "Content-Type: text/plain;\r\n name*0=\"a\"", "20"),
        (coded, "content-transfer-encoding: BASE64 (as ever)", "20"),
        (coded, "Content-Transfer-Encoding: base64 ", "20"),
        ("boundary=QQ", "Boundary=QQ", "20"),
        ("boundary=QQ", "BOUNDARY =\"QQ\"", "20"),
        ("boundary=QQ", "a=b;\r\n\tbounDary=QQ", "20"),
        (typed, "Content-Type: text/plain", "20"),
    ] {
        let content = bad_mail().replacen(what, instead, 1);
        assert!(content.contains(instead));
        let (dropped, _) = lab.talk(25, &[with_data(), vec![client(content)]].concat()).await;
        assert_eq!(why(dropped.as_ref()), expected, "{instead}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_the_engine_does_not_see_as_its_server_does_is_refused() {
    let lab = Lab::start(RULES, "");
    let bad = bad_mail();
    let early = "before the server's reply";
    let cases: Vec<(&str, u16, Vec<Step>, &str)> = vec![
        ("with DATA", 2525, vec![client(format!("DATA\r\n{bad}"))], early),
        ("behind DATA", 2525, vec![client("DATA\r\n"), client(&bad)], early),
        ("all at once", 25, vec![client(format!("RSET\r\n{FROM}{TO}DATA\r\n{bad}"))], early),
        ("behind STARTTLS", 25, vec![client(format!("STARTTLS\r\n{FROM}"))], early),
        (
            "STARTTLS, then none",
            25,
            vec![client("STARTTLS\r\n"), server("220 go\r\n"), client(FROM)],
            "no TLS",
        ),
        ("chunks", 25, vec![client(format!("BDAT {} LAST\r\n{bad}", bad.len()))], "BDAT"),
        ("chunks, oddly", 25, vec![client("   bdat\t9\r\n")], "BDAT"),
        ("a blank before", 25, vec![client("  DATA\r\n"), server("354 go\r\n")], "354"),
        ("another command", 25, vec![client("XEXCH50 9 2\r\n"), server("354 go\r\n")], "354"),
        ("a bare CR", 25, vec![client("NOOP\rDATA\r\n")], "bare CR"),
        ("a NUL", 25, vec![client("DA\0TA\r\n")], "NUL"),
        (
            "DATA once more",
            25,
            vec![
                client("DATA\r\n"),
                server("451 not now\r\n"),
                client("DATA\r\n"),
                server("354 go\r\n"),
            ],
            "does not see",
        ),
        (
            "two readings of a reply",
            25,
            vec![client("DATA\r\n"), server("354-go\r\n550 no\r\n")],
            "354",
        ),
        (
            "an end for some",
            25,
            vec![client("DATA\r\n"), server("354 go\r\n"), client(format!("a\n.\n{bad}"))],
            "its end",
        ),
        (
            "an end for others",
            25,
            vec![client("DATA\r\n"), server("354 go\r\n"), client(format!("a\r.\r\n{bad}"))],
            "its end",
        ),
        (
            "a long line of a mail",
            25,
            vec![
                client("DATA\r\n"),
                server("354 go\r\n"),
                client([&[b'X'; 5000][..], b"\r\n", bad.as_bytes()].concat()),
            ],
            "4095",
        ),
    ];
    for (name, port, steps, expected) in cases {
        let count = before_data().len() + steps.len();
        let (dropped, passed) = lab.talk(port, &[before_data(), steps].concat()).await;
        let why = why(dropped.as_ref());
        assert!(why.contains("a mail") && why.contains(expected), "{name}: {why:?}");
        // The last step never left.
        assert_eq!(passed, count - 1, "{name}");
    }
    // Those whom the engine does not know for clients of mail.
    let hello = |first: &str| {
        let mut steps = before_data();
        steps[1] = client(first);
        steps.push(client("DATA\r\n"));
        steps
    };
    for first in ["XCLIENT ADDR=10.0.0.1\r\n", "\r\n", "USER x\r\n", "\0\r\n"] {
        let (dropped, passed) = lab.talk(2525, &hello(first)).await;
        let why = why(dropped.as_ref());
        assert!(why.contains("a mail"), "{first:?}: {why:?} after {passed}");
    }
    assert!(lab.metric("refused_total{reason=\"stream\"}") >= 20);
    drop(lab.inspector);
}

/// What servers of other protocols greet with, or what is no greeting of any.
const GREETINGS: [&[u8]; 16] = [
    b"* OK IMAP4rev1 ready\r\n",
    b"* OK x\r\n220 mx ESMTP\r\n",
    b"* PREAUTH x\r\n",
    b"*\r\n",
    b"+OK POP3\r\n",
    b"-ERR\r\n",
    b"\r\n\r\n* OK x\r\n",
    b"\xef\xbb\xbf220 mx ESMTP\r\n",
    b"200 news\r\n",
    b"RFB 003.008\n",
    b"@RSYNCD: 31.0\n",
    b"\x0a\0\0\0\x0a8.0\0",
    b":irc 001 x\r\n",
    b"{\"a\":1}\r\n",
    b"22",
    b"220-no end of it\r\n220-none\r\n",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_is_mail_whatever_its_server_greets_with() {
    let lab = Lab::start(RULES, "");
    let greeted = |greeting: &[u8]| {
        let mut steps = with_data();
        steps[0] = server(greeting);
        [steps, vec![client(bad_mail())]].concat()
    };
    // The engine may also give up, which is no pass.
    let held = |name: &str, said: Result<(Option<StreamDrop>, usize), Failure>, most: usize| {
        let Ok((dropped, passed)) = said else { return };
        let why = why(dropped.as_ref());
        assert!(why == "20" || why.contains("a mail"), "{name}: {why:?}");
        assert!(passed < most, "{name}: {passed} passed");
    };
    for greeting in GREETINGS {
        let name = greeting.escape_ascii().to_string();
        for port in [25, 143, 2525] {
            let steps = greeted(greeting);
            held(&name, lab.try_to_talk(port, &steps).await, steps.len());
        }
        // In pieces.
        let pieces = greeting.chunks(1).map(server).collect::<Vec<_>>();
        let steps = [pieces, greeted(greeting)[1..].to_vec()].concat();
        held(&name, lab.try_to_talk(2525, &steps).await, steps.len());
        // In one, with other commands in front.
        let group = format!("NOOP\r\n\r\nRSET\r\n{EHLO}{FROM}{TO}DATA\r\n");
        let replies = "250 ok\r\n500 what\r\n".repeat(3);
        let steps = [
            server(greeting),
            client(group),
            server(format!("{replies}354 go\r\n")),
            client(bad_mail()),
        ];
        held(&name, lab.try_to_talk(2525, &steps).await, steps.len());
    }
    // The same commands as some write them, and as few as some servers take.
    for (commands, behind) in [
        (
            "  ehlo x\r\n \tMail \t From:<a@b>\r\nrcpt   to:<c@d>\r\nData\r\n",
            "250 ok\r\n".repeat(3),
        ),
        ("helo\n MAIL <a@b>\nRCPT <c@d>\nDATA\n", "250 ok\n".repeat(3)),
        ("EHLO x\rMAIL FROM:<a@b>\rRCPT TO:<c@d>\rDATA\r", "250 ok\r\n".repeat(3)),
        ("NOOP\rMAIL FROM:<a@b>\rRCPT TO:<c@d>\rDATA\r\n", "250 ok\r\n".repeat(3)),
        ("mail any:a@b\r\nrcpt any:c@d\r\nDATA\r\n", "250 ok\r\n".repeat(2)),
        ("FROM a\r\nTO c\r\nDATA\r\n", "250 ok\r\n".repeat(2)),
    ] {
        for greeting in ["", "220 mx\r\n", "* OK IMAP\r\n"] {
            let name = format!("{greeting:?} {commands:?}");
            let greeting = [server(greeting)].into_iter().filter(|(_, bytes)| !bytes.is_empty());
            let steps =
                [client(commands), server(format!("{behind}354 go\r\n")), client(bad_mail())];
            let steps = greeting.chain(steps).collect::<Vec<_>>();
            held(&name, lab.try_to_talk(2525, &steps).await, steps.len());
            // Who does not wait for any word.
            let steps = [client(format!("{commands}{}", bad_mail())), server("354 go\r\n")];
            held(&name, lab.try_to_talk(2525, &steps).await, usize::MAX);
        }
    }
    // Ten kilobytes of nothing before, to a server that says nothing yet.
    let steps = [
        client("NOOP\r\n".repeat(1_700)),
        client(format!("{EHLO}{FROM}{TO}DATA\r\n")),
        server(format!("220 mx\r\n{}354 go\r\n", "250 ok\r\n".repeat(1_703))),
        client(bad_mail()),
    ];
    held("late", lab.try_to_talk(2525, &steps).await, steps.len());
    // A beginning of TLS that is none.
    let mut hello = client_hello("good.example");
    hello.extend_from_slice(b"\r\n");
    let steps = [
        vec![server("220 mx\r\n"), client(hello), server("500 what\r\n")],
        with_data()[1..].to_vec(),
        vec![client(bad_mail())],
    ];
    let steps = steps.concat();
    held("no TLS", lab.try_to_talk(2525, &steps).await, steps.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_looks_like_mail_goes_on() {
    let lab = Lab::start(RULES, "");
    let letter = "Subject: x\r\n\r\nHELO there\r\nmail from: me\r\nrcpt to: you\r\nDATA\r\nb\rc\r\nBDAT 1\r\n";
    let stored = [
        server("* OK IMAP4rev1\r\n"),
        client("a APPEND Sent {99}\r\n"),
        server("+ go\r\n"),
        client(letter),
        client("DATA shows that\r\nit goes on\r\n"),
        server("a OK\r\n"),
    ];
    assert_eq!(lab.talk(143, &stored).await.0, None);
    let posted = [
        server("200 news\r\n"),
        client("POST\r\n"),
        server("340 go\r\n"),
        client(letter),
        client("Data are\r\nplural\r\n.\r\n"),
        server("240 ok\r\n"),
    ];
    assert_eq!(lab.talk(119, &posted).await.0, None);
    let own = [
        server("hello\n"),
        client("DATA\n"),
        client("1 2 3\n"),
        server("ok 354\n"),
        client("MAIL\nDATA 3\nHELP\n\0\r.\r"),
    ];
    assert_eq!(lab.talk(7777, &own).await.0, None);
    // Much of anything, to somebody who says nothing.
    let mut upload = vec![client(vec![b'.'; 64 << 10]); 17];
    upload.push(client("\nEHLO x\nDATA\n"));
    upload.push(client("\0more"));
    assert_eq!(lab.talk(7777, &upload).await.0, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_is_not_seen_may_be_let_go_on_and_is_counted() {
    let lab = Lab::start(RULES, "[content]\nmail = \"pass\"\n");
    let bad = bad_mail();
    let counted = "uninspected_bytes_total{reason=\"mail\"}";
    let chunk = format!("BDAT {} LAST\r\n{bad}", bad.len());
    let steps = [before_data(), vec![client(&chunk), client("QUIT\r\n"), server("221 bye\r\n")]];
    let (dropped, _) = lab.talk(25, &steps.concat()).await;
    assert_eq!(dropped, None);
    assert_eq!(lab.metric(counted), (chunk.len() + 6) as u64);
    // Rules on the bytes still see it.
    let (dropped, _) =
        lab.talk(25, &[before_data(), vec![client("BDAT 7\r\nEVILRAW")]].concat()).await;
    assert_eq!(why(dropped.as_ref()), "8");
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

/// PROXY headers of both versions.
fn proxy_headers() -> [Vec<u8>; 3] {
    let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec();
    let binary = |length: u8| {
        let head = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"[..], &[length]].concat();
        [head, vec![10; usize::from(length)]].concat()
    };
    [text, binary(12), binary(0)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_behind_a_header_or_a_handshake_is_seen() {
    let lab = Lab::start(RULES, "");
    for header in proxy_headers() {
        for cut in [1, 5, 1000] {
            let behind = |what: &[u8]| {
                let bytes = [&header[..], what].concat();
                bytes.chunks(cut).map(client).collect::<Vec<_>>()
            };
            let (dropped, _) = lab.talk(25, &behind(&client_hello("evil.example"))).await;
            assert_eq!(why(dropped.as_ref()), "9", "pieces of {cut}");
            let (dropped, _) = lab.talk(25, &behind(b"QUERY / HTTP/1.1\r\n\r\n")).await;
            assert!(why(dropped.as_ref()).contains("HTTP"), "pieces of {cut}");
            let session = [before_data(), vec![client("DATA\r\n"), server("354 go\r\n")]].concat();
            let (dropped, _) =
                lab.talk(2525, &[behind(b""), session, vec![client(bad_mail())]].concat()).await;
            assert_eq!(why(dropped.as_ref()), "20", "pieces of {cut}");
        }
    }
    // TLS behind what another protocol says first, as SOCKS or PostgreSQL do.
    for cut in [1, 4, 1000] {
        let asks = [client(b"\x05\x01\0"), server(b"\x05\0")];
        let hello = client_hello("evil.example");
        let steps = [&asks[..], &hello.chunks(cut).map(client).collect::<Vec<_>>()].concat();
        let (dropped, _) = lab.talk(1080, &steps).await;
        assert_eq!(why(dropped.as_ref()), "9", "pieces of {cut}");
        let hello = client_hello("good.example");
        let steps = [&asks[..], &hello.chunks(cut).map(client).collect::<Vec<_>>()].concat();
        assert_eq!(lab.talk(1080, &steps).await.0, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_behind_any_number_of_headers_is_seen() {
    let lab = Lab::start(RULES, "");
    let [text, binary, empty] = proxy_headers();
    let long = [b"PROXY TCP4 ", &[b' '; 200][..], b"192.0.2.1 192.0.2.2 1 2\r\n"].concat();
    let small = text.to_ascii_lowercase();
    let alone = b"PROXY UNKNOWN\n".to_vec();
    let pile = |headers: &[&[u8]]| headers.concat();
    for (name, headers) in [
        ("text twice", pile(&[&text, &text])),
        ("binary twice", pile(&[&binary, &binary])),
        ("binary, nothing in them", pile(&[&empty, &empty, &empty])),
        ("text, binary", pile(&[&text, &binary])),
        ("binary, text", pile(&[&empty, &text])),
        ("sixteen", pile(&[&*text; 16])),
        ("a long one", long.clone()),
        ("a long one and others", pile(&[&long, &binary, &small])),
        ("in small letters", small),
        ("LF alone", pile(&[&alone, &alone])),
        ("line ends before", pile(&[b"\r\n", &binary])),
        ("line ends between", pile(&[&text, b"\r\n", &binary, b"\n ", &text])),
        ("another version", pile(&[b"\r\n\r\n\0\r\nQUIT\n\x31\x99\0\x01x", &binary])),
    ] {
        for cut in [1, 3, 20, 5000] {
            let behind = |what: &[u8]| {
                let bytes = [&headers[..], what].concat();
                bytes.chunks(cut).map(client).collect::<Vec<_>>()
            };
            let (dropped, _) = lab.talk(25, &behind(&client_hello("evil.example"))).await;
            assert_eq!(why(dropped.as_ref()), "9", "{name}, pieces of {cut}");
            let (dropped, _) = lab.talk(25, &behind(b"QUERY / HTTP/1.1\r\n\r\n")).await;
            assert!(why(dropped.as_ref()).contains("HTTP"), "{name}, pieces of {cut}");
            let session = [with_data(), vec![client(bad_mail())]].concat();
            let (dropped, _) = lab.talk(2525, &[behind(b""), session].concat()).await;
            assert_eq!(why(dropped.as_ref()), "20", "{name}, pieces of {cut}");
            assert_eq!(lab.talk(2525, &behind(b"PROX")).await.0, None, "{name}, pieces of {cut}");
        }
    }
    let (dropped, _) = lab.talk(25, &[client(pile(&[&*text; 17]))]).await;
    assert!(why(dropped.as_ref()).contains("PROXY"), "{dropped:?}");
    // What is no header.
    for other in ["PROXYING is\n", "proxy", "\0QUIP\n\x21\x11\0\x01", "P", "\r\n\0"] {
        assert_eq!(lab.talk(7777, &[client(other), client("more\n")]).await.0, None, "{other}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_and_changed_roles_are_refused_wherever_a_turn_begins_with_them() {
    let lab = Lab::start(RULES, "");
    let requests: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n \r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\xef\xbb\xbfQUERY /a b HTTP/1.1 \r\n\r\n",
        b"x http://a/ HTTP/2\n",
        b"\0\0POST\t/\tHTTP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"PURGE /x  \t      \t            HTTP/1.9              \t  \r\n",
    ];
    let responses: [&[u8]; 8] = [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"\xef\xbb\xbf HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"http/1.1 200 OK\n\n",
        b"junkHTTP/1.1 200 OK\r\n\r\n",
    ];
    let begin = || vec![client(b"\x05\x01\0"), server(b"\x05\0")];
    for bytes in requests.iter().chain(&responses) {
        for way in Way::BOTH {
            for cut in [1, 1000] {
                for before in [Vec::new(), begin()] {
                    let pieces = bytes.chunks(cut).map(|piece| (way, piece.to_vec())).collect();
                    // Of the same side, a turn goes on.
                    let other = vec![(other(way), b"<".to_vec())];
                    let steps = [before, other, pieces].concat();
                    let (dropped, _) = lab.talk(8443, &steps).await;
                    let why = why(dropped.as_ref());
                    assert!(why.contains("HTTP"), "{} {way:?} {cut}: {why}", bytes.escape_ascii());
                }
            }
        }
    }
    // In smaller pieces it is a failure: the parser does not know what to make of them.
    for cut in [11, 1000] {
        for before in [Vec::new(), begin()] {
            let hello = client_hello("good.example");
            let hello = hello.chunks(cut).map(server).collect();
            let (dropped, _) = lab.talk(8443, &[before, vec![client("<")], hello].concat()).await;
            assert!(why(dropped.as_ref()).contains("the server is the client"), "{dropped:?}");
        }
    }
    // What looks like it and is something else.
    let log = "<34>Oct 11 22:14:15 host nginx: 192.0.2.1 - - \"GET / HTTP/1.1\" 200 5\n";
    let others = [log, "SELECT 'GET / HTTP/1.1'\n", "RTSP/1.0 200 OK\r\n\r\n"];
    for line in others {
        for way in Way::BOTH {
            let (dropped, _) = lab.talk(514, &[(way, line.as_bytes().to_vec())]).await;
            assert_eq!(dropped, None, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_into_which_nobody_looks_are_counted_from_the_first() {
    let rules = "drop tls any any -> any any (tls.sni; content:\"evil.example\"; sid:9;)\n";
    let lab = Lab::start(rules, "");
    let counted = || lab.metric("unneeded_bytes_total");
    let mut expected = 0;
    for length in [10, 5_000, 70_000, 132_608, 300_000] {
        for way in Way::BOTH {
            let bytes = vec![b'.'; length];
            let steps = bytes.chunks(30_000).map(|piece| (way, piece.to_vec())).collect::<Vec<_>>();
            assert_eq!(lab.talk(9000, &steps).await.0, None);
            expected += length as u64;
            assert_eq!(counted(), expected, "{length} {way:?}");
        }
    }
    // A parser has looked into these.
    let (dropped, _) = lab.talk(9000, &[client(client_hello("good.example"))]).await;
    assert_eq!((dropped, counted()), (None, expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_rules_look_into_streams_that_the_old_ones_had_no_use_for() {
    let rules = "drop tls any any -> any any (tls.sni; content:\"evil.example\"; sid:9;)\n";
    for ends_early in [false, true] {
        let mut lab = Lab::start(rules, "watch = true\n");
        let mut streams = lab.open(9000).await;
        if ends_early {
            streams.show(Way::ToClient, b"", Mark::END).expect("an end");
        }
        for _ in 0..20 {
            let dropped = show(&mut streams, Way::ToServer, &[b'.'; 30_000]).await;
            assert_eq!(dropped.expect("a verdict"), None);
        }
        assert_eq!(lab.metric("unneeded_bytes_total"), 600_000);
        lab.reload(RULES);
        let dropped = show(&mut streams, Way::ToServer, b"EVIL").await;
        assert_eq!(dropped.expect("a verdict"), None);
        let dropped = show(&mut streams, Way::ToServer, b"RAW").await.expect("a verdict");
        assert_eq!(why(dropped.as_ref()), "8");
    }
}

/// Suricata takes it for that on port 53 alone, and not behind a message without a question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_is_seen_on_any_port() {
    let rules =
        "drop dns any any -> any any (msg:\"a bad name\"; dns.query; content:\"evil\"; sid:30;)\n";
    let lab = Lab::start(rules, "");
    let message = |flags: u8, questions: u8, question: &[u8]| {
        let head = [7, 7, flags, 0, 0, questions, 0, 0, 0, 0, 0, 0];
        let length = u16::try_from(head.len() + question.len()).expect("a message");
        [&length.to_be_bytes(), &head[..], question].concat()
    };
    let evil = message(1, 1, b"\x03www\x04evil\x07example\0\0\x01\0\x01");
    let good = message(1, 1, b"\x03www\x04good\x07example\0\0\x01\0\x01");
    let answer = message(0x81, 1, b"\x03www\x04good\x07example\0\0\x01\0\x01");
    let cookie = message(0, 0, b"");
    for port in [53, 853, 443, 5353] {
        for before in [&b""[..], &[0, 0], &cookie, b"PROXY UNKNOWN\r\n"] {
            for cut in [1, 2, 5, 1000] {
                let says = |query: &[u8]| {
                    let bytes = [before, query].concat();
                    bytes.chunks(cut).map(client).collect::<Vec<_>>()
                };
                let (dropped, _) = lab.talk(port, &says(&evil)).await;
                assert_eq!(why(dropped.as_ref()), "30", "{port}, {before:?}, pieces of {cut}");
                let asked = [says(&good), vec![server(&answer)]].concat();
                assert_eq!(lab.talk(port, &asked).await.0, None, "{port}, {before:?}, {cut}");
                let again = [asked, evil.chunks(cut).map(client).collect()].concat();
                let (dropped, _) = lab.talk(port, &again).await;
                assert_eq!(why(dropped.as_ref()), "30", "{port}, {before:?}, then, {cut}");
            }
        }
    }
}

/// The engine expects files only where it reads what was agreed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_connections_of_ftp_are_agreed_on_as_the_engine_reads_it() {
    let rules = "drop ftp-data any any -> any any (msg:\"a bad file\"; file.data; content:\"EVILMARK\"; sid:40;)\n";
    let lab = Lab::start(rules, "");
    let begin = [
        server("220 here\r\n"),
        client("USER me\r\n"),
        server("331 and?\r\n"),
        client("PASS it\r\n"),
        server("230 go on\r\n"),
    ];
    let with = |steps: [Step; 2]| [&begin[..], &steps].concat();
    for reply in [
        "227 Entering Passive Mode (127,0,0,1,4,5).\r\n",
        "229 Entering Extended Passive Mode (|||41000|)\r\n",
        "502 no\r\n",
    ] {
        for (port, ask) in [(21, "PASV\r\n"), (2121, "EPSV\r\n")] {
            let steps = with([client(ask), server(reply)]);
            assert_eq!(lab.talk(port, &steps).await.0, None, "{reply}");
        }
    }
    for reply in ["227 ok 127,0,0,1,4,5\r\n", "229 ok (!!!41000!)\r\n"] {
        for (port, ask) in [(21, "PASV\r\n"), (2121, "EPSV\r\n")] {
            let (dropped, passed) = lab.talk(port, &with([client(ask), server(reply)])).await;
            assert!(why(dropped.as_ref()).contains("FTP"), "{reply}");
            assert_eq!(passed, begin.len() + 1, "{reply}");
        }
    }
    let steps = with([client("port 127,0,0,1,4,5\r\n"), server("200 ok\r\n")]);
    assert!(why(lab.talk(21, &steps).await.0.as_ref()).contains("FTP"));
    let steps = with([client("PORT 127,0,0,1,4,5\r\n"), server("200 ok\r\n")]);
    assert_eq!(lab.talk(21, &steps).await.0, None);
}

/// What begins as something else, of which a server of mail reads one bad line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_behind_what_looks_like_dns_or_tls_is_refused() {
    let lab = Lab::start(RULES, "");
    let query =
        b"\0\x22\x07\x07\x01\0\0\x01\0\0\0\0\0\0\x03www\x04good\x07example\0\0\x01\0\x01".to_vec();
    for first in [query, client_hello("good.example")] {
        for port in [25, 2525] {
            let begin = [
                server("220 here\r\n"),
                client([&first[..], b"\r\n"].concat()),
                server("500 what?\r\n"),
            ];
            let steps = [&begin[..], &with_data()[1..], &[client(bad_mail())]].concat();
            match lab.try_to_talk(port, &steps).await {
                Ok((dropped, passed)) => {
                    assert!(dropped.is_some() && passed < steps.len(), "{port}: {passed}");
                }
                // The engine gives up: nothing goes on.
                Err(failure) => assert!(!failure.to_string().is_empty()),
            }
        }
    }
}
