//! Settings: a TOML file in which unknown keys are errors, and flags that win over it.

mod capture;
mod destinations;
mod firewall;
mod flags;
mod http;
mod icap;
mod listen;
mod rule;
mod sandbox;
mod texts;
mod tls_versions;
mod upstream_proxy;
mod users;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use start_error::StartError;

use crate::words::HttpUrl;

pub use capture::Capture;
pub use destinations::{Destinations, Ports};
pub use firewall::Firewall;
pub(crate) use flags::Flags;
pub use http::{Http, Ranges, Responses, Uninspectable};
pub use icap::Icap;
pub use listen::{Listen, ListenProtocol, Way};
pub(crate) use rule::is_every_host;
pub use rule::{
    Action, CertificateAsked, ClientCertificate, InvalidCertificate, Mirror, Pinned, Rule,
    UnsupportedTls,
};
pub use sandbox::Sandbox;
pub(crate) use texts::Texts;
pub use tls_versions::{TlsBounds, TlsVersion, TlsVersions};
pub use units::{Size, Span};
pub use upstream_proxy::{Credentials, DIRECT, ProxyKind, UpstreamProxy};
pub use users::Users;

/// All settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the CA made on first run is kept; default `$XDG_STATE_HOME/meergate`, else
    /// `~/.local/state/meergate`.
    pub state_dir: Option<PathBuf>,
    /// The file that this was read from.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// What this file and the lists that it names held.
    #[serde(skip)]
    pub(crate) texts: Texts,
    /// The user to become once listeners are open and files are read; for starts as root.
    pub user: Option<String>,
    /// What the program gives up before it serves.
    pub sandbox: Sandbox,
    /// The ways in; without any, an explicit proxy on 127.0.0.1:8080.
    pub listen: Vec<Listen>,
    /// What becomes of connections and requests; the first rule that matches decides.
    pub rule: Vec<Rule>,
    /// That there is no rule is meant: a reload may take the last one away.
    pub no_rules: bool,
    /// Certificates for origins that ask for one; rules choose.
    pub client_certificate: Vec<ClientCertificate>,
    /// Who may use the explicit proxy and SOCKS5.
    pub users: Users,
    /// Where clients may be led at all.
    pub destinations: Destinations,
    /// The CA that forges leaf certificates.
    pub ca: Ca,
    /// Towards origins.
    pub upstream: Upstream,
    /// Proxies through which origins are reached; `upstream.proxy` and rules choose.
    pub upstream_proxy: Vec<UpstreamProxy>,
    /// TLS towards clients.
    pub tls: Tls,
    /// The ICAP services.
    pub icap: Icap,
    /// HTTP.
    pub http: Http,
    /// The nftables rules that transparent listeners need.
    pub firewall: Firewall,
    /// Bounds.
    pub limits: Limits,
    /// Logs.
    pub log: Log,
    /// Captures of decrypted traffic.
    pub capture: Capture,
    /// Status page, metrics and CA download.
    pub console: Console,
}

/// The forging CA.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ca {
    /// Certificate (PEM), followed by its chain if it is an intermediate.
    pub cert: Option<PathBuf>,
    /// Private key (PEM, PKCS#8).
    pub key: Option<PathBuf>,
}

/// Towards origins.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Files (PEM) with CAs to trust besides the system's.
    pub ca: Vec<PathBuf>,
    /// Files (PEM) with certificates of CAs that origins may leave out of their chains. None of them is
    /// trusted for that.
    pub intermediates: Vec<PathBuf>,
    /// Whether those that origins leave out are fetched from where their certificates say that they are.
    pub fetch_intermediates: bool,
    /// Of how many CAs the certificates that origins showed are remembered, for origins that don't.
    pub intermediate_cache: usize,
    /// Whether the system's CAs are trusted.
    pub system_ca: bool,
    /// The `[[upstream_proxy]]` through which origins are reached unless a rule names another.
    pub proxy: Option<String>,
    /// How long one TCP connection may take to open.
    pub connect_timeout: Span,
    /// How long the TLS handshake may take.
    pub handshake_timeout: Span,
    /// How long addresses of a name are kept.
    pub dns_cache: Span,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            ca: Vec::new(),
            intermediates: Vec::new(),
            fetch_intermediates: true,
            intermediate_cache: 1024,
            system_ca: true,
            proxy: None,
            connect_timeout: Span::seconds(10),
            handshake_timeout: Span::seconds(10),
            dns_cache: Span::seconds(60),
        }
    }
}

/// TLS towards clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// A file that secrets of all TLS connections are appended to (NSS key log format), for
    /// debugging. Also read from `SSLKEYLOGFILE` when `--keylog` is given without a file.
    pub keylog: Option<PathBuf>,
    /// Where leaves say that their revocations are listed; a request for it that comes through is answered here.
    pub crl_url: Option<HttpUrl>,
    /// How many forged leaves are kept.
    pub leaf_cache: usize,
    /// How many upstream TLS sessions are kept for resumption.
    pub session_cache: usize,
    /// The oldest version that is spoken; listeners and rules may say otherwise.
    pub min: TlsVersion,
    /// The newest one.
    pub max: TlsVersion,
    /// How much of TLS handshakes services that take streams are shown; rules may say otherwise.
    pub mirror: Mirror,
}

impl Tls {
    /// The versions that are spoken.
    ///
    /// # Errors
    /// There are none.
    pub fn versions(&self) -> Result<TlsVersions, StartError> {
        TlsVersions::new(self.min, self.max).map_err(|what| {
            StartError::new(what.to_string(), "tls.min and tls.max", "leave one of them out")
        })
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            keylog: None,
            crl_url: None,
            leaf_cache: 4096,
            session_cache: 4096,
            min: TlsVersion::Tls12,
            max: TlsVersion::Tls13,
            mirror: Mirror::default(),
        }
    }
}

/// Bounds. [`Limited`](crate::words::Limited) has those whose reaching is counted.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Client connections open at once.
    pub connections: usize,
    /// Client connections of one address open at once; 0 for no such limit.
    pub connections_per_client: usize,
    /// How long a client may take to begin: first request head, TLS ClientHello and handshake.
    pub begin_timeout: Span,
    /// How long a connection may be silent between requests.
    pub idle_timeout: Span,
    /// How long both sides of a relay may be silent: of what is bypassed, and after an upgrade.
    pub relay_timeout: Span,
    /// How long a stream that is not HTTP may be silent.
    pub stream_idle_timeout: Span,
    /// The least that must come of a request's content, in bytes a second, while it is waited for;
    /// 0 for no such limit.
    pub min_rate: Size,
    /// How far behind that it may fall: the longest pause of content that came no faster.
    pub min_rate_window: Span,
    /// Memory that contents of HTTP/2 streams may take while nobody reads them, beyond the 8 MiB
    /// that each connection has.
    pub stream_windows: Size,
    /// Memory for copies of contents that are kept so that the original can go on.
    pub copies: Size,
    /// The longest WebSocket message that is inspected, inflated; from 1 KiB to 16 MiB.
    #[serde(deserialize_with = "value::message")]
    pub websocket_message: Size,
    /// Memory for WebSocket messages that are held until they are inspected.
    pub websocket_memory: Size,
    /// Computing time that one client may have certificates of origins verified for, each second; at
    /// least 1 ms.
    pub verification: Span,
    /// How long open connections may go on after SIGTERM.
    pub shutdown_timeout: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_client: 0,
            begin_timeout: Span::seconds(20),
            idle_timeout: Span::seconds(120),
            relay_timeout: Span::seconds(3600),
            stream_idle_timeout: Span::seconds(3600),
            min_rate: Size(240),
            min_rate_window: Span::seconds(120),
            stream_windows: Size(256 << 20),
            copies: Size(512 << 20),
            websocket_message: Size(16 << 20),
            websocket_memory: Size(512 << 20),
            verification: Span(Duration::from_millis(100)),
            shutdown_timeout: Span::seconds(15),
        }
    }
}

/// Where records go; nothing is written where no file is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A file for one JSON line a client connection.
    pub connections: Option<PathBuf>,
    /// A file for one JSON line a transaction.
    pub transactions: Option<PathBuf>,
}

/// The console.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Where it listens; `off` for nowhere.
    #[serde(deserialize_with = "value::address_or_off")]
    pub address: Option<SocketAddr>,
    /// Names by which browsers may ask for it, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Connections open at once.
    pub connections: u64,
}

impl Default for Console {
    fn default() -> Self {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 8088)));
        Self { address, hosts: Vec::new(), connections: 64 }
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has a key or value that is not known; the error
    /// names the line.
    pub fn from_file(path: &Path) -> Result<Self, StartError> {
        Self::read(path, Texts::default())
    }

    /// Reads the file at `path` anew, and is to read the lists that it names, if they are whole.
    ///
    /// # Errors
    /// As [`Config::from_file`], or it was cut.
    pub(crate) fn reread(&self, path: &Path) -> Result<Self, StartError> {
        Self::read(path, self.texts.successor())
    }

    fn read(path: &Path, texts: Texts) -> Result<Self, StartError> {
        let text = texts.read(path, "the settings")?;
        let mut config = Self::from_toml(&text, &path.display().to_string())?;
        config.file = Some(path.to_owned());
        config.texts = texts;
        Ok(config)
    }

    /// Reads `text`; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Config::from_file`]; all of them.
    pub fn from_toml(text: &str, name: &str) -> Result<Self, StartError> {
        toml_faults::read(text).or_else(|faults| {
            let fault = |fault: &toml_faults::Fault| {
                let advice = "correct this line (docs/settings.md lists all keys)";
                StartError::in_text(name, (fault.line, fault.column), &fault.what, advice)
            };
            StartError::none_of(faults.iter().map(fault)).map(|()| Self::default())
        })
    }

    /// The directory for what the program keeps between runs.
    ///
    /// # Errors
    /// None is set and the environment names no home.
    pub fn state_dir(&self) -> Result<PathBuf, StartError> {
        if let Some(dir) = &self.state_dir {
            return Ok(dir.clone());
        }
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .map(|state| state.join("meergate"))
            .ok_or_else(|| {
                StartError::new(
                    "no place to keep the CA",
                    "HOME and XDG_STATE_HOME are unset",
                    "name a directory with --state-dir, or a CA with --ca-cert and --ca-key",
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let e = Config::from_toml("[limits]\nconnections = 3\nconections = 4\n", "m.toml")
            .unwrap_err()
            .to_string();
        assert!(e.contains("unknown field `conections`"), "{e}");
        assert!(e.contains("m.toml:3"), "{e}");
        assert!(!e.contains('\n'), "{e}");
    }

    #[test]
    fn wrong_values_are_named_with_their_line() {
        for (text, line) in [
            ("[[listen]]\naddress = \"nowhere\"\n", ":2"),
            ("[[listen]]\naddress = \"127.0.0.1:1\"\nkind = \"magic\"\n", ":3"),
            ("\n\n[limits]\nidle_timeout = \"soon\"\n", ":4"),
            ("a = [\n", ":1"),
        ] {
            let e = Config::from_toml(text, "m.toml").unwrap_err().to_string();
            assert!(e.contains(&format!("m.toml{line}")), "{text}: {e}");
        }
    }

    #[test]
    fn the_console_can_be_off() {
        let config = Config::from_toml("[console]\naddress = \"off\"\n", "m.toml").unwrap();
        assert_eq!(config.console.address, None);
        let config = Config::from_toml("", "m.toml").unwrap();
        assert_eq!(config.console.address, Some("127.0.0.1:8088".parse().unwrap()));
    }
}
