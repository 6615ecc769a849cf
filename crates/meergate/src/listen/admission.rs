//! How many connections may be open, in all and of one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::config::Limits;

/// Counts open connections.
#[derive(Debug)]
pub(super) struct Admission {
    counts: Arc<Mutex<Counts>>,
    open: Arc<watch::Sender<usize>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    // Only clients with open connections are in it, so it is bounded by their number.
    by_client: HashMap<IpAddr, usize>,
}

/// One admitted connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct Guard {
    client: IpAddr,
    counts: Arc<Mutex<Counts>>,
    open: Arc<watch::Sender<usize>>,
}

impl Default for Admission {
    fn default() -> Self {
        Self { counts: Arc::default(), open: Arc::new(watch::Sender::new(0)) }
    }
}

impl Admission {
    /// Lets a connection of `client` in, or names the limit that is met.
    pub(super) fn admit(&self, client: IpAddr, limits: &Limits) -> Result<Guard, &'static str> {
        let client = network_of(client);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= limits.connections {
            return Err("connections");
        }
        let of_client = counts.by_client.entry(client).or_default();
        if limits.connections_per_client > 0 && *of_client >= limits.connections_per_client {
            return Err("connections_per_client");
        }
        *of_client += 1;
        counts.total += 1;
        self.open.send_replace(counts.total);
        Ok(Guard { client, counts: self.counts.clone(), open: self.open.clone() })
    }

    /// Resolves when no connection is open.
    pub(super) async fn empty(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(of_client) = counts.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                counts.by_client.remove(&self.client);
            }
        }
        self.open.send_replace(counts.total);
    }
}

/// A host has a whole /64 of IPv6 addresses at hand: they count as one client.
fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn limits_hold_and_room_comes_back() {
        let admission = Admission::default();
        let limits = Limits { connections: 3, connections_per_client: 2, ..Limits::default() };
        let first = admission.admit(ip("192.0.2.1"), &limits).unwrap();
        let _second = admission.admit(ip("192.0.2.1"), &limits).unwrap();
        let refused = admission.admit(ip("192.0.2.1"), &limits).unwrap_err();
        assert_eq!(refused, "connections_per_client");
        let third = admission.admit(ip("2001:db8::1"), &limits).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.2"), &limits).unwrap_err(), "connections");
        drop(first);
        let _fourth = admission.admit(ip("2001:db8::2"), &limits).unwrap();
        drop(third);
        // One address of the same /64 is still connected.
        let _fifth = admission.admit(ip("2001:db8::3"), &limits).unwrap();
        let admission = admission;
        let unlimited = Limits { connections: 9, ..limits };
        assert!(admission.admit(ip("2001:db8::4"), &unlimited).is_err());
    }

    #[tokio::test]
    async fn emptiness_is_noticed() {
        let admission = Admission::default();
        admission.empty().await;
        let guard = admission.admit(ip("192.0.2.1"), &Limits::default()).unwrap();
        let waiting = admission.empty();
        tokio::pin!(waiting);
        assert!(futures_pending(&mut waiting).await);
        drop(guard);
        waiting.await;
        assert!(admission.counts.lock().unwrap().by_client.is_empty());
    }

    async fn futures_pending<F: Future>(future: &mut std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending()))
            .await
    }
}
