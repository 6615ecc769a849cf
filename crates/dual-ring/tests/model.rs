//! The ring against the simplest thing that could be right: two queues.

use std::collections::VecDeque;

use dual_ring::{Overrun, Pool, Ring, Slices};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Pass(usize),
    Take(usize),
    Clear,
}

fn step(span: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..=span).prop_map(Step::Write),
        8 => (0..=span).prop_map(Step::Pass),
        8 => (0..=span).prop_map(Step::Take),
        1 => Just(Step::Clear),
    ]
}

fn join(slices: Slices<'_>) -> Vec<u8> {
    [slices.first, slices.second].concat()
}

fn advance(from: &mut VecDeque<u8>, n: usize) -> Result<Vec<u8>, Overrun> {
    let readable = from.len();
    if n > readable {
        return Err(Overrun { wanted: n, readable });
    }
    Ok(from.drain(..n).collect())
}

fn check(capacity: usize, steps: Vec<Step>) {
    let mut ring = Ring::new(capacity);
    let (mut pending, mut passed) = (VecDeque::new(), VecDeque::new());
    let mut counter = 0u8;
    for step in steps {
        match step {
            Step::Write(n) => {
                let data: Vec<u8> = std::iter::repeat_with(|| {
                    counter = counter.wrapping_add(1);
                    counter
                })
                .take(n)
                .collect();
                let fits = n.min(capacity - pending.len() - passed.len());
                assert_eq!(ring.write(&data), fits);
                pending.extend(&data[..fits]);
            }
            Step::Pass(n) => {
                let moved = advance(&mut pending, n);
                assert_eq!(ring.pass(n), moved.as_ref().map(|_| ()).map_err(|e| *e));
                passed.extend(moved.unwrap_or_default());
            }
            Step::Take(n) => {
                let moved = advance(&mut passed, n);
                assert_eq!(ring.take(n), moved.map(|_| ()));
            }
            Step::Clear => {
                ring.clear();
                pending.clear();
                passed.clear();
            }
        }
        assert_eq!(join(ring.pending()), Vec::from(pending.clone()));
        assert_eq!(join(ring.passed()), Vec::from(passed.clone()));
        assert_eq!(ring.pending_len(), pending.len());
        assert_eq!(ring.passed_len(), passed.len());
        assert_eq!(ring.free(), capacity - pending.len() - passed.len());
        assert_eq!(ring.pending().is_empty(), pending.is_empty());
    }
}

proptest! {
    #[test]
    fn small_rings_agree_with_the_model(capacity in 0usize..24, steps in vec(step(30), 0..200)) {
        check(capacity, steps);
    }

    #[test]
    fn large_rings_agree_with_the_model(capacity in 1000usize..5000, steps in vec(step(3000), 0..60)) {
        check(capacity, steps);
    }

    #[test]
    fn a_prefix_of_slices_is_the_prefix_of_their_bytes(a in vec(any::<u8>(), 1..20), b in vec(any::<u8>(), 0..20), n in 0usize..50) {
        let slices = Slices { first: &a, second: &b };
        let mut whole = join(slices);
        whole.truncate(n);
        prop_assert_eq!(join(slices.take(n)), whole.clone());
        prop_assert_eq!(slices.take(n).len(), whole.len());
    }
}

/// The mistake of a ring that frees by the index of the faster reader.
#[test]
fn a_wrap_never_overwrites_what_the_client_has_not_taken() {
    let mut ring = Ring::new(8);
    assert_eq!(ring.write(b"abcdef"), 6);
    ring.pass(6).unwrap();
    ring.take(2).unwrap();
    assert_eq!(ring.write(b"GHIJKLM"), 4);
    ring.pass(4).unwrap();
    assert_eq!(join(ring.passed()), b"cdefGHIJ");
    assert_eq!(ring.write(b"x"), 0);
}

#[test]
fn an_empty_ring_starts_over_and_stays_contiguous() {
    let mut ring = Ring::new(8);
    for _ in 0..5 {
        ring.write(b"12345");
        assert_eq!(ring.pending(), Slices { first: b"12345", second: b"" });
        ring.pass(5).unwrap();
        ring.take(5).unwrap();
    }
}

#[test]
fn a_pool_bounds_and_reuses_its_rings() {
    let pool = Pool::new(16, 2, 1);
    let mut first = pool.lend().unwrap();
    let second = pool.lend().unwrap();
    assert!(pool.lend().is_none());
    first.write(b"left behind");
    drop(first);
    assert_eq!((pool.lent(), pool.idle()), (1, 1));
    let again = pool.lend().unwrap();
    assert_eq!((again.free(), again.capacity(), pool.idle()), (16, 16, 0));
    drop((second, again));
    assert_eq!((pool.lent(), pool.idle(), pool.capacity()), (0, 1, 16));
}
