//! The table of flows, driven by hand.

use super::*;
use crate::inspection::claims::{Claims, Correlation, Keys};
use crate::inspection::dialogue::Asked;

const IDLE: Duration = Duration::from_secs(100);
const WAIT: Duration = Duration::from_secs(10);

fn key(id: &str) -> FlowKey {
    let claims = Claims { connection: Some(id), ..Claims::default() };
    thread_local!(static KEYS: Keys = Keys::default());
    match KEYS.with(|keys| claims.correlate(keys)) {
        Correlation::Connection(key) => key,
        other => panic!("{other:?}"),
    }
}

fn table() -> (Table<u32>, Instant) {
    (Table::new(3, IDLE, WAIT, |_| ()), Instant::now())
}

fn asked(entry: &Shared<u32>) {
    let mut entry = entry.borrow_mut();
    entry.dialogue.ask(Asked::new(b"GET", b"/"));
    entry.dialogue.asked();
}

fn answered(entry: &Shared<u32>) {
    let mut entry = entry.borrow_mut();
    entry.dialogue.answer();
    entry.dialogue.answered();
}

#[test]
fn a_connection_keeps_its_flow_over_transactions() {
    let (mut table, now) = table();
    let (a, b) = (key("a"), key("b"));
    assert!(matches!(table.for_request(a), (None, Removed::Nothing)));
    let entry = table.begin(1, now);
    assert_eq!(table.keep(a, &entry), Removed::Nothing);
    for _ in 0..3 {
        asked(&entry);
        assert_eq!(table.release(&entry, now), Removed::Nothing);
        assert!(table.for_response(b, None).0.is_none());
        let (found, _) = table.for_response(a, Some((b"GET", b"/")));
        let (found, turn) = found.unwrap();
        assert!(Rc::ptr_eq(&found, &entry));
        assert_eq!(turn, Turn::Answer);
        answered(&found);
        assert_eq!(table.release(&found, now), Removed::Nothing);
        assert!(table.for_request(a).0.is_some());
    }
    assert_eq!(table.len(), 1);
}

#[test]
fn streams_of_a_connection_use_a_flow_in_turn() {
    let (mut table, now) = table();
    let (a, b) = (key("a"), key("b"));
    let first = table.begin(1, now);
    let _ = table.keep_stream(key("a1"), a, &first);
    asked(&first);
    let _ = table.release(&first, now);
    assert!(table.spare(a).is_none(), "its response is missing");
    let (found, _) = table.for_response(key("a1"), None);
    answered(&found.unwrap().0);
    let _ = table.release(&first, now);
    assert!(table.for_response(key("a1"), None).0.is_none(), "the stream is at its end");
    assert_eq!(table.len(), 1);

    assert!(table.spare(b).is_none());
    let again = table.spare(a).unwrap();
    assert!(Rc::ptr_eq(&again, &first) && table.spare(a).is_none());
    let _ = table.keep_stream(key("a3"), a, &again);
    again.borrow_mut().spent = true;
    assert_eq!(table.release(&again, now), Removed::Close(1));
    assert!(table.spare(a).is_none());
    assert_eq!(table.len(), 0);
}

#[test]
fn spare_flows_expire_and_are_drained() {
    let (mut table, now) = table();
    for n in 1..=2 {
        let entry = table.begin(n, now);
        let _ = table.keep_stream(key(&n.to_string()), key("a"), &entry);
        asked(&entry);
        answered(&entry);
        let _ = table.release(&entry, now);
    }
    assert_eq!(table.expired(now + IDLE / 2), None);
    assert_eq!(table.expired(now + IDLE), Some(1));
    assert_eq!(table.drain(), Some(2));
    assert!(table.len() == 0 && table.spare(key("a")).is_none());
}

#[test]
fn an_unanswered_request_is_left_behind_by_the_next() {
    let (mut table, now) = table();
    let entry = table.begin(1, now);
    let _ = table.keep(key("a"), &entry);
    asked(&entry);
    let _ = table.release(&entry, now);
    assert!(matches!(table.for_request(key("a")), (None, Removed::Close(1))));
    assert_eq!(table.len(), 0);
}

#[test]
fn a_flow_in_use_is_closed_by_its_last_user() {
    let (mut table, now) = table();
    let entry = table.begin(1, now);
    let _ = table.keep(key("a"), &entry);
    entry.borrow_mut().dialogue.ask(Asked::new(b"POST", b"/"));
    assert!(matches!(table.for_request(key("a")), (None, Removed::Nothing)));
    assert_eq!(table.release(&entry, now), Removed::Close(1));
    assert_eq!(table.expired(now + IDLE), None);
}

#[test]
fn a_spent_flow_is_never_found_again() {
    let (mut table, now) = table();
    let entry = table.begin(1, now);
    let _ = table.keep(key("a"), &entry);
    asked(&entry);
    entry.borrow_mut().spent = true;
    assert!(table.for_response(key("a"), None).0.is_none());
    assert_eq!(table.release(&entry, now), Removed::Close(1));
    assert_eq!(table.len(), 0);
}

#[test]
fn flows_without_a_home_end_with_their_transaction() {
    let (mut table, now) = table();
    let entry = table.begin(7, now);
    asked(&entry);
    assert_eq!(table.release(&entry, now), Removed::Close(7));
}

#[test]
fn waiting_requests_are_answered_in_order_and_given_up_in_time() {
    let (mut table, now) = table();
    for n in 1..=3 {
        let entry = table.begin(n, now);
        asked(&entry);
        assert_eq!(table.keep_waiting(key("w"), &entry), Removed::Nothing);
        assert_eq!(table.release(&entry, now), Removed::Nothing);
    }
    let first = table.for_waiting(key("w")).unwrap();
    assert_eq!(first.borrow().flow, Some(1));
    answered(&first);
    assert_eq!(table.release(&first, now), Removed::Close(1));
    assert_eq!(table.expired(now + WAIT / 2), None);
    assert_eq!(table.expired(now + WAIT), Some(2));
    assert_eq!(table.expired(now + WAIT), Some(3));
    assert_eq!(table.expired(now + WAIT), None);
    assert!(table.len() == 0 && table.for_waiting(key("w")).is_none());
}

#[test]
fn a_full_table_closes_the_longest_idle_flow() {
    let (mut table, now) = table();
    for n in 0..3 {
        let entry = table.begin(n, now);
        let _ = table.keep(key(&n.to_string()), &entry);
        assert_eq!(table.release(&entry, now), Removed::Nothing);
    }
    // Used again, so that number 1 is now the longest idle.
    let again = table.for_request(key("0")).0.unwrap();
    let _ = table.release(&again, now);
    let entry = table.begin(3, now);
    assert_eq!(table.keep(key("3"), &entry), Removed::Close(1));
    assert_eq!(table.len(), 3);
}

#[test]
fn idle_flows_expire_and_the_order_stays_short() {
    let (mut table, now) = table();
    let entry = table.begin(1, now);
    let _ = table.keep(key("a"), &entry);
    let _ = table.release(&entry, now);
    for n in 0..10_000 {
        let found = table.for_request(key("a")).0.unwrap();
        let _ = table.release(&found, now + Duration::from_millis(n));
    }
    assert!(table.order.len() < 100);
    assert_eq!(table.expired(now + IDLE), None, "it was used after that");
    assert_eq!(table.expired(now + IDLE + Duration::from_secs(10)), Some(1));
    assert!(table.len() == 0);
}

#[test]
fn draining_leaves_what_is_in_use() {
    let (mut table, now) = table();
    let (used, idle) = (table.begin(1, now), table.begin(2, now));
    let _ = table.keep(key("used"), &used);
    let _ = table.keep(key("idle"), &idle);
    let _ = table.release(&idle, now);
    assert_eq!(table.drain(), Some(2));
    assert_eq!(table.drain(), None);
    assert_eq!(table.release(&used, now), Removed::Nothing);
    assert_eq!(table.drain(), Some(1));
}
