//! Room for contents that nobody reads, so that their neighbours on the connection have theirs.
//!
//! All streams of a connection share its window. One whose content is not taken on keeps its part of
//! it, [`STREAM_WINDOW`] at most: a few fit beside the others, and for each further one the
//! connection's window grows by as much, as long as the memory for that lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::metrics::LimitLabels;
use crate::session::{Settings, Shared};

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
    /// Makes room for one more content.
    pub(super) fn open(self: &Arc<Self>, shared: &Arc<Shared>, settings: &Settings) -> Room {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let reserved = open > SHARING && {
            let bytes = i64::from(STREAM_WINDOW);
            let limit = i64::try_from(settings.config.limits.stream_windows.0).unwrap_or(i64::MAX);
            let taken = &shared.metrics.stream_windows;
            let fits = taken.inc_by(bytes) <= limit - bytes;
            if !fits {
                taken.dec_by(bytes);
                let labels = LimitLabels { limit: "stream-windows" };
                shared.metrics.limited.get_or_create(&labels).inc();
            }
            fits
        };
        if reserved {
            self.reserved.fetch_add(1, Ordering::Relaxed);
        }
        Room { windows: self.clone(), shared: reserved.then(|| shared.clone()) }
    }

    /// How large the connection's window is to be, in bytes.
    pub(super) fn wanted(&self) -> u32 {
        let reserved = self.reserved.load(Ordering::Relaxed).saturating_mul(STREAM_WINDOW);
        CONNECTION_WINDOW.saturating_add(reserved).min(MAX_WINDOW)
    }
}

/// The room of one content, until it is dropped.
pub(super) struct Room {
    windows: Arc<Windows>,
    /// Where memory was reserved for it.
    shared: Option<Arc<Shared>>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.windows.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(shared) = &self.shared {
            self.windows.reserved.fetch_sub(1, Ordering::Relaxed);
            shared.metrics.stream_windows.dec_by(i64::from(STREAM_WINDOW));
        }
    }
}
