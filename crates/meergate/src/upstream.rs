//! Towards origins: names, connections, and TLS over them.

mod again;
mod connect;
mod destinations;
mod dns;
mod error;
mod proxy;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{InvalidCertificate, ProxyKind, UpstreamProxy};
use crate::io::Io;
use crate::policy::Decision;
use crate::session::Target;
use crate::tls::{Alpn, UpstreamTls};

pub(crate) use again::{CERTIFICATE_ASKED, Refused, connect_again, connect_for_requests_again};
pub use connect::{connect, connect_for_requests, look_up};
pub use destinations::{Chooser, Own};
pub(crate) use destinations::{near, permitted_by_name};
pub use dns::Resolver;
pub use error::{UpstreamError, UpstreamErrorKind};
pub(crate) use proxy::basic;

/// How one target is reached. Enough to connect again later in the same way.
#[derive(Clone, Debug)]
pub struct Route {
    /// The host and port that the client asked for.
    pub target: Target,
    /// The address to connect to where it is known already (the original destination of a
    /// redirected connection); otherwise the target's name is resolved.
    pub address: Option<SocketAddr>,
    /// What the target's name stands for, where rules were asked about that: connections go nowhere
    /// else.
    pub resolved: Option<Arc<[IpAddr]>>,
    /// Who says that it goes there.
    pub chooser: Chooser,
    /// The client on whose account names are looked up.
    pub client: Option<IpAddr>,
    /// Our end's address where it is not ours (TPROXY with `keep_client_address`).
    pub source: Option<IpAddr>,
    /// TLS over the connection.
    pub tls: Option<TlsPlan>,
    /// The proxy that leads there. It is reached from our own address, whatever `source` says.
    pub proxy: Option<Arc<UpstreamProxy>>,
    /// Whether what is said to the origin is captured, where it is not intercepted TLS, of which the
    /// client's side is.
    pub capture: bool,
}

impl Route {
    /// Plain TCP to `target`.
    pub fn plain(target: Target) -> Self {
        Self {
            target,
            address: None,
            resolved: None,
            chooser: Chooser::Client,
            client: None,
            source: None,
            tls: None,
            proxy: None,
            capture: false,
        }
    }

    /// The addresses that it leads to, as far as they are known.
    pub fn addresses(&self) -> Arc<[IpAddr]> {
        match (self.address, self.target.ip(), &self.resolved) {
            (Some(address), ..) => Arc::new([address.ip()]),
            (None, Some(ip), _) => Arc::new([ip]),
            (None, None, Some(resolved)) => resolved.clone(),
            (None, None, None) => Arc::default(),
        }
    }

    /// The same, on behalf of `client`.
    #[must_use]
    pub fn of(self, client: SocketAddr) -> Self {
        Self { client: Some(client.ip()), ..self }
    }

    /// The same, reached as `decision` says.
    #[must_use]
    pub fn as_decided(mut self, decision: &Decision) -> Self {
        self.proxy.clone_from(&decision.upstream_proxy);
        self.capture = decision.capture;
        self
    }

    /// The proxy that takes plain requests along this route itself, with absolute targets.
    pub fn forwards(&self) -> Option<&Arc<UpstreamProxy>> {
        let takes = |proxy: &&Arc<UpstreamProxy>| proxy.kind == ProxyKind::Http;
        self.proxy.as_ref().filter(takes).filter(|_| self.tls.is_none())
    }

    /// Whether every connection along this route shows a valid certificate of `host`.
    pub fn proves(&self, host: &str) -> bool {
        self.tls.as_ref().is_some_and(|tls| {
            *tls.server_name == *host && tls.invalid == InvalidCertificate::Refuse
        })
    }

    /// Plain TCP to the address that a client's connection was for.
    pub fn original(address: SocketAddr) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let target = Target::from_address(address);
        Self { address: Some(address), ..Self::plain(target) }
    }
}

/// How TLS towards the origin is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPlan {
    /// The name sent as SNI (unless it is an address) and that the certificate must be valid for.
    pub server_name: Arc<str>,
    /// The protocols offered, in the client's order; none for no ALPN extension.
    pub alpn: Vec<Alpn>,
    /// What becomes of the connection if the certificate is not valid.
    pub invalid: InvalidCertificate,
    /// The `[[client_certificate]]` shown if the origin asks for one.
    pub identity: Option<Arc<str>>,
}

impl TlsPlan {
    /// TLS towards `server_name`, whose certificate must be valid, without showing one of ours.
    pub fn new(server_name: Arc<str>, alpn: Vec<Alpn>) -> Self {
        Self { server_name, alpn, invalid: InvalidCertificate::Refuse, identity: None }
    }
}

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

/// Where the requests of a client connection go.
#[derive(Debug)]
pub enum UpstreamSlot {
    /// The origin could not be reached, or not be trusted: every request is answered with a page
    /// that says so.
    Failed(UpstreamError),
    /// Each request names its own target (explicit proxy, absolute-form); a CONNECT ends the loop.
    PerRequest,
    /// Connected; `Session::route` says how to connect again.
    Ready(Box<Upstream>),
    /// One target (`Session::route`), not connected yet.
    Unconnected,
}
