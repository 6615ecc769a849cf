//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use start_error::StartError;
use suricata::PatternCache;

use crate::engine::process;
use crate::error::{Error, Reason};
use crate::loaded::Loaded;
use crate::replay::Split;
use crate::say::say;
use crate::settings::{Hold, Listen, Settings, TlsSettings};
use crate::sockets::{self, Listening, Sockets};
use crate::supervisor::control;
use crate::supervisor::reading::{Former, Reading};
use crate::{ahead, log, modes, replay, supervisor};

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
    /// Try settings and rules without serving: exit code 0 if the engine inspects with them.
    Check(Flags),
    /// The process that the supervisor starts; of no use by itself.
    #[command(hide = true)]
    Engine,
    /// Feed the transactions of a capture (PCAP, PCAPNG, HAR) to the engine and print its alerts.
    Replay(Replay),
    /// Make a running inspector load its rules and settings anew.
    Reload(Reload),
    /// Serve until stopped by SIGTERM or SIGINT; SIGHUP reloads.
    Run(Flags),
}

#[derive(Args)]
struct Replay {
    /// The capture.
    capture: PathBuf,
    /// Let `suricata -r` read it too, and print the differences; exit code 1 if there are any.
    #[arg(long)]
    compare: bool,
    /// How bodies are cut.
    #[arg(long, value_enum, default_value_t)]
    split: Split,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Args)]
struct Reload {
    /// Settings (TOML) of the running inspector.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its control socket.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

impl Reload {
    fn control(&self) -> Result<PathBuf, StartError> {
        let path = self.config.as_deref();
        let text = path.map(text).transpose()?;
        let mut settings = parse(path, text.as_deref())?;
        settings.control = self.control.clone().or(settings.control);
        Ok(settings.control_path())
    }
}

/// Flags; each wins over its key in the settings file.
#[derive(Args, Clone)]
struct Flags {
    /// Settings (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen for ICAP; repeatable [default: 127.0.0.1:1344].
    #[arg(long, value_name = "ADDR|icaps://ADDR|unix:PATH")]
    listen: Vec<Listen>,
    /// Certificate (PEM) with its chain, for icaps:// listeners.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve only clients with a certificate of these authorities (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
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
    /// Where commands are taken.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Reload when rule files or the suricata.yaml change.
    #[arg(long)]
    watch: bool,
    /// ICAP connections at once.
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
}

impl Flags {
    fn settings(&self) -> Result<Settings, StartError> {
        self.read(None).map(|reading| reading.settings)
    }

    /// Reads the settings file. In the place of `former`, it and the files that it names must be whole.
    fn read(&self, former: Option<&Former>) -> Result<Reading, StartError> {
        let text = match (&self.config, former) {
            (None, _) => None,
            (Some(path), None) => Some(text(path)?),
            (Some(path), Some(former)) => Some(former.reread(path)?),
        };
        let settings = self.over(parse(self.config.as_deref(), text.as_deref())?)?;
        if let Some(former) = former {
            former.look_at_rules(&settings)?;
        }
        Ok(Reading { settings, text })
    }

    /// Settings with what the command line says instead.
    fn over(&self, mut s: Settings) -> Result<Settings, StartError> {
        if !self.listen.is_empty() {
            s.listen = self.listen.clone();
        }
        if !self.rules.is_empty() {
            s.rules = self.rules.clone();
        }
        if let (Some(cert), Some(key)) = (self.tls_cert.clone(), self.tls_key.clone()) {
            let client_ca = s.tls.and_then(|tls| tls.client_ca);
            let client_ca = self.tls_client_ca.clone().or(client_ca);
            s.tls = Some(TlsSettings { cert, key, client_ca, read: None });
        }
        s.suricata_yaml = self.suricata_yaml.clone().or(s.suricata_yaml);
        s.eve = self.eve.clone().or(s.eve);
        s.metrics = self.metrics.or(s.metrics);
        s.control = self.control.clone().or(s.control);
        s.watch |= self.watch;
        s.workers = self.workers.unwrap_or(s.workers);
        s.hold = self.hold.unwrap_or(s.hold);
        s.limits.max_connections = self.max_connections.unwrap_or(s.limits.max_connections);
        s.complete()
    }
}

fn text(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|e| {
        let what = format!("cannot read the settings ({e})");
        StartError::new(what, path.display().to_string(), "name a file that exists")
    })
}

fn parse(path: Option<&Path>, text: Option<&[u8]>) -> Result<Settings, StartError> {
    match path.zip(text) {
        None => Ok(Settings::default()),
        Some((path, text)) => Settings::parse(text, path),
    }
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    modes::set();
    log::begin();
    let done = match command {
        Command::Check(flags) => flags.settings().map_err(Error::from).and_then(|s| check(&s)),
        Command::Engine => process::run(),
        Command::Reload(flags) => {
            flags.control().map_err(Error::from).and_then(|path| reload(&path))
        }
        Command::Replay(args) => replay(&args),
        Command::Run(flags) => run(flags),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("meergate-inspector: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> Result<ExitCode, Error> {
    let reading = flags.read(None)?;
    let settings = &reading.settings;
    let icap = settings.listen.iter().map(Listening::open).collect::<Result<Vec<_>, _>>()?;
    for socket in &icap {
        let local = socket.local().map_err(|e| Error::System("see where it listens", e))?;
        say(format_args!("listening on {local} (icap)"));
    }
    let metrics = match settings.metrics {
        Some(addr) => {
            let socket = sockets::tcp(addr).map_err(|e| {
                let what = format!("cannot listen for metrics ({e})");
                StartError::new(what, addr.to_string(), "choose another address")
            })?;
            let local =
                socket.local_addr().map_err(|e| Error::System("see where it listens", e))?;
            say(format_args!("listening on {local} (metrics)"));
            Some(socket)
        }
        None => None,
    };
    let source = Arc::new(move |former: &Former| flags.read(Some(former)));
    supervisor::run(reading, source, Sockets { icap, metrics }).map(|()| ExitCode::SUCCESS)
}

fn check(settings: &Settings) -> Result<ExitCode, Error> {
    let ahead = StartError::none_of(ahead::of(settings));
    let checked = match (ahead, process::check(settings, PatternCache::AsConfigured)) {
        (Ok(()), checked) => checked?,
        (Err(ahead), Ok(_)) => return Err(ahead.into()),
        (Err(ahead), Err(error)) => return Err(Reason::new(format!("{ahead}\n{error}")).into()),
    };
    let loaded = checked.loaded.clone();
    say(format_args!("good: {loaded}, {} ms", loaded.milliseconds));
    if let Some(warning) = loaded.warning() {
        say(format_args!("warning: {warning}"));
    }
    checked.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn replay(args: &Replay) -> Result<ExitCode, Error> {
    let settings = args.flags.settings()?;
    let same = replay::run(&args.capture, &settings, args.split, args.compare)?;
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn reload(control: &Path) -> Result<ExitCode, Error> {
    let loaded = control::reload(control)?;
    let Loaded { version, milliseconds, .. } = loaded;
    say(format_args!("reloaded: {loaded}, version {version}, {milliseconds} ms"));
    if let Some(warning) = loaded.warning() {
        say(format_args!("warning: {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}
