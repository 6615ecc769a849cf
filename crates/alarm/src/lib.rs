//! A deadline that is moved without cost, and rings when it is met.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// One deadline at a time, which each [`poll`](Self::poll) may move.
///
/// Deadlines mostly move on before they are met, and moving a timer costs more than what moves them. So
/// there is no timer before the first wait, it is left where it is as long as it fires early enough, and it
/// is moved when it fires.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready at `deadline`. To be called within a runtime of tokio that has time.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
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
    use std::time::Duration;

    use super::*;

    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_last_deadline_that_was_asked_for() {
        let (began, mut alarm) = (Instant::now(), Alarm::default());
        let at = |seconds| began + Duration::from_secs(seconds);
        for deadline in [5, 9, 7] {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(alarm.poll(&mut cx, at(deadline)).is_pending());
        }
        poll_fn(|cx| alarm.poll(cx, at(7))).await;
        assert_eq!(Instant::now(), at(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_passed_deadline_and_a_later_one_do_not_wake_each_other() {
        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
        let waker = Waker::from(wakes.clone());
        let mut alarm = Alarm::default();
        let (quiet, idle) = (Duration::from_secs(1), Duration::from_secs(60));
        let since = Instant::now();
        let mut poll = || {
            let mut cx = Context::from_waker(&waker);
            (
                alarm.poll(&mut cx, since + quiet).is_ready(),
                alarm.poll(&mut cx, since + idle).is_ready(),
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
        poll_fn(|cx| alarm.poll(cx, Instant::now())).await;
    }
}
