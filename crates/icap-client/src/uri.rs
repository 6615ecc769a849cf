//! Where a service is.

use std::path::PathBuf;

use crate::ConfigError;

/// IANA's port for ICAP.
const PORT: u16 = 1344;
/// The usual port for ICAP inside TLS.
const TLS_PORT: u16 = 11344;

/// The address of one endpoint, and how requests name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceUri {
    pub(crate) place: Place,
    /// The URI of the request line.
    pub(crate) request_uri: String,
    /// The value of the Host header.
    pub(crate) host_header: String,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

impl ServiceUri {
    /// Reads `icap://host[:port][/service]`, `icaps://…` or `unix:/path[:/service]`.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let bad = |why: &str| {
            ConfigError::new(format!(
                "ICAP URL {text:?}: {why}; write icap://host:port/service, \
                 icaps://host:port/service or unix:/path/to.sock:/service"
            ))
        };
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad("blanks or characters outside ASCII"));
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            let (path, service) = match rest.find(":/") {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None => (rest, "/"),
            };
            if !path.starts_with('/') {
                return Err(bad("the socket's path must be absolute"));
            }
            return Ok(Self {
                place: Place::Unix(path.into()),
                request_uri: format!("icap://localhost{service}"),
                host_header: "localhost".into(),
            });
        }
        let scheme_is = |s: &str| text.get(..s.len()).is_some_and(|t| t.eq_ignore_ascii_case(s));
        let tls = scheme_is("icaps://");
        if !tls && !scheme_is("icap://") {
            return Err(bad("an unknown scheme"));
        }
        let rest = &text[if tls { 8 } else { 7 }..];
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') || path.contains('#') {
            return Err(bad("user names and fragments have no meaning here"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) =
                    v6.split_once(']').ok_or_else(|| bad("no ] after the address"))?;
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(bad("no IPv6 address in the brackets"));
                }
                match rest {
                    "" => (host, None),
                    _ => (host, Some(rest.strip_prefix(':').ok_or_else(|| bad("text after ]"))?)),
                }
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(bad("no host"));
        }
        if !authority.starts_with('[') && host.contains(':') {
            return Err(bad("an IPv6 address needs brackets"));
        }
        let port = match port {
            None => {
                if tls {
                    TLS_PORT
                } else {
                    PORT
                }
            }
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(bad("a port that is not 1 to 65535")),
            },
        };
        Ok(Self {
            place: Place::Tcp { host: host.to_owned(), port, tls },
            request_uri: format!("icap://{authority}{path}"),
            host_header: authority.to_owned(),
        })
    }

    /// How logs name it.
    pub(crate) fn label(&self) -> String {
        match &self.place {
            Place::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let tcp = |text: &str| match ServiceUri::parse(text).unwrap().place {
            Place::Tcp { host, port, tls } => (host, port, tls),
            Place::Unix(_) => panic!("not TCP"),
        };
        assert_eq!(tcp("icap://h/x"), ("h".into(), 1344, false));
        assert_eq!(tcp("ICAPS://h"), ("h".into(), 11344, true));
        assert_eq!(tcp("icap://[::1]:99/x?y=1"), ("::1".into(), 99, false));
        let uri = ServiceUri::parse("icap://[::1]:99/x?y=1").unwrap();
        assert_eq!(
            (uri.request_uri.as_str(), uri.host_header.as_str()),
            ("icap://[::1]:99/x?y=1", "[::1]:99")
        );
        let uri = ServiceUri::parse("unix:/run/a.sock:/suricata").unwrap();
        assert_eq!(uri.place, Place::Unix("/run/a.sock".into()));
        assert_eq!(uri.request_uri, "icap://localhost/suricata");
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "http://h/",
            "icap://",
            "icap://h:0/",
            "icap://h:x/",
            "icap://::1/",
            "icap://[::1/",
            "icap://[h]/",
            "icap://u@h/",
            "unix:a.sock",
            "icap://h/a b",
            "icap://h/#f",
        ] {
            assert!(ServiceUri::parse(text).is_err(), "{text}");
        }
    }
}
