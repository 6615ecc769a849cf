//! A connection's deadline.

use std::task::{Context, Poll};
use std::time::Duration;

use alarm::Alarm;
use tokio::time::Instant;

/// One deadline at a time, moved without cost.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    alarm: Alarm,
    /// Since when nothing has moved, if something is waited for.
    waiting_since: Option<Instant>,
}

impl Timer {
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
        self.alarm.poll(cx, deadline)
    }
}
