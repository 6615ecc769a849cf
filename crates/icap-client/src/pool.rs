//! Kept connections of one endpoint, and how many it may have.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

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
    line: tokio::sync::Mutex<()>,
    waiting: AtomicU32,
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

struct Slots {
    open: AtomicU32,
    freed: Notify,
}

/// The right to have one connection open.
pub(crate) struct Slot(Arc<Slots>);

/// What there is for a transaction.
pub(crate) enum Lease {
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
            line: tokio::sync::Mutex::default(),
            waiting: AtomicU32::new(0),
            most_idle: AtomicU32::new(most_idle),
            keep,
        }
    }

    /// Changes how many connections are kept at most.
    pub(crate) fn keep_at_most(&self, most_idle: u32) {
        self.most_idle.store(most_idle, Ordering::Relaxed);
    }

    /// A kept connection, preferably one that served the client connection `affinity` last, or the
    /// right to open one. One of another event loop is taken only if none may be opened: each of
    /// its answers would wake two threads. `prefer_new` turns that round, for a transaction that a
    /// stale connection has lost.
    pub(crate) async fn lease(
        &self,
        affinity: &str,
        limit: u32,
        on_overload: OnOverload,
        wait: Duration,
        prefer_new: bool,
        connector: &Connector,
    ) -> Result<Lease, Full> {
        if prefer_new {
            loop {
                if let Some(slot) = self.slots.take(limit) {
                    return Ok(Lease::New(slot));
                }
                // What took one kept connection may be about to take the others: they make room.
                if self.take_oldest(|_| true).is_none() {
                    break;
                }
            }
        }
        // Nobody overtakes those who wait, or under load some would wait for ever.
        if self.waiting.load(Ordering::Acquire) == 0
            && let Some(lease) = self.try_lease(affinity, limit, connector)
        {
            return Ok(lease);
        }
        match on_overload {
            OnOverload::Block | OnOverload::Bypass => Err(Full),
            OnOverload::Force => Ok(Lease::New(self.slots.force())),
            OnOverload::Wait => {
                let _waiting = Waiting::new(&self.waiting);
                let turn = self.wait_in_line(affinity, limit, connector);
                timeout(wait, turn).await.map_err(|_| Full)
            }
        }
    }

    async fn wait_in_line(&self, affinity: &str, limit: u32, connector: &Connector) -> Lease {
        // The lock is handed on in the order of arrival; its holder is the first in line.
        let _first = self.line.lock().await;
        loop {
            let freed = self.slots.freed.notified();
            tokio::pin!(freed);
            // Registered before the look, so that nothing freed in between is missed.
            freed.as_mut().enable();
            if let Some(lease) = self.try_lease(affinity, limit, connector) {
                return lease;
            }
            freed.await;
        }
    }

    fn try_lease(&self, affinity: &str, limit: u32, connector: &Connector) -> Option<Lease> {
        let (affinity, here) = (hash(affinity), Handle::current().id());
        let usable = |mut connection: Box<Connection>| {
            connection.is_usable(self.keep, connector).then(|| {
                connection.reused = true;
                Lease::Kept(connection)
            })
        };
        let oldest = |which: &dyn Fn(&Idle) -> bool| {
            std::iter::from_fn(|| self.take_oldest(which)).find_map(usable)
        };
        let open = |limit| self.slots.take(limit).map(Lease::New);
        let few = limit.min(self.most_idle.load(Ordering::Relaxed));
        std::iter::from_fn(|| self.take_own(affinity, here))
            .find_map(usable)
            .or_else(|| oldest(&|idle| idle.home == here && idle.is_free()))
            .or_else(|| open(few))
            .or_else(|| oldest(&|idle| idle.home == here))
            .or_else(|| open(limit))
            .or_else(|| oldest(&|_| true))
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
        self.slots.freed.notify_one();
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Counts one who waits for a connection.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
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
        self.0.freed.notify_one();
    }
}
