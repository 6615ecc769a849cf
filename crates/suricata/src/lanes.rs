//! Which lane a flow takes.

use std::net::IpAddr;

use crate::flow::{Lane, Tuple};

/// Lanes of flows that ended well, ready for the same tuple again.
const LANES_KEPT: usize = 1024;

/// Gives out a worker's lanes: a fresh one for each flow, or that of an earlier flow with the same tuple which ended
/// well. A flow that was dropped or failed never leaves its lane to another.
pub(crate) struct Lanes {
    worker: u16,
    used: u64,
    ended: Box<[Option<(Tuple, Lane)>]>,
}

impl Lanes {
    pub(crate) fn new(worker: u16) -> Self {
        Self { worker, used: 0, ended: vec![None; LANES_KEPT].into_boxed_slice() }
    }

    pub(crate) fn take(&mut self, tuple: Tuple) -> Lane {
        let kept = &mut self.ended[slot(tuple)];
        if let Some((of, lane)) = *kept
            && of == tuple
        {
            *kept = None;
            return lane;
        }
        self.used += 1;
        Lane::of_worker(self.worker, self.used)
    }

    /// Using the lane of an ended flow again for the same tuple makes the engine forget the old flow at once.
    pub(crate) fn give_back(&mut self, tuple: Tuple, lane: Lane) {
        self.ended[slot(tuple)] = Some((tuple, lane));
    }
}

/// Where a tuple's lane is kept. Collisions only cost a fresh lane.
fn slot(tuple: Tuple) -> usize {
    let mix =
        |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let mut hash = 0;
    for end in [tuple.client, tuple.server] {
        let address = match end.ip() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        hash = mix(hash, address as u64);
        hash = mix(hash, (address >> 64) as u64 ^ u64::from(end.port()));
    }
    (hash >> 32) as usize % LANES_KEPT
}
