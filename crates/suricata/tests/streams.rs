//! Streams of other protocols than HTTP, and of none: what no rule looks into, and how they end.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::task::Poll;

use common::{EICAR, alone, get, sid, tuple, write};
use suricata::{Direction, Engine, EngineConfig, ErrorKind, Expect, Flow, Verdict, Worker};
use tempfile::TempDir;

const TO_SERVER: Direction = Direction::ToServer;
const TO_CLIENT: Direction = Direction::ToClient;

/// No rule for the bytes of streams.
const RULES: &str = "\
drop http any any -> any any (msg:\"path\"; http.uri; content:\"/forbidden\"; sid:1;)
drop http any any -> any any (msg:\"size\"; flow:to_client; filesize:5; sid:2;)
drop tcp any any -> any any (msg:\"packet\"; dsize:13; sid:3;)
";

fn start(folder: &TempDir) -> (Engine, Worker) {
    let rules = write(folder.path(), "my.rules", RULES);
    let (engine, mut seeds) = Engine::start(EngineConfig::new().rules([rules])).unwrap();
    (engine, seeds.pop().unwrap().attach().unwrap())
}

/// Lines that nobody knows, until the engine keeps nothing of the flow any more.
fn chatter(worker: &mut Worker, flow: &mut Flow) {
    for round in 0.. {
        assert!(round < 1_000, "a parser, or a rule, goes on looking");
        let line = format!("{round:04} of nothing that anyone knows\r\n");
        for direction in [TO_CLIENT, TO_SERVER] {
            assert_eq!(worker.feed(flow, direction, line.as_bytes()).unwrap(), Verdict::Pass);
        }
        if flow.is_unneeded() {
            return;
        }
    }
}

#[test]
fn what_neither_rule_nor_parser_looks_into_is_counted_and_no_error() {
    if !alone("what_neither_rule_nor_parser_looks_into_is_counted_and_no_error") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (engine, mut worker) = start(&folder);
    let worker = &mut worker;
    let mut flow = worker.open(tuple(1), None).unwrap();
    chatter(worker, &mut flow);
    for (direction, bytes) in [(TO_SERVER, &[b'x'; 70_000][..]), (TO_CLIENT, b"more")] {
        assert_eq!(worker.feed(&mut flow, direction, bytes).unwrap(), Verdict::Pass);
    }
    // From its first byte.
    let fed = flow.fed(TO_CLIENT) + flow.fed(TO_SERVER);
    let stats = worker.stats();
    assert_eq!((stats.unneeded_bytes, stats.inspected_bytes), (fed, 0));

    // Rules for packets see it still.
    let mut other = worker.open(tuple(2), None).unwrap();
    chatter(worker, &mut other);
    assert_eq!(sid(&worker.feed(&mut other, TO_SERVER, b"thirteen byte").unwrap()), Some(3));
    let _ = worker.close(other);

    // Of what is said to be HTTP the parser wants all, whatever it looks like.
    let mut http = worker.open(tuple(3), None).unwrap();
    http.expect(Expect::Http1);
    for direction in [TO_CLIENT, TO_SERVER].into_iter().cycle().take(1_000) {
        let _ = worker.feed(&mut http, direction, b"+OK this is no HTTP\r\n").unwrap();
    }
    assert!(!http.is_unneeded());
    drop(http);

    // So it is if it ends before the engine has given up.
    let before = worker.stats();
    let mut short = worker.open(tuple(6), None).unwrap();
    for direction in [TO_CLIENT, TO_SERVER] {
        assert_eq!(worker.feed(&mut short, direction, &[b'x'; 500]).unwrap(), Verdict::Pass);
    }
    let _ = worker.close(short).unwrap();
    assert_eq!(worker.stats().unneeded_bytes - before.unneeded_bytes, 1_000);
    // What a parser has read was looked into, though it was no rule's at first.
    let before = worker.stats();
    let mut known = worker.open(tuple(6), None).unwrap();
    assert_eq!(worker.feed(&mut known, TO_CLIENT, b"220 mx.example\r\n").unwrap(), Verdict::Pass);
    assert_eq!(worker.feed(&mut known, TO_SERVER, b"EHLO x\r\n").unwrap(), Verdict::Pass);
    let _ = worker.close(known).unwrap();
    assert_eq!(worker.stats().unneeded_bytes, before.unneeded_bytes);
    assert_eq!(worker.stats().inspected_bytes - before.inspected_bytes, 24);

    // New rules may look for something there, but the engine can't take the flow up again.
    let new = "drop tcp any any -> any any (msg:\"raw\"; content:\"EICAR-STANDARD\"; sid:4;)\n";
    write(folder.path(), "my.rules", &format!("{RULES}{new}"));
    let mut young = worker.open(tuple(7), None).unwrap();
    assert_eq!(worker.feed(&mut young, TO_SERVER, b"nothing yet").unwrap(), Verdict::Pass);
    let mut reload = engine.begin_reload().unwrap();
    loop {
        match reload.poll() {
            Poll::Ready(result) => break drop(result.unwrap()),
            Poll::Pending => worker.idle().unwrap(),
        }
    }
    let error = worker.feed(&mut flow, TO_SERVER, EICAR).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InspectionFailed);
    assert!(error.to_string().contains("begin another"), "{error}");
    // Of one that was not given up yet, the new rules see what comes, or it fails.
    let mut round = 0;
    let ended = loop {
        assert!(round < 1_000, "neither seen nor refused");
        round += 1;
        let direction = if round % 2 == 0 { TO_SERVER } else { TO_CLIENT };
        let piece = [&[b'x'; 1_000][..], if round == 900 { EICAR } else { b"" }].concat();
        match worker.feed(&mut young, direction, &piece) {
            Ok(Verdict::Pass) => {}
            Ok(verdict) => break sid(&verdict) == Some(4),
            Err(error) => break error.to_string().contains("begin another"),
        }
    };
    assert!(ended);
    let mut flow = worker.open(tuple(4), None).unwrap();
    assert_eq!(sid(&worker.feed(&mut flow, TO_SERVER, EICAR).unwrap()), Some(4));
    let _ = worker.close(flow);
}

#[test]
fn each_direction_ends_for_itself() {
    if !alone("each_direction_ends_for_itself") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_engine, mut worker) = start(&folder);
    let worker = &mut worker;
    let until_close = b"HTTP/1.1 200 OK\r\n\r\n";

    // What is held back until the end of a response is decided with its end, whoever ends first.
    for (port, order) in [(1, [TO_SERVER, TO_CLIENT]), (2, [TO_CLIENT, TO_SERVER])] {
        for (body, expected) in [(&b"short"[..], Some(2)), (b"long enough", None)] {
            let mut flow = worker.open(tuple(port), None).unwrap();
            flow.expect(Expect::Http1);
            assert_eq!(worker.feed(&mut flow, TO_SERVER, &get("/")).unwrap(), Verdict::Pass);
            if order[0] == TO_SERVER {
                assert_eq!(worker.end(&mut flow, TO_SERVER).unwrap(), Verdict::Pass);
            }
            assert_eq!(worker.feed(&mut flow, TO_CLIENT, until_close).unwrap(), Verdict::Pass);
            assert_eq!(worker.feed(&mut flow, TO_CLIENT, body).unwrap(), Verdict::Pass);
            let first = worker.end(&mut flow, TO_CLIENT).unwrap();
            let last = match order[0] {
                TO_CLIENT => worker.end(&mut flow, TO_SERVER).unwrap(),
                TO_SERVER => first,
            };
            assert_eq!(sid(&last), expected, "{order:?}");
            let again = worker.end(&mut flow, TO_CLIENT).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::Misuse);
            assert_eq!(sid(&worker.close(flow).unwrap()), expected);
        }
    }

    // After the server is done, the client is still heard; after the client is done, it is not.
    let mut flow = worker.open(tuple(3), None).unwrap();
    flow.expect(Expect::Http1);
    let _ = worker.end(&mut flow, TO_CLIENT).unwrap();
    assert_eq!(sid(&worker.feed(&mut flow, TO_SERVER, &get("/forbidden")).unwrap()), Some(1));
    let _ = worker.close(flow);
    let mut flow = worker.open(tuple(3), None).unwrap();
    let _ = worker.end(&mut flow, TO_SERVER).unwrap();
    let error = worker.feed(&mut flow, TO_SERVER, b"more").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(worker.close(flow).unwrap(), Verdict::Pass);

    // Ends, one or both, leave nothing behind: the engine takes the next flow of these addresses.
    for _ in 0..100 {
        for ends in [&[][..], &[TO_SERVER], &[TO_CLIENT], &[TO_CLIENT, TO_SERVER]] {
            let mut flow = worker.open(tuple(5), None).unwrap();
            flow.expect(Expect::Http1);
            assert_eq!(worker.feed(&mut flow, TO_SERVER, &get("/")).unwrap(), Verdict::Pass);
            assert_eq!(worker.feed(&mut flow, TO_CLIENT, until_close).unwrap(), Verdict::Pass);
            for direction in ends {
                assert_eq!(worker.end(&mut flow, *direction).unwrap(), Verdict::Pass);
            }
            assert_eq!(worker.close(flow).unwrap(), Verdict::Pass);
        }
    }
}
