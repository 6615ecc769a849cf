//! Whom something is counted to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A client, as far as shares go: an IPv4 address, or a /64 of IPv6, all of which one host has at
/// hand. An IPv4 address that is written as an IPv6 one is the IPv4 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        })
    }
}

impl From<SocketAddr> for Client {
    fn from(address: SocketAddr) -> Self {
        address.ip().into()
    }
}

/// `192.0.2.1`, or `2001:db8:1:2::/64`.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> String {
        Client::from(address.parse::<IpAddr>().unwrap()).to_string()
    }

    #[test]
    fn a_host_is_one_client_whatever_address_it_takes() {
        assert_eq!(client("192.0.2.1"), "192.0.2.1");
        assert_eq!(client("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(client("2001:db8:1:2::"), client("2001:db8:1:2:ffff::1"));
        assert_ne!(client("2001:db8:1:3::"), client("2001:db8:1:2::"));
    }
}
