//! Ending in order.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Asks connections to end gracefully: idle ones at once, busy ones after their transaction.
///
/// Clones are one and the same; may be used from any thread.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    wake: Notify,
}

impl Shutdown {
    /// Nothing is asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks; can't be taken back.
    pub fn request(&self) {
        self.shared.requested.store(true, Ordering::Release);
        self.shared.wake.notify_waiters();
    }

    /// Whether it was asked.
    pub fn is_requested(&self) -> bool {
        self.shared.requested.load(Ordering::Acquire)
    }

    /// Waits until it is asked.
    pub async fn requested(&self) {
        let mut woken = pin!(self.shared.wake.notified());
        // Registered before the look, so that a request in between is not missed.
        woken.as_mut().enable();
        if !self.is_requested() {
            woken.await;
        }
    }
}
