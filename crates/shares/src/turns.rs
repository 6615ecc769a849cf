//! Whose turn it is on a thread: clients have theirs one after the other, however much each has to do.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::yield_now;

/// Clients that are remembered although they wait for nothing.
const REMEMBERED: usize = 4096;

/// The turns of one thread, which runs one event loop of tokio.
///
/// A client works without waiting until it has used up `length`. Then each piece of its work waits
/// in line. Each pass of the event loop wakes the next in line, of the clients one after the other;
/// whether that piece then does anything, nobody waits for.
#[derive(Debug)]
pub struct Turns<K> {
    length: u64,
    queue: Mutex<Queue<K>>,
}

#[derive(Debug)]
struct Queue<K> {
    accounts: HashMap<K, Account>,
    /// Those who wait, each once.
    waiting: VecDeque<K>,
    /// A task gives out turns.
    is_served: bool,
}

#[derive(Debug, Default)]
struct Account {
    /// What it has used of its turn.
    spent: u64,
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// The task that gives out turns. It ends when nobody waits.
struct Server<K: Copy + Eq + Hash>(Arc<Turns<K>>);

impl<K: Copy + Eq + Hash + Send + 'static> Turns<K> {
    /// Turns of this length, in any unit.
    pub fn of(length: u64) -> Arc<Self> {
        let queue = Queue { accounts: HashMap::new(), waiting: VecDeque::new(), is_served: false };
        Arc::new(Self { length, queue: Mutex::new(queue) })
    }

    /// Counts `amount` to a client's turn. False if the turn is used up: then the work is to [wait](Self::wait).
    pub fn spend(&self, client: K, amount: u64) -> bool {
        let mut queue = self.lock();
        if queue.accounts.len() >= REMEMBERED {
            queue.accounts.retain(|_, account| !account.waiting.is_empty());
        }
        let account = queue.accounts.entry(client).or_default();
        account.spent = account.spent.saturating_add(amount);
        account.spent < self.length && account.waiting.is_empty()
    }

    /// Waits for the client's next turn.
    pub async fn wait(self: &Arc<Self>, client: K) {
        let (place, was_served) = {
            let mut queue = self.lock();
            let Queue { accounts, waiting, is_served } = &mut *queue;
            let account = accounts.entry(client).or_default();
            account.spent = 0;
            let (turn, place) = oneshot::channel();
            if account.waiting.is_empty() {
                waiting.push_back(client);
            }
            account.waiting.push_back(turn);
            (place, std::mem::replace(is_served, true))
        };
        if !was_served {
            tokio::spawn(Server(self.clone()).serve());
        }
        // It fails only where the event loop ends, and this task with it.
        let _ = place.await;
    }
}

impl<K: Copy + Eq + Hash> Turns<K> {
    /// Gives a turn to the next waiter. False if none waits: then the task that gives out turns ends.
    fn give(&self) -> bool {
        let mut queue = self.lock();
        while let Some(turn) = queue.pop() {
            // It may have been given up meanwhile.
            if turn.send(()).is_ok() {
                return true;
            }
        }
        queue.is_served = false;
        false
    }

    fn lock(&self) -> MutexGuard<'_, Queue<K>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Queue<K> {
    /// Takes the next waiter off the queue.
    fn pop(&mut self) -> Option<oneshot::Sender<()>> {
        while let Some(client) = self.waiting.pop_front() {
            let Some(account) = self.accounts.get_mut(&client) else { continue };
            let turn = account.waiting.pop_front();
            if !account.waiting.is_empty() {
                self.waiting.push_back(client);
            }
            if turn.is_some() {
                return turn;
            }
        }
        None
    }
}

impl<K: Copy + Eq + Hash> Server<K> {
    async fn serve(self) {
        loop {
            // Those for whom something has come go first.
            yield_now().await;
            if !self.0.give() {
                return;
            }
        }
    }
}

impl<K: Copy + Eq + Hash> Drop for Server<K> {
    /// The event loop may end before those who wait.
    fn drop(&mut self) {
        self.0.lock().is_served = false;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::rc::Rc;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::task::{LocalSet, yield_now};

    use super::*;

    const LENGTH: u64 = 100;

    async fn spend(turns: &Arc<Turns<u8>>, client: u8, amount: u64) {
        if !turns.spend(client, amount) {
            turns.wait(client).await;
        }
    }

    #[tokio::test]
    async fn one_of_few_waits_for_no_more_than_two_turns_of_another() {
        let turns = Turns::of(LENGTH);
        let greedy = Rc::new(Cell::new(0));
        let local = LocalSet::new();
        for number in 0..100 {
            let (turns, greedy) = (turns.clone(), greedy.clone());
            let gives_up = number % 3 == 0;
            local.spawn_local(async move {
                for _ in 0..10 {
                    if gives_up && greedy.get() > 20 {
                        // As when its connection breaks.
                        tokio::time::timeout(Duration::ZERO, spend(&turns, 1, LENGTH)).await.ok();
                        return;
                    }
                    spend(&turns, 1, LENGTH).await;
                    greedy.set(greedy.get() + 1);
                }
            });
        }
        let other = async {
            // All of the others wait by now.
            while greedy.get() < 10 {
                yield_now().await;
            }
            let before = greedy.get();
            assert!(turns.spend(2, LENGTH - 1), "within its turn it does not wait");
            for _ in 0..5 {
                spend(&turns, 2, LENGTH).await;
            }
            let meanwhile = greedy.get() - before;
            assert!(meanwhile <= 12, "{meanwhile} turns of the greedy one");
        };
        local.run_until(other).await;
        local.await;
        assert!(greedy.get() > 600, "{}", greedy.get());
        while turns.lock().is_served {
            yield_now().await;
        }
        let queue = turns.lock();
        assert!(queue.waiting.is_empty());
        assert!(queue.accounts.values().all(|account| account.waiting.is_empty()));
    }

    #[tokio::test]
    async fn a_waiter_that_does_nothing_with_its_turn_holds_up_no_other() {
        let turns = Turns::of(LENGTH);
        assert!(!turns.spend(1, LENGTH));
        let mut idle = pin!(turns.wait(1));
        assert!(polled(idle.as_mut()).await.is_pending());
        // It has a turn before these have theirs, and is never looked at again.
        for _ in 0..3 {
            spend(&turns, 2, LENGTH).await;
        }
        assert!(polled(idle).await.is_ready());
    }

    async fn polled(mut future: Pin<&mut impl Future<Output = ()>>) -> Poll<()> {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }

    #[test]
    fn few_clients_are_remembered() {
        let turns = Turns::of(LENGTH);
        for client in 0..3 * REMEMBERED {
            assert!(turns.spend(client, 1));
        }
        assert!(turns.lock().accounts.len() <= REMEMBERED);
    }
}
