//! `[[listen]]`: the ways in.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::tls_versions::{TlsBounds, TlsVersion};
use super::value::{BadValue, networks};
use crate::words::Target;

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Keys")]
pub struct Listen {
    /// Where to listen. `[::]:PORT` takes IPv4 and IPv6.
    pub address: SocketAddr,
    /// What arrives there.
    pub way: Way,
    /// Peers (load balancers) whose connections begin with a PROXY protocol header, version 1 or
    /// 2, that names the client. Nobody else's header is believed.
    pub proxy_protocol: Vec<IpNet>,
    /// What may be spoken.
    pub protocol: ListenProtocol,
    /// The versions of TLS, where they are others than `tls.min` and `tls.max`.
    pub tls: TlsBounds,
    /// The TCP ports whose connections `meergate nft` has netfilter bring here (redirect, tproxy).
    pub ports: Vec<u16>,
}

impl Listen {
    /// What tells it from the others of the same settings.
    pub fn name(&self) -> String {
        format!("{} {}", self.way.as_str(), self.address)
    }
}

/// What arrives at a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Requests of clients that know of the proxy: CONNECT and absolute-form.
    Proxy,
    /// Connections that netfilter redirected here (`REDIRECT`, `DNAT`); they go on to their
    /// original destination.
    Redirect,
    /// TLS connections that go to the host which the ClientHello names, at this port.
    Sni {
        /// The port of origins.
        port: u16,
    },
    /// SOCKS5 (RFC 1928).
    Socks5,
    /// All connections go to one origin.
    Target(Target),
    /// Connections that netfilter diverted here (`TPROXY`); they go on to their original
    /// destination.
    Tproxy {
        /// Whether origins see the client's address instead of ours. Their answers must be routed
        /// back through this machine.
        keep_client_address: bool,
    },
}

impl Way {
    /// The word for it in settings, logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Redirect => "redirect",
            Self::Sni { .. } => "sni",
            Self::Socks5 => "socks5",
            Self::Target(_) => "target",
            Self::Tproxy { .. } => "tproxy",
        }
    }
}

/// What may be spoken on connections of a listener.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ListenProtocol {
    /// Anything: what is not HTTP is inspected as a stream.
    Any,
    /// HTTP, also inside TLS. Anything else needs a rule that bypasses it.
    #[default]
    Http,
}

/// The keys as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    address: SocketAddr,
    #[serde(default)]
    kind: Kind,
    target: Option<String>,
    port: Option<u16>,
    keep_client_address: Option<bool>,
    #[serde(default)]
    protocol: ListenProtocol,
    #[serde(default, deserialize_with = "networks")]
    proxy_protocol: Vec<IpNet>,
    ports: Option<Vec<u16>>,
    tls_min: Option<TlsVersion>,
    tls_max: Option<TlsVersion>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Proxy,
    Redirect,
    Sni,
    Socks5,
    Target,
    Tproxy,
}

impl TryFrom<Keys> for Listen {
    type Error = BadValue;

    fn try_from(keys: Keys) -> Result<Self, BadValue> {
        let Keys {
            address,
            kind,
            target,
            port,
            keep_client_address,
            protocol,
            proxy_protocol,
            ports,
            tls_min,
            tls_max,
        } = keys;
        let transparent = matches!(kind, Kind::Redirect | Kind::Tproxy);
        let foreign = [
            (target.is_some() && kind != Kind::Target, "target", "target"),
            (port.is_some() && kind != Kind::Sni, "port", "sni"),
            (
                keep_client_address.is_some() && kind != Kind::Tproxy,
                "keep_client_address",
                "tproxy",
            ),
            (ports.is_some() && !transparent, "ports", "redirect\" or \"tproxy"),
        ];
        if let Some((_, key, kind)) = foreign.iter().find(|(wrong, ..)| *wrong) {
            return Err(format!("`{key}` is for listeners of kind = \"{kind}\" only").into());
        }
        let way = match kind {
            Kind::Proxy => Way::Proxy,
            Kind::Redirect => Way::Redirect,
            Kind::Sni => match port.unwrap_or(443) {
                0 => return Err("`port` is 1 to 65535".into()),
                port => Way::Sni { port },
            },
            Kind::Socks5 => Way::Socks5,
            Kind::Target => {
                let text = target.ok_or("kind = \"target\" needs `target = \"host:port\"`")?;
                let target = Target::from_authority(&text, 443)
                    .map_err(|e| format!("target {text:?} is {e}"))?;
                Way::Target(target)
            }
            Kind::Tproxy => {
                Way::Tproxy { keep_client_address: keep_client_address.unwrap_or(false) }
            }
        };
        let ports = ports.unwrap_or_else(|| vec![80, 443]);
        if ports.is_empty() || ports.contains(&0) {
            return Err("`ports` is a list of at least one port".into());
        }
        let tls = TlsBounds::new(tls_min, tls_max)?;
        Ok(Self { address, way, proxy_protocol, protocol, tls, ports })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Way};

    fn listen(text: &str) -> Result<Way, String> {
        let text = format!("[[listen]]\naddress = \"[::]:1\"\n{text}");
        Config::from_toml(&text, "m.toml")
            .map(|config| config.listen[0].way.clone())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn each_kind_takes_its_own_keys() {
        assert_eq!(listen(""), Ok(Way::Proxy));
        assert_eq!(listen("kind = \"sni\""), Ok(Way::Sni { port: 443 }));
        assert_eq!(
            listen("kind = \"tproxy\"\nkeep_client_address = true"),
            Ok(Way::Tproxy { keep_client_address: true })
        );
        let Ok(Way::Target(target)) = listen("kind = \"target\"\ntarget = \"[::1]:8443\"") else {
            panic!("no target");
        };
        assert_eq!(target.to_string(), "[::1]:8443");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, says) in [
            ("kind = \"target\"", "needs `target"),
            ("kind = \"target\"\ntarget = \"a b\"", "neither a host name"),
            ("target = \"a:1\"", "kind = \"target\" only"),
            ("keep_client_address = true", "kind = \"tproxy\" only"),
            ("kind = \"sni\"\nport = 0", "1 to 65535"),
            ("kind = \"sni\"\nport = 65536", "u16"),
            ("proxy_protocol = [\"10.0.0.0/99\"]", "an address or a network"),
            ("ports = [1]", "\"redirect\" or \"tproxy\" only"),
            ("kind = \"redirect\"\nports = []", "at least one"),
            ("protocol = \"smtp\"", "unknown variant"),
            ("magic = 1", "unknown field"),
        ] {
            let e = listen(text).unwrap_err();
            assert!(e.contains(says), "{text}: {e}");
            assert!(e.contains("m.toml:"), "{e}");
        }
    }
}
