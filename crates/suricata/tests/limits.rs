//! At a memory limit the engine drops or fails; it never passes what it did not look at.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use common::{EICAR, Lab, feed_pieces, get, noise, tuple, with_length};
use suricata::{Direction, Verdict};

#[test]
fn with_hardly_any_memory_nothing_passes_unseen() {
    let lab = Lab::start(common::RULES, |config| {
        config
            .set("flow.memcap", "3mb")
            .set("flow.prealloc", "100")
            .set("flow.hash-size", "256")
            .set("stream.memcap", "1mb")
            .set("stream.prealloc-sessions", "100")
            .set("stream.reassembly.memcap", "4mb")
            .set("stream.reassembly.segment-prealloc", "100")
    });
    lab.run(|worker| {
        let body = [&noise(50_000, 4)[..], EICAR].concat();
        let message = with_length(&body);
        let half = message.len() / 2;
        let mut flows = Vec::new();
        let mut failed_to_open = 0;
        // All open at once, each with half its body in.
        for _ in 0..20_000 {
            let Ok(mut flow) = worker.open(tuple(1), None) else {
                failed_to_open += 1;
                continue;
            };
            let _ = worker.feed(&mut flow, Direction::ToServer, &get("/"));
            let _ = worker.feed(&mut flow, Direction::ToClient, &message[..half]);
            flows.push(flow);
        }
        let (mut found, mut without_signature, mut errors) = (0, 0, failed_to_open);
        for mut flow in flows {
            match feed_pieces(worker, &mut flow, Direction::ToClient, message[half..].chunks(1460))
            {
                Ok((Verdict::Drop(dropped), _)) if dropped.signature.is_some() => found += 1,
                Ok((Verdict::Drop(dropped), _)) => {
                    assert!(
                        !dropped.reason.is_rule() || dropped.reason == suricata::DropReason::FLOW
                    );
                    without_signature += 1;
                }
                Ok((Verdict::Pass, _)) => panic!("passed unseen"),
                Err(_) => errors += 1,
            }
            let _ = worker.close(flow);
        }
        assert!(found > 0, "nothing was found at all");
        assert!(without_signature + errors > 0, "the limits were not reached: {found} found");
        // And it recovers.
        let mut recovered = false;
        for _ in 0..1000 {
            recovered = worker.open(tuple(2), None).is_ok();
            if recovered {
                break;
            }
            let _ = worker.idle();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(recovered);
    });
}
