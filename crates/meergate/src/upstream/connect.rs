//! Opening a connection to an origin.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use nix::sys::socket::sockopt;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Route, Upstream, UpstreamError, UpstreamErrorKind, proxy};
use crate::config::{Upstream as Limits, UpstreamProxy};
use crate::io::{Io, Prefixed};
use crate::metrics::{HandshakeLabels, OutcomeLabels};
use crate::session::{Settings, Shared, Target};

/// The head start of each address over the next one (RFC 8305 section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const MAX_ATTEMPTS: usize = 8;

/// Connects along `route`: name, TCP (all addresses, RFC 8305), the proxy's tunnel and TLS where the
/// route has them.
///
/// # Errors
/// See [`UpstreamErrorKind`]; the error says what to tell the client.
pub async fn connect(
    shared: &Arc<Shared>,
    settings: &Arc<Settings>,
    route: &Route,
) -> Result<Upstream, UpstreamError> {
    count(shared, open(shared, settings, route, None).await)
}

/// As [`connect`], for HTTP requests: an HTTP proxy is asked for no tunnel to carry plain requests,
/// since it takes them itself ([`Upstream::forwards`]).
///
/// # Errors
/// As [`connect`].
pub async fn connect_for_requests(
    shared: &Arc<Shared>,
    settings: &Arc<Settings>,
    route: &Route,
) -> Result<Upstream, UpstreamError> {
    count(shared, open(shared, settings, route, route.forwards().cloned()).await)
}

fn count(
    shared: &Shared,
    result: Result<Upstream, UpstreamError>,
) -> Result<Upstream, UpstreamError> {
    let outcome = match &result {
        Ok(_) => "ok",
        Err(e) => e.kind().as_str(),
    };
    shared.metrics.upstream_connects.get_or_create(&OutcomeLabels { outcome }).inc();
    result
}

async fn open(
    shared: &Arc<Shared>,
    settings: &Arc<Settings>,
    route: &Route,
    forwards: Option<Arc<UpstreamProxy>>,
) -> Result<Upstream, UpstreamError> {
    let began = Instant::now();
    let limits = &settings.config.upstream;
    let deadline = began + limits.connect_timeout.0;
    let (tcp, ahead) = match &route.proxy {
        None => {
            let (address, source) = (route.address, route.source);
            let tcp = reach(shared, limits, &route.target, address, source, deadline).await?;
            (tcp, BytesMut::new())
        }
        Some(proxy) => through(shared, limits, proxy, route, forwards.is_some(), deadline).await?,
    };
    let of_socket = |e: io::Error| UpstreamError::from_io(&route.target, &e);
    let peer = tcp.peer_addr().map_err(of_socket)?;
    let known = || route.target.ip().map(|ip| SocketAddr::new(ip, route.target.port));
    let address = match route.proxy {
        None => peer,
        Some(_) => route.address.or_else(known).unwrap_or(peer),
    };
    let local = tcp.local_addr().map_err(of_socket)?;
    let (io, tls): (Io, _) = match &route.tls {
        None if ahead.is_empty() => (Box::new(tcp), None),
        None => (Box::new(Prefixed::new(ahead.freeze(), tcp)), None),
        Some(_) if !ahead.is_empty() => {
            // Behind a tunnel a TLS server waits for its client: these bytes are somebody else's.
            let detail = "it spoke before it was asked";
            return Err(UpstreamError::new(UpstreamErrorKind::Tls, &route.target, detail));
        }
        Some(plan) => {
            let limit = limits.handshake_timeout.0;
            let (io, tls) = settings.tls.connect(&route.target, plan, tcp, limit).await?;
            let kind = if tls.resumed { "resumed" } else { "full" };
            let labels = HandshakeLabels { side: "upstream", kind };
            shared.metrics.handshakes.get_or_create(&labels).inc();
            (Box::new(io), Some(Arc::new(tls)))
        }
    };
    let alpn = tls.as_ref().and_then(|tls| tls.alpn);
    Ok(Upstream { io, address, local, alpn, tls, forwards, took: began.elapsed() })
}

/// TCP to `target`, at `address` where that is known already.
async fn reach(
    shared: &Shared,
    limits: &Limits,
    target: &Target,
    address: Option<SocketAddr>,
    source: Option<IpAddr>,
    deadline: Instant,
) -> Result<TcpStream, UpstreamError> {
    if let Some(address) = address {
        return attempt(target, address, source, deadline).await;
    }
    let addresses = shared.resolver.resolve(target, limits.dns_cache.0, deadline).await?;
    let addresses: Vec<_> = match source {
        Some(source) => {
            let same = |ip: &&IpAddr| ip.is_ipv4() == source.is_ipv4();
            addresses.iter().filter(same).copied().collect()
        }
        None => addresses.to_vec(),
    };
    happy_eyeballs(target, &addresses, source, deadline).await
}

/// TCP to `proxy`, and the tunnel in it unless it is to take requests itself; with what came of the
/// tunnel's far end already.
async fn through(
    shared: &Shared,
    limits: &Limits,
    proxy: &UpstreamProxy,
    route: &Route,
    forwards: bool,
    deadline: Instant,
) -> Result<(TcpStream, BytesMut), UpstreamError> {
    let refuse = |why: String| {
        let detail = format!("{} ({}): {why}", proxy.name, proxy.target);
        UpstreamError::new(UpstreamErrorKind::Proxy, &route.target, detail)
    };
    let mut tcp = reach(shared, limits, &proxy.target, None, None, deadline)
        .await
        .map_err(|e| refuse(e.detail().to_owned()))?;
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
    use tokio::net::TcpListener;

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
}
