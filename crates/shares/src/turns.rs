//! Whose turn it is on a thread: clients have theirs one after the other, however much each has to do.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Clients that are remembered although they wait for nothing.
const REMEMBERED: usize = 4096;

/// The turns of one thread.
///
/// A client works without waiting until it has used up `length`. Then each piece of its work waits
/// in line. The next in line goes on after every other task of the thread had one chance to run.
#[derive(Debug)]
pub struct Turns<K: Copy + Eq + Hash> {
    length: u64,
    queue: Mutex<Queue<K>>,
}

#[derive(Debug)]
struct Queue<K: Copy + Eq + Hash> {
    accounts: HashMap<K, Account<K>>,
    /// Those who wait, each once.
    waiting: VecDeque<K>,
    /// Somebody is next.
    is_taken: bool,
}

#[derive(Debug)]
struct Account<K: Copy + Eq + Hash> {
    /// Of the turn that it has.
    spent: u64,
    waiting: VecDeque<oneshot::Sender<Next<K>>>,
}

/// The right to go on. Hold it while other tasks run once, then drop it: that wakes the next
/// waiter.
#[derive(Debug)]
pub struct Next<K: Copy + Eq + Hash>(Option<Arc<Turns<K>>>);

impl<K: Copy + Eq + Hash> Turns<K> {
    /// Turns of this length, in any unit.
    pub fn of(length: u64) -> Arc<Self> {
        let queue = Queue { accounts: HashMap::new(), waiting: VecDeque::new(), is_taken: false };
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

    /// Waits for the client's next turn. Whoever gets it lets the thread's other tasks have theirs, and then
    /// drops it and goes on.
    pub async fn wait(self: &Arc<Self>, client: K) -> Option<Next<K>> {
        let place = {
            let mut queue = self.lock();
            let Queue { accounts, waiting, is_taken } = &mut *queue;
            let account = accounts.entry(client).or_default();
            account.spent = 0;
            if !std::mem::replace(is_taken, true) {
                return Some(Next(Some(self.clone())));
            }
            let (turn, place) = oneshot::channel();
            if account.waiting.is_empty() {
                waiting.push_back(client);
            }
            account.waiting.push_back(turn);
            place
        };
        // Nobody drops the other end unused.
        place.await.ok()
    }

    /// Says to one of those who wait that it is next.
    fn choose(self: Arc<Self>) {
        loop {
            let Some(turn) = self.lock().pop() else { return };
            match turn.send(Next(Some(self.clone()))) {
                Ok(()) => return,
                // It was given up meanwhile.
                Err(mut unsent) => drop(unsent.0.take()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<K>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Queue<K> {
    /// Takes the next waiter off the queue. If none waits, the turn is free.
    fn pop(&mut self) -> Option<oneshot::Sender<Next<K>>> {
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
        self.is_taken = false;
        None
    }
}

impl<K: Copy + Eq + Hash> Default for Account<K> {
    fn default() -> Self {
        Self { spent: 0, waiting: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash> Drop for Next<K> {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.choose();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::task::{LocalSet, yield_now};

    use super::*;

    const LENGTH: u64 = 100;

    async fn spend(turns: &Arc<Turns<u8>>, client: u8, amount: u64) {
        if !turns.spend(client, amount) {
            let next = turns.wait(client).await;
            yield_now().await;
            drop(next);
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
        let queue = turns.lock();
        assert!(queue.waiting.is_empty() && !queue.is_taken);
        assert!(queue.accounts.values().all(|account| account.waiting.is_empty()));
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
