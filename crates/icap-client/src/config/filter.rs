//! Which messages go to a service.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de};

use super::Size;

/// Conditions on a message; all that are set must hold, and one entry of a list is enough.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Host names: `example.org`, or `*.example.org` for it and every name below it.
    pub host: Vec<String>,
    /// Beginnings of the URL's path.
    pub path: Vec<String>,
    /// HTTP request methods.
    pub method: Vec<String>,
    /// Media types of the message's own body: `image/png`, or `image/*`. RESPMOD looks at the
    /// response, REQMOD at the request.
    pub content_type: Vec<String>,
    /// Bodies of at least so many bytes. A body of unknown length counts as endless.
    pub min_size: Option<Size>,
    /// Bodies of at most so many bytes.
    pub max_size: Option<Size>,
    /// Client addresses: `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.
    pub client: Vec<Network>,
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u128,
    prefix: u32,
}

/// What a [`Filter`] looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The host without a port, in any case.
    pub host: &'a [u8],
    /// The path, without the query.
    pub path: &'a [u8],
    /// The HTTP method.
    pub method: &'a [u8],
    /// A Content-Type value.
    pub content_type: &'a [u8],
    /// Body bytes; `None` if they can't be known.
    pub size: Option<u64>,
    /// The client.
    pub client: Option<IpAddr>,
}

impl Filter {
    /// Whether the conditions hold for a message.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let any = |list: &[String], f: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|item| f(item))
        };
        any(&self.host, &|h| host_matches(h, subject.host))
            && any(&self.path, &|p| subject.path.starts_with(p.as_bytes()))
            && any(&self.method, &|m| m.as_bytes() == subject.method)
            && any(&self.content_type, &|t| type_matches(t, subject.content_type))
            && self.min_size.is_none_or(|min| subject.size.is_none_or(|n| n >= min.0))
            && self.max_size.is_none_or(|max| subject.size.is_some_and(|n| n <= max.0))
            && (self.client.is_empty()
                || subject.client.is_some_and(|c| self.client.iter().any(|n| n.contains(c))))
    }
}

fn host_matches(pattern: &str, host: &[u8]) -> bool {
    // A trailing dot names the same host; leaving it in would be a way around a filter.
    let host = host.strip_suffix(b".").unwrap_or(host);
    match pattern.strip_prefix("*.") {
        None => host.eq_ignore_ascii_case(pattern.as_bytes()),
        Some(parent) => {
            let parent = parent.as_bytes();
            host.len() >= parent.len()
                && host[host.len() - parent.len()..].eq_ignore_ascii_case(parent)
                && (host.len() == parent.len() || host[host.len() - parent.len() - 1] == b'.')
        }
    }
}

fn type_matches(pattern: &str, value: &[u8]) -> bool {
    let essence = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    match pattern.strip_suffix('*') {
        Some(prefix) => {
            essence.get(..prefix.len()).is_some_and(|e| e.eq_ignore_ascii_case(prefix.as_bytes()))
        }
        None => essence.eq_ignore_ascii_case(pattern.as_bytes()),
    }
}

impl Network {
    /// Whether an address is in it. An IPv4 address and its IPv6-mapped form are the same.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = 128 - self.prefix;
        match shift {
            128 => true,
            _ => (bits(address) ^ self.address) >> shift == 0,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((a, p)) => (a, Some(p.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        (prefix <= width).then(|| Self { address: bits(address), prefix: 128 - width + prefix })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::invalid_value(
                de::Unexpected::Str(&text),
                &"an address or a block such as \"10.0.0.0/8\"",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert!(host_matches("*.a.test", b"x.A.test"));
        assert!(host_matches("*.a.test", b"a.test."));
        assert!(!host_matches("*.a.test", b"xa.test"));
        assert!(host_matches("a.test", b"A.TEST"));
        assert!(!host_matches("a.test", b"b.a.test"));
    }

    #[test]
    fn networks() {
        let n = Network::parse("10.0.0.0/8").unwrap();
        assert!(n.contains("10.9.8.7".parse().unwrap()));
        assert!(n.contains("::ffff:10.9.8.7".parse().unwrap()));
        assert!(!n.contains("11.0.0.1".parse().unwrap()));
        assert!(!n.contains("::1".parse().unwrap()));
        assert!(Network::parse("::/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(Network::parse("10.0.0.0/33").is_none());
        assert!(Network::parse("2001:db8::/32").unwrap().contains("2001:db8:1::".parse().unwrap()));
    }

    #[test]
    fn sizes_of_unknown_bodies_count_as_endless() {
        let f = Filter { min_size: Some(Size(10)), ..Filter::default() };
        assert!(f.matches(&Subject::default()));
        let f = Filter { max_size: Some(Size(10)), ..Filter::default() };
        assert!(!f.matches(&Subject::default()));
        assert!(f.matches(&Subject { size: Some(10), ..Subject::default() }));
    }
}
