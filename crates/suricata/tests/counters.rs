//! Counters: the engine's own, and the worker's.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::time::{Duration, Instant};

use common::{EICAR, Lab, exchange, get, tuple, with_length};

#[test]
fn what_was_done_is_counted() {
    let rules = format!(
        "{}pass http any any -> any any (msg:\"let go\"; http.uri; content:\"/trusted\"; sid:8;)\n",
        common::RULES
    );
    let lab = Lab::start(&rules, |config| config.set("stats.interval", "1"));
    lab.run(|worker| {
        let before = worker.stats();
        assert_eq!((before.flows, before.drops), (0, 0), "the canary is not traffic");
        let (request, clean, dirty) = (get("/"), with_length(b"clean"), with_length(EICAR));
        let _ = exchange(worker, tuple(1), &request, &clean, 1000).unwrap();
        let _ = exchange(worker, tuple(1), &request, &dirty, 1000).unwrap();
        let after = worker.stats();
        assert_eq!((after.flows, after.drops, after.alerts, after.failures), (2, 1, 1, 0));
        assert_eq!(after.inspected_bytes as usize, 2 * request.len() + clean.len() + dirty.len());
        assert_eq!(after.excused_bytes, 0);

        // A pass rule of the operator takes the rest of the flow out of inspection: that is counted apart.
        let trusted = get("/trusted");
        let verdict = exchange(worker, tuple(2), &trusted, &dirty, 1000).unwrap();
        assert!(!verdict.is_drop());
        let excused = worker.stats().excused_bytes as usize;
        assert!(excused >= dirty.len(), "{excused}");
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let stats = lab.engine.stats();
        if stats.counters.get("detect.alert").is_some_and(|alerts| *alerts >= 1) {
            assert!(stats.rounds > 0);
            assert!(stats.counters["flow.tcp"] >= 3);
            break;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
