//! Requests that services change: what reaches the origin is what the rules and the inspecting service
//! saw last, or nothing does.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use support::icap::{Icap, Message, Verdict};
use support::{Asked, Gateway, Origin, read_to_end, read_until, text};

/// How one service changes the head of one request.
type Change = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// What becomes of a change by a service before the inspecting one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It reaches the origin.
    Goes,
    /// The client gets a page with this status.
    Page(u16),
}
use End::{Goes, Page};

struct Case {
    what: String,
    change: Change,
    end: End,
    /// The same where each request names its target, or where Host leads.
    end_by_host: End,
    /// Whether the head has another meaning, so that an inspecting service has to see it.
    counts: bool,
}

fn case(what: &str, end: End, change: impl Fn(&str) -> String + Send + Sync + 'static) -> Case {
    Case { what: what.to_owned(), change: Arc::new(change), end, end_by_host: end, counts: true }
}

/// Another request line.
fn line(line: &str, end: End) -> Case {
    let new = line.to_owned();
    case(line, end, move |head| format!("{new}\r\n{}", head.split_once("\r\n").unwrap().1))
}

/// The same with fields removed and added: `-Name` and `Name: value`.
fn fields(changes: &[&str], end: End) -> Case {
    let what = changes.join(", ");
    let changes: Vec<String> = changes.iter().map(|&c| c.to_owned()).collect();
    case(&what, end, move |head| {
        let mut lines: Vec<String> = head.trim_end().split("\r\n").map(str::to_owned).collect();
        for change in &changes {
            match change.strip_prefix('-') {
                Some(name) => lines.retain(|l| !is(l, name)),
                None => lines.push(change.clone()),
            }
        }
        lines.join("\r\n") + "\r\n\r\n"
    })
}

/// Another Host.
fn host(host: &str, end: End, end_by_host: End) -> Case {
    let mut case = fields(&["-Host", &format!("Host: {host}")], end);
    case.end_by_host = end_by_host;
    case
}

fn is(line: &str, name: &str) -> bool {
    line.split(':').next().unwrap().eq_ignore_ascii_case(name)
}

/// `O` stands for the origin's address.
fn cases(origin: &str) -> Vec<Case> {
    let o = origin;
    let mut all = Vec::new();
    // Paths: what a rule blocks however it is spelled, and what none does.
    for path in [
        "/secret",
        "/secret/",
        "/secret/a",
        "/secret?x",
        "/%73ecret",
        "/%73%65%63%72%65%74/x",
        "/secretly",
        "/s%65cret?a=b",
        "/secret%2fx",
        "/secret;x",
        "/secret/../x",
    ] {
        all.push(line(&format!("GET {path} HTTP/1.1"), Page(403)));
    }
    for path in [
        "/",
        "/other",
        "/other?x=/secret",
        "/Secret",
        "/a/secret",
        "/?",
        "/other/http://b.example/",
        "/.",
        "/%00",
        "/a%zz",
        "/%",
        "/*",
    ] {
        all.push(line(&format!("GET {path} HTTP/1.1"), Goes));
    }
    for path in ["other", "*", "?x", "secret", "/a\u{7f}", "/a b", "http:/x", "http//x", "\\secret"]
    {
        all.push(line(&format!("GET {path} HTTP/1.1"), Page(502)));
    }
    // Hosts.
    for name in ["blocked.example", "BLOCKED.example", "a.blocked.example", "blocked.example:80"] {
        all.push(host(name, Page(403), Page(502)));
    }
    for name in ["other.example", "other.example:81", "[::1]", "10.0.0.1"] {
        all.push(host(name, Goes, Page(502)));
    }
    for name in
        ["", "a b", "a/b", "a@b", "127.1", "0x7f.1", "a..b", "a:0", "a:99999", "a:x", "[::1"]
    {
        all.push(host(name, Page(502), Page(502)));
    }
    all.push(fields(&["-Host"], Page(502)));
    all.push(fields(&["Host: blocked.example"], Page(502)));
    all.push(fields(&["host: other.example"], Page(502)));
    // Methods.
    for method in ["DELETE", "PURGE"] {
        all.push(line(&format!("{method} /a HTTP/1.1"), Page(403)));
    }
    for method in ["HEAD", "OPTIONS", "PROPFIND", "TRACE", "get", "delete"] {
        all.push(line(&format!("{method} /a HTTP/1.1"), Goes));
    }
    all.push(line("OPTIONS * HTTP/1.1", Goes));
    for bad in
        ["G(T /a HTTP/1.1", "GET /a HTTP/2.0", "GET /a", "GET  /a HTTP/1.1", "PRI * HTTP/2.0"]
    {
        all.push(line(bad, Page(502)));
    }
    all.push(line("GET /a HTTP/1.0", Goes));
    // Tunnels.
    for target in [o, "blocked.example:443", "/", "other.example:80", "*", "other.example"] {
        all.push(line(&format!("CONNECT {target} HTTP/1.1"), Page(502)));
    }
    // Absolute targets.
    all.push(line(&format!("GET http://{o}/a HTTP/1.1"), Goes));
    all.push(line(&format!("GET HTTP://{o}/a?b HTTP/1.1"), Goes));
    all.push(line(&format!("GET http://{o} HTTP/1.1"), Goes));
    all.push(line(&format!("GET http://{o}?x HTTP/1.1"), Goes));
    all.push(line(&format!("GET http://{o}/secret HTTP/1.1"), Page(403)));
    all.push(line(&format!("GET http://{o}/%73ecret HTTP/1.1"), Page(403)));
    all.push(line(&format!("DELETE http://{o}/a HTTP/1.1"), Page(403)));
    for target in [
        format!("https://{o}/a"),
        format!("ftp://{o}/a"),
        "http://blocked.example/a".to_owned(),
        "http://other.example/a".to_owned(),
        "http:///a".to_owned(),
        format!("http://u@{o}/a"),
        "http://127.1/a".to_owned(),
    ] {
        all.push(line(&format!("GET {target} HTTP/1.1"), Page(502)));
    }
    // Framing: what is sent is always true to the content, of which there is none here.
    for (framing, counts) in [
        (&["Content-Length: 5"][..], false),
        (&["Content-Length: 0"], false),
        (&["Transfer-Encoding: chunked"], false),
        (&["Content-Length: 5", "Content-Length: 7"], false),
        (&["Transfer-Encoding: gzip, chunked"], false),
        (&["Transfer-Encoding: chunked", "Content-Length: 3"], false),
        (&["Content-Length: +1"], false),
        (&["Transfer-Encoding: \u{b}chunked"], false),
        (&["Trailer: Host"], true),
        (&["Connection: Content-Length"], true),
        (&["Expect: 100-continue"], true),
    ] {
        let refused = framing[0].contains('\u{b}') || framing[0].starts_with("Connection");
        let end = if refused { Page(502) } else { Goes };
        let mut case = fields(framing, end);
        case.counts = counts;
        all.push(case);
    }
    all.push(fields(&["Expect: the-moon"], Page(502)));
    // Fields.
    for field in [
        "Cookie: a=b",
        "X-New: 1",
        "Accept: */*",
        "Range: bytes=1-2",
        "Accept-Encoding: br",
        "TE: trailers",
        "Upgrade: websocket",
        "Upgrade: h2c",
        "Proxy-Authorization: Basic eDp5",
    ] {
        all.push(fields(&[field], Goes));
    }
    // Whoever passes a request on may add it. Of one that comes too late nothing goes on.
    let mut via = fields(&["Via: 1.1 x"], Goes);
    via.counts = false;
    all.push(via);
    all.push(fields(&["Connection: Upgrade", "Upgrade: websocket"], Goes));
    // As the client sent it, before it was left out for the services.
    let mut close = fields(&["Connection: close"], Goes);
    close.counts = false;
    all.push(close);
    // A field of the connection is not shown to services, but sent to origins.
    all.push(fields(&["Connection: X-Case"], Page(502)));
    all.push(fields(&["-X-Case"], Goes));
    for field in ["X Y: 1", ": 1", "X\u{0}: 1", "X: \u{0}", "X", " X: 1"] {
        all.push(fields(&[field], Page(502)));
    }
    all.push(fields(&[&format!("X-Long: {}", "x".repeat(70_000))], Page(502)));
    let many: Vec<String> = (0..501).map(|i| format!("X-{i}: 1")).collect();
    all.push(fields(&many.iter().map(String::as_str).collect::<Vec<_>>(), Page(502)));
    all.push(fields(&["Content-Encoding: br"], Page(403)));
    // A second request behind the first.
    all.push(case("two heads", Page(502), |head| {
        format!("{head}DELETE /secret HTTP/1.1\r\nHost: x\r\n\r\n")
    }));
    all
}

/// The part of a head that has a meaning for the origin: method, path, host and other fields.
#[derive(Debug, PartialEq)]
struct Meaning {
    method: String,
    path: String,
    host: Option<String>,
    fields: Vec<(String, String)>,
}

/// What the gateway itself may take away, or has to write anew.
const OURS: [&str; 15] = [
    "host",
    "content-length",
    "transfer-encoding",
    "trailer",
    "connection",
    "keep-alive",
    "te",
    "upgrade",
    "proxy-connection",
    "proxy-authorization",
    "accept-encoding",
    "range",
    "if-range",
    "http2-settings",
    "expect",
];

fn meaning(head: &str) -> Meaning {
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap(), first.next().unwrap());
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            match &rest[at..] {
                "" if method == "OPTIONS" => "*".to_owned(),
                path if path.starts_with('/') => path.to_owned(),
                path => format!("/{path}"),
            }
        }
        _ => target.to_owned(),
    };
    let fields = lines.map(|l| l.split_once(':').unwrap());
    let fields = fields.map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
    let (hosts, mut fields): (Vec<_>, Vec<_>) = fields.partition(|(name, _)| name == "host");
    fields.retain(|(name, _)| !OURS.contains(&&**name));
    fields.sort();
    let host =
        hosts.first().map(|(_, v)| v.to_ascii_lowercase().split(':').next().unwrap().to_owned());
    Meaning { method: method.to_owned(), path, host, fields }
}

/// Reads one request with its content and answers it, to the end of the connection.
fn origin() -> Origin {
    Origin::start(|asked: &mut Asked| {
        while let Some(head) = asked.head() {
            let lower = head.to_ascii_lowercase();
            if lower.contains("\r\ntransfer-encoding: chunked") {
                while !asked.seen().ends_with(b"0\r\n\r\n") && asked.exactly(1).is_some() {}
            } else if let Some((_, rest)) = lower.split_once("\r\ncontent-length: ") {
                asked.exactly(rest.split("\r\n").next().unwrap().parse().unwrap());
            }
            let content = if head.starts_with("HEAD ") { "" } else { "fine" };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{content}");
            if asked.stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Two services that change what they are told to, and one between them that inspects.
struct Chain {
    first: Icap,
    inspector: Icap,
    last: Icap,
    /// The change, and whether it is the last one that makes it.
    change: Arc<Mutex<Option<(Change, bool)>>>,
}

impl Chain {
    fn start() -> Self {
        let change: Arc<Mutex<Option<(Change, bool)>>> = Arc::default();
        let rewriter = |is_last: bool| {
            let change = change.clone();
            Icap::start(move |message: &Message| match &*change.lock().unwrap() {
                Some((change, last)) if *last == is_last && message.method == "REQMOD" => {
                    Verdict::Change(change(&message.heads))
                }
                _ => Verdict::Pass,
            })
        };
        let inspector = Icap::start(|_| Verdict::Pass);
        Self { first: rewriter(false), last: rewriter(true), inspector, change }
    }

    fn settings(&self, keys: &str) -> String {
        let service = |name: &str, icap: &Icap| {
            format!("[[icap.service]]\nname = \"{name}\"\nurl = \"icap://{}/x\"\n", icap.address)
        };
        format!(
            "{}{}{}[[icap.chain]]\nname = \"default\"\nservices = [\"first\", \"inspector\", \"last\"]\n{keys}\n\
             [[rule]]\nname = \"paths\"\npath = [\"/secret*\"]\naction = \"block\"\n\
             [[rule]]\nname = \"hosts\"\nhost = [\"*.blocked.example\"]\naction = \"block\"\n\
             [[rule]]\nname = \"methods\"\nmethod = [\"DELETE\", \"PURGE\"]\naction = \"block\"\n",
            service("first", &self.first),
            service("inspector", &self.inspector),
            service("last", &self.last),
        )
    }

    /// The heads of requests that the inspecting service has seen.
    fn inspected(&self) -> Vec<String> {
        let asked = self.inspector.asked();
        asked.into_iter().filter(|m| m.method == "REQMOD").map(|m| m.heads).collect()
    }
}

/// How the client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In a tunnel, in the clear.
    Tunnel,
    /// With an absolute target.
    Explicit,
    /// In a tunnel, the origin being an HTTP proxy that takes requests itself.
    Proxy,
}

fn ask(gateway: &Gateway, to: &str, way: Way, number: usize) -> String {
    let mut stream = gateway.connect();
    let target = match way {
        Way::Explicit => format!("http://{to}/case/{number}"),
        _ => {
            write!(stream, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").unwrap();
            read_until(&mut stream, b"\r\n\r\n");
            format!("/case/{number}")
        }
    };
    let fields = format!("Host: {to}\r\nX-Case: {number}\r\nConnection: close\r\n");
    write!(stream, "GET {target} HTTP/1.1\r\n{fields}\r\n").unwrap();
    text(&read_to_end(&mut stream))
}

#[test]
fn a_changed_request_is_decided_upon_and_inspected_or_goes_nowhere() {
    for way in [Way::Tunnel, Way::Explicit, Way::Proxy] {
        for late in [false, true] {
            let chain = Chain::start();
            let origin = origin();
            let to = origin.address.to_string();
            let mut settings = chain.settings("");
            if way == Way::Proxy {
                settings += &format!(
                    "[upstream]\nproxy = \"up\"\n[[upstream_proxy]]\nname = \"up\"\nurl = \"http://{to}\"\n"
                );
            }
            let gateway = Gateway::start(&settings);
            let cases = cases(&to);
            assert!(cases.len() >= 100, "{}", cases.len());
            for (number, case) in cases.iter().enumerate() {
                let what = format!(
                    "{way:?}, late: {late}, {}",
                    case.what.chars().take(80).collect::<String>()
                );
                *chain.change.lock().unwrap() = Some((case.change.clone(), late));
                let before = origin.seen().concat().len();
                let answer = ask(&gateway, &to, way, number);
                let reached = origin.seen().concat()[before..].to_vec();
                let reached = text(&reached);
                let end = match (late && case.counts, way) {
                    // The inspecting service has not seen it.
                    (true, _) => Page(502),
                    (_, Way::Tunnel) => case.end,
                    _ => case.end_by_host,
                };
                let came = match answer.split(' ').nth(1).unwrap().parse().unwrap() {
                    200 => Goes,
                    status => Page(status),
                };
                assert_eq!(came, end, "{what}\n{answer}");
                if end != Goes {
                    assert_eq!(reached, "", "{what}");
                    continue;
                }
                // One request, and no second one behind it.
                assert_eq!(reached.matches(" HTTP/1.").count(), 1, "{what}\n{reached}");
                let inspected = chain.inspected();
                assert_eq!(meaning(&reached), meaning(inspected.last().unwrap()), "{what}");
                let lower = reached.to_ascii_lowercase();
                for never in ["\r\nrange:", "accept-encoding: br", "\r\nupgrade:"] {
                    assert!(!lower.contains(never), "{what}\n{reached}");
                }
            }
        }
    }
}

#[test]
fn a_late_change_that_is_allowed_is_counted() {
    let chain = Chain::start();
    let origin = origin();
    let to = origin.address.to_string();
    let gateway = Gateway::start(&chain.settings("late_changes = \"pass\""));
    *chain.change.lock().unwrap() = Some((line("GET /late HTTP/1.1", Goes).change, true));
    assert!(ask(&gateway, &to, Way::Tunnel, 1).ends_with("fine"));
    assert!(text(&origin.seen().concat()).starts_with("GET /late "));
    // The rules have the last word all the same.
    *chain.change.lock().unwrap() = Some((line("GET /secret HTTP/1.1", Goes).change, true));
    assert!(ask(&gateway, &to, Way::Tunnel, 2).starts_with("HTTP/1.1 403 "));
    let records = gateway.transactions(2);
    assert_eq!(records[0]["uninspected"], serde_json::json!(["late-change"]));
    assert_eq!(records[1]["rule"], "paths");
    assert!(
        gateway.metric(
            "meergate_uninspected_bytes_total{reason=\"late-change\",direction=\"to_server\"}"
        ) > 0
    );
}

#[test]
fn a_change_opens_no_bypass_and_gets_by_no_service() {
    let origin = origin();
    let to = origin.address.to_string();
    let rewriter = Icap::start(|message| match message.heads.split(' ').nth(1).unwrap() {
        "/case/1" if message.method == "REQMOD" => {
            Verdict::Change(message.heads.replacen("/case/1", "/free", 1))
        }
        "/case/2" if message.method == "REQMOD" => {
            Verdict::Change(message.heads.replacen("/case/2", "/strict", 1))
        }
        _ => Verdict::Pass,
    });
    let other = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&format!(
        "[[icap.service]]\nname = \"usual\"\nurl = \"icap://{}/u\"\n\
         [[icap.service]]\nname = \"other\"\nurl = \"icap://{}/o\"\n\
         [[icap.chain]]\nname = \"default\"\nservices = [\"usual\"]\n\
         [[icap.chain]]\nname = \"strict\"\nservices = [\"usual\", \"other\"]\n\
         [[rule]]\npath = [\"/free\"]\naction = \"bypass\"\n\
         [[rule]]\nname = \"strict\"\npath = [\"/strict\"]\nchain = \"strict\"\n",
        rewriter.address, other.address
    ));
    // It is inspected as before, and its response too.
    assert!(ask(&gateway, &to, Way::Tunnel, 1).ends_with("fine"));
    assert_eq!(
        rewriter.asked().iter().map(|m| &*m.method).collect::<Vec<_>>(),
        ["REQMOD", "RESPMOD"]
    );
    let answer = ask(&gateway, &to, Way::Tunnel, 2);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(!text(&origin.seen().concat()).contains("/strict"));
    assert_eq!(other.asked().len(), 0);
    let records = gateway.transactions(2);
    assert!(records[0]["uninspected"].is_null(), "{}", records[0]);
    assert_eq!(records[1]["outcome"], "service-failed");
    assert!(records[1]["detail"].as_str().unwrap().contains("\"other\""), "{}", records[1]);
}

#[test]
fn what_a_service_answers_is_shown_to_the_others_or_counted() {
    let page = || {
        Verdict::Answer("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n".into(), b"MALICE".to_vec())
    };
    let origin = origin();
    let to = origin.address.to_string();
    for (keys, first) in
        [("", true), ("", false), ("answers = \"pass\"", true), ("answers = \"pass\"", false)]
    {
        let satisfier = Icap::start(move |m| match &*m.method {
            "REQMOD" => page(),
            _ => Verdict::Pass,
        });
        let inspector = Icap::start(|m| match m.body.starts_with(b"MALICE") {
            true => Verdict::Block,
            false => Verdict::Pass,
        });
        let order = if first { "\"s\", \"i\"" } else { "\"i\", \"s\"" };
        let gateway = Gateway::start(&format!(
            "[[icap.service]]\nname = \"s\"\nurl = \"icap://{}/s\"\n\
             [[icap.service]]\nname = \"i\"\nurl = \"icap://{}/i\"\n\
             [[icap.chain]]\nname = \"default\"\nservices = [{order}]\n{keys}\n",
            satisfier.address, inspector.address
        ));
        let answer = ask(&gateway, &to, Way::Tunnel, 0);
        let record = &gateway.transactions(1)[0];
        let count = gateway.metric(
            "meergate_uninspected_bytes_total{reason=\"service-answer\",direction=\"to_client\"}",
        );
        match keys {
            "" => {
                assert!(answer.ends_with("blocked"), "{order}: {answer}");
                assert_eq!(record["outcome"], "blocked");
                assert_eq!(record["block"]["service"], "i");
                assert!(record["uninspected"].is_null(), "{record}");
                assert_eq!(count, 0);
            }
            _ => {
                assert!(answer.contains("MALICE"), "{order}: {answer}");
                assert_eq!(record["uninspected"], serde_json::json!(["service-answer"]));
                assert!(count > 6, "{count}");
            }
        }
    }
    assert!(origin.seen().concat().is_empty());
}

#[test]
fn a_page_in_the_place_of_a_response_is_shown_to_those_that_follow() {
    let origin = origin();
    let to = origin.address.to_string();
    for keys in ["", "answers = \"pass\""] {
        let blocker = Icap::start(|m| match &*m.method {
            "REQMOD" => Verdict::Pass,
            _ => Verdict::Block,
        });
        let inspector = Icap::start(|_| Verdict::Pass);
        let gateway = Gateway::start(&format!(
            "[[icap.service]]\nname = \"b\"\nurl = \"icap://{}/b\"\n\
             [[icap.service]]\nname = \"i\"\nurl = \"icap://{}/i\"\n\
             [[icap.chain]]\nname = \"default\"\nservices = [\"b\", \"i\"]\n{keys}\n",
            blocker.address, inspector.address
        ));
        assert!(ask(&gateway, &to, Way::Tunnel, 0).ends_with("blocked"));
        let record = &gateway.transactions(1)[0];
        assert_eq!(record["outcome"], "blocked");
        let seen = inspector.asked().iter().filter(|m| m.method == "RESPMOD").count();
        match keys {
            "" => {
                assert_eq!(seen, 1);
                assert!(record["uninspected"].is_null(), "{record}");
            }
            _ => {
                assert_eq!(seen, 0);
                assert_eq!(record["uninspected"], serde_json::json!(["service-answer"]));
            }
        }
    }
    // Alone, a service's page is its own word.
    let alone = Icap::start(|_| Verdict::Block);
    let gateway = Gateway::start(&alone.settings());
    assert!(ask(&gateway, &to, Way::Tunnel, 0).ends_with("blocked"));
    assert!(gateway.transactions(1)[0]["uninspected"].is_null());
}
