//! The command line.

mod ca;
mod explain;
mod icap;
mod password;

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Listen, Ports, Way};
use crate::error::StartError;
use crate::firewall::Rules;
use crate::{rights, run, takeover};

use explain::Who;

/// A TLS-intercepting proxy that lets ICAP services inspect and change what passes.
#[derive(Debug, Parser)]
#[command(name = "meergate", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, show, export or replace the CA that signs forged certificates.
    Ca(ca::Ca),
    /// Read the settings and all files they name, and say what is wrong with them.
    Check {
        #[command(flatten)]
        flags: Flags,
        /// Say which rule decides about a request for this URL, and why.
        #[arg(long, value_name = "URL")]
        explain: Option<String>,
        /// The client that asks, for --explain.
        #[arg(long, value_name = "IP", default_value = "127.0.0.1", requires = "explain")]
        client: IpAddr,
        /// The user who asks, for --explain.
        #[arg(long, value_name = "NAME", requires = "explain")]
        user: Option<String>,
        /// The request's method, for --explain.
        #[arg(long, value_name = "METHOD", default_value = "GET", requires = "explain")]
        method: String,
    },
    /// Hash the password on standard input, for `users.file`.
    HashPassword {
        /// The user's name.
        name: String,
    },
    /// Look at an ICAP service, try it, measure it.
    Icap(icap::Icap),
    /// Print the nftables rules that transparent listeners need, as a shell script.
    Nft {
        #[command(flatten)]
        flags: Flags,
        /// Set them, instead of printing.
        #[arg(long, conflicts_with = "remove")]
        apply: bool,
        /// Remove them again.
        #[arg(long)]
        remove: bool,
    },
    /// Have the program that runs with this state directory read its settings anew.
    Reload(Flags),
    /// Serve until stopped.
    Run {
        #[command(flatten)]
        flags: Flags,
        /// Take the place of the program that runs with the same state directory: it hands its
        /// listening sockets over and ends when its connections do.
        #[arg(long)]
        replace: bool,
    },
}

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

fn address_or_off(text: &str) -> Result<ConsoleAddress, String> {
    if text == "off" {
        return Ok(ConsoleAddress::Off);
    }
    text.parse().map(ConsoleAddress::At).map_err(|e| format!("{e}; or \"off\""))
}

fn network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| alone())
        .map_err(|_| "expected an address or a network such as 127.0.0.0/8".to_owned())
}

fn explicit(address: SocketAddr) -> Listen {
    Listen { address, way: Way::Proxy, proxy_protocol: Vec::new(), ports: Vec::new() }
}

impl Flags {
    /// The settings of the file with these on top.
    pub(crate) fn config(&self) -> Result<Config, StartError> {
        let mut config = match &self.config {
            Some(path) => Config::from_file(path)?,
            None => Config::default(),
        };
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

/// The program: reads the command line, does what it says, and tells how it went (0; 1 for
/// failures, 2 for wrong usage).
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging();
    let done = match &cli.command {
        Command::Ca(command) => command.run(),
        Command::Check { flags, explain, client, user, method } => match explain {
            Some(url) => flags.config().and_then(|config| {
                let who = Who { client: *client, user: user.as_deref(), method };
                explain::explain(&config, url, who)
            }),
            None => run::check(flags),
        },
        Command::HashPassword { name } => password::run(name),
        Command::Icap(command) => command.run(),
        Command::Nft { flags, apply, remove } => nft(flags, *apply, *remove),
        Command::Reload(flags) => reload(flags),
        Command::Run { flags, replace } => run::run(flags, *replace),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing better can be done when not even this can be written.
            let _ = writeln!(io::stderr(), "meergate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Settings that cannot be used are told here, where somebody sees it, instead of in a log.
fn reload(flags: &Flags) -> Result<(), StartError> {
    run::check(flags)?;
    let config = flags.config()?;
    let pid = rights::as_owner(&config, || takeover::reload(&config))?;
    say(&format!("process {pid} reloads; its log says how it went"))
}

fn nft(flags: &Flags, apply: bool, remove: bool) -> Result<(), StartError> {
    let rules = Rules::of(&flags.config()?)?;
    match (apply, remove) {
        (true, _) => rules.apply(),
        (_, true) => rules.remove(),
        _ => say(rules.shell().trim_end()),
    }
}

/// To stderr: for people on a terminal, JSON elsewhere; what is logged is set by `MEERGATE_LOG`.
fn start_logging() {
    let filter = EnvFilter::try_from_env("MEERGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Fails only when a logger is set already.
    let _ = if io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
}

/// Writes one line to standard output, at once.
pub(crate) fn say(line: &str) -> Result<(), StartError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| {
        StartError::new(
            format!("cannot write ({e})"),
            "standard output",
            "leave it open, or send it to a file",
        )
    })
}
