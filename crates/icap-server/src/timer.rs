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
