//! What the engine goes on without looking at is an error, never a pass.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use common::{EICAR, Lab, get, noise, tuple, with_length};
use suricata::{Direction, Error, Flow, Loss, Verdict, Worker};

/// Feeds a response with this body in two calls, and says how much of each is content.
fn answer(worker: &mut Worker, flow: &mut Flow, body: &[u8]) -> Result<Verdict, Error> {
    let message = with_length(body);
    let head = message.len() - body.len();
    let _ = worker.feed_message(flow, Direction::ToServer, &[&get("/")], 0)?;
    let verdict = worker.feed_message(flow, Direction::ToClient, &[&message[..head]], 0)?;
    if verdict.is_drop() {
        return Ok(verdict);
    }
    worker.feed_message(flow, Direction::ToClient, &[body], body.len())
}

#[test]
fn bodies_beyond_the_memory_cap_of_http_fail_and_never_pass_unseen() {
    let lab =
        Lab::start(common::RULES, |config| config.set("app-layer.protocols.http.memcap", "4mb"));
    lab.run(|worker| {
        // Bodies that stay open keep their window; so many of them that no memory is left for more.
        let mut open = Vec::new();
        let mut refused = 0;
        for _ in 0..200 {
            let mut flow = worker.open(tuple(1), None).unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n";
            let body = noise(60_000, 7);
            let fed = worker
                .feed_message(&mut flow, Direction::ToServer, &[&get("/")], 0)
                .and_then(|_| {
                    worker.feed_message(
                        &mut flow,
                        Direction::ToClient,
                        &[&head[..], &body],
                        body.len(),
                    )
                });
            if let Err(error) = fed {
                assert_eq!(error.loss(), Some(Loss::Memory), "{error}");
                refused += 1;
            }
            open.push(flow);
        }
        assert!(refused > 0, "the cap was not reached");
        assert_eq!(worker.stats().losses, refused);

        let (mut found, mut failed) = (0, 0);
        for _ in 0..20 {
            let mut flow = worker.open(tuple(2), None).unwrap();
            match answer(worker, &mut flow, EICAR) {
                Ok(Verdict::Drop(dropped)) => {
                    let signature =
                        dropped.signature.clone().unwrap_or_else(|| panic!("{dropped}"));
                    assert_eq!(signature.sid, 1_000_001);
                    found += 1;
                }
                Ok(Verdict::Pass) => panic!("EICAR passed"),
                Err(error) => {
                    assert_eq!(error.loss(), Some(Loss::Memory), "{error}");
                    failed += 1;
                }
            }
            let _ = worker.close(flow);
        }
        assert_eq!(found + failed, 20);

        // With memory again, it inspects again.
        for flow in open {
            let _ = worker.close(flow);
        }
        let mut flow = worker.open(tuple(3), None).unwrap();
        assert!(answer(worker, &mut flow, EICAR).unwrap().is_drop());
        let _ = worker.close(flow);

        // The engine must take as content what the caller takes for it, no more and no less.
        for (said, ok) in [(5, true), (4, false), (6, false)] {
            let mut flow = worker.open(tuple(4), None).unwrap();
            let _ = worker.feed_message(&mut flow, Direction::ToServer, &[&get("/")], 0).unwrap();
            let message = with_length(b"hello");
            let fed = worker.feed_message(&mut flow, Direction::ToClient, &[&message], said);
            match fed {
                Ok(Verdict::Pass) => assert!(ok, "{said} bytes of 5"),
                Ok(Verdict::Drop(dropped)) => panic!("{dropped}"),
                Err(error) => {
                    assert!(!ok, "{error}");
                    assert_eq!(error.loss(), Some(Loss::Content));
                }
            }
            let _ = worker.close(flow);
        }
    });
}
