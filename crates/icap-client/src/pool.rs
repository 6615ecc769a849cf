//! Kept connections of one endpoint, and how many it may have.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use shares::{Client, Ledger, Limit, Share};
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::OnOverload;
use crate::connection::Connection;
use crate::transport::Connector;

pub(crate) struct Pool {
    /// In the order in which they were given back.
    idle: Mutex<Vec<Idle>>,
    slots: Arc<Slots>,
    /// Connections in use, by client.
    in_use: Arc<Ledger>,
    /// Where the transactions of each client wait; there while any do.
    lines: Mutex<HashMap<Option<Client>, Line>>,
    most_idle: AtomicU32,
    keep: Duration,
}

/// How long a kept connection waits for the client connection that it served last before it serves
/// others, while more may be opened. Services do best with one that stays with one client.
const RESERVED: Duration = Duration::from_secs(1);

/// A kept connection and what it is chosen by: choosing looks at nothing else of it.
struct Idle {
    /// A hash of the client connection whose transaction it served last.
    affinity: u64,
    /// Gone when that client connection is. None after an OPTIONS, which is nobody's.
    client: Option<Weak<str>>,
    since: Instant,
    /// The event loop that wakes whoever uses it.
    home: Id,
    connection: Box<Connection>,
}

/// The lock is handed on in the order of arrival; its holder is the first in line.
type Line = Arc<tokio::sync::Mutex<()>>;

struct Slots {
    open: AtomicU32,
    freed: Notify,
}

/// The right to have one connection open.
pub(crate) struct Slot(Arc<Slots>);

/// Whom a connection is for.
#[derive(Clone, Copy)]
pub(crate) struct Lessee<'a> {
    /// The client connection.
    pub(crate) affinity: &'a str,
    /// Whose share it is taken from; of one that is not known, nobody's.
    pub(crate) client: Option<Client>,
}

/// What there is for a transaction, with its client's share of it.
pub(crate) struct Lease {
    pub(crate) connection: Leased,
    pub(crate) share: Share,
}

pub(crate) enum Leased {
    Kept(Box<Connection>),
    New(Slot),
}

/// No connection may be had.
pub(crate) struct Full;

impl Pool {
    /// Of `most_idle` kept connections, each for at most `keep`.
    pub(crate) fn new(most_idle: u32, keep: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            slots: Arc::new(Slots { open: AtomicU32::new(0), freed: Notify::new() }),
            in_use: Ledger::new(),
            lines: Mutex::default(),
            most_idle: AtomicU32::new(most_idle),
            keep,
        }
    }

    /// Changes how many connections are kept at most.
    pub(crate) fn keep_at_most(&self, most_idle: u32) {
        self.most_idle.store(most_idle, Ordering::Relaxed);
    }

    /// A kept connection, preferably one that served the lessee's client connection last, or the
    /// right to open one. One of another event loop is taken only if none may be opened: each of
    /// its answers would wake two threads. With `prefer_new` a new connection comes first: for a
    /// retry after a stale one. No client gets so many that others find none ([`Ledger`]).
    pub(crate) async fn lease(
        &self,
        lessee: Lessee<'_>,
        limit: u32,
        on_overload: OnOverload,
        wait: Duration,
        prefer_new: bool,
        connector: &Connector,
    ) -> Result<Lease, Full> {
        if prefer_new && let Some(lease) = self.lease_new(lessee, limit) {
            return Ok(lease);
        }
        // Nobody overtakes those of the same client who wait, or under load some would wait for ever.
        if !self.lock_lines().contains_key(&lessee.client)
            && let Some(lease) = self.try_lease(lessee, limit, connector)
        {
            return Ok(lease);
        }
        match on_overload {
            OnOverload::Block | OnOverload::Bypass => Err(Full),
            OnOverload::Force => {
                let share = self.in_use.force(lessee.client, 1);
                Ok(Lease { connection: Leased::New(self.slots.force()), share })
            }
            OnOverload::Wait => {
                let waiting = Waiting::of(self, lessee.client);
                let turn = self.wait_in_line(&waiting, lessee, limit, connector);
                timeout(wait, turn).await.map_err(|_| Full)
            }
        }
    }

    async fn wait_in_line(
        &self,
        waiting: &Waiting<'_>,
        lessee: Lessee<'_>,
        limit: u32,
        connector: &Connector,
    ) -> Lease {
        let _first = waiting.line.lock().await;
        loop {
            let freed = self.slots.freed.notified();
            tokio::pin!(freed);
            // Registered before the look, so that nothing freed in between is missed.
            freed.as_mut().enable();
            if let Some(lease) = self.try_lease(lessee, limit, connector) {
                return lease;
            }
            freed.await;
        }
    }

    fn share(&self, client: Option<Client>, limit: u32) -> Option<Share> {
        self.in_use.take(client, 1, Limit::of(limit.into())).ok()
    }

    /// The right to open one, for which kept ones make room.
    fn lease_new(&self, lessee: Lessee<'_>, limit: u32) -> Option<Lease> {
        let share = self.share(lessee.client, limit)?;
        loop {
            if let Some(slot) = self.slots.take(limit) {
                return Some(Lease { connection: Leased::New(slot), share });
            }
            // What took one kept connection may be about to take the others.
            self.take_oldest(|_| true)?;
        }
    }

    fn try_lease(&self, lessee: Lessee<'_>, limit: u32, connector: &Connector) -> Option<Lease> {
        let share = self.share(lessee.client, limit)?;
        let (affinity, here) = (hash(lessee.affinity), Handle::current().id());
        let usable = |mut connection: Box<Connection>| {
            connection.is_usable(self.keep, connector).then(|| {
                connection.reused = true;
                Leased::Kept(connection)
            })
        };
        let oldest = |which: &dyn Fn(&Idle) -> bool| {
            std::iter::from_fn(|| self.take_oldest(which)).find_map(usable)
        };
        let open = |limit| self.slots.take(limit).map(Leased::New);
        let few = limit.min(self.most_idle.load(Ordering::Relaxed));
        let connection = std::iter::from_fn(|| self.take_own(affinity, here))
            .find_map(usable)
            .or_else(|| oldest(&|idle| idle.home == here && idle.is_free()))
            .or_else(|| open(few))
            .or_else(|| oldest(&|idle| idle.home == here))
            .or_else(|| open(limit))
            .or_else(|| oldest(&|_| true))?;
        Some(Lease { connection, share })
    }

    /// A slot whatever the limit, for what is not a transaction.
    pub(crate) fn force(&self) -> Slot {
        self.slots.force()
    }

    /// Takes a connection back after a transaction that left it clean.
    pub(crate) fn give_back(&self, mut connection: Box<Connection>, affinity: &Arc<str>) {
        connection.rest();
        let kept = Idle {
            affinity: hash(affinity),
            client: (!affinity.is_empty()).then(|| Arc::downgrade(affinity)),
            since: connection.idle_since,
            home: connection.home,
            connection,
        };
        let surplus = {
            let mut idle = self.lock();
            idle.push(kept);
            let most = self.most_idle.load(Ordering::Relaxed) as usize;
            (idle.len() > most).then(|| idle.remove(0))
        };
        drop(surplus);
        self.slots.freed.notify_waiters();
    }

    /// Closes what has been idle for too long or leads to an address the name has lost.
    pub(crate) fn sweep(&self, connector: &Connector) {
        self.lock().retain_mut(|idle| idle.connection.is_usable(self.keep, connector));
    }

    /// Closes all idle connections.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// One that served the same client connection, and is woken by the same event loop.
    fn take_own(&self, affinity: u64, here: Id) -> Option<Box<Connection>> {
        let mut idle = self.lock();
        let at = idle.iter().rposition(|idle| idle.affinity == affinity && idle.home == here)?;
        Some(idle.remove(at).connection)
    }

    /// The one idle longest: its own client connection is the least likely to come back for it.
    fn take_oldest(&self, which: impl Fn(&Idle) -> bool) -> Option<Box<Connection>> {
        let mut idle = self.lock();
        let at = idle.iter().position(which)?;
        Some(idle.remove(at).connection)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_lines(&self) -> MutexGuard<'_, HashMap<Option<Client>, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// Whether no client connection is likely to come back for it soon.
    fn is_free(&self) -> bool {
        self.client.as_ref().is_none_or(|client| client.strong_count() == 0)
            || self.since.elapsed() >= RESERVED
    }
}

fn hash(affinity: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    affinity.hash(&mut hasher);
    hasher.finish()
}

/// One who waits for a connection, in the line of its client. Each line's first looks whenever
/// something is freed: what one client may not have must not keep another from it.
struct Waiting<'a> {
    pool: &'a Pool,
    client: Option<Client>,
    line: Line,
}

impl<'a> Waiting<'a> {
    fn of(pool: &'a Pool, client: Option<Client>) -> Self {
        let line = pool.lock_lines().entry(client).or_default().clone();
        Self { pool, client, line }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut lines = self.pool.lock_lines();
        // Lines are joined and left under this lock, so these two are the last.
        if Arc::strong_count(&self.line) == 2 {
            lines.remove(&self.client);
        }
    }
}

impl Slots {
    fn take(self: &Arc<Self>, limit: u32) -> Option<Slot> {
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1))
            .ok()
            .map(|_| Slot(self.clone()))
    }

    fn force(self: &Arc<Self>) -> Slot {
        self.open.fetch_add(1, Ordering::AcqRel);
        Slot(self.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}
