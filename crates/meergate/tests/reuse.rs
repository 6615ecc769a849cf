//! Connections to origins: kept between whole messages, and only there.
#![allow(clippy::unwrap_used, reason = "helpers fail the test that calls them")]

mod support;

use std::io::Write;
use std::sync::mpsc;

use support::icap::{Icap, Verdict};
use support::{Gateway, Origin, PATIENCE, read_to_end, read_until, text, tunnel};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LATE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate";
/// What a client asks after a transaction that went wrong.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Sends `early` for the first request of a connection that asks for `/first`. Its answer comes
/// when the connection is used again.
fn owing(early: impl Into<String>) -> Origin {
    let early = early.into();
    Origin::start(move |asked| {
        let mut owed = "";
        while let Some(head) = asked.head() {
            let answer = match head.contains(" /first ") {
                true => {
                    owed = LATE;
                    early.clone()
                }
                false => format!("{}{OK}", std::mem::take(&mut owed)),
            };
            if asked.stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// What a client gets that asks for `/first` with that method and, on the same connection, `NEXT`.
fn first_and_next(gateway: &Gateway, origin: &Origin, method: &str) -> String {
    let mut stream = tunnel(gateway, origin);
    write!(stream, "{method} /first HTTP/1.1\r\nHost: a\r\n\r\n{NEXT}").unwrap();
    text(&read_to_end(&mut stream))
}

#[test]
fn an_answer_that_comes_too_late_is_nobodys() {
    let gateway = Gateway::start("[limits]\nidle_timeout = \"1s\"\n");
    for method in ["GET", "HEAD"] {
        let origin = owing("");
        let got = first_and_next(&gateway, &origin, method);
        assert!(got.starts_with("HTTP/1.1 504 "), "{got}");
        assert!(got.ends_with(&OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")), "{got}");
        assert_eq!(origin.seen().len(), 2);
    }
}

#[test]
fn an_origin_that_was_given_up_is_not_asked_again() {
    let gateway = Gateway::start("");
    let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(33);
    let unasked = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    for early in [&endless, unasked] {
        let origin = owing(early);
        let got = first_and_next(&gateway, &origin, "GET");
        assert!(got.contains("HTTP/1.1 502 ") && got.ends_with("\r\n\r\nok"), "{got}");
        assert!(!got.contains("late"), "{got}");
        assert_eq!(origin.seen().len(), 2);
    }
}

#[test]
fn a_request_that_was_not_sent_to_its_end_is_not_gone_on_with_by_the_next() {
    let origin = Origin::start(|asked| {
        while let Some(head) = asked.head() {
            if head.contains(" /first ") {
                while !asked.seen().ends_with(b"\r\nhe\r\n") {
                    asked.exactly(1).unwrap();
                }
            }
            asked.stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    // All of the content is read from the client, and not all of it comes back.
    let icap = Icap::start(|m| match (m.method.as_str(), m.heads.contains(" /first ")) {
        ("REQMOD", true) => Verdict::StopAfter(2),
        ("RESPMOD", true) => Verdict::Close,
        _ => Verdict::Pass,
    });
    let gateway = Gateway::start(&icap.settings());
    let mut stream = tunnel(&gateway, &origin);
    let first = "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    write!(stream, "{first}{NEXT}").unwrap();
    let got = text(&read_to_end(&mut stream));
    assert!(got.starts_with("HTTP/1.1 502 ") && got.ends_with("\r\n\r\nok"), "{got}");
    let seen = origin.seen();
    assert_eq!(seen.len(), 2);
    assert!(text(&seen[0]).ends_with("\r\n\r\n2\r\nhe\r\n"), "{}", text(&seen[0]));
}

#[test]
fn an_origin_learns_at_once_that_a_request_ends_in_the_middle() {
    let (over, ended) = mpsc::sync_channel(1);
    let origin = Origin::start(move |asked| {
        asked.head();
        asked.stream.write_all(OK.as_bytes()).unwrap();
        while asked.read().is_some() {}
        over.send(()).unwrap();
    });
    let icap = Icap::start(|m| match m.method.as_str() {
        "REQMOD" => Verdict::StopAfter(2),
        _ => Verdict::Block,
    });
    let gateway = Gateway::start(&icap.settings());
    let mut stream = tunnel(&gateway, &origin);
    write!(stream, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    read_until(&mut stream, b"blocked");
    ended.recv_timeout(PATIENCE).unwrap();
}
