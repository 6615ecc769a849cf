//! Passwords that are tried: how many are looked at, of all clients and of one.
//!
//! Argon2 takes memory and a core for a while, by design, and anybody may ask for it. What is asked
//! for is therefore counted by the work itself, not by who waits for it: the work goes on when they
//! are gone.

use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use argon2::Block;
use prometheus_client::metrics::counter::Counter;
use shares::{Client, Ledger, Limit, Rate, Rates};

use crate::config;
use crate::metrics::{LimitLabels, Metrics, PasswordLabels};
use crate::words::{Limited, Password};

/// Passwords of one client that are looked at, or are about to be, at the same time: others of its wait.
const EACH: u64 = 2;
/// The same of all clients.
const ALL: u64 = 64;
/// Clients whose wrong passwords are remembered.
const CLIENTS: usize = 16_384;

/// What is under way, and what was wrong lately. One for the whole process.
#[derive(Debug)]
pub struct Attempts {
    /// Being hashed, or next in turn.
    places: Arc<Ledger>,
    /// Being hashed.
    hashing: Arc<Ledger>,
    wrong: Rates,
    /// What was hashed in, to be used again: malloc would keep as much for each thread that has hashed.
    memory: Mutex<Vec<Memory>>,
    metrics: Counters,
}

/// Memory that Argon2 works in.
pub(super) type Memory = Vec<Block>;

#[derive(Debug)]
struct Counters {
    right: Counter,
    wrong: Counter,
    refused: Counter,
}

/// Too many were wrong: nothing more of this client's is looked at for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Barred(pub(super) Duration);

impl Attempts {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let came = |outcome| metrics.passwords.get_or_create(&PasswordLabels { outcome }).clone();
        let refused =
            metrics.limited.get_or_create(&LimitLabels { limit: Limited::WrongPasswords });
        let metrics = Counters {
            right: came(Password::Right),
            wrong: came(Password::Wrong),
            refused: refused.clone(),
        };
        let wrong = Rates::new(CLIENTS);
        let memory = Mutex::default();
        Self { places: Ledger::new(), hashing: Ledger::new(), wrong, memory, metrics }
    }

    /// Whether a password of the client's may be looked at now.
    pub(super) fn admit(&self, client: Client, limits: &config::Users) -> Result<(), Barred> {
        match self.wrong.wait(client, rate(limits), Instant::now()) {
            Duration::ZERO => Ok(()),
            wait => {
                self.metrics.refused.inc();
                Err(Barred(wait))
            }
        }
    }

    /// Runs `verify` once it is the client's turn, in a thread for such work, and notes whether the
    /// password was right.
    pub(super) async fn run(
        self: &Arc<Self>,
        client: Client,
        limits: &config::Users,
        verify: impl FnOnce(&mut Memory) -> bool + Send + 'static,
    ) -> Result<bool, Barred> {
        let place = loop {
            let freed = self.places.freed();
            // Those before it may have been wrong, so that nobody waits any longer.
            self.admit(client, limits)?;
            let limit = Limit { all: ALL, each: Some(EACH) };
            match self.places.take(Some(client), 1, limit) {
                Ok(place) => break place,
                Err(_) => freed.await,
            }
        };
        let hashing = self.hashing.wait(None, 1, Limit::of(at_once(limits))).await;
        let (attempts, rate) = (self.clone(), rate(limits));
        let work = tokio::task::spawn_blocking(move || {
            let mut memory = attempts.memory().pop().unwrap_or_default();
            let right = verify(&mut memory);
            attempts.memory().push(memory);
            if right {
                attempts.metrics.right.inc();
            } else {
                attempts.metrics.wrong.inc();
                attempts.wrong.spend(client, 1.0, rate, Instant::now());
            }
            drop((hashing, place));
            right
        });
        Ok(work.await.unwrap_or(false))
    }

    fn memory(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rate(limits: &config::Users) -> Rate {
    Rate { burst: f64::from(limits.wrong_passwords.max(1)), per_second: 1.0 }
}

/// Half of the cores: the others are for those who have logged in.
fn at_once(limits: &config::Users) -> u64 {
    match limits.hashes {
        0 => (available_parallelism().map_or(1, NonZero::get) / 2).max(1) as u64,
        set => set.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn client(last: u8) -> Client {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_still_counts() {
        let attempts = Arc::new(Attempts::new(&Metrics::new()));
        let limits = config::Users { hashes: 2, ..config::Users::default() };
        let (go_on, going) = mpsc::sync_channel::<()>(0);
        let going = Arc::new(Mutex::new(going));
        let running = Arc::new(AtomicU64::new(0));
        let mut begun = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (attempts, limits) = (attempts.clone(), limits.clone());
            let (going, running) = (going.clone(), running.clone());
            begun.spawn(async move {
                let verify = move |_: &mut Memory| {
                    running.fetch_add(1, Ordering::SeqCst);
                    let _ = going.lock().map(|going| going.recv());
                    false
                };
                attempts.run(client(1), &limits, verify).await
            });
        }
        while running.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        // All who wait go, as when their time is over.
        begun.shutdown().await;
        assert_eq!((attempts.hashing.taken(), attempts.places.taken()), (2, 2));
        drop(go_on);
        while attempts.hashing.taken() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(running.load(Ordering::SeqCst), 2);
        // And is counted to the client.
        assert_eq!(attempts.metrics.wrong.get(), 2);
    }

    #[tokio::test]
    async fn another_clients_password_does_not_wait_behind_hundreds() {
        let attempts = Arc::new(Attempts::new(&Metrics::new()));
        let limits = config::Users { hashes: 1, wrong_passwords: 1000, ..config::Users::default() };
        let hashed = Arc::new(AtomicU64::new(0));
        let try_one = |last, attempts: Arc<Attempts>, limits: config::Users| {
            let hashed = hashed.clone();
            async move {
                let verify = move |_: &mut Memory| {
                    hashed.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(1));
                    last != 1
                };
                attempts.run(client(last), &limits, verify).await
            }
        };
        let mut flood = tokio::task::JoinSet::new();
        for _ in 0..300 {
            flood.spawn(try_one(1, attempts.clone(), limits.clone()));
        }
        tokio::task::yield_now().await;
        assert_eq!(try_one(2, attempts.clone(), limits.clone()).await, Ok(true));
        let before = hashed.load(Ordering::SeqCst);
        assert!(before < 100, "{before} were hashed first");
    }
}
