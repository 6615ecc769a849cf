//! Towards origins: names, connections, and TLS over them.

mod connector;
mod destinations;
mod dns;
mod issuers;
mod proxy;
mod route;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::UpstreamProxy;
use crate::io::{Cut, Io};
use crate::tls::{ServerSide, UpstreamTls};
use crate::words::{Alpn, UpstreamError};

pub use connector::{Connector, Reached};
pub use destinations::Own;
pub(crate) use destinations::{near, permitted_by_name};
pub use dns::Resolver;
pub use issuers::Fetched;
pub(crate) use proxy::basic;
pub use route::{Chooser, Route};

/// An open connection to an origin.
pub struct Upstream {
    /// The bytes (inside TLS, if the route has it).
    pub io: Io,
    /// The origin's real address; behind a proxy that resolved its name, the proxy's.
    pub address: SocketAddr,
    /// Our own address on this connection.
    pub local: SocketAddr,
    /// The protocol agreed on in the handshake; `None` without TLS or without ALPN.
    pub alpn: Option<Alpn>,
    /// What the handshake told.
    pub tls: Option<Arc<UpstreamTls>>,
    /// The server's part of the handshake, until it was shown to whom it may concern.
    pub side: Option<Box<ServerSide>>,
    /// Whether the connection ends with a reset.
    pub cut: Cut,
    /// The HTTP proxy at the other end, which wants requests with absolute targets.
    pub forwards: Option<Arc<UpstreamProxy>>,
    /// How long opening it took, from name to handshake.
    pub took: Duration,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("address", &self.address)
            .field("alpn", &self.alpn)
            .finish_non_exhaustive()
    }
}

/// The first connection towards the origin of a client connection.
#[derive(Debug)]
pub enum UpstreamSlot {
    /// The origin could not be reached, or not be trusted: every request is answered with a page
    /// that says so.
    Failed(UpstreamError),
    /// Connected; the session's route says how to connect again.
    Ready(Box<Upstream>),
    /// Not connected yet.
    Unconnected,
}
