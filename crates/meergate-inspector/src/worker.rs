//! One worker: a thread with a runtime, an engine worker, and its share of the connections.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::BytesMut;
use icap_server::{
    Config, DetachedStream, Echo, Outcome, Peer, Router, Routes, Shutdown, Stream, serve_connection,
};
use suricata::WorkerSeed;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;

use crate::desk::Desk;
use crate::service::Inspection;
use crate::sockets::{Acceptor, Listening};
use crate::state::State;

/// Connections that may wait to be taken over by a worker.
const MAILBOX: usize = 1024;
/// How often idle flows are looked for, and signs of life given.
const TICK: Duration = Duration::from_secs(1);
/// How often a worker without traffic helps a reload on.
const RELOAD_TICK: Duration = Duration::from_millis(2);

/// A connection between two workers.
pub(crate) struct Moved {
    stream: DetachedStream,
    leftover: BytesMut,
    peer: Peer,
    permit: OwnedSemaphorePermit,
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
    /// True while a reload waits for the workers.
    pub(crate) reloading: watch::Receiver<bool>,
    /// The order to stop.
    pub(crate) shutdown: Shutdown,
    /// Where workers meet when all have stopped: the engine ends with the first that leaves.
    pub(crate) last: Arc<Barrier>,
    /// Told once the worker serves.
    pub(crate) ready: mpsc::Sender<usize>,
}

/// A mailbox.
pub(crate) fn mailbox() -> (mpsc::Sender<Moved>, mpsc::Receiver<Moved>) {
    mpsc::channel(MAILBOX)
}

impl Plan {
    /// Serves until told to stop. Runs on a thread of its own.
    ///
    /// # Errors
    /// One line for the operator.
    pub(crate) fn run(self) -> Result<(), String> {
        let engine = self.seed.attach().map_err(|e| format!("the engine does not inspect: {e}"))?;
        let desk = Desk::new(self.state.clone(), self.index, engine);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start a worker: {e}"))?;
        let local = LocalSet::new();
        let floor = Rc::new(Floor {
            router: Router::new()
                .route("/suricata", Inspection::new(desk.clone()))
                .route("/echo", Echo::default()),
            config: config(&self.state),
            shutdown: self.shutdown.clone(),
            mailboxes: self.mailboxes,
            state: self.state,
            index: self.index,
        });
        let served = local.block_on(&runtime, async {
            for listening in self.listening {
                let acceptor = listening.attach()?;
                tokio::task::spawn_local(floor.clone().accept(acceptor, self.places.clone()));
            }
            tokio::task::spawn_local(floor.clone().take_over(self.mailbox));
            tokio::task::spawn_local(tend(desk.clone(), self.reloading));
            // Nobody listens any more if the program is already on its way out.
            let _ = self.ready.send(self.index).await;
            self.shutdown.requested().await;
            floor.drained().await;
            io::Result::Ok(())
        });
        drop((floor, local));
        let engine = desk.retire();
        self.last.wait();
        drop(engine);
        served.map_err(|e| format!("a worker cannot use a listening socket: {e}"))
    }
}

fn config(state: &State) -> Config {
    let limits = &state.settings.limits;
    let mut config = Config { stall_timeout: limits.io(), ..Config::default() };
    config.limits.max_head = limits.max_head;
    config.limits.max_encapsulated = 2 * limits.max_head;
    config
}

/// Keeps flows from idling for ever, gives signs of life, and helps reloads on.
async fn tend(desk: Rc<Desk>, mut reloading: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                desk.sweep();
                desk.idle();
                desk.counters().beats.one();
            }
            changed = reloading.changed() => {
                if changed.is_err() {
                    return;
                }
                while *reloading.borrow() {
                    desk.idle();
                    tokio::time::sleep(RELOAD_TICK).await;
                }
            }
        }
    }
}

/// What the connections of a worker share.
struct Floor<R> {
    router: Router<R>,
    config: Config,
    shutdown: Shutdown,
    mailboxes: Vec<mpsc::Sender<Moved>>,
    state: Arc<State>,
    index: usize,
}

impl<R: Routes + 'static> Floor<R> {
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
                Ok((stream, peer)) => {
                    tokio::task::spawn_local(self.clone().serve(
                        stream,
                        BytesMut::new(),
                        peer,
                        permit,
                    ));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection: trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn take_over(self: Rc<Self>, mut mailbox: mpsc::Receiver<Moved>) {
        while let Some(Moved { stream, leftover, peer, permit }) = mailbox.recv().await {
            match stream.attach() {
                Ok(stream) => {
                    tokio::task::spawn_local(self.clone().serve(stream, leftover, peer, permit));
                }
                Err(error) => tracing::warn!(%error, %peer, "a connection is lost between workers"),
            }
        }
    }

    async fn serve(
        self: Rc<Self>,
        stream: Stream,
        leftover: BytesMut,
        peer: Peer,
        permit: OwnedSemaphorePermit,
    ) {
        let counters = &self.state.metrics.workers[self.index];
        counters.connections.add(1);
        let outcome =
            serve_connection(stream, leftover, peer, &self.router, &self.config, &self.shutdown)
                .await;
        counters.connections.add(-1);
        let Outcome::Migrate { io, leftover, worker } = outcome else { return };
        counters.migrated.one();
        let Some(mailbox) = self.mailboxes.get(worker) else { return };
        match io.detach() {
            // A closed mailbox means that the program is stopping.
            Ok(stream) => {
                let _ = mailbox.send(Moved { stream, leftover, peer, permit }).await;
            }
            Err(error) => tracing::warn!(%error, %peer, "a connection is lost between workers"),
        }
    }

    /// Waits until this worker's connections are done, within reason.
    async fn drained(&self) {
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
