//! Hosts and ports, as request targets and `Host` have them.

use crate::error::{Error, ErrorKind};
use crate::syntax;

/// A host with an optional port, as in `Host` and in request targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address without its brackets. Never empty.
    pub host: &'a str,
    /// The port, if one is written.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host[:port]`: letters, digits, `-`, `.`, `_` or a bracketed IPv6 address. No user
    /// information, no percent-encoding, nothing that two parsers could cut at another place.
    ///
    /// # Errors
    /// [`ErrorKind::Host`].
    pub fn parse(text: &'a [u8]) -> Result<Self, Error> {
        let bad = || Error::new(ErrorKind::Host);
        let (host, rest) = match text.strip_prefix(b"[") {
            Some(inner) => {
                let end = memchr::memchr(b']', inner).ok_or_else(bad)?;
                let host = std::str::from_utf8(&inner[..end]).map_err(|_| bad())?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (host, &inner[end + 1..])
            }
            None => {
                let (host, rest) = text.split_at(syntax::host_length(text));
                if host.is_empty() || host.len() > 255 {
                    return Err(bad());
                }
                (std::str::from_utf8(host).map_err(|_| bad())?, rest)
            }
        };
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(port(digits).ok_or_else(bad)?),
            _ => return Err(bad()),
        };
        Ok(Self { host, port })
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|&p| p != 0)
}

/// The form of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm<'a> {
    /// `http://host[:port]/path`: a request to a proxy.
    Absolute {
        /// The scheme as written, without `://`.
        scheme: &'a str,
        /// Host and port.
        authority: Authority<'a>,
        /// Path and query, as written. Empty if the target has none: send `/` then, or `*` for OPTIONS.
        path: &'a [u8],
    },
    /// `*`: OPTIONS of the server as a whole.
    Asterisk,
    /// `host:port`: CONNECT.
    Authority(Authority<'a>),
    /// `/path?query`.
    Origin,
}

impl<'a> TargetForm<'a> {
    pub(crate) fn parse(method: &[u8], target: &'a [u8]) -> Result<Self, Error> {
        let bad = || Error::new(ErrorKind::Target);
        if method == b"CONNECT" {
            let authority = Authority::parse(target).map_err(|_| bad())?;
            return match authority.port {
                Some(_) => Ok(Self::Authority(authority)),
                None => Err(bad()),
            };
        }
        match target {
            [b'/', ..] => Ok(Self::Origin),
            b"*" if method == b"OPTIONS" => Ok(Self::Asterisk),
            _ => {
                let colon = memchr::memmem::find(target, b"://").ok_or_else(bad)?;
                let scheme = std::str::from_utf8(&target[..colon]).map_err(|_| bad())?;
                if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphabetic()) {
                    return Err(bad());
                }
                let rest = &target[colon + 3..];
                let cut = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
                let authority = Authority::parse(&rest[..cut]).map_err(|_| bad())?;
                Ok(Self::Absolute { scheme, authority, path: &rest[cut..] })
            }
        }
    }
}
