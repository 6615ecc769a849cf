//! Parts of resources: the services see more than the part, and the client gets the part.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers fail the test that calls them")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde_json::Value;
use support::icap::{Icap, Message, Verdict};
use support::parts::{field, noise, origin, parts};
use support::{Gateway, Origin, h2, text};

/// Of the file that most tests ask for.
const LENGTH: usize = 300_000;
/// The default on both sides.
const OVERLAP: usize = 64 * 1024;

/// An answer as a client sees it.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> &str {
        &self.head[9..12]
    }

    fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The content, once its length is what the head says.
    fn content(&self) -> &[u8] {
        assert_eq!(
            self.field("Content-Length"),
            Some(&*self.body.len().to_string()),
            "{}",
            self.head
        );
        &self.body
    }

    /// The content, if its end has come, however it is framed.
    fn decoded(&self) -> Vec<u8> {
        if self.field("Transfer-Encoding") != Some("chunked") {
            return self.content().to_vec();
        }
        let mut rest = &self.body[..];
        let mut body = Vec::new();
        loop {
            let end = rest.windows(2).position(|w| w == b"\r\n").unwrap();
            let size = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend_from_slice(&rest[end + 2..end + 2 + size]);
            rest = &rest[end + 2 + size + 2..];
        }
        assert_eq!(rest, b"0\r\n\r\n");
        body
    }

    /// The parts of a chunked `multipart/byteranges`.
    fn parts(&self) -> Vec<(String, Vec<u8>)> {
        assert_eq!(self.status(), "206", "{}", self.head);
        assert_eq!(self.field("Content-Range"), None);
        assert_eq!(self.field("Transfer-Encoding"), Some("chunked"), "{}", self.head);
        let body = self.decoded();
        parts(self.field("Content-Type").unwrap(), &body)
    }
}

fn ask(gateway: &Gateway, origin: &Origin, method: &str, path: &str, fields: &str) -> Answer {
    let o = origin.address;
    let request = format!(
        "{method} http://{o}{path} HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n{fields}\r\n"
    );
    let mut head = gateway.ask(request.as_bytes());
    let end = head
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("{:?}", text(&head)));
    let body = head.split_off(end + 4);
    Answer { head: text(&head), body }
}

fn get(gateway: &Gateway, origin: &Origin, path: &str, range: &str) -> Answer {
    ask(gateway, origin, "GET", path, &format!("Range: {range}\r\n"))
}

/// The `Range` of the origin's last request.
fn asked(origin: &Origin) -> Option<String> {
    field(&text(origin.seen().last().unwrap()), "Range").map(str::to_owned)
}

fn uninspected(gateway: &Gateway, count: usize) -> Value {
    gateway.transactions(count).last().unwrap()["uninspected"].clone()
}

#[test]
fn a_part_is_asked_for_with_an_overlap_and_delivered_without() {
    let file = noise(LENGTH);
    let origin = origin(file.clone());
    let last = LENGTH - 1;
    let table = [
        ("bytes=100000-199999", "bytes=34464-265535", Some((100_000, 199_999))),
        ("bytes=0-0", "bytes=0-65536", Some((0, 0))),
        ("bytes=5-9", "bytes=0-65545", Some((5, 9))),
        ("bytes=299999-299999", "bytes=234463-365535", Some((last, last))),
        ("bytes=1000-", "bytes=0-", Some((1000, last))),
        ("bytes=200000-", "bytes=134464-", Some((200_000, last))),
        ("bytes=-1", "bytes=-65537", Some((last, last))),
        ("bytes=-999999", "bytes=-1065535", Some((0, last))),
        (
            "bytes=250000-99999999999999999999",
            "bytes=184464-9223372036854775807",
            Some((250_000, last)),
        ),
        ("bytes=300000-", "bytes=234464-", None),
        ("bytes=-0", "bytes=-65536", None),
        ("bytes=99999999999999999999-", "bytes=9223372036854710271-", None),
    ];
    for echoes in [false, true] {
        let icap = Icap::start(move |_| if echoes { Verdict::Echo } else { Verdict::Pass });
        let gateway = Gateway::start(&icap.settings());
        for path in ["/f", "/chunked"] {
            for (range, wider, expected) in table {
                let answer = get(&gateway, &origin, path, range);
                assert_eq!(asked(&origin).as_deref(), Some(wider));
                let Some((first, last)) = expected else {
                    assert_eq!(answer.status(), "416", "{range}");
                    assert_eq!(answer.field("Content-Range"), Some("bytes */300000"), "{range}");
                    continue;
                };
                assert_eq!(answer.status(), "206", "{range}");
                let expected = format!("bytes {first}-{last}/{LENGTH}");
                assert_eq!(answer.field("Content-Range"), Some(&*expected));
                assert_eq!(answer.field("ETag"), Some("\"a\""));
                assert!(answer.content() == &file[first..=last], "{range}");
                let seen = icap.asked().pop().unwrap();
                let begin = first.saturating_sub(OVERLAP);
                let end = (last + OVERLAP).min(LENGTH - 1);
                assert!(seen.body == file[begin..=end], "{range}");
            }
        }
        let records = gateway.transactions(2 * table.len());
        assert!(records.iter().all(|r| r["uninspected"].is_null()), "{records:?}");
        let full = &records[0];
        assert_eq!(
            (&full["bytes_from_server"], &full["bytes_to_client"]),
            (&231_072.into(), &100_000.into())
        );
    }
}

/// The strongest that can be said of signatures: no byte of one is delivered, in whatever part.
#[test]
fn no_byte_of_a_signature_is_delivered_in_any_part() {
    const LENGTH: usize = 40_000;
    const OVERLAP: usize = 4096;
    for (number, length) in [1, 2, 64, OVERLAP].into_iter().enumerate() {
        for place in [0, 1, 9_999, LENGTH / 2, LENGTH - OVERLAP] {
            let mut file = noise(LENGTH);
            let signature: Vec<u8> = (0..length).map(|at| b'0' + (at % 7) as u8).collect();
            file[place..place + length].copy_from_slice(&signature);
            let origin = origin(file.clone());
            let sought = signature.clone();
            let icap = Icap::start(move |message| {
                match message.body.windows(sought.len()).any(|w| w == sought) {
                    true => Verdict::Block,
                    false => Verdict::Pass,
                }
            });
            let settings = "[http]\nrange_overlap = \"4KiB\"\n";
            let gateway = Gateway::start(&format!("{}{settings}", icap.settings()));
            let touches = |first, last| first < place + length && last >= place;
            // Around the signature's ends, and at random.
            let (ends, mut random) = ([place, place + length - 1], noise(400).into_iter());
            let mut parts: Vec<(usize, usize)> = Vec::new();
            for end in ends {
                for first in [end.saturating_sub(1), end, end + 1, end + 2] {
                    parts.extend([(first, first), (first, first + 1), (first, LENGTH - 1)]);
                }
                parts.extend([(0, end), (0, end.saturating_sub(1))]);
            }
            let mut below = |most: usize| {
                (0..4).fold(number, |n, _| n * 26 + usize::from(random.next().unwrap() - b'a'))
                    % most
            };
            for _ in 0..10 {
                let first = below(LENGTH);
                parts.push((first, first + below(3 * OVERLAP)));
            }
            for (first, last) in parts.into_iter().filter(|(first, _)| *first < LENGTH) {
                let answer = get(&gateway, &origin, "/f", &format!("bytes={first}-{last}"));
                let last = last.min(LENGTH - 1);
                match answer.status() {
                    "206" => {
                        assert!(!touches(first, last), "{first}-{last} of {place}+{length}");
                        assert!(answer.content() == &file[first..=last]);
                    }
                    "403" => assert!(touches(first.saturating_sub(OVERLAP), last + OVERLAP)),
                    other => panic!("{other}: {first}-{last}"),
                }
            }
        }
    }
}

#[test]
fn several_parts_are_delivered_as_asked() {
    let file = noise(LENGTH);
    let origin = origin(file.clone());
    let icap =
        Icap::start(|m| if m.heads.contains("/f?echo") { Verdict::Echo } else { Verdict::Pass });
    let gateway = Gateway::start(&icap.settings());
    let last = LENGTH - 1;
    type Case<'a> = (&'a str, &'a str, &'a [(usize, usize)]);
    let table: [Case<'_>; 7] = [
        ("bytes=0-9,200000-200009", "bytes=0-65545,134464-265545", &[(0, 9), (200_000, 200_009)]),
        // Out of order, and touching each other once they are wider.
        ("bytes=50000-50009,0-9", "bytes=0-115545", &[(0, 9), (50_000, 50_009)]),
        ("bytes=0-0,2-2,4-4", "bytes=0-65540", &[(0, 0), (2, 2), (4, 4)]),
        ("bytes=-5,0-4", "bytes=0-65540,-65541", &[(0, 4), (last - 4, last)]),
        ("bytes=0-9,290000-,-5", "bytes=0-65545,224464-,-65541", &[(0, 9), (290_000, last)]),
        (
            "bytes=1000-1009,0-9,150000-150099,299999-299999",
            "bytes=0-66545,84464-215635,234463-365535",
            &[(0, 9), (1000, 1009), (150_000, 150_099), (last, last)],
        ),
        (
            "bytes=150000-150009,0-9,900000-",
            "bytes=0-65545,84464-215545,834464-",
            &[(0, 9), (150_000, 150_009)],
        ),
    ];
    for path in ["/f", "/f?echo", "/shuffled", "/bare"] {
        for (range, wider, expected) in table {
            let answer = get(&gateway, &origin, path, range);
            assert_eq!(asked(&origin).as_deref(), Some(wider));
            let mut came = answer.parts();
            came.sort_by_key(|(range, _)| {
                range[6..].split('-').next().unwrap().parse::<u64>().unwrap()
            });
            assert_eq!(came.len(), expected.len(), "{path} {range}");
            for ((range, content), (first, last)) in came.iter().zip(expected) {
                assert_eq!(*range, format!("bytes {first}-{last}/{LENGTH}"));
                assert!(content == &file[*first..=*last], "{path} {range}");
            }
        }
    }
    // Touching ones are one; of an origin that sends one only, so much; others send the whole.
    let answer = get(&gateway, &origin, "/f", "bytes=10-19,0-9");
    assert_eq!(answer.field("Content-Range"), Some("bytes 0-19/300000"));
    assert!(answer.content() == &file[..20]);
    let answer = get(&gateway, &origin, "/single", "bytes=0-9,200000-200009");
    assert_eq!(answer.field("Content-Range"), Some("bytes 0-9/300000"));
    let answer = get(&gateway, &origin, "/whole", "bytes=0-9,200000-200009");
    assert_eq!((answer.status(), answer.content().len()), ("200", LENGTH));
    let records = gateway.transactions(31);
    assert!(records.iter().all(|r| r["uninspected"].is_null()), "{records:?}");
}

#[test]
fn what_an_origin_makes_of_a_range() {
    let file = noise(LENGTH);
    let origin = origin(file.clone());
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    // It may send the whole, and less at the end as long as it says how much there is.
    let answer = get(&gateway, &origin, "/whole", "bytes=5-9");
    assert_eq!((answer.status(), answer.content().len()), ("200", LENGTH));
    let answer = get(&gateway, &origin, "/star", "bytes=5-9");
    assert_eq!(answer.field("Content-Range"), Some("bytes 5-9/*"));
    let changed = "Range: bytes=5-9\r\nIf-Range: \"b\"\r\n";
    let answer = ask(&gateway, &origin, "GET", "/changed", changed);
    assert_eq!((answer.status(), answer.content().len()), ("200", LENGTH));
    let same = changed.replace("\"b\"", "\"a\"");
    let answer = ask(&gateway, &origin, "GET", "/changed", &same);
    assert_eq!((answer.status(), answer.content()), ("206", &file[5..10]));
    let answer = get(&gateway, &origin, "/digest", "bytes=5-9");
    assert_eq!(answer.content(), &file[5..10]);
    assert_eq!((answer.field("Content-Digest"), answer.field("Content-MD5")), (None, None));
    // Its bytes at the end are overlap, so that the next part begins before them.
    let settings = format!("{}[http]\nrange_overlap = 4096\n", icap.settings());
    let narrow = Gateway::start(&settings);
    let answer = get(&narrow, &origin, "/short", "bytes=0-");
    assert_eq!(answer.field("Content-Range"), Some("bytes 0-5903/300000"));
    assert!(answer.content() == &file[..5904]);
    let answer = get(&narrow, &origin, "/short", "bytes=295000-");
    assert_eq!(answer.content(), &file[295_000..]);

    let wrong = [
        ("/exact", "bytes=100000-100009"),
        ("/short", "bytes=100000-100009"),
        ("/star", "bytes=299999-"),
        ("/star", "bytes=-5"),
        ("/longer", "bytes=5-9"),
        ("/nameless", "bytes=5-9"),
        ("/nonsense", "bytes=5-9"),
        ("/twice", "bytes=5-9"),
        ("/unit", "bytes=5-9"),
        ("/beyond", "bytes=5-9"),
        ("/both", "bytes=5-9"),
        ("/several", "bytes=5-9"),
        ("/unbound", "bytes=5-9,200000-200009"),
    ];
    for (path, range) in wrong {
        let answer = get(&gateway, &origin, path, range);
        assert_eq!(answer.status(), "502", "{path} {range}: {}", answer.head);
        assert!(text(&answer.body).contains("not the part that was asked for"), "{path}");
    }
    let records = gateway.transactions(5 + wrong.len());
    assert!(records[5..].iter().all(|r| r["outcome"] == "refused"), "{records:?}");
    // What is found later cuts the answer.
    for path in ["/unnamed", "/torn", "/totals", "/unended", "/exact"] {
        let answer = get(&gateway, &origin, path, "bytes=100000-100009,270000-270009");
        assert!(!answer.body.ends_with(b"0\r\n\r\n"), "{path}: {}", text(&answer.body));
    }
}

#[test]
fn parts_of_coded_contents_are_fetched_whole() {
    let origin = origin(noise(LENGTH));
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let fields = "Range: bytes=5-9\r\nAccept-Encoding: gzip\r\nIf-Range: \"a\"\r\n";
    let answer = ask(&gateway, &origin, "GET", "/coded", fields);
    assert_eq!((answer.status(), answer.content().len()), ("200", LENGTH));
    let seen = origin.seen().iter().map(|seen| text(seen)).collect::<Vec<_>>();
    assert_eq!(seen.len(), 2);
    let all = ["Range", "If-Range", "Accept-Encoding"].map(|name| field(&seen[0], name));
    assert_eq!(all, [Some("bytes=0-65545"), Some("\"a\""), Some("identity")]);
    let all = ["Range", "If-Range", "Accept-Encoding"].map(|name| field(&seen[1], name));
    assert_eq!(all, [None, None, Some("identity")]);
    assert!(uninspected(&gateway, 1).is_null());
    // What a request brought along is not there a second time.
    let o = origin.address;
    let request = format!(
        "GET http://{o}/coded HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\nRange: bytes=5-9\r\nContent-Length: 1\r\n\r\n+"
    );
    let answer = text(&gateway.ask(request.as_bytes()));
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(origin.seen().len(), 3);
}

#[test]
fn ranges_that_can_not_be_widened() {
    let origin = origin(noise(LENGTH));
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let mut count = 0;
    let mut check =
        |method: &str, fields: &str, reaches: Option<&str>, status: &str, reason: Value| {
            let answer = ask(&gateway, &origin, method, "/f", fields);
            count += 1;
            assert_eq!(
                (answer.status(), asked(&origin).as_deref()),
                (status, reaches),
                "{method} {fields}"
            );
            assert_eq!(uninspected(&gateway, count), reason, "{method} {fields}");
        };
    // A signed one stays as it is, and its bytes are counted.
    let signed = "Range: bytes=5-9\r\nAuthorization: AWS4-HMAC-SHA256 Credential=A, SignedHeaders=host;range, Signature=0\r\n";
    check("GET", signed, Some("bytes=5-9"), "206", serde_json::json!(["range"]));
    check("HEAD", "Range: bytes=5-9\r\n", Some("bytes=5-9"), "206", Value::Null);
    // What has no meaning, or several, is left out.
    for (method, fields) in [
        ("DELETE", "Range: bytes=5-9\r\n"),
        ("GET", "Range: bytes=9-5\r\n"),
        ("GET", "Range: bytes = 5-9\r\nIf-Range: \"a\"\r\n"),
        ("GET", "Range: bytes=5-9\r\nRange: bytes=5-9\r\n"),
    ] {
        check(method, fields, None, "200", Value::Null);
    }
    let many = vec!["1-1"; 300].join(",");
    check("GET", &format!("Range: bytes={many}\r\n"), None, "200", Value::Null);
    assert_eq!(
        gateway
            .metric("meergate_uninspected_bytes_total{reason=\"range\",direction=\"to_client\"}"),
        5
    );
}

#[test]
fn other_units_are_the_origins_affair_and_counted() {
    let rows = "HTTP/1.1 206 Partial Content\r\nContent-Range: rows 0-9/20\r\nContent-Length: 4\r\n\r\nrows";
    let origin = Origin::answering(rows);
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let answer = get(&gateway, &origin, "/", "rows=0-9");
    assert_eq!((answer.status(), answer.content()), ("206", &b"rows"[..]));
    assert_eq!(asked(&origin).as_deref(), Some("rows=0-9"));
    assert_eq!(uninspected(&gateway, 1), serde_json::json!(["range"]));
}

#[test]
fn services_that_change_a_part() {
    let file = noise(LENGTH);
    let origin = origin(file.clone());
    let icap = Icap::start(|message: &Message| {
        let range = "Content-Range: bytes 0-65545/300000";
        let answer = |status: &str, fields: &str, body: &[u8]| {
            let head =
                format!("HTTP/1.1 {status}\r\n{fields}\r\nContent-Length: {}\r\n\r\n", body.len());
            Verdict::Answer(head, body.to_vec())
        };
        if message.method == "REQMOD" {
            return Verdict::Pass;
        }
        match message.heads.split(['?', ' ']).nth(2).unwrap() {
            "masked" => answer("206 Partial Content", range, &vec![b'*'; 65_546]),
            "shorter" => answer("206 Partial Content", range, b"short"),
            "moved" => answer(
                "206 Partial Content",
                "Content-Range: bytes 1-65546/300000",
                &[b'*'; 65_546],
            ),
            "page" => answer("200 OK", "Content-Type: text/plain", b"a page"),
            _ => answer("206 Partial Content", "A: b", b"no range"),
        }
    });
    let gateway = Gateway::start(&icap.settings());
    let answer = get(&gateway, &origin, "/f?masked", "bytes=5-9");
    assert_eq!((answer.status(), answer.content()), ("206", &b"*****"[..]));
    let answer = get(&gateway, &origin, "/f?page", "bytes=5-9");
    assert_eq!((answer.status(), &answer.decoded()[..]), ("200", &b"a page"[..]));
    for path in ["/f?moved", "/f?other"] {
        assert_eq!(get(&gateway, &origin, path, "bytes=5-9").status(), "502", "{path}");
    }
    // Whether its length is known before its end is a matter of packets.
    let answer = get(&gateway, &origin, "/f?shorter", "bytes=5-9");
    match answer.status() {
        "206" => assert_eq!(answer.body, b""),
        status => assert_eq!(status, "502"),
    }
}

/// A service that ends while the bytes behind the part are still to be judged.
#[test]
fn the_end_of_a_part_waits_for_the_verdict_over_the_overlap() {
    let file = noise(LENGTH);
    let origin = origin(file.clone());
    for passed in [0, 1, OVERLAP + 9, OVERLAP + 10, 2 * OVERLAP, 2 * OVERLAP + 9] {
        let icap = Icap::start(move |message| match message.method.as_str() {
            "REQMOD" => Verdict::Pass,
            _ => Verdict::CutAfter(passed),
        });
        let gateway = Gateway::start(&icap.settings());
        for range in ["bytes=100000-100009", "bytes=100000-100009,290000-"] {
            let answer = get(&gateway, &origin, "/f", range);
            if answer.status() == "206" {
                assert!(
                    answer.body.len() < 10 || range.contains(','),
                    "{passed} {}",
                    answer.body.len()
                );
                assert!(!answer.body.ends_with(b"0\r\n\r\n"));
                assert!(!answer.body.windows(10).any(|w| w == &file[290_000..290_010]));
            }
        }
    }
}

#[test]
fn rules_say_what_becomes_of_ranges() {
    let origin = origin(noise(LENGTH));
    let icap = Icap::start(|_| Verdict::Pass);
    let rule = |path: &str, ranges: &str| {
        format!("[[rule]]\npath = [\"{path}\"]\nranges = \"{ranges}\"\n")
    };
    let rules =
        [rule("/digest", "pass"), rule("/chunked", "whole"), rule("/star", "block")].concat();
    let gateway = Gateway::start(&format!("{}{rules}", icap.settings()));
    for (path, reaches, status, length) in [
        ("/f", Some("bytes=0-65545"), "206", Some(5)),
        ("/digest", Some("bytes=5-9"), "206", Some(5)),
        ("/chunked", None, "200", Some(LENGTH)),
        ("/star", Some("bytes=5-9"), "403", None),
    ] {
        let answer = get(&gateway, &origin, path, "bytes=5-9");
        assert_eq!((answer.status(), asked(&origin).as_deref()), (status, reaches), "{path}");
        if let Some(length) = length {
            assert_eq!(answer.content().len(), length, "{path}");
        }
    }
    // Nobody to show it to: as it is.
    let gateway = Gateway::start("");
    get(&gateway, &origin, "/f", "bytes=5-9");
    assert_eq!(asked(&origin).as_deref(), Some("bytes=5-9"));
}

#[tokio::test]
async fn parts_over_http_2() {
    let file = Arc::new(noise(LENGTH));
    let shared = file.clone();
    let origin = h2::Origin::start(
        usize::MAX,
        h2::handler(move |request, mut respond| {
            let file = shared.clone();
            async move {
                let range = request.headers()["range"].to_str().unwrap().to_owned();
                let (first, last) = range["bytes=".len()..].split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let last = last.min(LENGTH - 1);
                let response = Response::builder()
                    .status(206)
                    .header("content-range", format!("bytes {first}-{last}/{LENGTH}"))
                    .body(())
                    .unwrap();
                let mut stream = respond.send_response(response, false).unwrap();
                h2::send(&mut stream, Bytes::copy_from_slice(&file[first..=last]), true).await;
            }
        }),
    )
    .await;
    let icap = Icap::start(|_| Verdict::Pass);
    let (gateway, _dir) = h2::gateway(&origin, &icap.settings());
    let sender = h2::connect(&gateway, &origin).await;
    for (range, first, last) in [
        ("bytes=5-9", 5, 9),
        ("bytes=100000-299999", 100_000, 299_999),
        ("bytes=299999-299999", 299_999, 299_999),
    ] {
        let mut request = h2::request(&origin, "GET", "/");
        request.headers_mut().insert("range", range.parse().unwrap());
        let mut sender = sender.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let response = h2::soon("a response", response).await.unwrap();
        assert_eq!(response.status(), 206);
        assert_eq!(response.headers()["content-range"], format!("bytes {first}-{last}/{LENGTH}"));
        assert_eq!(response.headers()["content-length"], (last - first + 1).to_string());
        let body = h2::soon("its content", h2::collect(response.into_body())).await.unwrap();
        assert!(body == file[first..=last], "{range}");
        assert!(icap.asked().pop().unwrap().body.len() > last - first + OVERLAP);
    }
}

/// A service may change a request for a part, but not the part.
#[test]
fn services_that_change_requests_for_parts() {
    let file = noise(LENGTH);
    let origin = origin(file.clone());
    let o = origin.address;
    let icap = Icap::start(move |message: &Message| {
        let fields = match message.heads.split(['?', ' ']).nth(2).unwrap() {
            _ if message.method == "RESPMOD" => return Verdict::Pass,
            "added" => "Range: bytes=0-65545\r\nX-Added: 1\r\n",
            "moved" => "Range: bytes=7-9\r\n",
            _ => "",
        };
        Verdict::Change(format!(
            "GET /f HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n{fields}\r\n"
        ))
    });
    let gateway = Gateway::start(&icap.settings());
    let answer = get(&gateway, &origin, "/f?added", "bytes=5-9");
    assert_eq!((answer.status(), answer.content()), ("206", &file[5..10]));
    for path in ["/f?moved", "/f?removed"] {
        let answer = get(&gateway, &origin, path, "bytes=5-9");
        assert_eq!((answer.status(), answer.content().len()), ("200", LENGTH), "{path}");
        assert_eq!(asked(&origin), None);
    }
}
