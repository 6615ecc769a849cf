//! Settings on the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use ipnet::IpNet;

use start_error::StartError;

use super::value::BadValue;
use super::{Config, Listen, ListenProtocol, Ports, TlsBounds, Way};

/// Settings on the command line; they win over the file's.
#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the explicit proxy [default: 127.0.0.1:8080]; replaces all `[[listen]]`.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Directory for what is kept between runs, the CA above all.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Certificate (PEM) of the CA that signs forged certificates, with its chain.
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// Private key (PEM) of that CA.
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// File (PEM) of CAs to trust in origins' certificates, besides the system's; may be repeated.
    #[arg(long, value_name = "FILE")]
    upstream_ca: Vec<PathBuf>,
    /// ICAP service that inspects, such as icap://127.0.0.1:1344/suricata; repeat it for a chain.
    /// Replaces all services of the file.
    #[arg(long, value_name = "URL")]
    icap: Vec<String>,
    /// Network that clients may reach although it is denied by default (loopback, link-local), such
    /// as 127.0.0.0/8; may be repeated.
    #[arg(long, value_name = "NET", value_parser = network)]
    allow_destination: Vec<IpNet>,
    /// Ports that CONNECT may ask for: 443, or 8000-8999; may be repeated. Replaces those of the file
    /// [default: 80, 443, 563, 8443].
    #[arg(long, value_name = "PORTS")]
    connect_ports: Vec<Ports>,
    /// Address of status page, metrics and CA download, or `off` [default: 127.0.0.1:8088].
    #[arg(long, value_name = "ADDR", value_parser = address_or_off)]
    console: Option<ConsoleAddress>,
    /// Append the secrets of all TLS connections to this file (NSS key log format), for debugging
    /// only [default without FILE: the environment's SSLKEYLOGFILE].
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    keylog: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum ConsoleAddress {
    At(SocketAddr),
    Off,
}

fn address_or_off(text: &str) -> Result<ConsoleAddress, BadValue> {
    if text == "off" {
        return Ok(ConsoleAddress::Off);
    }
    text.parse().map(ConsoleAddress::At).map_err(|e| format!("{e}; or \"off\"").into())
}

fn network(text: &str) -> Result<IpNet, BadValue> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| alone())
        .map_err(|_| "expected an address or a network such as 127.0.0.0/8".into())
}

fn explicit(address: SocketAddr) -> Listen {
    Listen {
        address,
        way: Way::Proxy,
        protocol: ListenProtocol::Http,
        proxy_protocol: Vec::new(),
        tls: TlsBounds::default(),
        ports: Vec::new(),
    }
}

impl Flags {
    /// The settings of the file with these on top.
    pub(crate) fn config(&self) -> Result<Config, StartError> {
        let config =
            self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::from_file)?;
        self.over(config)
    }

    /// Reads the settings anew, in the place of `former`.
    pub(crate) fn reread(&self, former: &Config) -> Result<Config, StartError> {
        let anew = |path: &Path| former.reread(path);
        self.over(self.config.as_deref().map_or_else(|| Ok(Config::default()), anew)?)
    }

    /// `config`, with what the command line says instead.
    fn over(&self, mut config: Config) -> Result<Config, StartError> {
        let flags = self.clone();
        if let Some(address) = flags.listen {
            config.listen = vec![explicit(address)];
        } else if config.listen.is_empty() {
            config.listen = vec![explicit(SocketAddr::from(([127, 0, 0, 1], 8080)))];
        }
        if flags.state_dir.is_some() {
            config.state_dir = flags.state_dir;
        }
        if flags.ca_cert.is_some() {
            config.ca.cert = flags.ca_cert;
            config.ca.key = flags.ca_key;
        }
        config.upstream.ca.extend(flags.upstream_ca);
        if !flags.icap.is_empty() {
            config.icap.urls = flags.icap;
        }
        config.destinations.allow.extend(flags.allow_destination);
        if !flags.connect_ports.is_empty() {
            config.destinations.connect_ports = flags.connect_ports;
        }
        match flags.console {
            Some(ConsoleAddress::At(address)) => config.console.address = Some(address),
            Some(ConsoleAddress::Off) => config.console.address = None,
            None => {}
        }
        match flags.keylog {
            Some(path) if path.as_os_str().is_empty() => {
                let path = std::env::var_os("SSLKEYLOGFILE").ok_or_else(|| {
                    StartError::new(
                        "no file for the key log",
                        "--keylog",
                        "name one, or set SSLKEYLOGFILE",
                    )
                })?;
                config.tls.keylog = Some(path.into());
            }
            Some(path) => config.tls.keylog = Some(path),
            None => {}
        }
        Ok(config)
    }
}
