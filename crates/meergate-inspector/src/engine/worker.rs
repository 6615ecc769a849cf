//! One worker: a thread with a runtime, an engine worker, and its share of the connections.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{self, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::BytesMut;
use icap_server::{
    Config, DetachedStream, Echo, Outcome, Peer, Router, Routes, Shutdown, Stream, serve_connection,
};
use suricata::{ErrorKind, WorkerSeed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;

use crate::error::Reason;
use crate::inspection::service::Inspection;
use crate::inspection::state::State;
use crate::inspection::worker_flows::WorkerFlows;
use crate::sockets::{Acceptor, Listening};

/// Connections that may wait to be taken over by a worker.
const MAILBOX: usize = 1024;
/// How often idle flows are looked for, and signs of life given.
const TICK: Duration = Duration::from_secs(1);
/// Ticks without traffic after which free memory goes back to the system.
const REST: u32 = 5;
/// Idle flows that are closed before traffic has its turn again: less than a millisecond's worth.
const SWEEP: usize = 32;
/// How often a worker without traffic helps a reload on.
const RELOAD_TICK: Duration = Duration::from_millis(2);

/// A connection, with what was read of its next transaction.
pub(crate) struct Connection<S> {
    stream: S,
    leftover: BytesMut,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
    slot: ConnectionSlot,
}

/// A connection between two workers.
pub(crate) type Moved = Connection<DetachedStream>;

/// A connection counted as one of a worker, which does not stop before it is done.
struct ConnectionSlot {
    state: Arc<State>,
    worker: usize,
}

impl ConnectionSlot {
    fn take(state: &Arc<State>, worker: usize) -> Self {
        state.metrics.workers[worker].connections.add(1);
        Self { state: state.clone(), worker }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.state.metrics.workers[self.worker].connections.add(-1);
    }
}

/// Why a worker ended.
pub(crate) struct Failure {
    /// In words.
    pub(crate) reason: Reason,
    /// The engine had stopped, and another worker knows why.
    pub(crate) is_echo: bool,
}

impl Failure {
    fn of_engine(error: &suricata::Error) -> Self {
        let is_echo = error.kind() == ErrorKind::Stopped;
        Self { reason: Reason::new(format!("the engine does not inspect: {error}")), is_echo }
    }
}

/// What one worker's thread needs.
pub(crate) struct Plan {
    /// Its number.
    pub(crate) index: usize,
    /// Its place in the engine.
    pub(crate) seed: WorkerSeed,
    /// What all share.
    pub(crate) state: Arc<State>,
    /// Where connections come in.
    pub(crate) listening: Vec<Listening>,
    /// Connections that other workers hand over.
    pub(crate) mailbox: mpsc::Receiver<Moved>,
    /// Every worker's mailbox.
    pub(crate) mailboxes: Vec<mpsc::Sender<Moved>>,
    /// Places for connections.
    pub(crate) places: Arc<Semaphore>,
    /// Counts new connections: the workers get them in turn.
    pub(crate) turns: Arc<AtomicUsize>,
    /// True while a reload waits for the workers.
    pub(crate) reloading: watch::Receiver<bool>,
    /// Told after each reload whether the engine inspects.
    pub(crate) proofs: mpsc::Sender<Result<(), Reason>>,
    /// The order to stop.
    pub(crate) shutdown: Shutdown,
    /// Where workers meet when all have stopped: the engine ends with the first that leaves.
    pub(crate) last: Arc<Barrier>,
    /// Told once the worker serves.
    pub(crate) ready: mpsc::Sender<usize>,
    /// Held by whoever takes new connections.
    pub(crate) open: mpsc::Sender<()>,
}

/// A mailbox.
pub(crate) fn mailbox() -> (mpsc::Sender<Moved>, mpsc::Receiver<Moved>) {
    mpsc::channel(MAILBOX)
}

impl Plan {
    /// Serves until told to stop. Runs on a thread of its own.
    ///
    /// # Errors
    /// It cannot, or the engine has stopped.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let other = |what: &str, e: io::Error| Failure {
            reason: Reason::new(format!("a worker cannot {what}: {e}")),
            is_echo: false,
        };
        let engine = self.seed.attach().map_err(|e| Failure::of_engine(&e))?;
        let flows = WorkerFlows::new(self.state.clone(), self.index, engine);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| other("start", e))?;
        let local = LocalSet::new();
        let connections = Rc::new(WorkerConnections {
            router: Router::new()
                .route("/suricata", Inspection::new(flows.clone()))
                .route("/echo", Echo::default()),
            config: config(&self.state),
            shutdown: self.shutdown.clone(),
            mailboxes: self.mailboxes,
            turns: self.turns,
            state: self.state,
            index: self.index,
        });
        let served = local.block_on(&runtime, async {
            for listening in self.listening {
                let acceptor = listening.attach().map_err(|e| other("listen", e))?;
                let (connections, places, open) =
                    (connections.clone(), self.places.clone(), self.open.clone());
                tokio::task::spawn_local(async move {
                    connections.accept(acceptor, places).await;
                    drop(open);
                });
            }
            drop(self.open);
            tokio::task::spawn_local(connections.clone().take_over(self.mailbox));
            // Nobody listens any more if the program is already on its way out.
            let _ = self.ready.send(self.index).await;
            tokio::select! {
                () = self.shutdown.requested() => connections.drained().await,
                error = tend(flows.clone(), self.reloading, self.proofs) => {
                    return Err(Failure::of_engine(&error));
                }
            }
            Ok(())
        });
        drop((connections, local));
        let engine = flows.retire();
        if served.is_ok() {
            self.last.wait();
        }
        drop(engine);
        served
    }
}

fn config(state: &State) -> Config {
    let limits = &state.settings.limits;
    let max_head = limits.max_head.in_memory();
    let mut config = Config {
        stall_timeout: limits.io_timeout.0,
        silence_timeout: limits.silence(),
        ..Config::default()
    };
    config.limits.max_head = max_head;
    config.limits.max_encapsulated = max_head.saturating_mul(2);
    config
}

/// Gives free memory back to the system once nothing was inspected and no flow has ended for some ticks.
#[derive(Default)]
struct Rest {
    activity: u64,
    ticks: u32,
}

impl Rest {
    /// Whether it is time to.
    fn is_due(&mut self, activity: u64) -> bool {
        match std::mem::replace(&mut self.activity, activity) == activity {
            // Once: until then there is nothing more.
            true => self.ticks = self.ticks.saturating_add(1),
            false => self.ticks = 0,
        }
        activity > 0 && self.ticks == REST
    }
}

/// Keeps flows from idling for ever, gives signs of life, and helps reloads on. Ends with the
/// engine.
async fn tend(
    flows: Rc<WorkerFlows>,
    mut reloading: watch::Receiver<bool>,
    proofs: mpsc::Sender<Result<(), Reason>>,
) -> suricata::Error {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rest = Rest::default();
    loop {
        let under_way = *reloading.borrow();
        tokio::select! {
            _ = tick.tick() => {
                if let Err(error) = flows.idle() {
                    return error;
                }
                // Thousands may have become idle at once, and traffic does not wait for them.
                while flows.sweep(SWEEP) {
                    tokio::task::yield_now().await;
                }
                flows.counters().beats.one();
                if flows.is_first() && rest.is_due(flows.state.metrics.activity()) {
                    suricata::give_memory_back();
                }
            }
            Ok(()) = reloading.changed() => {
                if !*reloading.borrow_and_update() {
                    // Whoever asked for the reload may be gone.
                    let _ = proofs.try_send(flows.prove().map_err(|e| Reason::new(e.to_string())));
                }
            }
            () = tokio::time::sleep(RELOAD_TICK), if under_way => {
                if let Err(error) = flows.idle() {
                    return error;
                }
            }
        }
    }
}

/// What the connections of a worker share.
struct WorkerConnections<R> {
    router: Router<R>,
    config: Config,
    shutdown: Shutdown,
    mailboxes: Vec<mpsc::Sender<Moved>>,
    turns: Arc<AtomicUsize>,
    state: Arc<State>,
    index: usize,
}

impl<R: Routes + 'static> WorkerConnections<R> {
    async fn accept(self: Rc<Self>, acceptor: Acceptor, places: Arc<Semaphore>) {
        loop {
            // Without a place, connections wait in the kernel's queue.
            let place = tokio::select! {
                place = places.clone().acquire_owned() => place,
                () = self.shutdown.requested() => return,
            };
            let Ok(permit) = place else { return };
            let accepted = tokio::select! {
                accepted = acceptor.accept() => accepted,
                () = self.shutdown.requested() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.assign(stream, peer, permit).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection: trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Gives a new connection to the worker whose turn it is. Left to itself, the one that wakes
    /// first would take a whole burst. (Whoever has the fewest would be no better: connections
    /// that idle in clients' pools count for nothing.)
    async fn assign(self: &Rc<Self>, stream: Stream, peer: Peer, permit: OwnedSemaphorePermit) {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let mut slot = ConnectionSlot::take(&self.state, turn % self.mailboxes.len());
        // Either the other worker sees the slot before it ends, or we see that it is about to.
        atomic::fence(Ordering::SeqCst);
        if self.shutdown.is_requested() {
            slot = ConnectionSlot::take(&self.state, self.index);
        }
        let leftover = BytesMut::new();
        let connection = Connection { stream, leftover, peer, _permit: permit, slot };
        if connection.slot.worker == self.index {
            tokio::task::spawn_local(self.clone().serve(connection));
        } else {
            self.hand_over(connection).await;
        }
    }

    async fn hand_over(&self, connection: Connection<Stream>) {
        let Connection { stream, leftover, peer, _permit, slot } = connection;
        let mailbox = &self.mailboxes[slot.worker];
        match stream.detach() {
            Ok(stream) => {
                // A closed mailbox means that the program is stopping.
                let _ = mailbox.send(Moved { stream, leftover, peer, _permit, slot }).await;
            }
            Err(error) => tracing::warn!(%error, %peer, "a connection is lost between workers"),
        }
    }

    async fn take_over(self: Rc<Self>, mut mailbox: mpsc::Receiver<Moved>) {
        while let Some(Moved { stream, leftover, peer, _permit, slot }) = mailbox.recv().await {
            match stream.attach() {
                Ok(stream) => {
                    let connection = Connection { stream, leftover, peer, _permit, slot };
                    tokio::task::spawn_local(self.clone().serve(connection));
                }
                Err(error) => tracing::warn!(%error, %peer, "a connection is lost between workers"),
            }
        }
    }

    async fn serve(self: Rc<Self>, connection: Connection<Stream>) {
        let Connection { stream, leftover, peer, _permit, slot } = connection;
        let outcome =
            serve_connection(stream, leftover, peer, &self.router, &self.config, &self.shutdown)
                .await;
        let Outcome::Migrate { io: stream, leftover, worker } = outcome else { return };
        self.state.metrics.workers[self.index].migrated.one();
        if worker < self.mailboxes.len() {
            drop(slot);
            let slot = ConnectionSlot::take(&self.state, worker);
            self.hand_over(Connection { stream, leftover, peer, _permit, slot }).await;
        }
    }

    /// Waits until this worker's connections are done, within reason.
    async fn drained(&self) {
        atomic::fence(Ordering::SeqCst);
        let counters = &self.state.metrics.workers[self.index];
        let empty = async {
            while counters.connections.value() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(self.state.grace(), empty).await.is_err() {
            tracing::warn!("transactions were cut off by the stop of the program");
        }
    }
}
