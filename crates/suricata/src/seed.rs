//! The way from an engine to its workers.

use std::fmt;
use std::sync::Arc;

use suricata_sys::Seat;

use crate::engine::Shared;
use crate::error::{Error, ErrorKind};
use crate::phase::Attached;
use crate::worker::Worker;

/// The right to be one of the engine's workers, to be taken up on the thread that will feed.
pub struct WorkerSeed {
    seat: Option<Seat>,
    index: u16,
    shared: Arc<Shared>,
}

impl WorkerSeed {
    pub(crate) fn new(seat: Seat, index: u16, shared: Arc<Shared>) -> Self {
        Self { seat: Some(seat), index, shared }
    }

    /// Makes the calling thread a worker. Waits until every seed of the engine was attached, each on a thread of its
    /// own, and then proves with a canary that the engine inspects.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if not all of them were within [`EngineConfig::patience`](crate::EngineConfig::patience);
    /// [`ErrorKind::Stopped`] if another seed was thrown away or the engine could not run;
    /// [`ErrorKind::InspectionFailed`] if the canary passed.
    pub fn attach(mut self) -> Result<Worker, Error> {
        let seat = self.seat.take().ok_or_else(Error::stopped)?;
        match self.shared.phase.attach(self.shared.workers(), self.shared.patience()) {
            Attached::All => {}
            Attached::Never => return Err(Error::stopped()),
            Attached::Alone => {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "not every seed was attached in time: each needs a thread of its own, and all at once",
                ));
            }
        }
        let raw = seat.attach().map_err(|failure| self.shared.ended().with_source(failure))?;
        let mut worker = Worker::new(raw, self.index, Arc::clone(&self.shared));
        worker.canary()?;
        Ok(worker)
    }
}

impl fmt::Debug for WorkerSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSeed").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Drop for WorkerSeed {
    fn drop(&mut self) {
        if self.seat.is_some() {
            self.shared.phase.abandon();
        }
    }
}
