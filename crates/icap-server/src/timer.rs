//! A connection's deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// One deadline at a time, moved without cost.
///
/// Deadlines mostly move on before they are met, and moving a timer costs more than a small
/// transaction should. So the timer is left where it is as long as it fires early enough, and
/// looks again when it fires.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Since when nothing has moved, if something is waited for.
    waiting_since: Option<Instant>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self { sleep: None, waiting_since: None }
    }

    /// Something moved: the next wait starts anew.
    pub(crate) fn progress(&mut self) {
        self.waiting_since = None;
    }

    /// Ready once nothing has moved for `limit`.
    pub(crate) fn poll_stalled(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        self.poll_until(cx, since + limit)
    }

    /// Ready at `deadline`.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            // A timer that is set into the past wakes the task that sets it. One that asks for a
            // passed deadline first and a later one then would be woken without end.
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_passed_deadline_and_a_later_one_do_not_wake_each_other() {
        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
        let waker = Waker::from(wakes.clone());
        let mut timer = Timer::new();
        let (quiet, idle) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut poll = || {
            let mut cx = Context::from_waker(&waker);
            (
                timer.poll_stalled(&mut cx, quiet).is_ready(),
                timer.poll_stalled(&mut cx, idle).is_ready(),
            )
        };
        assert_eq!(poll(), (false, false));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(poll(), (true, false));
        // Whatever wakes it meanwhile, such as a socket that can be written to again.
        let woken = wakes.0.load(Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(poll(), (true, false));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), woken, "it wakes itself");
        tokio::time::sleep(idle).await;
        assert_eq!(poll(), (true, true));
        poll_fn(|cx| timer.poll_until(cx, Instant::now())).await;
    }
}
