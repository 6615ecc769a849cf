//! More matches than there is room for.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::fmt::Write as _;

use common::{Lab, get, sid, tuple};
use suricata::{Direction, Loss, Verdict};

/// Rules that match each request; 512 requests match them more often than Suricata can count in one packet.
const RULES: usize = 130;

#[test]
fn alerts_are_counted_also_those_that_are_not_listed_and_none_is_lost_that_drops() {
    let mut rules = common::RULES.to_owned();
    for number in 0..RULES {
        let rule = "alert http any any -> any any (msg:\"any\"; http.method; content:\"GET\"; sid:";
        writeln!(rules, "{rule}{};)", number + 1).unwrap();
    }
    Lab::start(&rules, |config| config).run(|worker| {
        let mut flow = worker.open(tuple(1), None).unwrap();
        let verdict = worker.feed(&mut flow, Direction::ToServer, &get("/noted")).unwrap();
        assert_eq!(verdict, Verdict::Pass);
        let listed = worker.alerts().count();
        assert_eq!((listed, worker.alerts_lost() as usize), (16, RULES + 1 - listed));
        let stats = worker.stats();
        assert_eq!((stats.alerts as usize, stats.alerts_lost as usize), (RULES + 1, RULES - 15));

        // More than a packet's list takes.
        let verdict = worker.feed(&mut flow, Direction::ToServer, &get("/").repeat(3)).unwrap();
        assert_eq!(verdict, Verdict::Pass);
        assert_eq!(worker.alerts().count() + worker.alerts_lost() as usize, 3 * RULES);
        let _ = worker.close(flow).unwrap();

        // The one that drops is in the list, whatever else is.
        let mut flow = worker.open(tuple(2), None).unwrap();
        let verdict = worker.feed(&mut flow, Direction::ToServer, &get("/forbidden")).unwrap();
        assert_eq!(sid(&verdict), Some(1_000_003));
        assert!(worker.alerts().any(|alert| alert.sid() == 1_000_003));
        let _ = worker.close(flow).unwrap();

        // It counts as lost if there is no room for it at all.
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let requests = request.repeat(510) + "GET /forbidden HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut flow = worker.open(tuple(3), None).unwrap();
        let error = worker.feed(&mut flow, Direction::ToServer, requests.as_bytes()).unwrap_err();
        assert_eq!(error.loss(), Some(Loss::Rule), "{error}");
    });
}
