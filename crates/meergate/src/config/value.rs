//! Values with units: durations (`10s`, `5m`) and sizes (`64KiB`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// A length of time: whole seconds, or text with a unit (`250ms`, `10s`, `5m`, `2h`, `1d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const UNITS: &[(&str, u64)] =
            &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let milliseconds = deserializer.deserialize_any(Quantity {
            bare: 1_000,
            units: UNITS,
            expected: "a duration like \"10s\", \"5m\" or a number of seconds",
        })?;
        Ok(Self(Duration::from_millis(milliseconds)))
    }
}

/// A number of bytes: bare, or text with a unit (`64KiB`, `1MiB`, `2GiB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const UNITS: &[(&str, u64)] =
            &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        deserializer
            .deserialize_any(Quantity {
                bare: 1,
                units: UNITS,
                expected: "a size like \"64KiB\", \"1MiB\" or a number of bytes",
            })
            .map(Self)
    }
}

/// A number with one of `units`, or of `bare` units without.
struct Quantity {
    bare: u64,
    units: &'static [(&'static str, u64)],
    expected: &'static str,
}

impl Quantity {
    fn read(&self, text: &str) -> Option<u64> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = self.units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
        number.parse::<u64>().ok()?.checked_mul(factor)
    }
}

impl Visitor<'_> for Quantity {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value)
            .ok()
            .and_then(|value| value.checked_mul(self.bare))
            .ok_or_else(|| E::custom(format!("expected {}, not {value}", self.expected)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        value
            .checked_mul(self.bare)
            .ok_or_else(|| E::custom(format!("expected {}, not {value}", self.expected)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        self.read(text)
            .ok_or_else(|| E::custom(format!("expected {}, not {text:?}", self.expected)))
    }
}

/// An address with port, or the word `off`.
pub(super) fn address_or_off<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        D::Error::custom(format!("expected an address with port or \"off\", not {text:?}"))
    })
}

/// Networks; an address alone stands for itself.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| {
            text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(
                |_| {
                    D::Error::invalid_value(
                        Unexpected::Str(text),
                        &"an address or a network such as \"10.0.0.0/8\"",
                    )
                },
            )
        })
        .collect()
}

/// SHA-256 values in hexadecimal.
pub(super) fn fingerprints<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<[u8; 32]>, D::Error> {
    let read = |text: &String| {
        let mut bytes = [0; 32];
        let digits = text.bytes().filter(|b| *b != b':').map(|b| char::from(b).to_digit(16));
        let digits: Vec<u8> =
            digits.collect::<Option<Vec<u32>>>()?.iter().map(|d| *d as u8).collect();
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Some(bytes)
    };
    let expected = "a SHA-256 fingerprint of 64 hexadecimal digits";
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| {
            read(text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(text), &expected))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Values {
        time: Option<Span>,
        size: Option<Bytes>,
    }

    #[test]
    fn quantities_have_units() {
        let v: Values = toml::from_str("time = \"250ms\"\nsize = \"64KiB\"").unwrap();
        assert_eq!(v.time, Some(Span(Duration::from_millis(250))));
        assert_eq!(v.size, Some(Bytes(65_536)));
        let v: Values = toml::from_str("time = 3\nsize = \"2 MiB\"").unwrap();
        assert_eq!(v.time, Some(Span::seconds(3)));
        assert_eq!(v.size, Some(Bytes(2 << 20)));
    }

    #[test]
    fn doubtful_quantities_are_errors() {
        for bad in ["-1", "\"\"", "\"s\"", "\"10\"", "\"10 parsecs\"", "1.5", "\"-1s\""] {
            assert!(toml::from_str::<Values>(&format!("time = {bad}")).is_err(), "{bad}");
        }
        assert!(toml::from_str::<Values>("size = \"99999999999GiB\"").is_err());
    }
}
