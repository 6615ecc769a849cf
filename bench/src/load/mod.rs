//! Closed-loop load: so many connections, each with one transaction at a time, for a while.
//!
//! The generators share two cores with what they measure, so they spend little themselves: one
//! event loop a thread, prepared requests, bodies that are slices of one [pattern](crate::pattern),
//! and replies that are compared where they were read.

pub mod h2;
pub mod http1;
pub mod icap;
pub mod icap_reply;
pub mod link;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::{JoinSet, LocalSet};

use crate::{interrupt, proc};

/// A transaction that takes longer than this is an error.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between a failed transaction and the next, so that a dead server isn't hammered.
const AFTER_ERROR: Duration = Duration::from_millis(5);

/// How long to press, and with how many.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Connections, each with one transaction at a time.
    pub connections: usize,
    /// Not counted, before the window; longer until each connection has done one transaction.
    pub warmup: Duration,
    /// How much is counted.
    pub amount: Amount,
}

/// How much is counted.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// So many transactions in all. For bodies so large that a window would cut many.
    Transactions(i64),
    /// All that ends within this time.
    Window(Duration),
}

/// The processes whose cost is counted.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The programs under test.
    pub subject: Vec<u32>,
    /// What they call on (the ICAP service of a proxy); counted apart.
    pub services: Vec<u32>,
}

/// What one measurement gave.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Sample {
    /// Length of the window, seconds.
    pub seconds: f64,
    /// Transactions that ended well in it.
    pub requests: u64,
    /// A second.
    pub rate: f64,
    /// Body bytes a second, in MB (10⁶).
    pub megabytes: f64,
    /// Latency in milliseconds, median.
    pub p50_ms: f64,
    /// Latency in milliseconds, 99th percentile.
    pub p99_ms: f64,
    /// CPU microseconds a transaction of the programs under test, user and system.
    pub cpu_us: f64,
    /// The same of the services they called on.
    pub services_cpu_us: f64,
    /// The same of the generator.
    pub generator_cpu_us: f64,
    /// Peak resident memory of the programs under test in the window, MiB.
    pub peak_mib: f64,
    /// Transactions that failed, warm-up included.
    pub errors: u64,
    /// Transactions whose body was not byte for byte the expected one, warm-up included.
    pub wrong: u64,
    /// What failed, how often.
    pub kinds: BTreeMap<String, u64>,
}

/// What one connection has seen.
#[derive(Debug, Default)]
pub struct Tally {
    warm: bool,
    micros: Vec<u32>,
    bytes: u64,
    wrong: u64,
    errors: BTreeMap<String, u64>,
}

/// What came of one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Body bytes that count as throughput.
    pub bytes: u64,
    /// Whether the reply was the expected one, byte for byte.
    pub right: bool,
}

/// Tells each connection whether to go on, and whether it counts.
#[derive(Debug)]
pub struct Gate {
    phase: AtomicU8,
    left: AtomicI64,
    /// How many have done a transaction.
    warm: AtomicUsize,
}

const WARM: u8 = 0;
const COUNT: u8 = 1;
const STOP: u8 = 2;

impl Gate {
    fn new(effort: &Effort) -> Self {
        let left = match effort.amount {
            Amount::Transactions(n) => n,
            Amount::Window(_) => i64::MAX,
        };
        Self { phase: AtomicU8::new(WARM), left: AtomicI64::new(left), warm: AtomicUsize::new(0) }
    }

    /// Whether another transaction may start.
    pub fn open(&self) -> bool {
        match self.phase.load(Ordering::Relaxed) {
            STOP => false,
            COUNT => self.left.fetch_sub(1, Ordering::Relaxed) > 0,
            _ => true,
        }
    }

    fn counts(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == COUNT
    }

    fn used_up(&self) -> bool {
        self.left.load(Ordering::Relaxed) <= 0
    }
}

impl Tally {
    /// Runs one transaction and notes what came of it; false when it failed and the connection
    /// can't be used again.
    pub async fn one(
        &mut self,
        gate: &Gate,
        transaction: impl Future<Output = Result<Done, String>>,
    ) -> bool {
        let start = Instant::now();
        let outcome = tokio::time::timeout(PATIENCE, transaction).await;
        let micros = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
        match outcome.unwrap_or_else(|_| Err(format!("no end within {PATIENCE:?}"))) {
            Ok(done) => {
                if !done.right {
                    self.wrong += 1;
                }
                if !std::mem::replace(&mut self.warm, true) {
                    gate.warm.fetch_add(1, Ordering::Relaxed);
                }
                if gate.counts() {
                    self.micros.push(micros);
                    self.bytes += done.bytes;
                }
                true
            }
            Err(error) => {
                *self.errors.entry(error).or_default() += 1;
                tokio::time::sleep(AFTER_ERROR).await;
                false
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.bytes += other.bytes;
        self.wrong += other.wrong;
        for (kind, n) in other.errors {
            *self.errors.entry(kind).or_default() += n;
        }
    }
}

/// Runs `connection` once for each connection of `effort`, spread over two threads, and counts.
///
/// A connection loops while the gate is [open](Gate::open) and gives back its tally.
pub fn press<F, C>(effort: &Effort, watched: &Watched, connection: F) -> Sample
where
    F: Fn(usize, Arc<Gate>) -> C + Clone + Send + 'static,
    C: Future<Output = Tally> + 'static,
{
    let gate = Arc::new(Gate::new(effort));
    let threads = effort.connections.min(2);
    let workers: Vec<_> = (0..threads)
        .map(|first| {
            let (gate, connection) = (gate.clone(), connection.clone());
            let mine = (first..effort.connections).step_by(threads);
            thread::spawn(move || generate(mine, &gate, connection))
        })
        .collect();

    thread::sleep(effort.warmup);
    let patience = Instant::now() + PATIENCE;
    let is_warm = || gate.warm.load(Ordering::Relaxed) >= effort.connections;
    while !is_warm() && Instant::now() < patience && !interrupt::came() {
        thread::sleep(Duration::from_millis(2));
    }
    proc::reset_peak(&watched.subject);
    let before = Costs::now(watched);
    let start = Instant::now();
    gate.phase.store(COUNT, Ordering::Relaxed);
    let mut tally = Tally::default();
    let (seconds, after) = match effort.amount {
        Amount::Window(window) => {
            thread::sleep(window);
            gate.phase.store(STOP, Ordering::Relaxed);
            let end = (start.elapsed().as_secs_f64(), Costs::now(watched));
            join(workers, &mut tally);
            end
        }
        Amount::Transactions(_) => {
            while !gate.used_up() && !workers.iter().all(thread::JoinHandle::is_finished) {
                thread::sleep(Duration::from_millis(2));
            }
            join(workers, &mut tally);
            (start.elapsed().as_secs_f64(), Costs::now(watched))
        }
    };
    let peak_mib = proc::peak_kib(&watched.subject) as f64 / 1024.0;
    tally.micros.sort_unstable();
    let requests = tally.micros.len();
    let each = |cost: f64| if requests == 0 { 0.0 } else { cost * 1e6 / requests as f64 };
    Sample {
        seconds,
        requests: requests as u64,
        rate: requests as f64 / seconds,
        megabytes: tally.bytes as f64 / seconds / 1e6,
        p50_ms: percentile_ms(&tally.micros, 50),
        p99_ms: percentile_ms(&tally.micros, 99),
        cpu_us: each(after.subject - before.subject),
        services_cpu_us: each(after.services - before.services),
        generator_cpu_us: each(after.generator - before.generator),
        peak_mib,
        errors: tally.errors.values().sum(),
        wrong: tally.wrong,
        kinds: tally.errors,
    }
}

fn join(workers: Vec<thread::JoinHandle<Tally>>, into: &mut Tally) {
    for worker in workers {
        into.add(worker.join().expect("a generator thread"));
    }
}

fn generate<F, C>(mine: impl Iterator<Item = usize>, gate: &Arc<Gate>, connection: F) -> Tally
where
    F: Fn(usize, Arc<Gate>) -> C,
    C: Future<Output = Tally> + 'static,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    LocalSet::new().block_on(&runtime, async {
        let mut all = JoinSet::new();
        for number in mine {
            all.spawn_local(connection(number, gate.clone()));
        }
        let mut tally = Tally::default();
        while let Some(one) = all.join_next().await {
            tally.add(one.expect("a connection of the generator"));
        }
        tally
    })
}

struct Costs {
    subject: f64,
    services: f64,
    generator: f64,
}

impl Costs {
    fn now(watched: &Watched) -> Self {
        Self {
            subject: proc::cpu_seconds(&watched.subject),
            services: proc::cpu_seconds(&watched.services),
            // This process alone: its children are the programs under test.
            generator: proc::own_cpu_seconds(),
        }
    }
}

fn percentile_ms(sorted: &[u32], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).map_or(0.0, |us| f64::from(*us) / 1000.0)
}
