//! Rules change while traffic flows, and a set that would let traffic through is refused.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::cell::RefCell;
use std::fs;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::{EICAR, Lab, exchange, get, sid, tuple, with_length};
use suricata::{Direction, ErrorKind, Flow, Verdict};

static LAB: LazyLock<Lab> = LazyLock::new(|| Lab::start(common::RULES, |config| config));

/// Reloads change what all tests of this process see, so they take turns, each beginning with the same rules.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    fs::write(LAB.rules_file(), common::RULES).unwrap();
    LAB.engine.reload().unwrap();
    guard
}

fn verdict_on(path: &'static str) -> Verdict {
    LAB.run(move |worker| {
        exchange(worker, tuple(1000), &get(path), &with_length(b"x"), 100).unwrap()
    })
}

#[test]
fn a_new_rule_is_in_force_when_reload_returns() {
    let _turn = turn();
    assert_eq!(verdict_on("/new"), Verdict::Pass);
    let before = LAB.engine.rules();
    let rule = r#"drop http any any -> any any (msg:"new"; http.uri; content:"/new"; sid:1000099; rev:1;)"#;
    fs::write(LAB.rules_file(), format!("{}{rule}\n", common::RULES)).unwrap();
    let after = LAB.engine.reload().unwrap();
    assert_eq!(after.good, before.good + 1);
    assert_eq!(after.version, before.version + 1);
    assert_eq!(LAB.engine.rules(), after);
    assert_eq!(sid(&verdict_on("/new")), Some(1_000_099));
}

#[test]
fn sets_that_would_let_traffic_through_are_refused_and_the_old_one_stays() {
    let _turn = turn();
    let before = LAB.engine.rules();
    let file = LAB.rules_file();
    let refused = [
        ("", "holds no rule"),
        ("# only a comment\n\n", "holds no rule"),
        ("drop http any any -> any any (msg:\"x\"; http.nonsense; sid:1;)\n", "test.rules:1: "),
        ("this is no rule\n", "test.rules:1: "),
        (
            "alert tcp any any -> any any (msg:\"x\"; content:\"evil\"; replace:\"good\"; sid:7;)\n",
            "test.rules:1: replace: ",
        ),
    ];
    for (rules, expected) in refused {
        fs::write(&file, rules).unwrap();
        let error = LAB.engine.reload().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rules);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(sid(&verdict_on("/forbidden")), Some(1_000_003), "after {rules:?}");
    }
    fs::remove_file(&file).unwrap();
    let error = LAB.engine.reload().unwrap_err();
    assert!(error.to_string().contains("test.rules"), "{error}");
    assert_eq!(sid(&verdict_on("/forbidden")), Some(1_000_003));
    assert_eq!(LAB.engine.rules(), before);
}

#[test]
fn one_bad_rule_among_good_ones_is_named() {
    let _turn = turn();
    let bad = format!(
        "{}\nalert tcp any any -> any any (msg:\"b\"; flow:sideways; sid:7;)\n",
        common::RULES
    );
    fs::write(LAB.rules_file(), bad).unwrap();
    let error = LAB.engine.reload().unwrap_err().to_string();
    assert!(error.contains("test.rules:9: ") && error.contains("sideways"), "{error}");
}

#[test]
fn rules_that_do_not_inspect_let_nothing_pass_on_a_flow_that_was_there_before_them() {
    let _turn = turn();
    LAB.run(|worker| {
        let mut flow = worker.open(tuple(1001), None).unwrap();
        assert_eq!(worker.feed(&mut flow, Direction::ToServer, &get("/a")).unwrap(), Verdict::Pass);
        KEPT.set(Some(flow));
    });
    let all = "pass ip any any -> any any (msg:\"everything\"; sid:1000098; rev:1;)\n";
    fs::write(LAB.rules_file(), all).unwrap();
    LAB.engine.reload().unwrap();
    LAB.run(|worker| {
        let mut flow = KEPT.take().unwrap();
        let error = worker.feed(&mut flow, Direction::ToClient, &with_length(b"x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InspectionFailed);
    });
}

thread_local! {
    /// A worker's flow between two visits to its thread.
    static KEPT: RefCell<Option<Flow>> = const { RefCell::new(None) };
}

#[test]
fn nothing_slips_through_while_rules_are_reloaded_under_traffic() {
    let _turn = turn();
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let feeder = std::thread::spawn(move || {
        let mut rounds = 0_u32;
        while !stop.load(Ordering::SeqCst) {
            rounds += LAB.run(|worker| {
                let message = with_length(EICAR);
                for size in [10, 1000] {
                    let dirty = exchange(worker, tuple(2000), &get("/"), &message, size).unwrap();
                    assert_eq!(sid(&dirty), Some(1_000_001));
                    let clean =
                        exchange(worker, tuple(2001), &get("/"), &with_length(b"fine"), size)
                            .unwrap();
                    assert_eq!(clean, Verdict::Pass);
                }
                1
            });
        }
        rounds
    });
    for _ in 0..20 {
        LAB.engine.reload().unwrap();
    }
    done.store(true, Ordering::SeqCst);
    assert!(feeder.join().unwrap() > 0);
}
