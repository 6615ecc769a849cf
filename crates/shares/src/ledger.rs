//! How much of one thing is taken now, in all and by client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::Client;

/// How much of one thing is taken. It remembers only clients that hold some of it, so it is bounded by
/// what can be taken.
#[derive(Debug, Default)]
pub struct Ledger {
    taken: Mutex<Taken>,
    freed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    by_client: HashMap<Client, u64>,
}

/// How much there is. In the unit of the ledger: pieces, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// For all.
    pub all: u64,
    /// The most for one client, where that is less than its fair share.
    pub each: Option<u64>,
}

/// Why nothing more may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// All of it is taken.
    All,
    /// This client has its share.
    Share,
}

/// What a client has taken; dropping it gives it back.
#[derive(Debug)]
pub struct Share {
    ledger: Arc<Ledger>,
    client: Option<Client>,
    amount: u64,
}

impl Limit {
    /// So much for all, of which each may have its fair share.
    pub fn of(all: u64) -> Self {
        Self { all, each: None }
    }

    /// Whether somebody who holds `held` of the `taken` may take `amount` more.
    fn allows(self, taken: u64, held: u64, amount: u64) -> Result<(), Spent> {
        let taken = taken.saturating_add(amount);
        let left = self.all.checked_sub(taken).ok_or(Spent::All)?;
        let holds = held.saturating_add(amount);
        // Whoever has nothing may begin, however little is left.
        let fair = held == 0 || holds <= left;
        match fair && self.each.is_none_or(|each| holds <= each) {
            true => Ok(()),
            false => Err(Spent::Share),
        }
    }
}

impl Ledger {
    /// A ledger of which nothing is taken.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes `amount` for `client`. A client that is not known (`None`) has no share of its own: for it
    /// only the limit for all counts.
    ///
    /// # Errors
    /// All is taken, or this client has its share. Nothing is taken then.
    pub fn take(
        self: &Arc<Self>,
        client: Option<Client>,
        amount: u64,
        limit: Limit,
    ) -> Result<Share, Spent> {
        let mut taken = self.lock();
        let held = client.and_then(|client| taken.by_client.get(&client)).copied();
        limit.allows(taken.all, held.unwrap_or_default(), amount)?;
        Ok(self.enter(&mut taken, client, amount))
    }

    /// Takes `amount` whatever the limits: for what is there already, and what can't be done without.
    pub fn force(self: &Arc<Self>, client: Option<Client>, amount: u64) -> Share {
        self.enter(&mut self.lock(), client, amount)
    }

    /// Whether `client` could take `amount` now.
    ///
    /// # Errors
    /// As [`Ledger::take`].
    pub fn check(&self, client: Option<Client>, amount: u64, limit: Limit) -> Result<(), Spent> {
        let taken = self.lock();
        let held = client.and_then(|client| taken.by_client.get(&client)).copied();
        limit.allows(taken.all, held.unwrap_or_default(), amount)
    }

    /// As [`Ledger::take`], once the limits allow it. Those who wait are not ordered.
    pub async fn wait(
        self: &Arc<Self>,
        client: Option<Client>,
        amount: u64,
        limit: Limit,
    ) -> Share {
        loop {
            // Registered before the look, so that nothing given back in between is missed.
            let freed = self.freed();
            if let Ok(share) = self.take(client, amount, limit) {
                return share;
            }
            freed.await;
        }
    }

    /// Resolves when something has been given back after this call.
    pub fn freed(&self) -> OwnedNotified {
        // It counts from its making on, not from its first poll (`Notify::notify_waiters`).
        self.freed.clone().notified_owned()
    }

    /// How much is taken in all.
    pub fn taken(&self) -> u64 {
        self.lock().all
    }

    /// How much `client` holds.
    pub fn held(&self, client: Client) -> u64 {
        self.lock().by_client.get(&client).copied().unwrap_or_default()
    }

    /// How many clients hold something.
    pub fn clients(&self) -> usize {
        self.lock().by_client.len()
    }

    fn enter(self: &Arc<Self>, taken: &mut Taken, client: Option<Client>, amount: u64) -> Share {
        taken.all = taken.all.saturating_add(amount);
        if let Some(client) = client.filter(|_| amount > 0) {
            let held = taken.by_client.entry(client).or_default();
            *held = held.saturating_add(amount);
        }
        Share { ledger: self.clone(), client, amount }
    }

    fn give_back(&self, client: Option<Client>, amount: u64) {
        if amount == 0 {
            return;
        }
        let mut taken = self.lock();
        taken.all = taken.all.saturating_sub(amount);
        if let Some(client) = client
            && let Some(held) = taken.by_client.get_mut(&client)
        {
            *held = held.saturating_sub(amount);
            if *held == 0 {
                taken.by_client.remove(&client);
            }
        }
        drop(taken);
        self.freed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// How much it is.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes more, so that it is `amount`.
    ///
    /// # Errors
    /// As [`Ledger::take`]; it stays what it was then.
    pub fn grow_to(&mut self, amount: u64, limit: Limit) -> Result<(), Spent> {
        let more = amount.saturating_sub(self.amount);
        if more > 0 {
            let mut more = self.ledger.take(self.client, more, limit)?;
            self.amount += std::mem::take(&mut more.amount);
        }
        Ok(())
    }

    /// Gives a part of it back, so that `amount` is left.
    pub fn shrink_to(&mut self, amount: u64) {
        if let Some(surplus) = self.amount.checked_sub(amount) {
            self.amount = amount;
            self.ledger.give_back(self.client, surplus);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.ledger.give_back(self.client, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> Option<Client> {
        Some(std::net::IpAddr::from(Ipv4Addr::new(192, 0, 2, number)).into())
    }

    /// All that `client` gets one by one.
    fn fill(ledger: &Arc<Ledger>, number: u8, limit: Limit) -> (Vec<Share>, Spent) {
        let mut shares = Vec::new();
        loop {
            match ledger.take(client(number), 1, limit) {
                Ok(share) => shares.push(share),
                Err(spent) => return (shares, spent),
            }
        }
    }

    #[test]
    fn the_greedy_leave_something_for_those_who_come_later() {
        let ledger = Ledger::new();
        let limit = Limit::of(100);
        let (mut first, spent) = fill(&ledger, 1, limit);
        assert_eq!((first.len(), spent), (50, Spent::Share));
        let (second, _) = fill(&ledger, 2, limit);
        assert_eq!(second.len(), 25);
        // Whoever holds more than is left gets no more, though some of it comes back.
        first.truncate(40);
        assert_eq!(ledger.taken(), 65);
        assert_eq!(ledger.take(client(1), 1, limit).unwrap_err(), Spent::Share);
        let (third, _) = fill(&ledger, 3, limit);
        assert_eq!((third.len(), ledger.clients()), (17, 3));
        drop((first, second, third));
        assert_eq!((ledger.taken(), ledger.clients()), (0, 0));
    }

    #[test]
    fn whoever_has_nothing_may_begin_while_there_is_any() {
        let ledger = Ledger::new();
        let limit = Limit::of(2);
        let one = ledger.take(client(1), 1, limit).unwrap();
        assert_eq!(ledger.take(client(1), 1, limit).unwrap_err(), Spent::Share);
        let two = ledger.take(client(2), 1, limit).unwrap();
        assert_eq!(ledger.take(client(3), 1, limit).unwrap_err(), Spent::All);
        drop((one, two));
        assert_eq!(ledger.take(client(1), 3, limit).unwrap_err(), Spent::All);
        ledger.take(client(1), 2, limit).unwrap();
    }

    #[test]
    fn a_cap_for_each_and_nobody_in_particular() {
        let ledger = Ledger::new();
        let limit = Limit { all: 100, each: Some(3) };
        assert_eq!(fill(&ledger, 1, limit).0.len(), 3);
        let all: Vec<_> = (0..100).map(|_| ledger.take(None, 1, limit).unwrap()).collect();
        assert_eq!(ledger.take(None, 1, limit).unwrap_err(), Spent::All);
        let forced = ledger.force(client(1), 7);
        assert_eq!((ledger.taken(), forced.amount()), (107, 7));
        drop((all, forced));
        assert_eq!((ledger.taken(), ledger.clients()), (0, 0));
    }

    #[test]
    fn a_share_grows_as_far_as_the_limit_and_shrinks() {
        let ledger = Ledger::new();
        let limit = Limit::of(100);
        let mut share = ledger.take(client(1), 40, limit).unwrap();
        share.shrink_to(50);
        share.grow_to(30, limit).unwrap();
        assert_eq!(ledger.taken(), 40);
        assert_eq!(share.grow_to(51, limit), Err(Spent::Share));
        assert_eq!((ledger.taken(), share.amount()), (40, 40));
        share.grow_to(50, limit).unwrap();
        assert_eq!((ledger.held(client(1).unwrap()), share.amount()), (50, 50));
        share.shrink_to(10);
        assert_eq!((ledger.taken(), ledger.held(client(1).unwrap())), (10, 10));
        share.shrink_to(0);
        assert_eq!(ledger.clients(), 0);
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_something_comes_back() {
        let ledger = Ledger::new();
        let limit = Limit::of(2);
        let held = ledger.take(client(1), 1, limit).unwrap();
        let mut waiting = std::pin::pin!(ledger.wait(client(1), 1, limit));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx)));
        assert!(polled.await.is_pending());
        drop(held);
        assert_eq!(waiting.await.amount(), 1);
    }

    proptest! {
        /// Whatever is taken and given back in whatever order: the limit holds, one client alone never
        /// has more than half beyond its first, and all comes back.
        #[test]
        fn sums_are_right(steps in proptest::collection::vec((0u8..5, 1u64..20, any::<bool>()), 1..200)) {
            let ledger = Ledger::new();
            let limit = Limit::of(100);
            let mut shares: Vec<Share> = Vec::new();
            for (number, amount, gives_back) in steps {
                if gives_back && !shares.is_empty() {
                    shares.swap_remove(usize::from(number) % shares.len());
                } else if let Ok(share) = ledger.take(client(number), amount, limit) {
                    shares.push(share);
                }
                let sum: u64 = shares.iter().map(Share::amount).sum();
                prop_assert_eq!(ledger.taken(), sum);
                prop_assert!(sum <= 100);
                for number in 0..5 {
                    prop_assert!(ledger.held(client(number).unwrap()) <= 50);
                }
            }
            drop(shares);
            prop_assert_eq!((ledger.taken(), ledger.clients()), (0, 0));
        }
    }
}
