//! Opening connections to origins.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use nix::sys::socket::sockopt;
use rustls_pki_types::CertificateDer;
use shares::Client;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Upstream;
use super::destinations::{Bounds, Own, permitted_by_name};
use super::dns::Resolver;
use super::issuers::Fetched;
use super::proxy;
use super::route::{Chooser, Route};
use crate::config::{self, Destinations, UpstreamProxy};
use crate::io::{Cut, Io, Prefixed, Socket, Stream};
use crate::metrics::{ConnectLabels, Connected, HandshakeLabels, Metrics};
use crate::tls;
use crate::words::{Handshake, HttpUrl, Side, Target, UpstreamError, UpstreamErrorKind};

/// The head start of each address over the next one (RFC 8305 section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const MAX_ATTEMPTS: usize = 8;

/// What opening connections takes.
#[derive(Clone, Copy, Debug)]
pub struct Connector<'a> {
    /// Names to addresses.
    pub resolver: &'a Resolver,
    /// Our own listeners, to which no client is led.
    pub own: &'a Own,
    /// Where the ICAP services are, to which no client is led either.
    pub services: &'a [Target],
    /// Where else clients are not led.
    pub destinations: &'a Destinations,
    /// Time limits.
    pub limits: &'a config::Upstream,
    /// TLS towards origins.
    pub tls: &'a tls::Context,
    /// Certificates that origins left out.
    pub fetched: &'a Fetched,
    /// What is counted.
    pub metrics: &'a Metrics,
}

/// A connection on which nothing of an origin's TLS was said yet.
#[derive(Debug)]
pub struct Reached {
    tcp: TcpStream,
    /// What came of a tunnel's far end already.
    ahead: BytesMut,
    /// The origin's real address; behind a proxy that resolved its name, the proxy's.
    pub address: SocketAddr,
    local: SocketAddr,
    forwards: Option<Arc<UpstreamProxy>>,
    began: Instant,
}

/// What was opened over TCP.
struct Opened {
    io: Io,
    tls: Option<Arc<tls::UpstreamTls>>,
    side: Option<Box<tls::ServerSide>>,
}

impl Opened {
    fn plain(io: Io) -> Self {
        Self { io, tls: None, side: None }
    }
}

/// Fetches them the way that leads to the origin.
struct Along<'a>(&'a Connector<'a>, &'a Route);

impl tls::Issuers for Along<'_> {
    async fn fetch(&self, url: &HttpUrl) -> Option<CertificateDer<'static>> {
        let Self(connector, Route { proxy, client, chooser, .. }) = self;
        let way = Route {
            proxy: proxy.clone(),
            client: *client,
            chooser: *chooser,
            ..Route::plain(url.target().clone())
        };
        let connect = async { connector.open_tcp(&way, None).await.map(|reached| reached.tcp) };
        let by = way.proxy.as_ref().map_or("", |proxy| &proxy.name);
        connector.fetched.fetch(by, url, connect).await
    }
}

impl Connector<'_> {
    /// Connects along `route`: name, TCP (all addresses, RFC 8305), the proxy's tunnel and TLS where
    /// the route has them.
    ///
    /// # Errors
    /// See [`UpstreamErrorKind`]; the error says what to tell the client.
    pub async fn connect(&self, route: &Route) -> Result<Upstream, UpstreamError> {
        self.count(self.open(route, None).await)
    }

    /// As [`Connector::connect`], for HTTP requests: an HTTP proxy is asked for no tunnel to carry
    /// plain requests, since it takes them itself ([`Upstream::forwards`]).
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect_for_requests(&self, route: &Route) -> Result<Upstream, UpstreamError> {
        self.count(self.open(route, route.forwards().cloned()).await)
    }

    /// The first half of [`Connector::connect`]: what comes before TLS.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn reach(&self, route: &Route) -> Result<Reached, UpstreamError> {
        let reached = self.open_tcp(route, None).await;
        reached.inspect_err(|e| self.count_outcome(Connected::Failed(e.kind())))
    }

    /// The second half: TLS, where the route has it.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn shake(&self, route: &Route, reached: Reached) -> Result<Upstream, UpstreamError> {
        self.count(self.open_tls(route, reached).await)
    }

    /// TLS as `route` has it over a connection on which something was said in the clear, and both sides
    /// agreed on TLS.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn shake_over(
        &self,
        route: &Route,
        plain: Upstream,
    ) -> Result<Upstream, UpstreamError> {
        let Some(plan) = &route.tls else { return Ok(plain) };
        let Opened { io, tls, side } = self.shake_hands(route, plan, plain.io).await?;
        let alpn = tls.as_ref().and_then(|tls| tls.alpn);
        Ok(Upstream { io, alpn, tls, side, ..plain })
    }

    /// Looks up the name that `route` leads to, if that is not done yet. A name that has no address
    /// now leads nowhere, whatever it stands for a moment later.
    pub async fn look_up(&self, route: &mut Route) {
        if route.address.is_some() || route.resolved.is_some() || route.target.ip().is_some() {
            return;
        }
        let deadline = Instant::now() + self.limits.connect_timeout.0;
        let found = Box::pin(self.resolve(route, deadline)).await;
        route.resolved = Some(found.unwrap_or_default());
    }

    /// `route` with what the target's name stands for, and the address that is tried first: the one that it
    /// will be, most likely. None behind a proxy.
    ///
    /// # Errors
    /// As [`Connector::reach`].
    pub async fn look_ahead(
        &self,
        route: &Route,
    ) -> Result<(Route, Option<SocketAddr>), UpstreamError> {
        let mut route = route.clone();
        if route.proxy.is_some() || route.address.is_some() {
            let address = route.address.filter(|_| route.proxy.is_none());
            return Ok((route, address));
        }
        if route.resolved.is_none() && route.target.ip().is_none() {
            let deadline = Instant::now() + self.limits.connect_timeout.0;
            let found = self.resolve(&route, deadline).await;
            let found = found.inspect_err(|e| self.count_outcome(Connected::Failed(e.kind())));
            route.resolved = Some(found?);
        }
        let first = interleave(&route.addresses()).first().copied();
        let address = first.map(|ip| SocketAddr::new(ip, route.target.port));
        Ok((route, address))
    }

    async fn resolve(
        &self,
        route: &Route,
        deadline: Instant,
    ) -> Result<Arc<[IpAddr]>, UpstreamError> {
        let keep = self.limits.dns_cache.0;
        self.resolver.resolve(&route.target, route.client, keep, deadline).await
    }

    fn bounds(&self) -> Bounds<'_> {
        Bounds {
            own: self.own,
            services: self.services,
            destinations: self.destinations,
            resolver: self.resolver,
            keep: self.limits.dns_cache.0,
        }
    }

    fn count(&self, result: Result<Upstream, UpstreamError>) -> Result<Upstream, UpstreamError> {
        self.count_outcome(match &result {
            Ok(_) => Connected::Open,
            Err(e) => Connected::Failed(e.kind()),
        });
        result
    }

    fn count_outcome(&self, outcome: Connected) {
        self.metrics.upstream_connects.get_or_create(&ConnectLabels { outcome }).inc();
    }

    async fn open(
        &self,
        route: &Route,
        forwards: Option<Arc<UpstreamProxy>>,
    ) -> Result<Upstream, UpstreamError> {
        let reached = self.open_tcp(route, forwards).await?;
        self.open_tls(route, reached).await
    }

    async fn open_tcp(
        &self,
        route: &Route,
        forwards: Option<Arc<UpstreamProxy>>,
    ) -> Result<Reached, UpstreamError> {
        let began = Instant::now();
        let deadline = began + self.limits.connect_timeout.0;
        let (tcp, ahead) = match &route.proxy {
            None => (self.reach_target(route, deadline).await?, BytesMut::new()),
            Some(proxy) => self.through(proxy, route, forwards.is_some(), deadline).await?,
        };
        let of_socket = |e: io::Error| UpstreamError::from_io(&route.target, &e);
        let peer = tcp.peer_addr().map_err(of_socket)?;
        let known = || route.target.ip().map(|ip| SocketAddr::new(ip, route.target.port));
        let address = match route.proxy {
            None => peer,
            Some(_) => route.address.or_else(known).unwrap_or(peer),
        };
        let local = tcp.local_addr().map_err(of_socket)?;
        Ok(Reached { tcp, ahead, address, local, forwards, began })
    }

    async fn open_tls(&self, route: &Route, reached: Reached) -> Result<Upstream, UpstreamError> {
        let Reached { tcp, ahead, address, local, forwards, began } = reached;
        let cut = Cut::default();
        let tcp = Socket::new(tcp, cut.clone());
        let opened = match &route.tls {
            None if ahead.is_empty() => Opened::plain(Box::new(tcp)),
            None => Opened::plain(Box::new(Prefixed::new(ahead.freeze(), tcp))),
            Some(_) if !ahead.is_empty() => {
                // Behind a tunnel a TLS server waits for its client: these bytes are somebody else's.
                let detail = "it spoke before it was asked";
                return Err(UpstreamError::new(UpstreamErrorKind::Tls, &route.target, detail));
            }
            Some(plan) => self.shake_hands(route, plan, tcp).await?,
        };
        let Opened { io, tls, side } = opened;
        let alpn = tls.as_ref().and_then(|tls| tls.alpn);
        Ok(Upstream { io, address, local, alpn, tls, side, cut, forwards, took: began.elapsed() })
    }

    /// The handshake with the origin.
    async fn shake_hands<S: Stream + 'static>(
        &self,
        route: &Route,
        plan: &tls::TlsPlan,
        over: S,
    ) -> Result<Opened, UpstreamError> {
        let limit = self.limits.handshake_timeout.0;
        let client = route.client.map(Client::from);
        let along = Along(self, route);
        let issuers = self.limits.fetch_intermediates.then_some(&along);
        let handshake = self.tls.connect(&route.target, plan, over, client, limit, issuers);
        let (io, tls, side) = handshake.await?;
        let kind = Handshake::of(tls.resumed);
        let labels = HandshakeLabels { side: Side::Upstream, kind };
        self.metrics.handshakes.get_or_create(&labels).inc();
        Ok(Opened { io: Box::new(io), tls: Some(Arc::new(tls)), side: Some(Box::new(side)) })
    }

    /// TCP to the route's target, at its address where that is known already. The addresses that are
    /// judged are those that are connected to.
    async fn reach_target(
        &self,
        route: &Route,
        deadline: Instant,
    ) -> Result<TcpStream, UpstreamError> {
        let Route { target, address, source, chooser, .. } = route;
        let permitted = |addresses: Arc<[IpAddr]>| async move {
            self.bounds().permitted(target, &addresses, *chooser, deadline).await
        };
        if let Some(address) = *address {
            permitted(Arc::new([address.ip()])).await?;
            return attempt(target, address, *source, deadline).await;
        }
        let addresses = match &route.resolved {
            Some(addresses) => addresses.clone(),
            None => self.resolve(route, deadline).await?,
        };
        let mut addresses = permitted(addresses).await?;
        if let Some(source) = source {
            addresses.retain(|ip| ip.is_ipv4() == source.is_ipv4());
        }
        happy_eyeballs(target, &addresses, *source, deadline).await
    }

    /// TCP to `proxy`, and the tunnel in it unless it is to take requests itself; with what came of the
    /// tunnel's far end already.
    async fn through(
        &self,
        proxy: &UpstreamProxy,
        route: &Route,
        forwards: bool,
        deadline: Instant,
    ) -> Result<(TcpStream, BytesMut), UpstreamError> {
        let refuse = |why: String| {
            let detail = format!("{} ({}): {why}", proxy.name, proxy.target);
            UpstreamError::new(UpstreamErrorKind::Proxy, &route.target, detail)
        };
        if route.chooser == Chooser::Client {
            let to = proxy::destination(&route.target, route.address);
            permitted_by_name(self.destinations, &to)?;
        }
        let way = Route { chooser: Chooser::Operator, ..Route::plain(proxy.target.clone()) };
        let mut tcp =
            self.reach_target(&way, deadline).await.map_err(|e| refuse(e.detail().to_owned()))?;
        if forwards {
            return Ok((tcp, BytesMut::new()));
        }
        let to = proxy::destination(&route.target, route.address);
        let ahead = timeout_at(deadline, proxy::open_tunnel(proxy, &mut tcp, &to))
            .await
            .map_err(|_| refuse("it opens no tunnel in time".into()))?
            .map_err(|e| refuse(e.to_string()))?;
        Ok((tcp, ahead))
    }
}

/// Tries the addresses in turn, each with a head start over the next, families alternating.
async fn happy_eyeballs(
    target: &Target,
    addresses: &[IpAddr],
    source: Option<IpAddr>,
    deadline: Instant,
) -> Result<TcpStream, UpstreamError> {
    let mut waiting = interleave(addresses).into_iter().map(|ip| SocketAddr::new(ip, target.port));
    let mut attempts = JoinSet::new();
    let mut last_error = None;
    loop {
        if let Some(address) = waiting.next() {
            if attempts.is_empty() && waiting.len() == 0 {
                // The usual case, one address, needs no task.
                return attempt(target, address, source, deadline).await;
            }
            let target = target.clone();
            attempts.spawn(async move { attempt(&target, address, source, deadline).await });
        } else if attempts.is_empty() {
            return Err(last_error.unwrap_or_else(|| {
                UpstreamError::new(UpstreamErrorKind::Name, target, "no address")
            }));
        }
        let head_start = if waiting.len() == 0 {
            deadline + ATTEMPT_DELAY
        } else {
            Instant::now() + ATTEMPT_DELAY
        };
        match timeout_at(head_start, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(e)))) => last_error = Some(e),
            Ok(Some(Err(_)) | None) | Err(_) => {}
        }
    }
}

async fn attempt(
    target: &Target,
    address: SocketAddr,
    source: Option<IpAddr>,
    deadline: Instant,
) -> Result<TcpStream, UpstreamError> {
    let stream = timeout_at(deadline, open_tcp(address, source)).await.map_err(|_| {
        UpstreamError::new(UpstreamErrorKind::Timeout, target, format!("{address} is silent"))
    })?;
    stream.map_err(|e| {
        UpstreamError::new(UpstreamErrorKind::Connect, target, format!("{address}: {e}"))
    })
}

async fn open_tcp(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        let options = SockRef::from(&socket);
        match source {
            IpAddr::V4(_) => options.set_ip_transparent_v4(true)?,
            IpAddr::V6(_) => options.set_ip_transparent_v6(true)?,
        }
        // Else the kernel would look for a port that is free towards every origin.
        nix::sys::socket::setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// IPv6 and IPv4 in turn, beginning with the family that the resolver put first.
fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let of_first = addresses.iter().filter(|ip| ip.is_ipv4() == first.is_ipv4());
    let mut others = addresses.iter().filter(|ip| ip.is_ipv4() != first.is_ipv4());
    let mut ordered = Vec::with_capacity(addresses.len());
    for ip in of_first {
        ordered.push(*ip);
        ordered.extend(others.next());
    }
    ordered.extend(others);
    ordered.truncate(MAX_ATTEMPTS);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::TcpListener;

    use crate::config::Config;
    use crate::tls::ca::Authority;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_alternate() {
        let mixed = [ip("2001:db8::1"), ip("2001:db8::2"), ip("192.0.2.1"), ip("192.0.2.2")];
        assert_eq!(interleave(&mixed), [mixed[0], mixed[2], mixed[1], mixed[3]]);
        assert_eq!(interleave(&[]), Vec::<IpAddr>::new());
    }

    #[tokio::test]
    async fn a_refusing_address_is_skipped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target::new("localhost", port).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        // Nothing listens on 127.0.0.2 and ::1 at this port.
        let addresses = [ip("::1"), ip("127.0.0.2"), ip("127.0.0.1")];
        let stream = happy_eyeballs(&target, &addresses, None, deadline).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), ip("127.0.0.1"));

        let refused = happy_eyeballs(&target, &addresses[..2], None, deadline).await.unwrap_err();
        assert_eq!(refused.kind(), UpstreamErrorKind::Connect);
    }

    /// What connecting needs, with `asked` in the place of name servers.
    struct Ours {
        config: Config,
        resolver: Resolver,
        own: Own,
        tls: tls::Context,
        fetched: Fetched,
        metrics: Metrics,
    }

    impl Ours {
        fn new(
            settings: &str,
            asked: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static,
        ) -> Self {
            let text = format!("upstream.dns_cache = 0\n{settings}");
            let config = Config::from_toml(&text, "m.toml").unwrap();
            let metrics = Metrics::new();
            let authority = Arc::new(Authority::generate().unwrap());
            let tls = tls::Context::new(&config, authority, &metrics).unwrap();
            let resolver = Resolver::asking(move |host| Ok(asked(host)));
            Self {
                config,
                resolver,
                own: Own::default(),
                tls,
                fetched: Fetched::default(),
                metrics,
            }
        }

        fn connector(&self) -> Connector<'_> {
            Connector {
                resolver: &self.resolver,
                own: &self.own,
                services: &[],
                destinations: &self.config.destinations,
                limits: &self.config.upstream,
                tls: &self.tls,
                fetched: &self.fetched,
                metrics: &self.metrics,
            }
        }
    }

    #[tokio::test]
    async fn only_the_addresses_that_were_judged_are_connected_to() {
        let denied = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = denied.local_addr().unwrap().port();
        let allowed = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let many = ["127.0.0.1", "::1", "169.254.169.254", "127.0.0.2", "::ffff:127.0.0.1"];
        let ours =
            Ours::new("destinations.allow = [\"127.0.0.2\"]", move |_| many.map(ip).to_vec());
        let route = Route::plain(Target::new("many.example", port).unwrap());
        let upstream = ours.connector().connect(&route).await.unwrap();
        assert_eq!(upstream.address, allowed.local_addr().unwrap());

        let ours = Ours::new("", move |_| many.map(ip).to_vec());
        let e = ours.connector().connect(&route).await.unwrap_err();
        assert_eq!(e.kind(), UpstreamErrorKind::Destination);
        let none = timeout_at(Instant::now() + Duration::from_millis(50), denied.accept()).await;
        assert!(none.is_err(), "somebody was led there");
    }

    #[tokio::test]
    async fn a_name_that_moves_between_check_and_connection_gains_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // First an address that rules allow, then one that they block.
        let turn = AtomicUsize::new(0);
        let ours = Ours::new(
            "destinations.allow = [\"127.0.0.0/8\"]\nupstream.connect_timeout = \"1s\"",
            move |host| match (host, turn.fetch_add(1, Ordering::SeqCst)) {
                ("moves.example", 0) => vec![ip("127.0.0.9")],
                ("appears.example", 1) => Vec::new(),
                _ => vec![ip("127.0.0.1")],
            },
        );
        for name in ["moves.example", "appears.example"] {
            let mut route = Route::plain(Target::new(name, port).unwrap());
            ours.connector().look_up(&mut route).await;
            let known = route.addresses();
            assert!(!known.contains(&ip("127.0.0.1")), "{name}: {known:?}");
            ours.connector().connect(&route).await.unwrap_err();
        }
        let none = timeout_at(Instant::now() + Duration::from_millis(50), listener.accept()).await;
        assert!(none.is_err(), "somebody was led there");
    }
}
