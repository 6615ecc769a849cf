//! EVE records carry the true tuple and the caller's fields, and the engine's own check leaves no trace.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::fs;

use common::{EICAR, Lab, exchange, get, tuple, tuple6, with_length};
use serde_json::Value;
use suricata::{Direction, ErrorKind, EveOutput};

#[test]
fn records_carry_the_true_tuple_and_the_fields_of_the_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let eve = folder.path().join("eve.json");
    let output = EveOutput::File(eve.clone());
    let lab = Lab::start(common::RULES, |config| config.eve(output));

    lab.run(|worker| {
        worker.annotate(&[("transaction_id", "t-1"), ("stream_id", "7")]).unwrap();
        let _ = exchange(worker, tuple(41_000), &get("/"), &with_length(EICAR), 10).unwrap();
        worker.annotate(&[("transaction_id", "t-2")]).unwrap();
        let _ = exchange(worker, tuple6(42_000), &get("/forbidden"), b"", 10).unwrap();
        // Two transactions on one flow.
        worker.annotate(&[("transaction_id", "t-3")]).unwrap();
        let mut flow = worker.open(tuple(43_000), None).unwrap();
        let _ = worker.feed(&mut flow, Direction::ToServer, &get("/noted/1")).unwrap();
        let _ = worker.feed(&mut flow, Direction::ToClient, &with_length(b"x")).unwrap();
        worker.annotate(&[("transaction_id", "t-4")]).unwrap();
        let _ = worker.feed(&mut flow, Direction::ToServer, &get("/noted/2")).unwrap();
        let _ = worker.close(flow).unwrap();
        worker.annotate(&[]).unwrap();
        let _ = exchange(worker, tuple(44_000), &get("/forbidden"), b"", 10).unwrap();
        worker.canary().unwrap();
        assert!(worker.annotate(&[("a", "1"); 5]).is_err());

        // What is refused changes nothing, and no key says more than a key.
        worker.annotate(&[("stream_id", "\",\"event_type\":\"x\n")]).unwrap();
        let injected = "a\":{\"b\":1},\"event_type";
        let (key, value) = ("k".repeat(32), "v".repeat(160));
        for bad in [
            &[(injected, "x")][..],
            &[("", "x")],
            &[("event_type", "x")],
            &[("a", "x"), ("a", "y")],
            &[("a", "x"), (&key, "y")],
            &[("a", &value)],
            &[("a", "\0")],
        ] {
            let error = worker.annotate(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse, "{bad:?}");
        }
        let _ = exchange(worker, tuple(45_000), &get("/forbidden"), b"", 10).unwrap();
    });
    lab.engine.begin_stop();
    lab.engine.stop().unwrap();

    let text = fs::read_to_string(&eve).unwrap();
    let records =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let alerts =
        records.iter().filter(|record| record["event_type"] == "alert").collect::<Vec<_>>();
    let seen = alerts
        .iter()
        .map(|alert| {
            (
                alert["alert"]["signature_id"].as_u64().unwrap(),
                alert["transaction_id"].as_str().unwrap_or("-"),
                alert["alert"]["action"].as_str().unwrap(),
            )
        })
        .collect::<Vec<_>>();
    let expected = [
        (1_000_001, "t-1", "blocked"),
        (1_000_003, "t-2", "blocked"),
        (1_000_004, "t-3", "allowed"),
        (1_000_004, "t-4", "allowed"),
        (1_000_003, "-", "blocked"),
        (1_000_003, "-", "blocked"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(alerts[5]["stream_id"], "\",\"event_type\":\"x\n");
    // The rule's class has a name and a priority, whoever has installed what.
    assert_eq!(alerts[0]["alert"]["category"], "A Network Trojan was detected");
    assert_eq!(alerts[0]["alert"]["severity"], 1);
    assert_eq!(alerts[0]["stream_id"], "7");
    assert!(alerts[1].get("stream_id").is_none());
    for (alert, (client, server)) in alerts.iter().zip([
        ("10.1.2.3:41000", "198.51.100.9:80"),
        (
            "2001:0db8:0000:0000:0000:0000:0000:0007:42000",
            "2001:0db8:0001:0000:0000:0000:0000:0080:80",
        ),
    ]) {
        let end = |side: &str| {
            format!(
                "{}:{}",
                alert[format!("{side}_ip")].as_str().unwrap(),
                alert[format!("{side}_port")]
            )
        };
        let mut ends = [end("src"), end("dest")];
        ends.sort();
        let mut wanted = [client.to_owned(), server.to_owned()];
        wanted.sort();
        assert_eq!(ends, wanted);
        assert!(alert.get("vlan").is_none());
    }
    assert!(records.iter().any(|record| record["event_type"] == "drop"));
    assert!(!text.contains("192.0.2."), "the check shows: {text}");
}
