//! The command line.

mod ca;
mod explain;
mod icap;
mod password;

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use start_error::StartError;
use tracing_subscriber::EnvFilter;

use crate::config::Flags;
use crate::rights;
use crate::run::firewall::Rules;
use crate::run::{self, takeover};
use crate::say::say;

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
            for line in error.to_string().lines() {
                // Nothing better can be done when not even this can be written.
                let _ = writeln!(io::stderr(), "meergate: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Settings that cannot be used are told here, where somebody sees it, instead of in a log.
fn reload(flags: &Flags) -> Result<(), StartError> {
    run::settings_are_right(flags)?;
    let config = flags.config()?;
    let pid = rights::as_owner(&config, || takeover::reload(&config))?;
    say(&format!("process {pid} has reloaded"))
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
    // A full disk would be complained of on standard error, where it is full, and that would panic.
    let builder = builder.log_internal_errors(false);
    // Fails only when a logger is set already.
    let _ = if io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
}
