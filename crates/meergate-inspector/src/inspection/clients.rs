//! What one client may take of what all share.
//!
//! A client is whom the ICAP client names (`X-Client-IP`; of IPv6 the /64, which one host can fill), or the ICAP client itself
//! if it names nobody. Whoever has its share of transactions under way gets no more until one of them ends; whoever has
//! its share of flows gets more, but none that is kept for a later transaction.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use icap_server::Peer;

use crate::settings::Limits;

/// Who shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// An IPv4 address, or the first half of an IPv6 address.
    Address(IpAddr),
    /// Somebody at a Unix socket.
    Local,
}

impl Client {
    /// The client that a transaction is for.
    pub(crate) fn new(named: Option<IpAddr>, peer: &Peer) -> Self {
        match (named, peer) {
            (Some(ip), _) => Self::Address(network(ip)),
            (None, Peer::Inet(address)) => Self::Address(network(address.ip().to_canonical())),
            (None, Peer::Unix) => Self::Local,
        }
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Parts of the table, so that workers seldom wait for each other.
const PARTS: usize = 16;
/// Clients of a part that are remembered at least, whether or not they have anything under way.
const REMEMBERED: usize = 64;

/// All clients that have something under way, on any worker.
#[derive(Debug)]
pub(crate) struct Clients {
    parts: [Mutex<Part>; PARTS],
    hasher: RandomState,
    most: Most,
}

#[derive(Clone, Copy, Debug)]
struct Most {
    transactions: usize,
    flows: usize,
}

#[derive(Debug)]
struct Part {
    clients: HashMap<Client, Arc<Usage>>,
    /// When to look for clients that have gone.
    full: usize,
}

/// What one client has under way.
#[derive(Debug, Default)]
struct Usage {
    transactions: AtomicUsize,
    flows: AtomicUsize,
}

impl Clients {
    /// With the shares that follow from these limits.
    pub(crate) fn new(limits: &Limits) -> Self {
        let part = || Mutex::new(Part { clients: HashMap::new(), full: REMEMBERED });
        let share = |of: usize| (of.saturating_mul(limits.per_client_percent) / 100).max(1);
        Self {
            parts: std::array::from_fn(|_| part()),
            hasher: RandomState::new(),
            most: Most {
                transactions: share(limits.max_connections),
                flows: share(limits.max_flows),
            },
        }
    }

    /// One more transaction of this client; `None` if it has its share under way.
    pub(crate) fn admit(&self, client: Client) -> Option<Share> {
        let part = self.hasher.hash_one(client) as usize % PARTS;
        let usage = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner).usage(client);
        let place = Place::take(usage, |usage| &usage.transactions, self.most.transactions)?;
        Some(Share { client, place, flows: self.most.flows })
    }
}

impl Part {
    fn usage(&mut self, client: Client) -> Arc<Usage> {
        if let Some(usage) = self.clients.get(&client) {
            return usage.clone();
        }
        if self.clients.len() >= self.full {
            self.clients.retain(|_, usage| Arc::strong_count(usage) > 1);
            self.full = REMEMBERED.max(2 * self.clients.len());
        }
        self.clients.entry(client).or_default().clone()
    }
}

/// A transaction's part of its client's share, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    client: Client,
    place: Place,
    flows: usize,
}

impl Share {
    /// Whose it is.
    pub(crate) fn client(&self) -> Client {
        self.client
    }

    /// A place for a flow that later transactions may continue; `None` if the client has its share of them.
    pub(crate) fn flow(&self) -> Option<Place> {
        Place::take(self.place.usage.clone(), |usage| &usage.flows, self.flows)
    }
}

/// One of the things that a client may have so many of.
#[derive(Debug)]
pub(crate) struct Place {
    usage: Arc<Usage>,
    number: fn(&Usage) -> &AtomicUsize,
}

impl Place {
    fn take(usage: Arc<Usage>, number: fn(&Usage) -> &AtomicUsize, most: usize) -> Option<Self> {
        let more = |taken| (taken < most).then_some(taken + 1);
        number(&usage).fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Self { usage, number })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.number)(&self.usage).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(max_connections: usize, percent: usize) -> Clients {
        let limits = Limits {
            max_connections,
            max_flows: 2 * max_connections,
            per_client_percent: percent,
            ..Limits::default()
        };
        Clients::new(&limits)
    }

    fn client(text: &str) -> Client {
        Client::new(Some(text.parse().unwrap()), &Peer::Unix)
    }

    #[test]
    fn a_client_gets_its_share_and_no_more_until_it_gives_some_back() {
        let clients = clients(8, 25);
        let one = clients.admit(client("10.0.0.1")).unwrap();
        let _two = clients.admit(client("10.0.0.1")).unwrap();
        assert!(clients.admit(client("10.0.0.1")).is_none());
        assert!(clients.admit(client("10.0.0.2")).is_some());
        let flows: Vec<_> = std::iter::from_fn(|| one.flow()).collect();
        assert_eq!(flows.len(), 4);
        drop(one);
        let again = clients.admit(client("10.0.0.1")).unwrap();
        assert!(again.flow().is_none(), "flows outlive the transactions that opened them");
        drop(flows);
        assert!(again.flow().is_some());
    }

    #[test]
    fn a_host_does_not_become_many_by_its_addresses() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1:2:3"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
        let peer = Peer::Inet("[::ffff:10.0.0.1]:5".parse().unwrap());
        assert_eq!(Client::new(None, &peer), client("10.0.0.1"));
    }

    #[test]
    fn clients_that_have_gone_are_forgotten() {
        let clients = clients(8, 100);
        for n in 0..100_000_u32 {
            drop(clients.admit(Client::Address(IpAddr::from(n.to_be_bytes()))));
        }
        let kept: usize = clients.parts.iter().map(|part| part.lock().unwrap().clients.len()).sum();
        assert!(kept <= PARTS * REMEMBERED, "{kept}");
    }
}
