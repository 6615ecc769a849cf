//! `[destinations]`: where clients may be led at all, whatever the rules say.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::value::{BadValue, networks};

/// Where clients may be led at all.
///
/// Loopback, unspecified and link-local addresses are denied: on the machine that the proxy runs on
/// they reach what is meant for that machine alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Destinations {
    /// Networks that are allowed although they are denied by default.
    #[serde(deserialize_with = "networks")]
    pub allow: Vec<IpNet>,
    /// The ports that CONNECT may ask for.
    #[serde(deserialize_with = "ports")]
    pub connect_ports: Vec<Ports>,
}

impl Default for Destinations {
    fn default() -> Self {
        // Those of HTTP and its relatives. What is in a tunnel is inspected whatever its port; this
        // is to keep clients from speaking to services of other kinds.
        let ports = [80, 443, 563, 8443].map(|port| Ports(port..=port));
        Self { allow: Vec::new(), connect_ports: ports.into() }
    }
}

impl Destinations {
    /// Whether CONNECT may ask for `port`.
    pub fn may_connect(&self, port: u16) -> bool {
        self.connect_ports.iter().any(|Ports(range)| range.contains(&port))
    }
}

/// Ports from one to another, both included: `443` or `"8000-8999"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(pub RangeInclusive<u16>);

impl std::str::FromStr for Ports {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (low.trim().parse(), high.trim().parse()) {
            (Ok(low), Ok(high)) if 0 < low && low <= high => Ok(Self(low..=high)),
            _ => Err(format!("expected a port or \"LOW-HIGH\", not {text:?}").into()),
        }
    }
}

fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Ports>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Port(u16),
        Range(String),
    }
    let read = |entry| match entry {
        Entry::Port(port) => port.to_string().parse(),
        Entry::Range(text) => text.parse(),
    };
    let entries = Vec::<Entry>::deserialize(deserializer)
        .map_err(|_| D::Error::custom("expected ports such as 443 or \"8000-8999\""))?;
    entries.into_iter().map(|entry| read(entry).map_err(D::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Destinations};

    fn read(text: &str) -> Result<Destinations, String> {
        Config::from_toml(&format!("[destinations]\n{text}"), "m.toml")
            .map(|config| config.destinations)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn ports_are_numbers_and_ranges() {
        let read = read("connect_ports = [443, \"8000-8999\"]\nallow = [\"127.0.0.1\"]").unwrap();
        let may = [442, 443, 7999, 8000, 8999, 9000].map(|port| read.may_connect(port));
        assert_eq!(may, [false, true, false, true, true, false]);
        assert!(Destinations::default().may_connect(443));
        assert!(!Destinations::default().may_connect(25));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, says) in [
            ("connect_ports = [0]", "a port or"),
            ("connect_ports = [65536]", "expected ports"),
            ("connect_ports = [\"9-8\"]", "a port or"),
            ("connect_ports = 443", "expected ports"),
            ("allow = [\"localhost\"]", "an address or a network"),
            ("deny = []", "unknown field"),
        ] {
            let e = read(text).unwrap_err();
            assert!(e.contains(says) && e.contains("m.toml:2"), "{text}: {e}");
        }
    }
}
