//! How long nothing has come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Ready once nothing has come for `limit`.
///
/// Most bodies never pause, and moving a timer with every piece would cost more than the piece. So
/// there is none before the first wait, and it is moved only when it fires.
pub(crate) struct Pause {
    limit: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When the present wait began, if there is one.
    since: Option<Instant>,
}

impl Pause {
    /// Never ready if there is no limit.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, sleep: None, since: None }
    }

    /// Something has come.
    pub(crate) fn over(&mut self) {
        self.since = None;
    }

    /// Ready when the present wait, which this may begin, has been too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let deadline = *self.since.get_or_insert_with(Instant::now) + limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
