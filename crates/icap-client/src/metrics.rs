//! Counters that the surrounding program reads and shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::FailureKind;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A level that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Raises it by `n`, unless that takes it beyond `most`.
    pub(crate) fn add_within(&self, n: i64, most: i64) -> bool {
        let raised = |level: i64| level.checked_add(n).filter(|level| *level <= most);
        self.0.fetch_update(Relaxed, Relaxed, raised).is_ok()
    }

    /// The level now.
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Raises a service's level of active transactions as long as it lives, however that ends.
pub(crate) struct Level(Arc<ServiceMetrics>);

impl Level {
    pub(crate) fn raise(metrics: &Arc<ServiceMetrics>) -> Self {
        metrics.active.add(1);
        Self(metrics.clone())
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.0.active.add(-1);
    }
}

/// Counters of one service, over all its endpoints.
#[derive(Debug, Default)]
pub struct ServiceMetrics {
    /// Transactions that it has answered or failed.
    pub transactions: Counter,
    /// Transactions that wait for the head of its answer.
    pub active: Gauge,
    /// Answered 204: the original goes on.
    pub passed: Counter,
    /// Answered with a message of the service's own.
    pub adapted: Counter,
    /// Responses the service replaced by a block, and requests it answered so: with an account of it, or an error.
    pub blocked: Counter,
    /// Messages that the service asked not to see (`Transfer-Ignore`).
    pub ignored: Counter,
    /// Messages that went on without this service because it failed and is set to fail open.
    pub bypassed: Counter,
    /// Body bytes of bypassed and ignored messages, and trailers of messages that the service
    /// passed without having been sent them: traffic this service did not see.
    pub unadapted_bytes: Counter,
    /// The part of `unadapted_bytes` that is trailers of requests that the service passed.
    pub request_trailer_bytes: Counter,
    /// The part of `unadapted_bytes` that is trailers of responses that the service passed.
    pub response_trailer_bytes: Counter,
    /// Bytes written to the service.
    pub sent_bytes: Counter,
    /// Bytes read from the service.
    pub received_bytes: Counter,
    /// Connections opened.
    pub connections_opened: Counter,
    /// Connections open now, idle ones included.
    pub connections: Gauge,
    /// Transactions that ran on a kept connection.
    pub reused: Counter,
    /// Transactions sent a second time because the connection died before any answer.
    pub retries: Counter,
    /// OPTIONS requests sent.
    pub options: Counter,
    /// Bodies sent without `Allow: 204` since there was no memory for a copy of them
    /// ([`Copies`](crate::Copies)).
    pub copies_refused: Counter,
    /// Copies that a monitor service did not get, or not wholly, because it was too slow.
    pub monitor_lost: Counter,
    /// Bytes held now of copies for a monitor service, and set aside for writing them.
    pub monitor_bytes: Gauge,
    failures: [Counter; FailureKind::ALL.len()],
}

impl ServiceMetrics {
    /// Failures of one kind, those that policy turned into a bypass included.
    pub fn failures(&self, kind: FailureKind) -> &Counter {
        &self.failures[kind.index()]
    }
}
