//! How long nothing has come.

use std::task::{Context, Poll};
use std::time::Duration;

use alarm::Alarm;
use tokio::time::Instant;

/// Ready once nothing has come for `limit`. Most bodies never pause, and pay nothing for it.
pub(crate) struct Pause {
    limit: Option<Duration>,
    alarm: Alarm,
    /// When the present wait began, if there is one.
    since: Option<Instant>,
}

impl Pause {
    /// Never ready if there is no limit.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, alarm: Alarm::default(), since: None }
    }

    /// Something has come.
    pub(crate) fn over(&mut self) {
        self.since = None;
    }

    /// Ready when the present wait, which this may begin, has been too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let since = *self.since.get_or_insert_with(Instant::now);
        self.alarm.poll(cx, since + limit)
    }
}
