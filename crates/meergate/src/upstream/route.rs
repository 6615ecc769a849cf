//! The way to one target.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::{InvalidCertificate, ProxyKind, UpstreamProxy};
use crate::tls::TlsPlan;
use crate::words::{Spoken, Target};

/// Who says where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chooser {
    /// The client, who is led to no denied destination.
    Client,
    /// The settings (`kind = "target"`), which lead anywhere but back into us.
    Operator,
}

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
    /// What the client speaks along it, as far as that is known.
    pub spoken: Spoken,
    /// TLS over the connection.
    pub tls: Option<TlsPlan>,
    /// The proxy that leads there. It is reached from our own address, whatever `source` says.
    pub proxy: Option<Arc<UpstreamProxy>>,
    /// Whether the origin's side is captured. For intercepted TLS the client's side is captured
    /// instead.
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
            spoken: Spoken::UNKNOWN,
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
