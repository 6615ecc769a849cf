//! Where a connection goes, in the one spelling that is compared everywhere.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A host (name or address, IPv6 without brackets, lower case) and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The name or address.
    pub host: Arc<str>,
    /// The TCP port.
    pub port: u16,
}

/// A target that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTarget;

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither a host name nor an address, with a port of 1 to 65535")
    }
}

impl std::error::Error for BadTarget {}

impl Target {
    /// Checks `host` (a DNS name up to 253 bytes, an IPv4 address, an IPv6 address with or without
    /// brackets) and puts it into the one spelling that is compared everywhere.
    pub fn new(host: &str, port: u16) -> Result<Self, BadTarget> {
        if port == 0 {
            return Err(BadTarget);
        }
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(BadTarget)?,
            None => host,
        };
        if let Ok(address) = bare.parse::<IpAddr>() {
            let bracketed = bare.len() != host.len();
            if bracketed && address.is_ipv4() {
                return Err(BadTarget);
            }
            return Ok(Self { host: address.to_canonical().to_string().into(), port });
        }
        if bare.len() != host.len() || !is_host_name(host) {
            return Err(BadTarget);
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        Ok(Self { host: name.to_ascii_lowercase().into(), port })
    }

    /// Reads `host:port` or `host`, as CONNECT and `Host` have them (RFC 9110 section 7.2).
    pub fn from_authority(authority: &str, default_port: u16) -> Result<Self, BadTarget> {
        let (host, port) = match authority.rfind(':') {
            Some(at) if !authority[at..].contains(']') => (&authority[..at], &authority[at + 1..]),
            _ => return Self::new(authority, default_port),
        };
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadTarget);
        }
        if host.contains(':') && !host.starts_with('[') {
            return Err(BadTarget);
        }
        Self::new(host, port.parse().map_err(|_| BadTarget)?)
    }

    /// The target of an address.
    pub fn from_address(address: SocketAddr) -> Self {
        Self { host: address.ip().to_canonical().to_string().into(), port: address.port() }
    }

    /// The address, if the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// `host:port`, IPv6 in brackets.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// LDH labels and underscores: what resolvers and certificates use. Names of digits and dots only
/// are refused, since some resolvers read them as addresses (`0x7f.1`, `127.1`).
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_is_right = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_numeric = |label: &str| {
        label.bytes().all(|b| b.is_ascii_digit())
            || label
                .strip_prefix("0x")
                .or_else(|| label.strip_prefix("0X"))
                .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    name.len() <= 253
        && name.split('.').all(label_is_right)
        && name.rsplit('.').next().is_some_and(|last| !is_numeric(last))
}

#[cfg(test)]
mod tests {
    use super::Target;

    fn target(authority: &str) -> Option<String> {
        Target::from_authority(authority, 443).ok().map(|t| t.to_string())
    }

    #[test]
    fn authorities_are_read_in_one_spelling() {
        assert_eq!(target("Example.ORG:8443").as_deref(), Some("example.org:8443"));
        assert_eq!(target("example.org.").as_deref(), Some("example.org:443"));
        assert_eq!(target("127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(target("[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(target("[::ffff:192.0.2.7]:80").as_deref(), Some("192.0.2.7:80"));
        assert_eq!(target("[2001:DB8::0]").as_deref(), Some("[2001:db8::]:443"));
        assert_eq!(target("_dmarc.example.org").as_deref(), Some("_dmarc.example.org:443"));
    }

    #[test]
    fn doubtful_authorities_are_refused() {
        for bad in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
            "a b",
            "a/b",
            "a@b",
            "a..b",
            ".a",
            "[::1",
            "::1]",
            "[127.0.0.1]",
            "[a.b]",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0x7f000001",
            "a\0b",
            "a\r\nb",
            "ä.example",
            "1.2.3.4.5",
        ] {
            assert_eq!(target(bad), None, "{bad:?}");
        }
        assert_eq!(target(&format!("{}.org", "a".repeat(64))), None);
        assert_eq!(target(&vec!["abcdefg"; 32].join(".")), None);
    }
}
