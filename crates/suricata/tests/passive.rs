//! The passive mode exists for comparison: the same verdicts, later, some of them after the last byte has gone by.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use common::{EICAR, Lab, feed_pieces, get, noise, sid, tuple, with_length};
use suricata::{Direction, Mode};

#[test]
fn verdicts_come_with_acknowledgements_and_with_the_end() {
    let lab = Lab::start(common::RULES, |config| config.mode(Mode::Ids { ack_window: 16 * 1024 }));
    lab.run(|worker| {
        let deep = [&noise(100_000, 3)[..], EICAR, &noise(100_000, 4)].concat();
        for (message, in_time) in [(with_length(EICAR), false), (with_length(&deep), true)] {
            let mut flow = worker.open(tuple(1), None).unwrap();
            let _ = worker.feed(&mut flow, Direction::ToServer, &get("/")).unwrap();
            let pieces = message.chunks(1460);
            let (verdict, _) = feed_pieces(worker, &mut flow, Direction::ToClient, pieces).unwrap();
            assert_eq!(verdict.is_drop(), in_time);
            let at_the_end = worker.close(flow).unwrap();
            assert_eq!(sid(&at_the_end), Some(1_000_001));
        }
    });
}
