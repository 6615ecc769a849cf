//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::settings::{Hold, Listen, Settings, SettingsError};
use crate::sockets::{self, Listening};
use crate::{log, process};

#[derive(Parser)]
#[command(
    name = "meergate-inspector",
    version,
    about = "An ICAP server that inspects with Suricata"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until stopped by SIGTERM or SIGINT.
    Run(Run),
}

/// Flags; each wins over its key in the settings file.
#[derive(Args)]
struct Run {
    /// Settings (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen for ICAP; repeatable [default: 127.0.0.1:1344].
    #[arg(long, value_name = "ADDR|unix:PATH")]
    listen: Vec<Listen>,
    /// A rule file; repeatable.
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Suricata's own configuration.
    #[arg(long, value_name = "FILE")]
    suricata_yaml: Option<PathBuf>,
    /// Where to write Suricata's events.
    #[arg(long, value_name = "FILE")]
    eve: Option<PathBuf>,
    /// Engine threads [default: one per processor].
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Bytes of a body that wait for its verdict, or "all" [default: 1MiB].
    #[arg(long, value_name = "BYTES|all")]
    hold: Option<Hold>,
    /// Where to answer GET /metrics.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<std::net::SocketAddr>,
    /// ICAP connections at once.
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
}

impl Run {
    fn settings(self) -> Result<Settings, SettingsError> {
        let mut s = match &self.config {
            Some(path) => Settings::read(path)?,
            None => Settings::default(),
        };
        if !self.listen.is_empty() {
            s.listen = self.listen;
        }
        if !self.rules.is_empty() {
            s.rules = self.rules;
        }
        s.suricata_yaml = self.suricata_yaml.or(s.suricata_yaml);
        s.eve = self.eve.or(s.eve);
        s.metrics = self.metrics.or(s.metrics);
        s.workers = self.workers.unwrap_or(s.workers);
        s.hold = self.hold.unwrap_or(s.hold);
        s.limits.max_connections = self.max_connections.unwrap_or(s.limits.max_connections);
        s.complete()
    }
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let Command::Run(run) = Cli::parse().command;
    log::begin();
    match run.settings().map_err(|e| e.to_string()).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meergate-inspector: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: Settings) -> Result<(), String> {
    let listening = settings.listen.iter().map(Listening::open).collect::<Result<Vec<_>, _>>()?;
    for socket in &listening {
        say(format_args!("listening on {} (icap)", socket.local().map_err(|e| e.to_string())?));
    }
    let metrics = match settings.metrics {
        Some(addr) => {
            let socket = sockets::tcp(addr).map_err(|e| {
                format!("cannot listen: metrics: {addr}: {e}: choose another address")
            })?;
            let local = socket.local_addr().map_err(|e| e.to_string())?;
            say(format_args!("listening on {local} (metrics)"));
            Some(socket)
        }
        None => None,
    };
    process::serve(settings, &listening, metrics, || say(format_args!("ready")))
}

/// A line on standard output, for scripts that wait for it.
fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // Whoever closed our output does not want to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
