//! How much a client may spend in a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Client;

/// How fast what was spent is forgiven, and how much may be spent at once. In any unit: failures,
/// seconds of computing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Spent at once, after a time of rest.
    pub burst: f64,
    /// Forgiven each second.
    pub per_second: f64,
}

/// What clients have spent lately. It remembers so many of them; all others, as if they were one,
/// share what one may spend.
#[derive(Debug)]
pub struct Rates {
    most: usize,
    spent: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    by_client: HashMap<Client, Account>,
    others: Option<Account>,
}

/// What was spent and not forgiven yet at a time.
#[derive(Clone, Copy, Debug)]
struct Account {
    spent: f64,
    at: Instant,
}

impl Account {
    fn now(self, rate: Rate, now: Instant) -> f64 {
        let forgiven = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        (self.spent - forgiven).max(0.0)
    }
}

impl Rates {
    /// Remembers up to `most` clients.
    pub fn new(most: usize) -> Self {
        Self { most, spent: Mutex::default() }
    }

    /// How long `client` must wait at `rate` before it may spend again; zero if it may now.
    pub fn wait(&self, client: Client, rate: Rate, now: Instant) -> Duration {
        let accounts = self.lock();
        let account = match accounts.by_client.get(&client) {
            None if accounts.by_client.len() >= self.most => accounts.others,
            account => account.copied(),
        };
        let spent = account.map_or(0.0, |account| account.now(rate, now));
        let over = spent - rate.burst;
        match over < 0.0 {
            true => Duration::ZERO,
            // A moment more, so that it is below the burst by then.
            false => Duration::try_from_secs_f64(over / rate.per_second)
                .unwrap_or(Duration::MAX)
                .saturating_add(Duration::from_millis(1)),
        }
    }

    /// Notes that `client` has spent `amount`. What it costs may be known only afterwards, so more may
    /// be spent than there was: it is waited for then.
    pub fn spend(&self, client: Client, amount: f64, rate: Rate, now: Instant) {
        let mut accounts = self.lock();
        if accounts.by_client.len() >= self.most && !accounts.by_client.contains_key(&client) {
            accounts.by_client.retain(|_, account| account.now(rate, now) > 0.0);
        }
        let full = accounts.by_client.len() >= self.most;
        let new = Account { spent: 0.0, at: now };
        let account = match full && !accounts.by_client.contains_key(&client) {
            true => accounts.others.get_or_insert(new),
            false => accounts.by_client.entry(client).or_insert(new),
        };
        *account = Account { spent: account.now(rate, now) + amount, at: now };
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const RATE: Rate = Rate { burst: 3.0, per_second: 0.5 };

    fn client(number: u8) -> Client {
        IpAddr::from(Ipv4Addr::new(192, 0, 2, number)).into()
    }

    #[test]
    fn what_was_spent_is_forgiven_with_time() {
        let rates = Rates::new(10);
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(rates.wait(client(1), RATE, began), Duration::ZERO);
            rates.spend(client(1), 1.0, RATE, began);
        }
        let wait = rates.wait(client(1), RATE, began);
        assert_eq!(wait, Duration::from_millis(1));
        rates.spend(client(1), 1.0, RATE, began);
        let wait = rates.wait(client(1), RATE, began);
        assert!(wait >= Duration::from_secs(2) && wait < Duration::from_secs(3), "{wait:?}");
        assert_eq!(rates.wait(client(1), RATE, began + wait), Duration::ZERO);
        assert_eq!(rates.wait(client(2), RATE, began), Duration::ZERO, "another's are its own");
    }

    #[test]
    fn those_who_are_too_many_to_be_remembered_are_one() {
        let rates = Rates::new(2);
        let began = Instant::now();
        for number in 1..=4 {
            rates.spend(client(number), 2.0, RATE, began);
        }
        // The third and the fourth have spent four together.
        assert_eq!(rates.wait(client(1), RATE, began), Duration::ZERO);
        assert!(rates.wait(client(3), RATE, began) > Duration::ZERO);
        assert!(rates.wait(client(5), RATE, began) > Duration::ZERO);
        // Those who are forgiven make room.
        let later = began + Duration::from_secs(60);
        assert_eq!(rates.wait(client(5), RATE, later), Duration::ZERO);
        rates.spend(client(5), 2.0, RATE, later);
        rates.spend(client(6), 2.0, RATE, later);
        assert_eq!(rates.wait(client(6), RATE, later), Duration::ZERO);
    }
}
