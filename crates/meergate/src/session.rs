//! One client connection: what is known of it, what all of them share, and what the rules say of what it
//! does.

mod again;
mod decide;
mod notes;
mod settings;
mod shared;

use std::net::SocketAddr;
use std::sync::Arc;

use shares::Client;

use crate::tls::TlsFacts;
use crate::upstream::{Connector, Route};
use crate::words::{Scheme, Target};

pub(crate) use again::{CERTIFICATE_ASKED, Refused, connect_again, connect_for_requests_again};
pub use decide::{as_decided, decide_connection, decide_request, decide_response, decide_tls};
pub use notes::{Notes, Totals, record as record_connection};
pub use settings::Settings;
pub use shared::Shared;

/// One client connection from here on: who talks to whom, and by which settings.
///
/// Immutable; cloning is cheap. A CONNECT within an explicit proxy connection makes a new session
/// with the same [`Session::id`].
#[derive(Clone, Debug)]
pub struct Session {
    /// Names this client connection, uniquely among all runs; sent as `X-Connection-Id`.
    pub id: Arc<str>,
    /// The client's address.
    pub client: SocketAddr,
    /// The address that the client connected to: ours, or its original destination.
    pub local: SocketAddr,
    /// The way the connection came in, as listeners print it: `proxy`, `redirect`, ...
    pub listener: &'static str,
    /// The user, where one is known.
    pub user: Option<Arc<str>>,
    /// What the client speaks inside (after interception).
    pub scheme: Scheme,
    /// Where the requests go; `None` where each request names its own target (absolute-form).
    pub route: Option<Route>,
    /// The TLS of both sides, when it was intercepted.
    pub tls: Option<Arc<TlsFacts>>,
    /// The settings in force when the connection was accepted.
    pub settings: Arc<Settings>,
    /// What all connections share.
    pub shared: Arc<Shared>,
    /// What this connection added up to so far, for its log record.
    pub totals: Arc<Totals>,
}

impl Session {
    /// Whom shares are counted to.
    pub fn party(&self) -> Client {
        self.client.into()
    }

    /// The host and port that the requests go to, if the connection has one target.
    pub fn target(&self) -> Option<&Target> {
        self.route.as_ref().map(|route| &route.target)
    }

    /// What opens connections to origins.
    pub fn connector(&self) -> Connector<'_> {
        connector(&self.shared, &self.settings)
    }

    /// Looks up the name that `route` leads to, if rules ask for addresses.
    pub async fn look_up(&self, route: &mut Route) {
        if self.settings.policy.looks_at_addresses() {
            self.connector().look_up(route).await;
        }
    }
}

/// What opens connections to origins by these settings.
pub fn connector<'a>(shared: &'a Shared, settings: &'a Settings) -> Connector<'a> {
    Connector {
        resolver: &shared.resolver,
        own: &shared.own,
        services: settings.policy.places(),
        destinations: &settings.config.destinations,
        limits: &settings.config.upstream,
        tls: &settings.tls,
        metrics: &shared.metrics,
    }
}
