//! Where to listen.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where to listen for ICAP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Listen {
    /// An address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The same inside TLS, `icaps://address:port`.
    Tls(SocketAddr),
    /// A Unix socket, `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Tls(addr) => write!(f, "icaps://{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = BadListen;

    fn from_str(text: &str) -> Result<Self, BadListen> {
        match text.strip_prefix("unix:") {
            Some("") => return Err(BadListen::NoPath),
            Some(path) => return Ok(Self::Unix(path.into())),
            None => {}
        }
        let (address, kind): (_, fn(SocketAddr) -> Self) = match text.strip_prefix("icaps://") {
            Some(address) => (address, Self::Tls),
            None => (text, Self::Tcp),
        };
        address.parse().map(kind).map_err(|_| BadListen::Unknown(text.to_owned()))
    }
}

impl TryFrom<String> for Listen {
    type Error = BadListen;

    fn try_from(text: String) -> Result<Self, BadListen> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.to_string()
    }
}

/// Why a text is no place to listen.
#[derive(Debug)]
pub(crate) enum BadListen {
    /// `unix:` alone.
    NoPath,
    /// What it is, is unknown.
    Unknown(String),
}

impl fmt::Display for BadListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPath => f.write_str("unix: needs a path, as in unix:/run/meergate/icap.sock"),
            Self::Unknown(text) => write!(
                f,
                "{text:?} is neither ADDRESS:PORT (127.0.0.1:1344, [::1]:1344) nor \
                 icaps://ADDRESS:PORT nor unix:/path"
            ),
        }
    }
}

impl std::error::Error for BadListen {}
