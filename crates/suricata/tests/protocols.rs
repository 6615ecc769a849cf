//! Streams as they occur: the engine follows them, whatever pieces they come in, and without a fuss.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::sync::LazyLock;

use common::{EICAR, Lab, sid, tuple, with_length};
use suricata::{Direction, ErrorKind, Expect, Verdict};

static LAB: LazyLock<Lab> = LazyLock::new(|| Lab::start(common::RULES, |config| config));

const TO_SERVER: Direction = Direction::ToServer;
const TO_CLIENT: Direction = Direction::ToClient;

type Step<'a> = (Direction, &'a [u8]);

/// Feeds the steps in whole and byte by byte; both must give `expected` at the end, and no error.
#[track_caller]
fn dialogue(name: &'static str, steps: &[Step<'_>], expected: Option<u32>) {
    let steps =
        steps.iter().map(|(direction, bytes)| (*direction, bytes.to_vec())).collect::<Vec<_>>();
    LAB.run(move |worker| {
        for size in [usize::MAX, 1] {
            let mut flow = worker.open(tuple(1000), None).unwrap();
            flow.expect(Expect::Http1);
            let mut verdict = Verdict::Pass;
            for (direction, bytes) in &steps {
                for piece in bytes.chunks(size) {
                    verdict = worker
                        .feed(&mut flow, *direction, piece)
                        .unwrap_or_else(|error| panic!("{name}, pieces of {size}: {error}"));
                }
            }
            let at_the_end = worker.close(flow).unwrap();
            let verdict = if verdict.is_drop() { verdict } else { at_the_end };
            assert_eq!(sid(&verdict), expected, "{name}, pieces of {size}");
        }
    });
}

#[test]
fn a_request_is_inspected_before_its_response_whatever_its_method() {
    for method in ["GET", "PROPFIND", "MKCALENDAR", "QUERY", "NONESUCH", "get"] {
        let request = format!("{method} /forbidden HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        LAB.run(move |worker| {
            for size in [1, 1000] {
                let mut flow = worker.open(tuple(1001), None).unwrap();
                flow.expect(Expect::Http1);
                let mut verdict = Verdict::Pass;
                for piece in request.chunks(size) {
                    verdict = worker.feed(&mut flow, TO_SERVER, piece).unwrap();
                }
                assert_eq!(sid(&verdict), Some(1_000_003), "{}", String::from_utf8_lossy(&request));
                let _ = worker.close(flow).unwrap();
            }
        });
    }
}

#[test]
fn message_framing_is_followed_from_one_transaction_to_the_next() {
    let ok = with_length(b"clean");
    let eicar = with_length(EICAR);
    let get: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let bare_head: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
    let not_modified: &[u8] = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n";
    let head: &[u8] = b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let post: &[u8] =
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    let go_on: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let pipelined = [get, get].concat();
    for (end, expected) in [(&ok, None), (&eicar, Some(1_000_001))] {
        dialogue(
            "HEAD",
            &[(TO_SERVER, head), (TO_CLIENT, bare_head), (TO_SERVER, get), (TO_CLIENT, end)],
            expected,
        );
        dialogue(
            "304",
            &[(TO_SERVER, get), (TO_CLIENT, not_modified), (TO_SERVER, get), (TO_CLIENT, end)],
            expected,
        );
        dialogue(
            "100-continue",
            &[(TO_SERVER, post), (TO_CLIENT, go_on), (TO_SERVER, b"0123456789"), (TO_CLIENT, end)],
            expected,
        );
        dialogue(
            "an early response",
            &[
                (TO_SERVER, &post[..post.len()]),
                (TO_CLIENT, &ok),
                (TO_SERVER, b"0123456789"),
                (TO_SERVER, get),
                (TO_CLIENT, end),
            ],
            expected,
        );
        dialogue(
            "pipelining",
            &[(TO_SERVER, &pipelined), (TO_CLIENT, &ok), (TO_CLIENT, end)],
            expected,
        );
    }
}

#[test]
fn a_response_without_its_request_is_inspected() {
    dialogue("RESPMOD alone", &[(TO_CLIENT, &with_length(EICAR))], Some(1_000_001));
}

#[test]
fn heads_up_to_the_limits_of_proxies_are_followed() {
    let request =
        [b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ".as_slice(), &[b'x'; 60_000], b"\r\n\r\n"]
            .concat();
    dialogue(
        "60,000 bytes in a field",
        &[(TO_SERVER, &request), (TO_CLIENT, &with_length(EICAR))],
        Some(1_000_001),
    );
}

#[test]
fn an_upgrade_is_followed() {
    let request: &[u8] =
        b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let response: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    dialogue(
        "websocket",
        &[(TO_SERVER, request), (TO_CLIENT, response), (TO_CLIENT, b"\x81\x05Hello")],
        None,
    );
}

#[test]
fn http2_frames_are_recognised() {
    LAB.run(|worker| {
        let mut flow = worker.open(tuple(1002), None).unwrap();
        let preface: &[u8] =
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
        let _ = worker.feed(&mut flow, TO_SERVER, preface).unwrap();
        let _ = worker.feed(&mut flow, TO_CLIENT, b"\x00\x00\x00\x04\x00\x00\x00\x00\x00").unwrap();
        assert_eq!(flow.app_protocol(), Some("http2"));
        let _ = worker.close(flow).unwrap();
    });
}

#[test]
fn a_tuple_that_makes_no_sense_is_refused() {
    let v4 = ([10, 0, 0, 1], 80).into();
    let v6 = "[2001:db8::1]:80".parse().unwrap();
    for (client, server) in [(v4, v6), (v4, v4), (v6, v6)] {
        assert_eq!(suricata::Tuple::new(client, server).unwrap_err().kind(), ErrorKind::Misuse);
    }
    let mapped = "[::ffff:10.0.0.2]:80".parse().unwrap();
    let tuple = suricata::Tuple::new(v4, mapped).unwrap();
    assert_eq!(tuple.server(), ([10, 0, 0, 2], 80).into());
}

#[test]
fn a_protocol_that_is_expected_is_recognised_on_any_port_whoever_begins() {
    let query = b"\0\x18\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01".to_vec();
    let mut response = query.clone();
    response[4] = 0x81;
    LAB.run(move |worker| {
        for (direction, message) in [(TO_SERVER, &query), (TO_CLIENT, &response)] {
            let mut flow = worker.open(tuple(1002), None).unwrap();
            flow.expect(Expect::Protocol("dns"));
            assert_eq!(worker.feed(&mut flow, direction, message).unwrap(), Verdict::Pass);
            worker.check_protocol(&mut flow).unwrap();
            assert_eq!(flow.app_protocol(), Some("dns"));
            assert_eq!(worker.close(flow).unwrap(), Verdict::Pass);
        }
        let mut flow = worker.open(tuple(1002), None).unwrap();
        flow.expect(Expect::Protocol("dns"));
        let fed = worker.feed(&mut flow, TO_SERVER, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let checked = fed.and_then(|_| worker.check_protocol(&mut flow));
        assert_eq!(checked.unwrap_err().kind(), ErrorKind::InspectionFailed);

        let mut flow = worker.open(tuple(1002), None).unwrap();
        flow.expect(Expect::Protocol("no such protocol"));
        let error = worker.feed(&mut flow, TO_SERVER, &query).unwrap_err();
        assert!(error.to_string().contains("no such protocol"), "{error}");
    });
}
