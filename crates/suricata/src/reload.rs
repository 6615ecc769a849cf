//! New rules while traffic flows.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, TryLockError};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{fmt, thread};

use crate::engine::{Engine, Shared, UNKNOWN_RULES};
use crate::error::{Error, ErrorKind};
use crate::launch::check_files;
use crate::monitor::lock;
use crate::rules::RuleStats;
use crate::worker;

/// How often a wait looks whether it is over.
const GLANCE: Duration = Duration::from_millis(1);

/// A reload that is under way, from [`Engine::begin_reload`]. Who drops it before it is over will not know which rules
/// are in force: nothing passes inspection before another reload ends well.
#[must_use = "a reload that nobody polls leaves no rules that anybody trusts"]
pub struct Reload<'a> {
    shared: &'a Shared,
    began: Instant,
    is_over: bool,
    _one_at_a_time: MutexGuard<'a, ()>,
}

impl Engine {
    /// Loads the rules anew while traffic flows, and waits until every worker uses them. Workers must feed or
    /// [idle](crate::Worker::idle) meanwhile. Each then proves them with a canary before it next opens a flow.
    ///
    /// # Errors
    /// The old rules stay in force if the new ones have a file missing, no rule, or a rule that does not parse
    /// ([`ErrorKind::Rules`]), or if the YAML is broken ([`ErrorKind::Config`]).
    /// [`ErrorKind::TimedOut`]: some worker neither feeds nor idles; the reload is still under way, so from here on
    /// nothing passes inspection before another reload ends well. [`ErrorKind::Misuse`]: the calling thread is a worker,
    /// for which there is [`Engine::begin_reload`].
    pub fn reload(&self) -> Result<RuleStats, Error> {
        if worker::is_here() {
            return Err(Error::new(
                ErrorKind::Misuse,
                "a worker's thread cannot wait for a reload, which waits for the worker: begin one and poll it",
            ));
        }
        let turn = lock(&self.shared.reloading);
        let mut reload = Reload::begin(&self.shared, turn)?;
        let deadline = reload.began + self.shared.patience();
        loop {
            if let Poll::Ready(result) = reload.poll() {
                return result;
            }
            if Instant::now() > deadline {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "the reload is waiting for a worker that neither feeds nor idles",
                ));
            }
            thread::sleep(GLANCE);
        }
    }

    /// As [`Engine::reload`], without waiting: for a thread that is a worker itself, and has to
    /// [idle](crate::Worker::idle) until the reload is over.
    ///
    /// # Errors
    /// As for [`Engine::reload`], also if another reload is under way.
    pub fn begin_reload(&self) -> Result<Reload<'_>, Error> {
        let turn = match self.shared.reloading.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(another()),
        };
        Reload::begin(&self.shared, turn)
    }
}

fn another() -> Error {
    Error::new(ErrorKind::Rules, "another reload is under way")
}

impl<'a> Reload<'a> {
    fn begin(shared: &'a Shared, turn: MutexGuard<'a, ()>) -> Result<Self, Error> {
        if !shared.phase.has_begun(shared.workers(), shared.patience()) {
            return Err(Error::stopped());
        }
        check_files(&shared.config)?;
        let began = Instant::now();
        let _ = shared.monitor.take_rules();
        let _ = shared.monitor.complaints();
        suricata_sys::reload_start().map_err(|_| another())?;
        Ok(Self { shared, began, is_over: false, _one_at_a_time: turn })
    }

    /// Whether it is over, and how it ended: then the rules in force, as far as they are known, are those that it tells
    /// of, or after an error the old ones. Not to be asked again after that.
    ///
    /// # Errors
    /// As for [`Engine::reload`], but never [`ErrorKind::TimedOut`]: how long to wait is the caller's to decide.
    /// [`ErrorKind::Misuse`] if it was over before.
    pub fn poll(&mut self) -> Poll<Result<RuleStats, Error>> {
        if self.is_over {
            return Poll::Ready(Err(Error::new(ErrorKind::Misuse, "the reload was over before")));
        }
        if !suricata_sys::reload_pending() {
            self.is_over = true;
            return Poll::Ready(self.end());
        }
        if !self.shared.phase.is_running() || suricata_sys::stopping() {
            self.is_over = true;
            return Poll::Ready(Err(self.shared.ended()));
        }
        Poll::Pending
    }

    fn end(&self) -> Result<RuleStats, Error> {
        let shared = self.shared;
        let loaded = shared.monitor.take_rules().ok_or_else(|| {
            Error::config(format!(
                "the settings cannot be loaded anew: {}",
                shared.monitor.complaints()
            ))
        })?;
        if let Some(reason) = loaded.refused {
            return Err(Error::new(ErrorKind::Rules, reason));
        }
        let mut rules = lock(&shared.rules);
        let version = rules.version + 1;
        *rules = RuleStats { version, took: self.began.elapsed(), ..loaded.stats };
        shared.rules_version.store(version, Ordering::SeqCst);
        Ok(rules.clone())
    }
}

impl fmt::Debug for Reload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl Drop for Reload<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.rules_version.store(UNKNOWN_RULES, Ordering::SeqCst);
        }
    }
}
