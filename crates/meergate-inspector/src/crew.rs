//! All workers of the process.

use std::sync::{Arc, Barrier};
use std::thread;

use icap_server::Shutdown;
use suricata::WorkerSeed;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::sockets::Listening;
use crate::state::State;
use crate::worker::{self, Plan};

/// The workers, as the main thread knows them.
pub(crate) struct Crew {
    size: usize,
    ready: mpsc::Receiver<usize>,
    ended: mpsc::Receiver<Result<(), String>>,
}

impl Crew {
    /// Starts a thread for each seed.
    ///
    /// # Errors
    /// One line for the operator.
    pub(crate) fn start(
        state: &Arc<State>,
        seeds: Vec<WorkerSeed>,
        listening: &[Listening],
        shutdown: &Shutdown,
        reloading: &watch::Receiver<bool>,
    ) -> Result<Self, String> {
        let size = seeds.len();
        let (ready_to, ready) = mpsc::channel(size.max(1));
        let (ended_to, ended) = mpsc::channel(size.max(1));
        let (mailboxes, boxes): (Vec<_>, Vec<_>) = (0..size).map(|_| worker::mailbox()).unzip();
        let places = Arc::new(Semaphore::new(state.settings.limits.max_connections));
        let last = Arc::new(Barrier::new(size));
        for (index, (seed, mailbox)) in seeds.into_iter().zip(boxes).enumerate() {
            let sockets = listening.iter().map(Listening::try_clone).collect::<Result<_, _>>();
            let plan = Plan {
                index,
                seed,
                state: state.clone(),
                listening: sockets.map_err(|e| format!("cannot start a worker: {e}"))?,
                mailbox,
                mailboxes: mailboxes.clone(),
                places: places.clone(),
                reloading: reloading.clone(),
                shutdown: shutdown.clone(),
                last: last.clone(),
                ready: ready_to.clone(),
            };
            let end = End(Some(ended_to.clone()));
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || end.tell(plan.run()))
                .map_err(|e| format!("cannot start a worker: {e}"))?;
        }
        Ok(Self { size, ready, ended })
    }

    /// Waits until all serve.
    ///
    /// # Errors
    /// One of them cannot, for the reason given.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        for _ in 0..self.size {
            tokio::select! {
                _ = self.ready.recv() => {}
                reason = Self::first(&mut self.ended) => return Err(reason),
            }
        }
        Ok(())
    }

    /// Waits until one ends although nobody told it to, and says why.
    pub(crate) async fn ended(&mut self) -> String {
        Self::first(&mut self.ended).await
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// One of them did not end in order.
    pub(crate) async fn all_ended(&mut self) -> Result<(), String> {
        for _ in 0..self.size {
            self.ended.recv().await.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    async fn first(ended: &mut mpsc::Receiver<Result<(), String>>) -> String {
        match ended.recv().await {
            Some(Err(reason)) => reason,
            Some(Ok(())) | None => "a worker ended by itself".to_owned(),
        }
    }
}

/// Tells that a worker has ended, also if it panics.
struct End(Option<mpsc::Sender<Result<(), String>>>);

impl End {
    fn tell(mut self, result: Result<(), String>) {
        if let Some(sender) = self.0.take() {
            // There is a place for each worker, or nobody listens any more.
            let _ = sender.try_send(result);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.try_send(Err("a worker panicked".to_owned()));
        }
    }
}
