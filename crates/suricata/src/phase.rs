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

/// What became of a wait for the other workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attached {
    /// They are there.
    All,
    /// Some did not come in time.
    Alone,
    /// They will never come.
    Never,
}

impl Phase {
    pub(crate) fn new() -> Self {
        Self { standing: Mutex::new(Standing::Waiting { attached: 0 }), changed: Condvar::new() }
    }

    pub(crate) fn is_running(&self) -> bool {
        *lock(&self.standing) == Standing::Running
    }

    /// Whether it runs. With all `workers` attached it is about to, which is waited for, though not
    /// for longer than `patience`.
    pub(crate) fn has_begun(&self, workers: u16, patience: Duration) -> bool {
        let about_to = Standing::Waiting { attached: workers };
        let (standing, _) = self
            .changed
            .wait_timeout_while(lock(&self.standing), patience, |standing| *standing == about_to)
            .unwrap_or_else(PoisonError::into_inner);
        *standing == Standing::Running
    }

    /// One more worker is about to attach. Returns once all are there. If they are not within `patience`, or never will
    /// be, the engine has ended.
    pub(crate) fn attach(&self, workers: u16, patience: Duration) -> Attached {
        let mut standing = lock(&self.standing);
        if let Standing::Waiting { attached } = &mut *standing {
            *attached += 1;
            self.changed.notify_all();
        }
        let lacks = |standing: &mut Standing| matches!(standing, Standing::Waiting { attached } if *attached < workers);
        let (mut standing, timeout) = self
            .changed
            .wait_timeout_while(standing, patience, lacks)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && lacks(&mut standing) {
            *standing = Standing::Ended;
            self.changed.notify_all();
            return Attached::Alone;
        }
        if *standing == Standing::Ended { Attached::Never } else { Attached::All }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn who_asks_after_the_last_worker_waits_for_the_run() {
        let patience = Duration::from_secs(60);
        let phase = Arc::new(Phase::new());
        assert!(!phase.has_begun(1, patience), "nobody has attached");
        assert_eq!(phase.attach(1, patience), Attached::All);
        let asked = thread::spawn({
            let phase = Arc::clone(&phase);
            move || phase.has_begun(1, patience)
        });
        phase.set(Standing::Running);
        assert!(asked.join().is_ok_and(|begun| begun));
        phase.set(Standing::Ended);
        assert!(!phase.has_begun(1, patience));
    }
    #[test]
    fn who_waits_for_workers_that_do_not_come_is_told_and_so_are_the_others() {
        let phase = Phase::new();
        assert_eq!(phase.attach(3, Duration::ZERO), Attached::Alone);
        assert_eq!(phase.attach(3, Duration::from_secs(60)), Attached::Never);
        assert!(!phase.wait_for_workers(3));
    }
}
