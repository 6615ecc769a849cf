//! Responses as servers send them: what the client gets is what the services were shown, in one reading, and
//! what curl takes arrives.
// Helpers fail the test that calls them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashMap;
use std::io::Write;
use std::process::Command;

use support::icap::{Icap, Message, Verdict};
use support::{Gateway, Origin, connect, read_to_end, text};

const BODY: &str = "<p>hi</p>";
const CHUNKS: &str = "9\r\n<p>hi</p>\r\n0\r\n\r\n";

/// An origin that answers the request for `/N` with the Nth of `responses`, and ends the connection.
fn origin_of(responses: Vec<Vec<u8>>) -> Origin {
    Origin::start(move |asked| {
        let Some(head) = asked.head() else { return };
        let number: usize = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        let _ = asked.stream.write_all(&responses[number]);
    })
}

/// Head and content of a response, read strictly.
fn apart(response: &[u8]) -> (String, Vec<u8>) {
    let end = response.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let (head, rest) = response.split_at(end);
    let head = String::from_utf8_lossy(head).into_owned();
    let value = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let values: Vec<_> =
            lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
        assert!(values.len() < 2, "{head}");
        values.first().map(|value| (*value).to_owned())
    };
    let content = match (value("Transfer-Encoding"), value("Content-Length")) {
        (None, Some(length)) => {
            assert_eq!(length, rest.len().to_string(), "{head}");
            rest.to_vec()
        }
        (None, None) => {
            assert!(rest.is_empty(), "{head}{}", text(rest));
            Vec::new()
        }
        (Some(coding), None) => {
            assert!(coding.eq_ignore_ascii_case("chunked"), "{head}");
            chunks(rest)
        }
        (Some(_), Some(_)) => panic!("{head}"),
    };
    (head, content)
}

fn chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            assert!(rest.ends_with(b"\r\n"));
            return content;
        }
        content.extend_from_slice(&rest[..size]);
        assert_eq!(&rest[size..size + 2], b"\r\n");
        rest = &rest[size + 2..];
    }
}

/// What a head says, without the fields that concern one connection and its framing.
fn end_to_end(head: &str) -> Vec<String> {
    const HOP_BY_HOP: [&str; 5] =
        ["connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"];
    let is_kept = |line: &&str| {
        let name = line.split(':').next().unwrap().to_ascii_lowercase();
        !line.is_empty() && !HOP_BY_HOP.contains(&name.as_str())
    };
    // The version is of the connection too.
    head.split("\r\n").filter(is_kept).map(|line| line.replace("HTTP/1.0", "HTTP/1.1")).collect()
}

/// What the service was shown of each response, by the number of the request.
fn shown(icap: &Icap) -> HashMap<usize, (String, Vec<u8>)> {
    let of = |message: Message| {
        let number = message.heads.split(['/', ' ']).nth(2)?.parse().ok()?;
        let (_, response) = message.heads.split_once("\r\n\r\nHTTP/")?;
        Some((number, (format!("HTTP/{response}"), message.body)))
    };
    icap.asked().into_iter().filter(|m| m.method == "RESPMOD").filter_map(of).collect()
}

/// Responses of real servers, whether chunked content follows, and how the head goes on.
const SERVERS: [(&str, &str, &str); 20] = [
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKS,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 9\r\n\r\n",
        BODY,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 9, 9\r\n\r\n",
        BODY,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 0009\r\n\r\n",
        BODY,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nConnection: close\r\n\r\n",
        BODY,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        "",
        "HTTP/1.1 204 No Content\r\n",
    ),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", "", "HTTP/1.1 204 No Content\r\n"),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", "left", "HTTP/1.1 204 No Content\r\n"),
    (
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKS,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
    ),
    ("HTTP/1.1 200 OK\nContent-Length: 9\n\n", BODY, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 9\nX-A: b\r\n\r\n",
        BODY,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-A: b\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Type : text/html\r\nContent-Length: 9\r\n\r\n",
        BODY,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Security-Policy: default-src 'self';\r\n\timg-src *\r\nContent-Length: 9\r\n\r\n",
        BODY,
        "HTTP/1.1 200 OK\r\nContent-Security-Policy: default-src 'self'; img-src *\r\nContent-Length: 9\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\u{1}c\r\nContent-Length: 9\r\n\r\n",
        BODY,
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=b c\r\nContent-Length: 9\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKS,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "9 ; a=b\r\n<p>hi</p>\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        CHUNKS,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "9   \n<p>hi</p>\n0   \r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nX Powered By: foo\r\nContent-Length: 9\r\n\r\n",
        BODY,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n",
    ),
    (
        "HTTP/1.1 103 Early Hints\nLink : a\nContent-Length: 7\n\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        BODY,
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n",
    ),
];

#[test]
fn responses_of_real_servers_arrive_and_services_see_what_arrives() {
    let many: String = (0..300).map(|n| format!("X-{n}: b\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 9\r\n");
    let whole = format!("{many}\r\n");
    let table: Vec<_> = SERVERS.into_iter().chain([(&*whole, BODY, &*many)]).collect();
    let responses = table.iter().map(|(head, content, _)| format!("{head}{content}").into_bytes());
    let origin = origin_of(responses.collect());
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    for (number, (came, content, written)) in table.iter().enumerate() {
        let mut stream = gateway.connect();
        let url = origin.url(&format!("/{number}"));
        write!(
            stream,
            "GET {url} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            origin.address
        )
        .unwrap();
        let answer = text(&read_to_end(&mut stream));
        let last = answer.rfind("HTTP/1.1 ").unwrap();
        assert!(written.starts_with(&answer[..last]), "{came:?}: {answer}");
        let (head, body) = apart(&answer.as_bytes()[last..]);
        assert_eq!(end_to_end(&head), end_to_end(&written[last..]), "{came:?}");
        let had = if written.contains(" 204 ") { "" } else { BODY };
        assert_eq!(text(&body), had, "{came:?} {content:?}");
        let shown = shown(&icap);
        match shown.get(&number) {
            Some((seen, content)) => {
                assert_eq!(end_to_end(seen), end_to_end(&head));
                assert_eq!(*content, body);
            }
            None => panic!("{came:?} was shown to nobody"),
        }
    }
    let mended = gateway.metric("meergate_responses_mended_total");
    // Two have faults in their chunks alone, one in nothing, two heads of one are counted one by one.
    assert_eq!(mended, SERVERS.len() as u64 - 2);
}

#[test]
fn a_connection_that_carried_a_fault_carries_nothing_more() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for (first, content) in [
        ("HTTP/1.1 200 OK\r\nContent-Length : 9\r\n\r\n", BODY),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKS),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 51\r\n\r\n", ""),
        ("HTTP/1.1 103 X\n\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", BODY),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "9 \r\n<p>hi</p>\r\n0\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\n<p>hi</p>\r\n0\r\n\n"),
    ] {
        let response = format!("{first}{content}");
        let origin = Origin::start(move |asked| {
            while let Some(head) = asked.head() {
                // What follows comes only when the next request does: nothing gives it away before.
                let is_first = head.starts_with("GET /1");
                let answer = if is_first { response.as_str() } else { poison };
                if asked.stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let gateway = Gateway::start("");
        let mut stream = connect(gateway.proxy);
        let o = origin.address;
        for (path, close) in [("/1", ""), ("/2", "Connection: close\r\n")] {
            write!(stream, "GET http://{o}{path} HTTP/1.1\r\nHost: {o}\r\n{close}\r\n").unwrap();
        }
        let answer = text(&read_to_end(&mut stream));
        assert!(answer.contains("poison"), "the second request is answered: {answer}");
        let carried: Vec<_> =
            origin.seen().iter().map(|seen| text(seen).matches("GET ").count()).collect();
        assert_eq!(carried, [1, 1], "{first:?}");
    }
}

#[test]
fn heads_without_content_are_read_so_too() {
    // To a HEAD and with 304 nothing follows, whatever the head says.
    for (status, method) in [("200 OK", "HEAD"), ("304 Not Modified", "GET")] {
        for fields in ["Content-Length : 9", "Content-Length: 9\r\nTransfer-Encoding: chunked"] {
            let response = format!("HTTP/1.1 {status}\r\n{fields}\r\nX-A: b\r\n\r\n");
            let origin = Origin::answering(response);
            let gateway = Gateway::start("");
            let o = origin.address;
            let request = format!(
                "{method} http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n\
                 {method} http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n"
            );
            let answer = text(&gateway.ask(request.as_bytes()));
            assert_eq!(answer.matches("X-A: b").count(), 2, "{answer}");
            assert!(answer.ends_with("\r\n\r\n") && !answer.contains("502"), "{answer}");
        }
    }
}

#[test]
fn faults_behind_a_switch_of_protocols_hide_nothing() {
    // The head of the answer that agrees is written anew; what follows it is what the two say.
    let origin = Origin::start(|asked| {
        asked.head();
        let head = "HTTP/1.1 101 Switching Protocols\nConnection : upgrade\nUpgrade: websocket\n\
                    Content-Length: 3\n\nfromserver";
        asked.stream.write_all(head.as_bytes()).unwrap();
    });
    let gateway = Gateway::start("");
    let o = origin.address;
    let request = format!(
        "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    let answer = text(&gateway.ask(request.as_bytes()));
    let expected = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfromserver";
    assert_eq!(answer, expected);
}

#[test]
fn heads_of_services_are_read_so_too() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let page = "HTTP/1.0 403 Forbidden\nX-Why : bad\n folded\nContent-Length: 5\nTransfer-Encoding: chunked\n\n";
    let icap = Icap::start(|_| Verdict::Answer(page.to_owned(), b"no".to_vec()));
    let gateway = Gateway::start(&icap.settings());
    let o = origin.address;
    let request = format!("GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n");
    let (head, body) = apart(&gateway.ask(request.as_bytes()));
    assert_eq!(end_to_end(&head), ["HTTP/1.1 403 Forbidden", "X-Why: bad folded"]);
    assert_eq!(text(&body), "no");
}

#[test]
fn services_are_shown_every_field_that_arrives() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Hidden, content-disposition\r\nX-Hidden: a\r\nX-Shown: b\r\n\
         Content-Disposition: attachment\r\nContent-Length: 2\r\n\r\nok",
    );
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let o = origin.address;
    let request = format!(
        "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close, X-Hidden\r\nX-Hidden: a\r\n\r\n"
    );
    let answer = text(&gateway.ask(request.as_bytes()));
    assert!(answer.contains("X-Shown: b") && !answer.contains("X-Hidden: a"), "{answer}");
    assert!(!answer.contains("attachment"), "{answer}");
    assert!(!text(&origin.seen().concat()).contains("X-Hidden: a"));
}

/// A generator whose numbers are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % sides
    }

    fn one_of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// A response with some faults.
fn response(dice: &mut Dice) -> Vec<u8> {
    const STARTS: [&str; 9] = [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 404 Not\u{7}Found",
        "HTTP/1.1\t200  OK",
        "HTTP/1.1 204 No Content",
        "HTTP/1.1 304 Not Modified",
    ];
    const LENGTHS: [&str; 12] = [
        "Content-Length: 9",
        "Content-Length: 9",
        "content-length:9",
        "Content-Length : 9",
        "Content-Length: 0009",
        "Content-Length: 9, 9",
        "Content-Length:\r\n 9",
        "Content-Length: \u{b}9",
        "Content-Length: 9\r\nContent-Length: 09",
        "Content-Length: 9\r\nContent-Length: 5",
        "Content-Length: +9",
        "Content-Length: x",
    ];
    const CODINGS: [&str; 9] = [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked",
        "transfer-encoding:Chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n\tchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: gzip, chunked",
    ];
    const OTHERS: [&str; 16] = [
        "Content-Type: text/html",
        "Content-Type : text/html",
        "X-Folded: a\r\n b\r\n\tc",
        "X-Control: a\u{1}b",
        "X-Return: a\rX-Second: b",
        "X-Return: a\r\r\n\tb",
        "X Name: a",
        "X\"Name: a",
        "no colon at all",
        ": no name",
        "Set-Cookie: a=b\u{7f}c; path=/",
        "Connection: Content-Length",
        "Connection: close, Transfer-Encoding",
        "Transfer-Encoding: identity",
        "Content-Length: 9",
        "X-Latin: caf\u{e9}",
    ];
    const CONTENTS: [&str; 7] = [
        CHUNKS,
        CHUNKS,
        "9 ; a=b\r\n<p>hi</p>\r\n0\r\n\r\n",
        "9\n<p>hi</p>\n0\n\n",
        "4  \r\n<p>h\r\n5;a\r\ni</p>\r\n0\r\nX-Trailer : a\r\n\r\n",
        "9\r\n<p>hi</p>0\r\n\r\n",
        "0x9\r\n<p>hi</p>\r\n0\r\n\r\n",
    ];
    let is_chunked = dice.below(2) == 0;
    let mut lines = vec![dice.one_of(&STARTS)];
    match is_chunked {
        true => lines.push(dice.one_of(&CODINGS)),
        false if dice.below(6) > 0 => lines.push(dice.one_of(&LENGTHS)),
        false => {}
    }
    for _ in 0..dice.below(4) {
        let at = 1 + dice.below(lines.len());
        lines.insert(at, dice.one_of(&OTHERS));
    }
    let mut text = String::new();
    for line in lines {
        text += line;
        text += if dice.below(5) == 0 { "\n" } else { "\r\n" };
    }
    text += if dice.below(5) == 0 { "\n" } else { "\r\n" };
    text += if is_chunked { dice.one_of(&CONTENTS) } else { BODY };
    // One byte a character, as servers write them that know nothing of UTF-8.
    text.chars().map(|c| c as u8).collect()
}

/// What curl made of the response to each of `count` requests: its exit status, head and content.
fn curl(urls: &Origin, proxy: Option<&Gateway>, count: usize) -> Vec<(i32, Vec<u8>, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let file = |number: usize, end: &str| dir.path().join(format!("{number}{end}"));
    let mut config = String::from("silent\nhttp1.1\nmax-time = 60\n");
    config += "write-out = \"%{exitcode}\\n\"\n";
    let one = |number: usize| {
        let proxy =
            proxy.map_or(String::from("noproxy = \"*\""), |p| format!("proxy = \"{}\"", p.proxy));
        format!(
            "{config}{proxy}\nurl = \"{}\"\noutput = {:?}\ndump-header = {:?}\n",
            urls.url(&format!("/{number}")),
            file(number, ".body"),
            file(number, ".head"),
        )
    };
    let mut codes: Vec<i32> = Vec::new();
    while codes.len() < count {
        let left: Vec<_> = (codes.len()..count).map(one).collect();
        std::fs::write(dir.path().join("config"), left.join("next\n")).unwrap();
        let output =
            Command::new("curl").arg("--config").arg(dir.path().join("config")).output().unwrap();
        let told = text(&output.stdout);
        // Some faults end it at once, with a code for the last one that it has tried.
        assert!(!told.is_empty(), "{}: {}", output.status, text(&output.stderr));
        codes.extend(told.lines().map(|line| line.parse::<i32>().unwrap()));
    }
    let content = |number, end| std::fs::read(file(number, end)).unwrap_or_default();
    (0..count).map(|n| (codes[n], content(n, ".head"), content(n, ".body"))).collect()
}

/// Why curl takes what is refused here, as docs/settings.md names it.
fn is_documented(response: &[u8]) -> bool {
    let text = String::from_utf8_lossy(response).into_owned();
    let unknown_length = ["Content-Length: +9", "Content-Length: x", "Content-Length: 5"];
    unknown_length.iter().any(|fault| text.contains(fault))
        || text.contains("gzip, chunked")
        || text.contains("\r\n<p>hi</p>0\r\n")
        || text.contains("0x9")
}

#[test]
fn what_curl_takes_arrives_as_the_service_was_shown_it() {
    const COUNT: usize = 1000;
    let mut dice = Dice(0x5eed_0010);
    let responses: Vec<_> = (0..COUNT).map(|_| response(&mut dice)).collect();
    let origin = origin_of(responses.clone());
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let direct = curl(&origin, None, COUNT);
    let through = curl(&origin, Some(&gateway), COUNT);
    let shown = shown(&icap);
    let (mut arrived, mut refused) = (0, 0);
    for (number, came) in responses.iter().enumerate() {
        let what = format!("{number}: {:?}", String::from_utf8_lossy(came));
        let (direct_code, ..) = &direct[number];
        let (code, head, content) = &through[number];
        // What follows an empty line are trailers.
        let head = String::from_utf8_lossy(head).into_owned();
        let head = head.split("\r\n\r\n").next().unwrap();
        if *code != 0 || head.starts_with("HTTP/1.1 502 ") {
            refused += 1;
            assert!(*direct_code != 0 || is_documented(came), "{what}: {code} {head}");
            continue;
        }
        arrived += 1;
        let (seen, seen_content) = &shown[&number];
        assert_eq!(end_to_end(seen), end_to_end(head), "{what}");
        assert_eq!(seen_content, content, "{what}");
        let is_empty = [" 204 ", " 304 "].iter().any(|status| head.contains(status));
        assert_eq!(text(content), if is_empty { "" } else { BODY }, "{what}");
    }
    assert!(arrived > COUNT / 2 && refused > COUNT / 20, "{arrived} {refused}");
}
