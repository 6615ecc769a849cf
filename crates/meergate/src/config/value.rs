//! Values of more than one key: addresses, networks, fingerprints.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};
use units::Size;

/// Why a value makes no sense, in words.
#[derive(Debug)]
pub struct BadValue(String);

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadValue {}

impl From<String> for BadValue {
    fn from(why: String) -> Self {
        Self(why)
    }
}

impl From<&str> for BadValue {
    fn from(why: &str) -> Self {
        Self(why.to_owned())
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

/// The length of a WebSocket message. The inspector takes no longer ones.
pub(super) fn message<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let bytes = Size::deserialize(deserializer)?;
    match ((1 << 10)..=(16 << 20)).contains(&bytes.0) {
        true => Ok(bytes),
        false => Err(D::Error::custom("websocket_message must be from \"1KiB\" to \"16MiB\"")),
    }
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
