//! Room for contents that nobody reads, so that their neighbours on the connection have theirs.
//!
//! All streams of a connection share its window, which is small to begin with. For each content that is open it
//! grows by as much of that as may wait unread, as long as the client has a share of the memory for
//! it. A window that was granted cannot be taken back (RFC 9113 section 6.9), so the memory stays reserved for as
//! long as the connection lasts, for the contents that come later.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use shares::{Limit, Share};

use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::metrics::LimitLabels;
use crate::session::Session;
use crate::words::Limited;

/// Bytes that are reserved at once: the window of a content whose length is not known.
const STEP: u64 = STREAM_WINDOW as u64;
/// RFC 9113 section 6.9.1.
const MAX_WINDOW: u64 = (1 << 31) - 1;

/// The window of one connection.
#[derive(Default)]
pub(super) struct Windows(Mutex<State>);

#[derive(Default)]
struct State {
    /// What all open contents may have unread.
    open: u64,
    reserved: Vec<Reserved>,
}

impl State {
    fn window(&self) -> u64 {
        (u64::from(CONNECTION_WINDOW) + self.reserved.len() as u64 * STEP).min(MAX_WINDOW)
    }
}

impl Windows {
    /// Makes room for a content of this length, if that is known, at the expense of the session's client.
    pub(super) fn open(self: &Arc<Self>, length: Option<u64>, session: &Session) -> Room {
        let size = length.unwrap_or(u64::MAX).min(u64::from(STREAM_WINDOW));
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.open += size;
        while state.open > state.window()
            && let Some(reserved) = reserve(session)
        {
            state.reserved.push(reserved);
        }
        Room { windows: self.clone(), size }
    }

    /// How large the connection's window is to be, in bytes.
    pub(super) fn wanted(&self) -> u32 {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(state.window()).unwrap_or(CONNECTION_WINDOW)
    }
}

/// Memory for a step, if the client has not got its share.
fn reserve(session: &Session) -> Option<Reserved> {
    let limit = Limit::of(session.settings.config.limits.stream_windows.0);
    let metrics = &session.shared.metrics;
    let Ok(share) = session.shared.stream_windows.take(Some(session.party()), STEP, limit) else {
        let labels = LimitLabels { limit: Limited::StreamWindows };
        metrics.limited.get_or_create(&labels).inc();
        return None;
    };
    let gauge = metrics.stream_windows.clone();
    gauge.inc_by(i64::from(STREAM_WINDOW));
    Some(Reserved { gauge, _share: share })
}

struct Reserved {
    gauge: Gauge,
    _share: Share,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.gauge.dec_by(i64::from(STREAM_WINDOW));
    }
}

/// The room of one content, until it is dropped.
pub(super) struct Room {
    windows: Arc<Windows>,
    size: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.windows.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.open = state.open.saturating_sub(self.size);
    }
}
