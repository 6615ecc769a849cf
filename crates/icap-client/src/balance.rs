//! Which endpoint of a set a transaction goes to.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::{Balance, Service};

impl Service {
    /// The endpoint for a transaction, among those not tried that are fit.
    pub(crate) fn pick(
        &self,
        affinity: &Arc<str>,
        tried: &[usize],
    ) -> Option<(usize, &Arc<Endpoint>)> {
        let now = Instant::now();
        if let [only] = &self.endpoints[..] {
            return (tried.is_empty() && only.breaker.admit(now)).then_some((0, only));
        }
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut ranked: Vec<(f64, usize)> = (0..self.endpoints.len())
            .map(|i| (start.wrapping_add(i)) % self.endpoints.len())
            .filter(|at| !tried.contains(at))
            .filter_map(|at| {
                let endpoint = &self.endpoints[at];
                let share = endpoint.breaker.share(now)?;
                let rank = match self.config().balance {
                    // Rendezvous hashing: when an endpoint goes, only its own connections move.
                    Balance::ClientConnection => -self.unit_hash(affinity, at).ln() / share,
                    Balance::LeastOutstanding => f64::from(endpoint.outstanding() + 1) / share,
                };
                Some((rank, at))
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        ranked
            .into_iter()
            .map(|(_, at)| (at, &self.endpoints[at]))
            .find(|(_, endpoint)| endpoint.breaker.admit(now))
    }

    /// A number above 0 and at most 1, always the same for a client connection and an endpoint.
    fn unit_hash(&self, affinity: &Arc<str>, endpoint: usize) -> f64 {
        let mut hasher = self.hasher.build_hasher();
        affinity.hash(&mut hasher);
        endpoint.hash(&mut hasher);
        ((hasher.finish() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}
