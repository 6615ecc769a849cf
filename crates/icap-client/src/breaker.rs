//! Whether an endpoint is fit to be used, and how much of its share it gets.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config;

pub(crate) struct Breaker {
    settings: config::Health,
    state: Mutex<State>,
}

enum State {
    /// Usable; `failures` in a row so far, revived at `since`.
    Up { failures: u32, since: Option<Instant> },
    /// Left alone until `until`; then one transaction or look may try it.
    Down { until: Instant, delay: Duration, on_trial: bool },
}

/// What a report changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// It gets no more transactions for now.
    Tripped,
    Revived,
}

impl Breaker {
    pub(crate) fn new(settings: config::Health) -> Self {
        Self { settings, state: Mutex::new(State::Up { failures: 0, since: None }) }
    }

    /// The endpoint's share, above 0 and at most 1; `None` while it is left alone. When a down
    /// endpoint's time has come it is offered with the smallest share.
    pub(crate) fn share(&self, now: Instant) -> Option<f64> {
        match &*self.lock() {
            State::Up { since: None, .. } => Some(1.0),
            State::Up { since: Some(since), .. } => {
                let full = self.settings.revival.0.as_secs_f64();
                let grown = now.saturating_duration_since(*since).as_secs_f64();
                Some(if grown >= full { 1.0 } else { (grown / full).max(SMALLEST) })
            }
            State::Down { until, .. } => (*until <= now).then_some(SMALLEST),
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(*self.lock(), State::Down { .. })
    }

    /// Reserves the one try that a down endpoint gets; true for an endpoint that is up.
    pub(crate) fn admit(&self, now: Instant) -> bool {
        match &mut *self.lock() {
            State::Up { .. } => true,
            State::Down { until, delay, on_trial } => {
                let admitted = *until <= now;
                if admitted {
                    *until = now + *delay;
                    *on_trial = true;
                }
                admitted
            }
        }
    }

    pub(crate) fn succeeded(&self) -> Change {
        let mut state = self.lock();
        match &mut *state {
            State::Up { failures, .. } => {
                *failures = 0;
                Change::None
            }
            State::Down { .. } => {
                *state = State::Up { failures: 0, since: Some(Instant::now()) };
                Change::Revived
            }
        }
    }

    pub(crate) fn failed(&self) -> Change {
        let mut state = self.lock();
        let now = Instant::now();
        let first = self.settings.delay.0;
        match &mut *state {
            State::Up { failures, .. } => {
                *failures += 1;
                if *failures < self.settings.failures.max(1) {
                    return Change::None;
                }
                *state = State::Down { until: now + first, delay: first, on_trial: false };
                Change::Tripped
            }
            State::Down { until, delay, on_trial } => {
                // Transactions that began before the trip report too; they say nothing new.
                if std::mem::take(on_trial) {
                    *delay = (*delay * 2).min(self.settings.max_delay.0.max(first));
                    *until = now + *delay;
                }
                Change::None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The share that a just revived endpoint starts with.
const SMALLEST: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    fn breaker() -> Breaker {
        Breaker::new(config::Health {
            failures: 2,
            delay: Span(Duration::from_secs(1)),
            ..config::Health::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn trips_and_revives_slowly() {
        let b = breaker();
        assert_eq!(b.failed(), Change::None);
        assert_eq!(b.succeeded(), Change::None);
        assert_eq!(b.failed(), Change::None);
        assert_eq!(b.failed(), Change::Tripped);
        assert_eq!(b.share(Instant::now()), None);
        assert!(!b.admit(Instant::now()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(b.share(Instant::now()).is_some());
        assert!(b.admit(Instant::now()));
        assert!(!b.admit(Instant::now()), "one try only");
        assert_eq!(b.succeeded(), Change::Revived);
        let young = b.share(Instant::now()).unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        let half = b.share(Instant::now()).unwrap();
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(young < half && half < 1.0);
        assert_eq!(b.share(Instant::now()), Some(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn delays_double() {
        let b = breaker();
        // What was under way when it tripped fails too, and changes nothing.
        for _ in 0..20 {
            b.failed();
        }
        tokio::time::advance(Duration::from_millis(1001)).await;
        assert!(b.admit(Instant::now()));
        b.failed();
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert!(!b.admit(Instant::now()));
        tokio::time::advance(Duration::from_millis(600)).await;
        assert!(b.admit(Instant::now()));
    }
}
