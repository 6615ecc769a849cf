//! The threads that serve connections, each with an event loop of its own.
//!
//! A connection stays on the thread it was given to, with its origin's and its services'
//! connections: nothing of it wakes another thread. Against one scheduler over all threads that
//! raises the rate of small requests by a fifth (`bench/diary.md`).

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// All such threads.
#[derive(Debug)]
pub(crate) struct Workers {
    all: Vec<Worker>,
    /// Whether they shall end. Each has a receiver as long as it lives.
    end: watch::Sender<bool>,
}

#[derive(Debug)]
struct Worker {
    event_loop: Handle,
    /// Connections it has now.
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts a thread for each core that the process may use.
    ///
    /// # Errors
    /// The system has no room for threads or event loops.
    pub(crate) fn start() -> io::Result<Self> {
        Self::of(thread::available_parallelism()?.get())
    }

    fn of(count: usize) -> io::Result<Self> {
        let (end, _) = watch::channel(false);
        let start = |number| Worker::start(number, end.subscribe());
        Ok(Self { all: (0..count).map(start).collect::<io::Result<_>>()?, end })
    }

    /// Serves a connection on the thread that has the fewest.
    pub(crate) fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = self.all.iter().min_by_key(|w| w.connections.load(Relaxed)) else {
            return;
        };
        let place = Place::of(worker);
        worker.event_loop.spawn(async move {
            connection.await;
            drop(place);
        });
    }

    /// Cuts what still runs, and resolves when the threads have let go of all they held.
    pub(crate) async fn end(&self) {
        self.end.send_replace(true);
        self.end.closed().await;
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end.send_replace(true);
    }
}

impl Worker {
    fn start(number: usize, mut end: watch::Receiver<bool>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let event_loop = runtime.handle().clone();
        thread::Builder::new().name(format!("meergate-{number}")).spawn(move || {
            // Its sender does not go before it has told.
            let _ = runtime.block_on(end.wait_for(|end| *end));
            runtime.shutdown_background();
        })?;
        Ok(Self { event_loop, connections: Arc::default() })
    }
}

/// One connection's place on a thread.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn of(worker: &Worker) -> Self {
        worker.connections.fetch_add(1, Relaxed);
        Self(worker.connections.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::future::pending;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn connections_are_spread_and_stay_on_their_thread() {
        let workers = Workers::of(3).unwrap();
        let (tell, told) = sync_channel(16);
        for _ in 0..3 {
            let tell = tell.clone();
            workers.serve(async move {
                let before = thread::current().id();
                tokio::task::yield_now().await;
                assert_eq!(before, thread::current().id());
                tell.send(before).unwrap();
                pending::<()>().await;
            });
        }
        let threads: HashSet<_> = (0..3).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(threads.len(), 3);
    }

    #[tokio::test]
    async fn ending_them_cuts_what_runs() {
        let workers = Workers::of(2).unwrap();
        let held = Arc::new(());
        let its = held.clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        workers.serve(async move {
            let _its = its;
            tell.send(()).unwrap();
            pending::<()>().await;
        });
        told.await.unwrap();
        tokio::time::timeout(PATIENCE, workers.end()).await.expect("the threads end");
        assert_eq!(Arc::strong_count(&held), 1, "the task is still there");
    }
}
