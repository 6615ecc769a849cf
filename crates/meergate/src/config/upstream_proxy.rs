//! `[[upstream_proxy]]`: proxies through which origins are reached.

use std::fmt;

use serde::Deserialize;

use super::value::BadValue;
use crate::words::Target;

/// A proxy through which origins are reached; `upstream.proxy` or a rule names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Keys")]
pub struct UpstreamProxy {
    /// How rules call it.
    pub name: String,
    /// What it speaks.
    pub kind: ProxyKind,
    /// Where it is.
    pub target: Target,
    /// As whom we come.
    pub credentials: Option<Credentials>,
}

/// What an upstream proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP: absolute targets for plain HTTP, CONNECT for everything else (RFC 9110 section 9.3.6).
    Http,
    /// SOCKS5 CONNECT (RFC 1928).
    Socks5,
}

/// A user's name and password, 1 to 255 bytes each (the bounds of RFC 1929), without control
/// characters; the name without a colon.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Without the password: settings are shown in errors and logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    name: String,
    url: String,
    user: Option<String>,
    password: Option<String>,
}

/// The word that stands for no proxy where a name is expected.
pub const DIRECT: &str = "direct";

impl TryFrom<Keys> for UpstreamProxy {
    type Error = BadValue;

    fn try_from(keys: Keys) -> Result<Self, BadValue> {
        let Keys { name, url, user, password } = keys;
        if name == DIRECT {
            return Err(format!("{DIRECT:?} is the name for no proxy at all").into());
        }
        let (kind, rest, default_port) = match url.split_once("://") {
            Some(("http", rest)) => (ProxyKind::Http, rest, 8080),
            Some(("socks5", rest)) => (ProxyKind::Socks5, rest, 1080),
            _ => {
                let why = format!("{url:?} is neither http://HOST:PORT nor socks5://HOST:PORT");
                return Err(why.into());
            }
        };
        if rest.contains('@') {
            return Err("the name and password go into `user` and `password`".into());
        }
        let target = Target::from_authority(rest.trim_end_matches('/'), default_port)
            .map_err(|e| format!("the proxy's address {rest:?} is {e}"))?;
        let credentials = match (user, password) {
            (None, None) => None,
            (Some(user), Some(password)) => Some(Credentials::new(user, password)?),
            _ => return Err("`user` and `password` go together".into()),
        };
        Ok(Self { name, kind, target, credentials })
    }
}

impl Credentials {
    fn new(user: String, password: String) -> Result<Self, BadValue> {
        let sound = |text: &str| {
            (1..=255).contains(&text.len()) && !text.bytes().any(|b| b.is_ascii_control())
        };
        if !sound(&user) || !sound(&password) || user.contains(':') {
            return Err("`user` and `password` have 1 to 255 bytes without control characters, \
                        and no colon in the name"
                .into());
        }
        Ok(Self { user, password })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ProxyKind};

    fn read(text: &str) -> Result<Config, String> {
        Config::from_toml(&format!("[[upstream_proxy]]\nname = \"p\"\n{text}"), "m.toml")
            .map_err(|e| e.to_string())
    }

    #[test]
    fn urls_name_kind_and_place() {
        let proxy = read("url = \"http://proxy.example\"").unwrap().upstream_proxy.remove(0);
        assert_eq!((proxy.kind, proxy.target.port), (ProxyKind::Http, 8080));
        let text = "url = \"socks5://[::1]:9/\"\nuser = \"u\"\npassword = \"geheim\"";
        let config = read(text).unwrap();
        assert_eq!(config.upstream_proxy[0].target.to_string(), "[::1]:9");
        assert!(!format!("{config:?}").contains("geheim"), "passwords are not shown");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, says) in [
            ("url = \"https://a:1\"", "neither http://"),
            ("url = \"http://a b\"", "neither a host name"),
            ("url = \"http://u:p@a\"", "go into `user`"),
            ("url = \"http://a\"\nuser = \"u\"", "go together"),
            ("url = \"http://a\"\nuser = \"u:x\"\npassword = \"p\"", "no colon"),
            ("url = \"http://a\"\nuser = \"u\"\npassword = \"p\\r\\nX: y\"", "control characters"),
            ("url = \"http://a\"\nport = 1", "unknown field"),
        ] {
            let e = read(text).unwrap_err();
            assert!(e.contains(says), "{text}: {e}");
        }
        let e = Config::from_toml("[[upstream_proxy]]\nname = \"direct\"\nurl = \"http://a\"", "m");
        assert!(e.unwrap_err().to_string().contains("no proxy at all"));
    }
}
