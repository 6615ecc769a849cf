//! The map of blind spots: a marker at every place of a message where bytes can be, and a rule over the buffer that
//! Suricata's manual says covers it. Wherever the marker passes, bytes must have been counted as uninspected.
//!
//! The table that the test makes is in `docs/limits.md`; `MEERGATE_WRITE=1` writes it there. `MEERGATE_BLIND=text`
//! runs only the places that have the text in their names, without looking at the table.

mod bodies;
mod connections;
mod forms;
mod heads;
mod map;

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::{Client, Server, contains};
use map::{Buffer, Outcome, Place, Position, Score, table};

const FIRST_SID: usize = 9_000_001;
const BEGIN: &str =
    "<!-- places: made by `MEERGATE_WRITE=1 cargo nextest run -p meergate-inspector blind` -->\n";
const END: &str = "<!-- end of places -->";

#[test]
fn no_place_of_a_message_is_passed_over_in_silence() {
    let wanted = std::env::var("MEERGATE_BLIND").ok();
    let mut places = [heads::places(), bodies::places(), forms::places(), connections::places()]
        .into_iter()
        .flatten()
        .filter(|place| !place.positions.is_empty())
        .collect::<Vec<_>>();
    if let Some(wanted) = &wanted {
        places.retain(|place| format!("{} {}", place.what, place.buffer.keyword).contains(wanted));
    }
    let mut buffers = Vec::new();
    for place in &places {
        if !buffers.contains(&place.buffer) {
            buffers.push(place.buffer);
        }
    }
    let rules = buffers.iter().enumerate().map(|(n, b)| b.rule(FIRST_SID + n)).collect::<String>();
    // Nothing is released because this machine is busy.
    let server = Server::with_rules_and_settings(&rules, "pause = 0\nworkers = 2\n");
    let map = Map { icap: server.icap(), buffers, places };
    let scores = map.explore(&server);
    let lines = map.places.iter().zip(scores.iter().map(|(score, _)| *score)).collect::<Vec<_>>();
    drop(server);
    println!("{}", table(&lines));
    let mut blind = Vec::new();
    for (place, (score, passed)) in map.places.iter().zip(&scores) {
        match place.uncovered {
            None if score.passed > 0 => {
                blind.push(format!("{} ({}): {passed:?}", place.what, place.buffer.keyword));
            }
            None => {}
            // If the marker is found where it cannot be, this test cannot tell.
            Some(why) => assert_eq!(score.passed, place.positions.len(), "{}: {why}", place.what),
        }
    }
    assert!(blind.is_empty(), "passed over in silence:\n{}", blind.join("\n"));
    assert!(lines.iter().any(|(place, _)| place.uncovered.is_some()) || wanted.is_some());
    if wanted.is_none() {
        compare_with_docs(&table(&lines));
    }
}

fn compare_with_docs(new: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/limits.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (old, after) = rest.split_once(END).unwrap();
    if std::env::var_os("MEERGATE_WRITE").is_some() {
        std::fs::write(&file, format!("{before}{BEGIN}{new}{END}{after}")).unwrap();
    } else {
        assert_eq!(old, new, "docs/limits.md differs: run this test with MEERGATE_WRITE=1");
    }
}

struct Map {
    icap: SocketAddr,
    buffers: Vec<Buffer>,
    places: Vec<Place>,
}

impl Map {
    /// Visits every position; returns what became of the markers of each place, and which positions are blind.
    fn explore(&self, server: &Server) -> Vec<(Score, Vec<&str>)> {
        let all: Vec<(usize, &Position)> = (self.places.iter().enumerate())
            .flat_map(|(n, place)| place.positions.iter().map(move |position| (n, position)))
            .collect();
        let next = AtomicUsize::new(0);
        let visit_some = || {
            let mut client = None;
            let mut found = Vec::new();
            while let Some((place, position)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                let outcome = self.visit(&mut client, &self.places[*place], position);
                found.push((*place, *position, outcome));
            }
            found
        };
        let mut found = Vec::new();
        thread::scope(|scope| {
            let visitors = [(); 3].map(|()| scope.spawn(visit_some));
            for visitor in visitors {
                found.extend(visitor.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
        });
        agree_with_metrics(server, &found);
        let mut scores: Vec<_> =
            self.places.iter().map(|_| (Score::default(), Vec::new())).collect();
        for (place, position, mut outcome) in found {
            if outcome == Outcome::Passed {
                // Once more, alone, so that what is counted is its own.
                let before = uninspected(server);
                outcome = self.visit(&mut None, &self.places[place], position);
                if outcome == Outcome::Passed && uninspected(server) > before {
                    outcome = Outcome::Counted;
                }
            }
            scores[place].0.add(outcome);
            if outcome == Outcome::Passed {
                scores[place].1.push(position.label.as_str());
            }
        }
        scores
    }

    /// Sends the transactions of a position until one does not pass.
    fn visit(&self, client: &mut Option<Client>, place: &Place, position: &Position) -> Outcome {
        let marker = place.buffer.marker();
        let sid =
            (FIRST_SID + self.buffers.iter().position(|b| *b == place.buffer).unwrap()).to_string();
        for request in (position.make)(&marker) {
            let connection = client.get_or_insert_with(|| Client::connect(self.icap));
            let reply = connection.ask(&request.allow_204());
            if reply.status == 204
                || reply.status == 200 && reply.field("X-Response-Info").is_none() && !reply.broken
            {
                continue;
            }
            // What follows a refusal on its connection is another matter.
            *client = None;
            if let Some(found) = reply.field("X-Signature-Id") {
                assert_eq!(found, sid, "{} {}: another rule", place.what, position.label);
                return Outcome::Blocked;
            }
            if reply.broken && reply.status == 200 {
                let whole = contains(&reply.body, marker.as_bytes());
                assert!(!whole, "{} {}: cut too late", place.what, position.label);
                return Outcome::Blocked;
            }
            return Outcome::Refused;
        }
        Outcome::Passed
    }
}

/// Bytes that the program says it has not inspected.
fn uninspected(server: &Server) -> u64 {
    let page = server.metrics();
    let values =
        page.lines().filter(|line| line.starts_with("meergate_inspector_uninspected_bytes_total{"));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// What was seen from outside is what the program says of itself.
fn agree_with_metrics(server: &Server, found: &[(usize, &Position, Outcome)]) {
    let count = |wanted| found.iter().filter(|(_, _, outcome)| *outcome == wanted).count() as u64;
    let ended = |how: &str| server.metric(&format!("transactions_total{{outcome=\"{how}\"}}"));
    assert_eq!(count(Outcome::Blocked), ended("blocked") + ended("cut"));
    assert!(count(Outcome::Refused) >= ended("failed"));
}
