//! Where clients are not led, whatever the rules say: the near side of this machine, the metadata
//! services of clouds, and our own listeners and ICAP services, from which a connection would come
//! back to us or go around what we are there for.
//!
//! Judged are the very addresses that are connected to, after names were resolved: between the two
//! nobody can change them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::dns::{self, Resolver};
use super::route::Chooser;
use crate::config::Destinations;
use crate::words::{Target, UpstreamError, UpstreamErrorKind, embedded};

/// How long the addresses of this machine are taken for known.
const MACHINE: Duration = Duration::from_secs(5);

/// Services of clouds that tell any program of a machine its secrets, beside those at link-local
/// addresses.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Our own listeners.
#[derive(Debug, Default)]
pub struct Own {
    /// Where clients come in.
    pub ways_in: Vec<SocketAddr>,
    /// Where the console is.
    pub console: Option<SocketAddr>,
    /// The addresses of this machine, and when they were looked at.
    machine: Mutex<Option<(Instant, Arc<[IpAddr]>)>>,
}

impl Own {
    /// These listeners, at the addresses that they are bound to.
    pub fn new(ways_in: Vec<SocketAddr>, console: Option<SocketAddr>) -> Self {
        Self { ways_in, console, machine: Mutex::default() }
    }

    /// Whether `destination` is where a socket bound to `listener` takes connections.
    fn reaches(&self, listener: SocketAddr, destination: SocketAddr) -> bool {
        let bound = listener.ip().to_canonical();
        let ip = match destination.ip() {
            // Connections to no address go to ourselves.
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        listener.port() == destination.port()
            && (bound == ip || (bound.is_unspecified() && self.is_of_this_machine(ip)))
    }

    fn is_of_this_machine(&self, ip: IpAddr) -> bool {
        if ip.is_loopback() || ip.is_unspecified() || self.machine().contains(&ip) {
            return true;
        }
        // Routes can make whole networks ours: then packets there come from there.
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let source = std::net::UdpSocket::bind((any, 0))
            .and_then(|socket| socket.connect((ip, 9)).and_then(|()| socket.local_addr()));
        source.is_ok_and(|source| source.ip() == ip)
    }

    fn machine(&self) -> Arc<[IpAddr]> {
        let mut known = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((looked, addresses)) = &*known
            && now.duration_since(*looked) < MACHINE
        {
            return addresses.clone();
        }
        let addresses: Arc<[IpAddr]> = match nix::ifaddrs::getifaddrs() {
            Ok(interfaces) => interfaces.filter_map(|interface| ip_of(&interface)).collect(),
            Err(error) => {
                tracing::warn!(%error, "the addresses of this machine are not told");
                Arc::default()
            }
        };
        *known = Some((now, addresses.clone()));
        addresses
    }
}

fn ip_of(interface: &nix::ifaddrs::InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// What is left to be judged where a proxy looks the name up: hosts that need no looking up.
///
/// # Errors
/// It may not be asked for.
pub(crate) fn permitted_by_name(
    destinations: &Destinations,
    target: &Target,
) -> Result<(), UpstreamError> {
    let ips = match target.ip() {
        Some(ip) => vec![ip],
        None if dns::is_local(&target.host) => dns::LOCAL.to_vec(),
        None => Vec::new(),
    };
    match ips.into_iter().find_map(|ip| near(destinations, ip)) {
        Some(why) => Err(refusal(target, why)),
        None => Ok(()),
    }
}

fn refusal(target: &Target, why: &'static str) -> UpstreamError {
    let detail = format!("{why} (destinations.allow of the proxy's settings)");
    UpstreamError::new(UpstreamErrorKind::Destination, target, detail)
}

/// What says where nobody is led.
pub(super) struct Bounds<'a> {
    pub(super) own: &'a Own,
    /// Where the ICAP services are.
    pub(super) services: &'a [Target],
    pub(super) destinations: &'a Destinations,
    /// Names of services to addresses.
    pub(super) resolver: &'a Resolver,
    /// How long these are kept.
    pub(super) keep: Duration,
}

impl Bounds<'_> {
    /// Those of `addresses` that may be connected to at `target`'s port.
    ///
    /// # Errors
    /// There are addresses, and none of them may be.
    pub(super) async fn permitted(
        &self,
        target: &Target,
        addresses: &[IpAddr],
        chooser: Chooser,
        deadline: Instant,
    ) -> Result<Vec<IpAddr>, UpstreamError> {
        let mut kept = Vec::with_capacity(addresses.len());
        let mut why = None;
        for ip in addresses.iter().map(IpAddr::to_canonical) {
            let mut denied = None;
            for form in forms(ip) {
                let address = SocketAddr::new(form, target.port);
                denied = denied.or(self.denial(address, chooser, deadline).await);
            }
            match denied {
                None => kept.push(ip),
                denied => why = denied,
            }
        }
        match why {
            Some(why) if kept.is_empty() => Err(refusal(target, why)),
            _ => Ok(kept),
        }
    }

    /// Why a connection to `address` is not to be opened.
    async fn denial(
        &self,
        address: SocketAddr,
        chooser: Chooser,
        deadline: Instant,
    ) -> Option<&'static str> {
        let own = self.own;
        if own.ways_in.iter().any(|listener| own.reaches(*listener, address)) {
            return Some("it is a listener of this proxy");
        }
        if chooser == Chooser::Operator {
            return None;
        }
        if own.console.is_some_and(|console| own.reaches(console, address)) {
            return Some("it is the console of this proxy");
        }
        for service in self.services.iter().filter(|service| service.port == address.port()) {
            let found = self.resolver.resolve(service, None, self.keep, deadline).await;
            for ip in found.iter().flat_map(|ips| ips.iter()) {
                // A service near to us may listen on all addresses.
                let near = own.is_of_this_machine(*ip) && own.is_of_this_machine(address.ip());
                if *ip == address.ip() || near {
                    return Some("it is an ICAP service of this proxy");
                }
            }
        }
        denied_kind(self.destinations, address.ip())
    }
}

/// Why nobody is led to `ip`, whatever its port.
pub(crate) fn near(destinations: &Destinations, ip: IpAddr) -> Option<&'static str> {
    forms(ip.to_canonical()).find_map(|form| denied_kind(destinations, form))
}

/// An address, and the one that it ends at if that is another.
fn forms(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    [Some(ip), embedded(ip).map(IpAddr::V4)].into_iter().flatten()
}

fn denied_kind(destinations: &Destinations, ip: IpAddr) -> Option<&'static str> {
    let allowed = || destinations.allow.iter().any(|net| net.contains(&ip));
    kind(ip).filter(|_| !allowed())
}

fn kind(ip: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&ip) {
        return Some("it is where clouds keep the secrets of their machines");
    }
    let (loopback, unspecified, link_local) = match ip {
        // All of 0.0.0.0/8 is "this network" (RFC 6890).
        IpAddr::V4(v4) => (v4.is_loopback(), v4.octets()[0] == 0, v4.is_link_local()),
        IpAddr::V6(v6) => (v6.is_loopback(), v6.is_unspecified(), v6.is_unicast_link_local()),
    };
    if loopback || unspecified {
        return Some("it is the proxy's own machine");
    }
    link_local.then_some("it is a link-local address")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(allow: &[&str], ip: &str) -> bool {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        near(&Destinations { allow, ..Destinations::default() }, ip.parse().unwrap()).is_some()
    }

    #[test]
    fn what_is_near_is_denied_in_every_form() {
        for ip in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "::1",
            "::",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::1",
        ] {
            assert!(denied(&[], ip), "{ip}");
        }
        for ip in ["192.0.2.1", "10.0.0.1", "128.0.0.1", "169.253.0.1", "2001:db8::1", "fd00::1"] {
            assert!(!denied(&[], ip), "{ip}");
        }
        for ip in ["64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8", "2002:808:808::1"] {
            assert!(!denied(&[], ip), "{ip}");
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_in_every_form_and_nothing_else_is() {
        let allow = ["127.0.0.0/8"];
        for ip in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"] {
            assert!(!denied(&allow, ip), "{ip}");
        }
        for ip in ["::1", "0.0.0.0", "::", "169.254.169.254", "fe80::5efe:127.0.0.1"] {
            assert!(denied(&allow, ip), "{ip}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_at_each_of_this_machine() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let own = Own::default();
        for listener in ["0.0.0.0:8080", "[::]:8080"] {
            for ip in own.machine().iter().copied().chain([[127, 9, 9, 9].into()]) {
                assert!(own.reaches(at(listener), SocketAddr::new(ip, 8080)), "{ip}");
                assert!(!own.reaches(at(listener), SocketAddr::new(ip, 8081)), "{ip}");
            }
            assert!(!own.reaches(at(listener), at("192.0.2.1:8080")));
        }
        assert!(own.reaches(at("[::ffff:192.0.2.1]:80"), at("192.0.2.1:80")));
        assert!(!own.reaches(at("127.0.0.1:80"), at("127.0.0.2:80")));
    }
}
