//! Clients that refuse forged certificates: some pin the real one, some do not trust the CA.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

/// Refusals in a row after which a client is taken to mean it.
const ENOUGH: u32 = 3;
/// How long they are remembered.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// Pairs of client and host, and clients, that are remembered.
const PAIRS: usize = 8192;

/// What clients made of forged certificates lately.
#[derive(Debug)]
pub struct Pinning {
    refusals: Cache<(IpAddr, Arc<str>), Refusals>,
    /// Clients that took a forged certificate of any host: they trust the CA.
    trusting: Cache<IpAddr, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Refusals {
    count: u32,
    last: Instant,
}

/// A client that keeps refusing the certificates of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuser {
    /// The client.
    pub client: IpAddr,
    /// The host.
    pub host: Arc<str>,
    /// Whether the client trusts the CA, so that it must be pinning this host's real certificate.
    pub pins: bool,
}

impl Pinning {
    /// Nothing remembered.
    pub fn new() -> Self {
        Self { refusals: Cache::new(PAIRS), trusting: Cache::new(PAIRS) }
    }

    /// `client` took the forged certificate of `host`.
    pub fn accepted(&self, client: IpAddr, host: &Arc<str>) {
        let fresh = |since: Instant| since.elapsed() < KEEP / 2;
        if !self.trusting.get(&client).is_some_and(fresh) {
            self.trusting.insert(client, Instant::now());
        }
        // Only what is there is taken away, so that the usual case writes nothing.
        if self.refusals.get(&(client, host.clone())).is_some() {
            self.refusals.remove(&(client, host.clone()));
        }
    }

    /// `client` refused the forged certificate of `host`. Tells of it once it has done so often
    /// enough, and not again after.
    pub fn refused(&self, client: IpAddr, host: &Arc<str>) -> Option<Refuser> {
        let key = (client, host.clone());
        let before = self.recent(&key).map_or(0, |refusals| refusals.count);
        let count = before.saturating_add(1);
        self.refusals.insert(key, Refusals { count, last: Instant::now() });
        (count == ENOUGH).then(|| self.refuser(client, host))
    }

    /// Whether `client` trusts the CA and keeps refusing the certificates of `host` all the same.
    pub fn pins(&self, client: IpAddr, host: &Arc<str>) -> bool {
        self.recent(&(client, host.clone())).is_some_and(|refusals| refusals.count >= ENOUGH)
            && self.trusts(client)
    }

    /// Who keeps refusing whose certificates; at most `limit`.
    pub fn refusers(&self, limit: usize) -> Vec<Refuser> {
        self.refusals
            .iter()
            .filter(|(_, refusals)| refusals.count >= ENOUGH && refusals.last.elapsed() < KEEP)
            .take(limit)
            .map(|((client, host), _)| self.refuser(client, &host))
            .collect()
    }

    fn refuser(&self, client: IpAddr, host: &Arc<str>) -> Refuser {
        Refuser { client, host: host.clone(), pins: self.trusts(client) }
    }

    fn recent(&self, key: &(IpAddr, Arc<str>)) -> Option<Refusals> {
        self.refusals.get(key).filter(|refusals| refusals.last.elapsed() < KEEP)
    }

    fn trusts(&self, client: IpAddr) -> bool {
        self.trusting.get(&client).is_some_and(|since| since.elapsed() < KEEP)
    }
}

impl Default for Pinning {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_trusts_the_ca_and_keeps_refusing_one_host_pins_it() {
        let pinning = Pinning::new();
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let (bank, shop): (Arc<str>, Arc<str>) = ("bank.example".into(), "shop.example".into());
        pinning.accepted(client, &shop);
        assert_eq!(pinning.refused(client, &bank), None);
        assert_eq!(pinning.refused(client, &bank), None);
        assert!(!pinning.pins(client, &bank));
        let refuser = Refuser { client, host: bank.clone(), pins: true };
        assert_eq!(pinning.refused(client, &bank), Some(refuser.clone()));
        assert_eq!(pinning.refused(client, &bank), None, "told once");
        assert!(pinning.pins(client, &bank));
        assert!(!pinning.pins(client, &shop));
        assert_eq!(pinning.refusers(9), [refuser]);
        pinning.accepted(client, &bank);
        assert!(!pinning.pins(client, &bank));
        assert_eq!(pinning.refusers(9), []);
    }

    #[test]
    fn a_client_that_trusts_nothing_pins_nothing() {
        let pinning = Pinning::new();
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let bank: Arc<str> = "bank.example".into();
        let told = (0..5).filter_map(|_| pinning.refused(client, &bank)).collect::<Vec<_>>();
        assert_eq!(told, [Refuser { client, host: bank.clone(), pins: false }]);
        assert!(!pinning.pins(client, &bank));
    }
}
