//! The memory caps that follow from what may be under way are large enough for it.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::{Lab, get, noise, tuple};
use suricata::{Direction, Flow, Verdict, Worker};

const BODIES: usize = 64;

/// A flow on which a long body is under way, in pieces of this size.
fn under_way(worker: &mut Worker, number: usize, piece: usize) -> Flow {
    let mut flow = worker.open(tuple(1), None).unwrap();
    let fed = worker.feed_message(&mut flow, Direction::ToServer, &[&get("/long")], 0).unwrap();
    assert!(!fed.is_drop());
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
    let _ = worker.feed_message(&mut flow, Direction::ToClient, &[head], 0).unwrap();
    let body = noise(1 << 20, number as u64);
    for piece in body.chunks(piece) {
        let fed = worker.feed_message(&mut flow, Direction::ToClient, &[piece], piece.len());
        assert_eq!(fed.unwrap(), Verdict::Pass);
    }
    flow
}

#[test]
fn what_may_be_under_way_fits_twice() {
    let lab = Lab::start(common::RULES, |config| {
        config
            .set("stats.interval", "1")
            .set("app-layer.protocols.http.memcap", "0")
            .set("stream.reassembly.memcap", "0")
    });
    let used = |name: &str| lab.engine.stats().counters.get(name).copied().unwrap_or_default();
    let next_round = || {
        // The second of two was begun after this call.
        let rounds = lab.engine.stats().rounds;
        while lab.engine.stats().rounds < rounds + 2 {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for piece in [65_000, 1_460, 17] {
        let bodies: usize = if piece == 17 { 8 } else { BODIES };
        next_round();
        let names = ["http.memuse", "tcp.reassembly_memuse"];
        let before = names.map(used);
        lab.run(move |worker| {
            let flows: Vec<_> = (0..bodies).map(|n| under_way(worker, n, piece)).collect();
            // They stay under way.
            std::mem::forget(flows);
        });
        next_round();
        let each: Vec<_> = names
            .map(used)
            .iter()
            .zip(before)
            .map(|(now, then)| (now - then) / bodies as u64)
            .collect();
        println!("pieces of {piece}: {names:?} {each:?} bytes each");
        assert!(each.iter().all(|&bytes| bytes <= (1 << 20) / 2), "{each:?}");
    }
}
