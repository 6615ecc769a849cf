//! Memory stays flat: over a long body, over many flows, over many drops.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::sync::LazyLock;

use common::{EICAR, Lab, exchange, get, noise, resident, sid, tuple, with_length};
use suricata::{Direction, Verdict};

static LAB: LazyLock<Lab> = LazyLock::new(|| Lab::start(common::RULES, |config| config));

/// What memory may wander in all, in KiB. Each test below moves many times this through the engine.
const SLACK: u64 = 96 * 1024;

#[test]
fn a_gigabyte_in_one_flow_either_way_needs_no_more_memory_than_a_megabyte() {
    LAB.run(|worker| {
        let piece = noise(1 << 20, 9);
        for direction in [Direction::ToClient, Direction::ToServer] {
            let mut flow = worker.open(tuple(1), None).unwrap();
            let length = 512_u64 << 20;
            if direction == Direction::ToClient {
                let _ = worker.feed(&mut flow, Direction::ToServer, &get("/")).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                let _ = worker.feed(&mut flow, direction, head.as_bytes()).unwrap();
            } else {
                let head =
                    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
                let _ = worker.feed(&mut flow, direction, head.as_bytes()).unwrap();
            }
            let mut after_warming = 0;
            for number in 0..512 {
                assert_eq!(worker.feed(&mut flow, direction, &piece).unwrap(), Verdict::Pass);
                if number == 16 {
                    after_warming = resident();
                }
            }
            let grown = resident().saturating_sub(after_warming);
            assert!(grown < SLACK, "{direction:?}: grew by {grown} KiB");
            let _ = worker.close(flow).unwrap();
        }
    });
}

#[test]
fn flows_that_ended_or_were_dropped_are_forgotten() {
    LAB.run(|worker| {
        let dirty = with_length(EICAR);
        let clean = with_length(b"clean");
        let mut after_warming = 0;
        for round in 0..60_000_u32 {
            // Tuples that hardly ever repeat: the engine must forget by itself.
            let server = ([10, 9, (round >> 8) as u8, round as u8], 80).into();
            let client = ([10, 1, 1, 1], 1024 + (round % 60_000) as u16).into();
            let tuple = suricata::Tuple::new(client, server).unwrap();
            let (message, expected) =
                if round % 2 == 0 { (&dirty, Some(1_000_001)) } else { (&clean, None) };
            let verdict = exchange(worker, tuple, &get("/"), message, 4096).unwrap();
            assert_eq!(sid(&verdict), expected, "round {round}");
            if round == 20_000 {
                after_warming = resident();
            }
        }
        let grown = resident().saturating_sub(after_warming);
        assert!(grown < SLACK, "grew by {grown} KiB");
    });
}

#[test]
fn a_flow_that_waits_holds_little_of_what_was_fed() {
    const FLOWS: u16 = 300;
    LAB.run(|worker| {
        let body = noise(2 << 20, 3);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        let before = resident();
        let mut waiting = Vec::new();
        for number in 0..FLOWS {
            let mut flow = worker.open(tuple(20_000 + number), None).unwrap();
            let parts = [head.as_bytes(), &body];
            let verdict = worker.feed_parts(&mut flow, Direction::ToServer, &parts).unwrap();
            assert_eq!(verdict, Verdict::Pass);
            waiting.push(flow);
        }
        let each = resident().saturating_sub(before) / u64::from(FLOWS);
        assert!(each < 400, "{each} KiB each");
        for flow in waiting {
            let _ = worker.close(flow).unwrap();
        }
    });
}

/// A part of a resource of `whole` bytes, from `first`.
fn part(first: usize, length: usize, whole: usize) -> String {
    let last = first + length - 1;
    format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{whole}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Suricata would join them, and keep what it joined until the last byte has come.
#[test]
fn a_resource_in_parts_needs_no_more_memory_than_one_of_them() {
    LAB.run(|worker| {
        let piece = noise(1 << 20, 5);
        let mut after_warming = 0;
        for number in 0..32 {
            let mut flow = worker.open(tuple(30_000 + number), None).unwrap();
            let _ = worker.feed(&mut flow, Direction::ToServer, &get("/parts")).unwrap();
            let head = part(usize::from(number) << 24, 16 << 20, 1 << 32);
            let _ = worker.feed(&mut flow, Direction::ToClient, head.as_bytes()).unwrap();
            for _ in 0..16 {
                let verdict = worker.feed(&mut flow, Direction::ToClient, &piece).unwrap();
                assert_eq!(verdict, Verdict::Pass);
            }
            let _ = worker.close(flow).unwrap();
            if number == 2 {
                after_warming = resident();
            }
        }
        let grown = resident().saturating_sub(after_warming);
        assert!(grown < SLACK, "grew by {grown} KiB");
    });
}

/// Halves of a signature that came to two clients, from two servers of the same name perhaps.
#[test]
fn what_one_client_was_sent_is_not_held_against_the_next() {
    LAB.run(|worker| {
        let (first, second) = EICAR.split_at(EICAR.len() / 2);
        let padding = noise(20_000 - first.len(), 6);
        let parts = [[&padding, first].concat(), [second, &padding].concat()];
        for (number, body) in (0..).zip(&parts) {
            let head = part(usize::from(number) * 20_000, body.len(), 40_000);
            let message = [head.as_bytes(), body].concat();
            let request = get("/halves");
            let verdict = exchange(worker, tuple(31_000 + number), &request, &message, 4096);
            assert_eq!(verdict.unwrap(), Verdict::Pass, "part {number}");
        }
    });
}
