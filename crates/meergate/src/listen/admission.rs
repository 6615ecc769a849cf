//! How many connections may be open, in all and of one client.

use std::sync::Arc;

use shares::{Client, Ledger, Limit, Share, Spent};
use tokio::sync::watch;

use crate::config::Limits;
use crate::words::Limited;

/// Counts open connections.
#[derive(Debug)]
pub(super) struct Admission {
    ledger: Arc<Ledger>,
    open: Arc<watch::Sender<usize>>,
}

/// One admitted connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct Guard {
    share: Share,
    ledger: Arc<Ledger>,
    _open: Open,
}

/// Counts one connection for those who wait until there is none.
#[derive(Debug)]
struct Open(Arc<watch::Sender<usize>>);

impl Default for Admission {
    fn default() -> Self {
        Self { ledger: Ledger::new(), open: Arc::new(watch::Sender::new(0)) }
    }
}

impl Admission {
    /// Lets a connection in, of `client` if that is known already, or names the limit that is met.
    pub(super) fn admit(&self, client: Option<Client>, limits: &Limits) -> Result<Guard, Limited> {
        let share = self.ledger.take(client, 1, limit(limits)).map_err(name)?;
        Ok(Guard { share, ledger: self.ledger.clone(), _open: Open::one(&self.open) })
    }

    /// Resolves when no connection is open.
    pub(super) async fn empty(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Guard {
    /// Counts the connection to `client`, who was not known when it was admitted.
    pub(super) fn identify(&mut self, client: Client, limits: &Limits) -> Result<(), Limited> {
        // Its place becomes the client's.
        self.share.shrink_to(0);
        self.share = self.ledger.take(Some(client), 1, limit(limits)).map_err(name)?;
        Ok(())
    }
}

impl Open {
    fn one(open: &Arc<watch::Sender<usize>>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

fn limit(limits: &Limits) -> Limit {
    let each = u64::try_from(limits.connections_per_client).ok().filter(|each| *each > 0);
    Limit { all: limits.connections as u64, each }
}

fn name(spent: Spent) -> Limited {
    match spent {
        Spent::All => Limited::Connections,
        Spent::Share => Limited::ConnectionsPerClient,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(text: &str) -> Option<Client> {
        Some(text.parse::<IpAddr>().unwrap().into())
    }

    #[test]
    fn limits_hold_and_room_comes_back() {
        let admission = Admission::default();
        let limits = Limits { connections: 6, connections_per_client: 2, ..Limits::default() };
        let first = admission.admit(client("192.0.2.1"), &limits).unwrap();
        let _second = admission.admit(client("192.0.2.1"), &limits).unwrap();
        let refused = admission.admit(client("192.0.2.1"), &limits).unwrap_err();
        assert_eq!(refused, Limited::ConnectionsPerClient);
        // One /64 counts as one client.
        let _third = admission.admit(client("2001:db8::1"), &limits).unwrap();
        let fourth = admission.admit(client("2001:db8::2"), &limits).unwrap();
        let refused = admission.admit(client("2001:db8::3"), &limits).unwrap_err();
        assert_eq!(refused, Limited::ConnectionsPerClient);
        let fifth = admission.admit(client("192.0.2.2"), &limits).unwrap();
        let _sixth = admission.admit(client("192.0.2.3"), &limits).unwrap();
        assert_eq!(
            admission.admit(client("192.0.2.4"), &limits).unwrap_err(),
            Limited::Connections
        );
        drop(first);
        assert!(admission.admit(client("2001:db8::3"), &limits).is_err());
        drop((fourth, fifth));
        admission.admit(client("2001:db8::3"), &limits).unwrap();
    }

    #[test]
    fn nobody_takes_all_connections() {
        let admission = Admission::default();
        let limits = Limits { connections: 10, ..Limits::default() };
        let mut open = Vec::new();
        while let Ok(guard) = admission.admit(client("192.0.2.1"), &limits) {
            open.push(guard);
        }
        assert_eq!(open.len(), 5);
        admission.admit(client("192.0.2.2"), &limits).unwrap();
    }

    #[test]
    fn clients_of_a_balancer_are_counted_once_they_are_known() {
        let admission = Admission::default();
        let limits = Limits { connections_per_client: 1, ..Limits::default() };
        let mut first = admission.admit(None, &limits).unwrap();
        let mut second = admission.admit(None, &limits).unwrap();
        let known = client("192.0.2.1").unwrap();
        first.identify(known, &limits).unwrap();
        assert!(second.identify(known, &limits).is_err());
        drop(second);
        assert!(admission.admit(Some(known), &limits).is_err());
        drop(first);
        assert_eq!((admission.ledger.taken(), admission.ledger.clients()), (0, 0));
    }

    #[tokio::test]
    async fn emptiness_is_noticed() {
        let admission = Arc::new(Admission::default());
        admission.empty().await;
        let guard = admission.admit(client("192.0.2.1"), &Limits::default()).unwrap();
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
