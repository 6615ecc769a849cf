//! When replies leave: the first of a round at once, the others together when it is over.
//!
//! A round is one turn of every connection of a thread that has something to do. A reply that is
//! sent wakes its client, which on a busy machine takes the core at once, does its little part and
//! sleeps, to be woken by the next reply: two changes of threads for each, and cold caches for
//! whoever inspects in between. Replies that leave one right after the other find their clients
//! awake. The first goes ahead so that there is work for another core meanwhile.

use std::cell::Cell;
use std::task::Context;

thread_local! {
    /// Whether the first reply of a round has left and the round is not over.
    static IS_OPEN: Cell<bool> = const { Cell::new(false) };
}

/// One connection's part in the rounds of its thread.
#[derive(Debug, Default)]
pub(crate) struct Round(Cell<Part>);

#[derive(Clone, Copy, Debug, Default)]
enum Part {
    #[default]
    None,
    /// Its reply was the first: the round is over when it has its turn again.
    First,
    /// Its reply waits for the end of the round.
    Waits,
}

impl Round {
    /// Whether a whole reply that waits to be sent may leave now. If not, the task is woken, and
    /// has its turn after all that have something to do.
    pub(crate) fn may_send(&self, cx: &mut Context<'_>) -> bool {
        match self.0.take() {
            Part::First => {
                IS_OPEN.set(false);
                return true;
            }
            Part::Waits => return true,
            Part::None => {}
        }
        cx.waker().wake_by_ref();
        let is_first = !IS_OPEN.replace(true);
        self.0.set(if is_first { Part::First } else { Part::Waits });
        is_first
    }

    /// The connection had its turn and has no reply to send.
    pub(crate) fn pass(&self) {
        if matches!(self.0.take(), Part::First) {
            IS_OPEN.set(false);
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.pass();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What `may_send` says, and how often it wakes.
    fn asks(round: &Round) -> (bool, usize) {
        let wakes = Arc::new(Wakes::default());
        let may = round.may_send(&mut Context::from_waker(&Waker::from(wakes.clone())));
        (may, wakes.0.load(Ordering::Relaxed))
    }

    #[test]
    fn the_first_reply_leaves_at_once_and_the_others_after_its_next_turn() {
        let connections = [Round::default(), Round::default(), Round::default()];
        for _ in 0..2 {
            let first_turns = connections.each_ref().map(asks);
            assert_eq!(first_turns, [(true, 1), (false, 1), (false, 1)]);
            connections[0].pass();
            assert_eq!(asks(&connections[1]), (true, 0));
            assert_eq!(asks(&connections[2]), (true, 0));
        }
    }

    #[test]
    fn a_client_that_takes_nothing_does_not_keep_its_connection_awake() {
        let round = Round::default();
        assert_eq!(asks(&round), (true, 1));
        assert_eq!(asks(&round), (true, 0), "only what others do may wake it now");
    }

    #[test]
    fn a_round_is_over_with_the_connection_that_was_first() {
        let (first, second) = (Round::default(), Round::default());
        assert_eq!(asks(&first), (true, 1));
        drop(first);
        assert_eq!(asks(&second), (true, 1));
    }
}
