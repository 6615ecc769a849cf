//! From settings to a serving program, and to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Flags, say};
use crate::config::Config;
use crate::console;
use crate::error::StartError;
use crate::firewall::Rules;
use crate::listen::{Gateway, Listener};
use crate::log::Logs;
use crate::metrics::Metrics;
use crate::policy::{Policy, Users};
use crate::session::{Settings, Shared};
use crate::tls;
use crate::tls::ca::{self, Place};

/// `meergate check`: reads all that `run` would, opens nothing.
pub(crate) fn check(flags: &Flags) -> Result<(), StartError> {
    let config = flags.config()?;
    let metrics = Metrics::new();
    let place = Place::of(&config)?;
    if place.ours && !place.cert.exists() {
        say(&format!("the CA will be made at {}", place.cert.display()))?;
        Policy::new(&config)?;
    } else {
        settings(config, &metrics)?;
    }
    say("settings are right")
}

/// `meergate run`: serves until SIGTERM or SIGINT.
pub(crate) fn run(flags: &Flags) -> Result<(), StartError> {
    let config = flags.config()?;
    let runtime = Builder::new_multi_thread().enable_all().thread_name("meergate").build();
    let runtime = runtime.map_err(|e| {
        StartError::new(
            format!("cannot start threads ({e})"),
            "the system",
            "raise the limit of processes",
        )
    })?;
    let done = runtime.block_on(serve(config, flags));
    // Connections that did not end in time are cut here.
    runtime.shutdown_background();
    done
}

async fn serve(config: Config, flags: &Flags) -> Result<(), StartError> {
    let mut signals = Signals::catch().map_err(|e| {
        StartError::new(format!("cannot catch signals ({e})"), "the system", "report this as a bug")
    })?;
    let metrics = Metrics::new();
    let logs = Logs::open(&config.log, &metrics)?;
    let listeners =
        config.listen.iter().map(Listener::bind).collect::<Result<Vec<_>, StartError>>()?;
    let console = match config.console.address {
        Some(address) => Some(bind_console(address).await?),
        None => None,
    };
    let rules = match config.firewall.apply {
        true => Some(Rules::of(&config)?),
        false => None,
    };
    let settings = settings(config, &metrics)?;
    let shared = Arc::new(Shared::new(metrics, logs));
    let gateway = Arc::new(Gateway::new(shared.clone(), Arc::new(settings)));

    let mut names = Vec::new();
    for listener in listeners {
        names.push((listener.address(), listener.kind()));
        tokio::spawn(listener.serve(gateway.clone()));
    }
    for (address, kind) in &names {
        say(&format!("listening on {address} ({kind})"))?;
    }
    if let Some((socket, address)) = console {
        say(&format!("listening on {address} (console)"))?;
        tokio::spawn(console::serve(socket, gateway.clone(), names));
    }
    // Only now: what netfilter brings from here on is served.
    if let Some(rules) = &rules {
        rules.apply()?;
    }
    tokio::spawn(gateway.clone().watch_lists(flags.clone()));
    say("ready")?;

    while signals.next().await == Order::Reload {
        let (gateway, flags) = (gateway.clone(), flags.clone());
        let _ = tokio::task::spawn_blocking(move || gateway.reload(&flags, "SIGHUP")).await;
    }
    if let Some(rules) = &rules
        && let Err(error) = rules.remove()
    {
        tracing::error!(%error, "the firewall rules are still there");
    }
    let limit = gateway.settings.load().config.limits.shutdown_timeout.0;
    tracing::info!(seconds = limit.as_secs_f64(), "stopping when open connections end");
    shared.stop();
    tokio::select! {
        () = gateway.drained() => tracing::info!("stopped"),
        () = tokio::time::sleep(limit) => tracing::warn!("stopped, connections were cut"),
        () = signals.stop() => tracing::warn!("stopped at once, connections were cut"),
    }
    Ok(())
}

/// All that a reload replaces.
pub(crate) fn settings(config: Config, metrics: &Metrics) -> Result<Settings, StartError> {
    let place = Place::of(&config)?;
    let (authority, made) = ca::load_or_make(&place)?;
    if made {
        tracing::info!(
            certificate = %place.cert.display(),
            fingerprint = authority.fingerprint(),
            "a CA was made; clients must trust it"
        );
    }
    if let Some(days) = authority.expires_soon() {
        tracing::warn!(days, certificate = %place.cert.display(), "the CA expires soon");
    }
    let tls = tls::Context::new(&config, Arc::new(authority), metrics)?;
    let policy = Policy::new(&config)?;
    if policy.default_decision().chain.is_none() {
        tracing::warn!("no ICAP service is set: all traffic passes uninspected, and is counted so");
    }
    let users = match &config.users.file {
        Some(path) => Some(Arc::new(Users::load(path, &config.users.realm)?)),
        None => None,
    };
    Ok(Settings { config, tls, policy, users })
}

async fn bind_console(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    bound.await.map_err(|e: io::Error| {
        StartError::new(
            format!("cannot listen for the console ({e})"),
            address.to_string(),
            "choose another address with --console, or --console off",
        )
    })
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Reload,
    Stop,
}

/// The signals that the program obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.hang_up.recv() => Order::Reload,
        }
    }

    async fn stop(&mut self) {
        while self.next().await != Order::Stop {}
    }
}
