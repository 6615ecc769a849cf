//! Where the engine stands, for those who wait for it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::monitor::lock;

/// Where the engine stands, for those who wait for it.
pub(crate) struct Phase {
    standing: Mutex<Standing>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Initialised; so many seeds were attached.
    Waiting { attached: u16 },
    /// All workers are there.
    Running,
    /// It came to nothing, or it is over.
    Ended,
}

impl Phase {
    pub(crate) fn new() -> Self {
        Self { standing: Mutex::new(Standing::Waiting { attached: 0 }), changed: Condvar::new() }
    }

    pub(crate) fn is_running(&self) -> bool {
        *lock(&self.standing) == Standing::Running
    }

    /// One more worker is about to attach. Returns once all are; `false` if they never will be.
    pub(crate) fn attach(&self, workers: u16) -> bool {
        let mut standing = lock(&self.standing);
        if let Standing::Waiting { attached } = &mut *standing {
            *attached += 1;
            self.changed.notify_all();
        }
        while matches!(*standing, Standing::Waiting { attached } if attached < workers) {
            standing = self.changed.wait(standing).unwrap_or_else(PoisonError::into_inner);
        }
        *standing != Standing::Ended
    }

    /// A seed was thrown away, so the engine can never run.
    pub(crate) fn abandon(&self) {
        self.set(Standing::Ended);
    }

    pub(crate) fn stop_if_waiting(&self) {
        let mut standing = lock(&self.standing);
        if matches!(*standing, Standing::Waiting { .. }) {
            *standing = Standing::Ended;
            self.changed.notify_all();
        }
    }

    pub(crate) fn set(&self, to: Standing) {
        *lock(&self.standing) = to;
        self.changed.notify_all();
    }

    pub(crate) fn wait_for_workers(&self, workers: u16) -> bool {
        let mut standing = lock(&self.standing);
        loop {
            match *standing {
                Standing::Waiting { attached } if attached == workers => return true,
                Standing::Waiting { .. } => {}
                Standing::Running | Standing::Ended => return false,
            }
            standing = self.changed.wait(standing).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn wait_for_end(&self, patience: Duration) -> bool {
        let standing = lock(&self.standing);
        let (standing, _) = self
            .changed
            .wait_timeout_while(standing, patience, |standing| *standing != Standing::Ended)
            .unwrap_or_else(PoisonError::into_inner);
        *standing == Standing::Ended
    }
}
