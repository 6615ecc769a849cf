//! One client connection: what is known of it, what all of them share, and what the rules say of what it
//! does.

mod again;
mod arrival;
mod decide;
mod notes;
mod record;
mod settings;
mod shared;

use std::ops::Deref;
use std::sync::Arc;

use crate::tls::TlsFacts;
use crate::upstream::Route;
use crate::words::{Scheme, Target};

pub(crate) use again::{CERTIFICATE_ASKED, Refused, connect_again, connect_for_requests_again};
pub use arrival::Arrival;
pub use decide::{as_decided, decide_connection, decide_request, decide_response, decide_tls};
pub use notes::{Notes, Totals};
pub use record::record as record_connection;
pub use settings::Settings;
pub use shared::Shared;

/// A client connection of which it is known what is spoken on it, and where that goes.
///
/// Built once, by whoever found that out. A CONNECT within an explicit proxy connection makes a new
/// session of the same [`Arrival`].
#[derive(Debug)]
pub struct Session {
    arrival: Arrival,
    /// What the client speaks inside (after interception).
    pub scheme: Scheme,
    /// Where the requests go.
    pub destination: Destination,
    /// The TLS of both sides, when it was intercepted.
    pub tls: Option<Arc<TlsFacts>>,
    /// The records of the client's hello, when it was intercepted.
    pub hello: Vec<u8>,
}

/// Where the requests of a client connection go.
#[derive(Debug)]
pub enum Destination {
    /// Each request names its own target (explicit proxy, absolute-form); a CONNECT ends the loop.
    PerRequest,
    /// All of them along one route.
    One(Box<Route>),
}

impl Session {
    /// A client of an explicit proxy, whose requests say where they go.
    pub fn explicit(arrival: Arrival) -> Self {
        Self {
            arrival,
            scheme: Scheme::Http,
            destination: Destination::PerRequest,
            tls: None,
            hello: Vec::new(),
        }
    }

    /// HTTP in the clear, along `route`.
    pub fn plain(arrival: Arrival, route: Route) -> Self {
        let destination = Destination::One(Box::new(route));
        Self { arrival, scheme: Scheme::Http, destination, tls: None, hello: Vec::new() }
    }

    /// HTTP in TLS that was intercepted, along `route`, and began with `hello`.
    pub fn intercepted(arrival: Arrival, route: Route, tls: Arc<TlsFacts>, hello: Vec<u8>) -> Self {
        let destination = Destination::One(Box::new(route));
        Self { arrival, scheme: Scheme::Https, destination, tls: Some(tls), hello }
    }

    /// The way of the requests, if the connection has one for all.
    pub fn route(&self) -> Option<&Route> {
        match &self.destination {
            Destination::PerRequest => None,
            Destination::One(route) => Some(route),
        }
    }

    /// The host and port that the requests go to, if the connection has one target.
    pub fn target(&self) -> Option<&Target> {
        self.route().map(|route| &route.target)
    }
}

/// A session is its connection, and more.
impl Deref for Session {
    type Target = Arrival;

    fn deref(&self) -> &Arrival {
        &self.arrival
    }
}
