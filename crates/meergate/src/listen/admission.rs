//! How many connections may be open, in all and of one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::config::Limits;
use crate::session::network_of;

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
    client: Option<IpAddr>,
    counts: Arc<Mutex<Counts>>,
    open: Arc<watch::Sender<usize>>,
}

impl Default for Admission {
    fn default() -> Self {
        Self { counts: Arc::default(), open: Arc::new(watch::Sender::new(0)) }
    }
}

impl Admission {
    /// Lets a connection in, of `client` if that is known already, or names the limit that is met.
    pub(super) fn admit(
        &self,
        client: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<Guard, &'static str> {
        let client = client.map(network_of);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= limits.connections {
            return Err("connections");
        }
        if let Some(client) = client {
            counts.add_client(client, limits)?;
        }
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

impl Guard {
    /// Counts the connection to `client`, who was not known when it was admitted.
    pub(super) fn identify(&mut self, client: IpAddr, limits: &Limits) -> Result<(), &'static str> {
        let client = network_of(client);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.add_client(client, limits)?;
        self.client = Some(client);
        Ok(())
    }
}

impl Counts {
    fn add_client(&mut self, client: IpAddr, limits: &Limits) -> Result<(), &'static str> {
        let open = self.by_client.get(&client).copied().unwrap_or_default();
        if limits.connections_per_client > 0 && open >= limits.connections_per_client {
            return Err("connections_per_client");
        }
        self.by_client.insert(client, open + 1);
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(client) = self.client
            && let Some(open) = counts.by_client.get_mut(&client)
        {
            *open -= 1;
            if *open == 0 {
                counts.by_client.remove(&client);
            }
        }
        self.open.send_replace(counts.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn limits_hold_and_room_comes_back() {
        let admission = Admission::default();
        let limits = Limits { connections: 4, connections_per_client: 2, ..Limits::default() };
        let first = admission.admit(ip("192.0.2.1"), &limits).unwrap();
        let _second = admission.admit(ip("192.0.2.1"), &limits).unwrap();
        let refused = admission.admit(ip("192.0.2.1"), &limits).unwrap_err();
        assert_eq!(refused, "connections_per_client");
        // One /64 counts as one client.
        let third = admission.admit(ip("2001:db8::1"), &limits).unwrap();
        let _fourth = admission.admit(ip("2001:db8::2"), &limits).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.2"), &limits).unwrap_err(), "connections");
        drop(first);
        assert!(admission.admit(ip("2001:db8::3"), &limits).is_err());
        drop(third);
        admission.admit(ip("2001:db8::3"), &limits).unwrap();
    }

    #[test]
    fn clients_of_a_balancer_are_counted_once_they_are_known() {
        let admission = Admission::default();
        let limits = Limits { connections_per_client: 1, ..Limits::default() };
        let mut first = admission.admit(None, &limits).unwrap();
        let mut second = admission.admit(None, &limits).unwrap();
        let client = "192.0.2.1".parse().unwrap();
        first.identify(client, &limits).unwrap();
        assert!(second.identify(client, &limits).is_err());
        drop(second);
        assert!(admission.admit(Some(client), &limits).is_err());
        drop(first);
        assert!(admission.counts.lock().unwrap().by_client.is_empty());
        assert_eq!(admission.counts.lock().unwrap().total, 0);
    }

    #[tokio::test]
    async fn emptiness_is_noticed() {
        let admission = Arc::new(Admission::default());
        admission.empty().await;
        let guard = admission.admit(ip("192.0.2.1"), &Limits::default()).unwrap();
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.empty().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(guard);
        waiting.await.unwrap();
    }
}
