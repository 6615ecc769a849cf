//! Room for contents that nobody reads, so that their neighbours on the connection have theirs.
//!
//! All streams of a connection share its window. One whose content is not taken on keeps its part of
//! it, [`STREAM_WINDOW`] at most: a few fit beside the others, and for each further one the
//! connection's window grows by as much, as long as the client has a share of the memory for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use shares::{Limit, Share};

use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::metrics::LimitLabels;
use crate::session::Session;
use crate::words::Limited;

/// Contents that share the window that a connection has anyhow: half of it.
const SHARING: u32 = CONNECTION_WINDOW / STREAM_WINDOW / 2;
/// RFC 9113 section 6.9.1.
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The window of one connection.
#[derive(Default)]
pub(super) struct Windows {
    open: AtomicU32,
    reserved: AtomicU32,
}

impl Windows {
    /// Makes room for one more content, at the expense of the session's client.
    pub(super) fn open(self: &Arc<Self>, session: &Session) -> Room {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let reserved = if open > SHARING { reserve(session) } else { None };
        if reserved.is_some() {
            self.reserved.fetch_add(1, Ordering::Relaxed);
        }
        Room { windows: self.clone(), reserved }
    }

    /// How large the connection's window is to be, in bytes.
    pub(super) fn wanted(&self) -> u32 {
        let reserved = self.reserved.load(Ordering::Relaxed).saturating_mul(STREAM_WINDOW);
        CONNECTION_WINDOW.saturating_add(reserved).min(MAX_WINDOW)
    }
}

/// Memory for a window more, if the client has not got its share.
fn reserve(session: &Session) -> Option<Reserved> {
    let bytes = u64::from(STREAM_WINDOW);
    let limit = Limit::of(session.settings.config.limits.stream_windows.0);
    let metrics = &session.shared.metrics;
    let Ok(share) = session.shared.stream_windows.take(Some(session.party()), bytes, limit) else {
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
    reserved: Option<Reserved>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.windows.open.fetch_sub(1, Ordering::Relaxed);
        if self.reserved.is_some() {
            self.windows.reserved.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
