//! A client connection that has come in.

use std::net::SocketAddr;
use std::sync::Arc;

use icap_client::TransactionInfo;
use shares::Client;

use super::notes::Totals;
use super::settings::Settings;
use super::shared::Shared;
use crate::config::{ListenProtocol, TlsVersions};
use crate::io::Cut;
use crate::upstream::{Connector, Route};

/// One client connection: who it is, and by which settings. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Names this client connection, uniquely among all runs; sent as `X-Connection-Id`.
    pub id: Arc<str>,
    /// The client's address.
    pub client: SocketAddr,
    /// The address that the client connected to: ours, or its original destination.
    pub local: SocketAddr,
    /// The way the connection came in, as listeners print it: `proxy`, `redirect`, ...
    pub listener: &'static str,
    /// What may be spoken on it.
    pub protocol: ListenProtocol,
    /// The versions of TLS, where rules say nothing of them.
    pub tls: TlsVersions,
    /// Whether it ends with a reset.
    pub cut: Cut,
    /// The user, where one is known.
    pub user: Option<Arc<str>>,
    /// The settings in force when the connection was accepted.
    pub settings: Arc<Settings>,
    /// What all connections share.
    pub shared: Arc<Shared>,
    /// What this connection added up to so far, for its log record.
    pub totals: Arc<Totals>,
}

impl Arrival {
    /// What services are told of transaction `id` on this connection, in which `protocol` is spoken with `server`.
    pub fn info(
        &self,
        protocol: &'static str,
        id: Arc<str>,
        server: Option<SocketAddr>,
    ) -> TransactionInfo {
        let mut info = TransactionInfo::new(protocol, self.id.clone(), id);
        info.client = Some(self.client);
        info.server = server;
        info.username.clone_from(&self.user);
        info
    }

    /// Whom shares are counted to.
    pub fn party(&self) -> Client {
        self.client.into()
    }

    /// What opens connections to origins by these settings.
    pub fn connector(&self) -> Connector<'_> {
        Connector {
            resolver: &self.shared.resolver,
            own: &self.shared.own,
            services: self.settings.policy.places(),
            destinations: &self.settings.config.destinations,
            limits: &self.settings.config.upstream,
            tls: &self.settings.tls,
            fetched: &self.shared.fetched,
            metrics: &self.shared.metrics,
        }
    }

    /// Looks up the name that `route` leads to, if rules ask for addresses.
    pub async fn look_up(&self, route: &mut Route) {
        if self.settings.policy.looks_at_addresses() {
            self.connector().look_up(route).await;
        }
    }
}
