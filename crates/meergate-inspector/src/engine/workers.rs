//! All workers of the process.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use icap_server::Shutdown;
use suricata::WorkerSeed;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::engine::worker::{self, Failure, Plan};
use crate::error::{Error, Reason};
use crate::inspection::state::State;
use crate::sockets::Listening;

/// How long the worker that knows why the engine stopped may take to say so after the others.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long workers may take to prove new rules.
const PROOF: Duration = Duration::from_secs(10);

/// The workers, as the main thread knows them.
pub(crate) struct Workers {
    size: usize,
    ready: mpsc::Receiver<usize>,
    ended: mpsc::Receiver<Result<(), Failure>>,
    proofs: mpsc::Receiver<Result<(), Reason>>,
    doors: mpsc::Receiver<()>,
}

impl Workers {
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
    ) -> Result<Self, Error> {
        let size = seeds.len();
        let (ready_to, ready) = mpsc::channel(size.max(1));
        let (ended_to, ended) = mpsc::channel(size.max(1));
        let (proofs_to, proofs) = mpsc::channel(size.max(1));
        let (open, doors) = mpsc::channel(1);
        let (mailboxes, boxes): (Vec<_>, Vec<_>) = (0..size).map(|_| worker::mailbox()).unzip();
        let places = Arc::new(Semaphore::new(state.settings.limits.max_connections));
        let turns = Arc::new(AtomicUsize::new(0));
        let last = Arc::new(Barrier::new(size));
        for (index, (seed, mailbox)) in seeds.into_iter().zip(boxes).enumerate() {
            let sockets = listening.iter().map(Listening::try_clone).collect::<Result<_, _>>();
            let plan = Plan {
                index,
                seed,
                state: state.clone(),
                listening: sockets.map_err(|e| Error::System("start a worker", e))?,
                mailbox,
                mailboxes: mailboxes.clone(),
                places: places.clone(),
                turns: turns.clone(),
                reloading: reloading.clone(),
                proofs: proofs_to.clone(),
                shutdown: shutdown.clone(),
                last: last.clone(),
                ready: ready_to.clone(),
                open: open.clone(),
            };
            let end = End(Some(ended_to.clone()));
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || end.tell(plan.run()))
                .map_err(|e| Error::System("start a worker", e))?;
        }
        Ok(Self { size, ready, ended, proofs, doors })
    }

    /// Waits until all serve.
    ///
    /// # Errors
    /// One of them cannot, for the reason given.
    pub(crate) async fn ready(&mut self) -> Result<(), Reason> {
        for _ in 0..self.size {
            let ended = tokio::select! {
                // None, when all workers have ended, is no word of one that serves.
                Some(_) = self.ready.recv() => continue,
                ended = self.ended.recv() => ended,
            };
            return Err(self.reason(ended).await);
        }
        Ok(())
    }

    /// Waits until one ends although nobody told it to, and says why. Cancel safe until one has.
    pub(crate) async fn ended(&mut self) -> Reason {
        let ended = self.ended.recv().await;
        self.reason(ended).await
    }

    /// Waits until all have proved that the engine inspects. To be called after each reload.
    ///
    /// # Errors
    /// On one of them the engine does not inspect, or it does not say in time.
    pub(crate) async fn proved(&mut self) -> Result<(), Reason> {
        let all = async {
            let mut proved = Ok(());
            for _ in 0..self.size {
                let proof = self.proofs.recv().await;
                proved = proved.and(proof.unwrap_or_else(|| Err(Reason::new("the workers ended"))));
            }
            proved
        };
        let late = || Err(Reason::new("a worker does not come to prove the rules"));
        tokio::time::timeout(PROOF, all).await.unwrap_or_else(|_| late())
    }

    /// Waits until none takes new connections any more. To be called after the order to stop.
    pub(crate) async fn closed(&mut self) {
        // Nobody sends: it ends when nobody could.
        let _ = self.doors.recv().await;
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// One of them did not end in order.
    pub(crate) async fn all_ended(&mut self) -> Result<(), Reason> {
        for _ in 0..self.size {
            self.ended.recv().await.unwrap_or(Ok(())).map_err(|failure| failure.reason)?;
        }
        Ok(())
    }

    /// The engine stops with the first worker that leaves it, and the others may tell of that
    /// before the first one tells why it left.
    async fn reason(&mut self, first: Option<Result<(), Failure>>) -> Reason {
        let Some(Err(Failure { mut reason, mut is_echo })) = first else {
            return Reason::new("a worker ended by itself");
        };
        while is_echo
            && let Ok(Some(next)) = tokio::time::timeout(PATIENCE, self.ended.recv()).await
        {
            if let Err(next) = next {
                Failure { reason, is_echo } = next;
            }
        }
        reason
    }
}

/// Tells that a worker has ended, also if it panics.
struct End(Option<mpsc::Sender<Result<(), Failure>>>);

impl End {
    fn tell(mut self, result: Result<(), Failure>) {
        if let Some(sender) = self.0.take() {
            // There is a place for each worker, or nobody listens any more.
            let _ = sender.try_send(result);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let reason = Reason::new("a worker panicked");
            let _ = sender.try_send(Err(Failure { reason, is_echo: false }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two workers that both ended before anybody listened.
    fn gone() -> Workers {
        let (ended_to, ended) = mpsc::channel(2);
        for is_echo in [true, false] {
            let reason = Reason::new(format!("echo: {is_echo}"));
            ended_to.try_send(Err(Failure { reason, is_echo })).unwrap();
        }
        Workers {
            size: 2,
            ready: mpsc::channel(2).1,
            ended,
            proofs: mpsc::channel(2).1,
            doors: mpsc::channel(1).1,
        }
    }

    /// Which of two channels is looked at first is chance.
    #[tokio::test]
    async fn workers_that_have_ended_neither_serve_nor_prove() {
        for _ in 0..100 {
            assert_eq!(gone().ready().await, Err(Reason::new("echo: false")));
            assert_eq!(gone().proved().await, Err(Reason::new("the workers ended")));
        }
    }
}
