//! Which worker has a connection's flow.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::inspection::claims::{FlowKey, FlowMap};

const SHARDS: usize = 64;

/// Flows live where their first transaction ran; this is where the others look that up. Shared by
/// all workers, in shards so that they seldom meet.
#[derive(Debug)]
pub(crate) struct Owners {
    shards: Box<[Mutex<FlowMap<usize>>]>,
}

impl Owners {
    /// Nobody owns anything.
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// The worker that has the flow of this key.
    pub(crate) fn find(&self, key: FlowKey) -> Option<usize> {
        self.shard(key).get(&key).copied()
    }

    /// `worker` has opened a flow for this key.
    pub(crate) fn claim(&self, key: FlowKey, worker: usize) {
        self.shard(key).insert(key, worker);
    }

    /// `worker` has closed its flow of this key.
    pub(crate) fn leave(&self, key: FlowKey, worker: usize) {
        let mut shard = self.shard(key);
        if shard.get(&key) == Some(&worker) {
            shard.remove(&key);
        }
    }

    fn shard(&self, key: FlowKey) -> MutexGuard<'_, FlowMap<usize>> {
        // A map is whole even if a thread panicked with the lock in hand.
        self.shards[key.bucket(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
