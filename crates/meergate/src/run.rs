//! From settings to a serving program, and to its end.

mod ahead;
mod descriptors;
mod doubts;
pub(crate) mod firewall;
mod manager;
mod reload;
mod running;
mod sandbox;
pub(crate) mod takeover;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use icap_client::Chain;
use start_error::StartError;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use crate::capture::Capture;
use crate::config::Flags;
use crate::config::{Config, Listen, ListenProtocol};
use crate::console;
use crate::listen::Workers;
use crate::listen::{Gateway, Listener};
use crate::metrics::Metrics;
use crate::policy::{Policy, Users};
use crate::records::Logs;
use crate::rights;
use crate::say::say;
use crate::session::{Settings, Shared};
use crate::tls;
use crate::tls::ca::{self, Authority, Place};
use crate::upstream::Own;

use firewall::Rules;
use running::Running;
use takeover::{Inherited, Offer, Sockets};

/// How long threads may take to let go of what they hold when the program ends.
const CUT: Duration = Duration::from_secs(2);

/// `meergate check`: reads all that `run` would, opens nothing, and tells of everything that `run` would refuse
/// and of what in rules can do nothing.
pub(crate) fn check(flags: &Flags) -> Result<(), StartError> {
    let config = flags.config()?;
    let doubts = doubts::of(&config);
    let ahead = ahead::of(&config);
    StartError::none_of(settings_of(config).err().into_iter().chain(ahead).chain(doubts))?;
    say("settings are right")
}

/// Reads the settings and what they name, as a reload does.
pub(crate) fn settings_are_right(flags: &Flags) -> Result<(), StartError> {
    settings_of(flags.config()?)
}

fn settings_of(config: Config) -> Result<(), StartError> {
    let metrics = Metrics::new();
    let place = Place::of(&config)?;
    if place.ours && !place.cert.exists() {
        say(&format!("the CA will be made at {}", place.cert.display()))?;
        // One that is not kept stands in for it, so that all else is looked at.
        settings_with(config, Authority::generate()?, &metrics).map(drop)
    } else {
        settings(config, &metrics).map(drop)
    }
}

/// `meergate run`: serves until SIGTERM or SIGINT, or until a successor does. With `replace`, it
/// is itself the successor of a running program.
pub(crate) fn run(flags: &Flags, replace: bool) -> Result<(), StartError> {
    descriptors::raise();
    let config = flags.config()?;
    rights::give_state(&config)?;
    let mut inherited = match replace {
        true => Some(rights::as_owner(&config, || Inherited::ask(&config))?),
        false => None,
    };
    let open = Open::new(&config, &mut inherited)?;
    let rules = match config.firewall.apply {
        true => Some(Rules::of(&config)?),
        false => None,
    };
    let metrics = Metrics::new();
    let settings = settings(config.clone(), &metrics)?;
    show(&settings, &metrics);
    let (running, heir, offer) = rights::as_owner(&config, || {
        Ok(match &mut inherited {
            Some(former) => (None, Running::inherit(&config), former.take_offer()),
            None => {
                let running = Running::mark(&config);
                let offer = running.as_ref().and_then(|_| Offer::open(&config));
                (running, None, offer)
            }
        })
    })?;
    // What netfilter brings from here on waits in the listeners' queues.
    if let Some(rules) = &rules {
        rules.apply()?;
    }
    let own = open.own();
    let served = sandbox::enter(&config).and_then(|()| {
        if let Some(heir) = heir {
            heir.wait();
        }
        let logs = Logs::open(&config.log, &metrics)?;
        let capture = Capture::open(&config.capture, &metrics)?;
        let shared = Arc::new(Shared::new(metrics, logs, capture, own));
        let no_threads = |e: io::Error| {
            StartError::new(
                format!("cannot start threads ({e})"),
                "the system",
                "raise the limit of processes",
            )
        };
        let workers = Workers::start().map_err(no_threads)?;
        let gateway = Arc::new(Gateway::new(shared, Arc::new(settings), workers));
        // For listeners, the console and what is looked after; connections have the workers.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(no_threads)?;
        let succession = Succession { offer, inherited };
        let done = runtime.block_on(async {
            let done = serve(gateway.clone(), open, succession, flags).await;
            // Connections that did not end in time are cut here.
            let _ = timeout(CUT, gateway.workers.end()).await;
            done
        });
        // Logs are written to their end when nobody holds them any more.
        drop(gateway);
        runtime.shutdown_timeout(CUT);
        done
    });
    let removes = match &served {
        Ok(end) => *end != End::Yield,
        // A successor that fails leaves the former program's rules alone: it may go on serving.
        Err(_) => !replace,
    };
    // Last, so that nobody's connection goes around us while others are still served.
    if let Some(rules) = &rules
        && removes
    {
        rules.remove()?;
        tracing::warn!("the firewall rules are removed: clients now reach servers directly");
    }
    drop(running);
    served.map(drop)
}

/// Programs before and after this one.
struct Succession {
    offer: Option<Offer>,
    inherited: Option<Inherited>,
}

/// The sockets of a program that is about to serve.
struct Open {
    listeners: Vec<Listener>,
    console: Option<(String, std::net::TcpListener)>,
}

impl Open {
    /// Opens listeners and console, with the sockets of the former program where they are the same.
    fn new(config: &Config, inherited: &mut Option<Inherited>) -> Result<Self, StartError> {
        let mut take = |name: &str| inherited.as_mut().and_then(|inherited| inherited.take(name));
        let mut listeners = Vec::new();
        for listen in &config.listen {
            listeners.push(Listener::bind(listen, take(&listen.name()))?);
        }
        let console = match config.console.address {
            Some(address) => {
                let name = format!("console {address}");
                let socket = match take(&name) {
                    Some(socket) => socket,
                    None => bind_console(address)?,
                };
                Some((name, socket))
            }
            None => None,
        };
        Ok(Self { listeners, console })
    }

    /// Where they listen.
    fn own(&self) -> Own {
        let ways_in = self.listeners.iter().map(Listener::address).collect();
        let console = self.console.as_ref().and_then(|(_, socket)| socket.local_addr().ok());
        Own::new(ways_in, console)
    }

    /// The sockets that a successor will want, with their names.
    fn duplicates(&self, config: &Config) -> Sockets {
        let named = config.listen.iter().map(Listen::name).zip(&self.listeners);
        let listeners = named.filter_map(|(name, l)| Some((name, l.duplicate().ok()?)));
        let console = self
            .console
            .as_ref()
            .and_then(|(name, socket)| Some((name.clone(), socket.try_clone().ok()?)));
        listeners.chain(console).collect()
    }
}

/// Serves to the end; why it ended.
async fn serve(
    gateway: Arc<Gateway>,
    open: Open,
    succession: Succession,
    flags: &Flags,
) -> Result<End, StartError> {
    let mut signals = Signals::catch().map_err(|e| {
        StartError::new(format!("cannot catch signals ({e})"), "the system", "report this as a bug")
    })?;
    let sockets = open.duplicates(&gateway.settings.load().config);
    let mut names = Vec::new();
    for listener in open.listeners {
        names.push((listener.address(), listener.kind()));
        tokio::spawn(listener.serve(gateway.clone()));
    }
    for (address, kind) in &names {
        say(&format!("listening on {address} ({kind})"))?;
    }
    if let Some((_, socket)) = open.console {
        let opened = socket.local_addr().and_then(|at| Ok((at, TcpListener::from_std(socket)?)));
        let (address, socket) = opened.map_err(|e| console_error(&e, "the console"))?;
        say(&format!("listening on {address} (console)"))?;
        tokio::spawn(console::serve(socket, gateway.clone(), names));
    }
    tokio::spawn(gateway.clone().watch_lists(flags.clone()));
    if let Some(inherited) = succession.inherited
        && let Err(error) = inherited.serves()
    {
        tracing::warn!(%error, "the former program cannot be told that this one serves");
    }
    // Only now: until then the former one is asked.
    if let Some(offer) = succession.offer {
        signals.wait_for_others(offer, sockets);
    }
    say("ready")?;
    manager::ready();

    let end = loop {
        match signals.next().await {
            Order::Reload(wish) => {
                let (gateway, flags) = (gateway.clone(), flags.clone());
                // A panic in there has been told; the former settings stay.
                let _ = tokio::task::spawn_blocking(move || match wish {
                    None => drop(gateway.reload(&flags, "SIGHUP")),
                    // Who asked may be gone.
                    Some(wish) => drop(wish.send(gateway.reload(&flags, "`meergate reload`"))),
                })
                .await;
            }
            Order::End(end) => break end,
        }
    };
    let limit = gateway.settings.load().config.limits.shutdown_timeout.0;
    tracing::info!(
        replaced = end == End::Yield,
        seconds = limit.as_secs_f64(),
        "stopping when open connections end"
    );
    manager::stopping();
    gateway.shared.stop();
    tokio::select! {
        () = gateway.drained() => tracing::info!("stopped"),
        () = tokio::time::sleep(limit) => tracing::warn!("stopped, connections were cut"),
        () = signals.stop() => tracing::warn!("stopped at once, connections were cut"),
    }
    Ok(end)
}

/// All that a reload replaces.
pub(crate) fn settings(mut config: Config, metrics: &Metrics) -> Result<Settings, StartError> {
    descriptors::fit(&mut config);
    let place = Place::of(&config)?;
    let (authority, made) = match place.ours {
        true => rights::as_owner(&config, || ca::load_or_make(&place))?,
        false => ca::load_or_make(&place)?,
    };
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
    settings_with(config, authority, metrics)
}

/// All but the CA, which is given.
fn settings_with(
    config: Config,
    authority: Authority,
    metrics: &Metrics,
) -> Result<Settings, StartError> {
    let tls = tls::Context::new(&config, Arc::new(authority), metrics);
    let policy = Policy::new(&config);
    let users = match &config.users.file {
        Some(path) => Users::load(path, &config.users).map(Arc::new).map(Some),
        None => Ok(None),
    };
    let (tls, policy, users) = match (tls, policy, users) {
        (Ok(tls), Ok(policy), Ok(users)) => (tls, policy, users),
        (Err(error), policy, users) => {
            return Err(error.with([policy.err(), users.err()].into_iter().flatten()));
        }
        (_, Err(error), users) => return Err(error.with(users.err())),
        (_, _, Err(error)) => return Err(error),
    };
    if policy.default_decision().chain.is_none() {
        tracing::warn!("no ICAP service is set: all traffic passes uninspected, and is counted so");
    }
    let takes_any = config.listen.iter().any(|listen| listen.protocol == ListenProtocol::Any);
    if takes_any && policy.chains().all(Chain::is_empty) {
        tracing::warn!(
            "a listener has protocol = \"any\", and no ICAP service is set: what is not HTTP is refused"
        );
    }
    let meant_to_have_none = [
        (config.icap.none && policy.chains().any(|chain| !chain.is_empty()), "icap.none"),
        (config.no_rules && !config.rule.is_empty(), "no_rules"),
        (config.users.none && users.is_some(), "users.none"),
    ];
    if let Some((_, key)) = meant_to_have_none.into_iter().find(|(contradicts, _)| *contradicts) {
        let what = format!("{key} is set, and the settings have some");
        return Err(StartError::new(what, key, "leave one of the two out"));
    }
    Ok(Settings { config, tls, policy, users })
}

/// Shows on the metrics page what is now in force.
pub(crate) fn show(settings: &Settings, metrics: &Metrics) {
    let policy = &settings.policy;
    metrics.watch(policy.services(), policy.chains().map(Chain::unseen));
    metrics.ca_expires.set(settings.tls.authority().expires());
    for doubt in doubts::of(&settings.config) {
        tracing::warn!("{doubt}");
    }
}

fn bind_console(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    let bound = std::net::TcpListener::bind(address).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    bound.map_err(|e| console_error(&e, &address.to_string()))
}

fn console_error(error: &io::Error, place: &str) -> StartError {
    StartError::new(
        format!("cannot listen for the console ({error})"),
        place,
        "choose another address with --console, or --console off",
    )
}

/// What the program is asked for.
enum Order {
    /// Read the settings anew, and tell whoever asked through the control socket.
    Reload(Option<Wish>),
    End(End),
}

/// What ends the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    /// A successor serves.
    Yield,
}

/// Where the outcome of a reload goes.
type Wish = oneshot::Sender<Result<(), StartError>>;

/// The signals that the program obeys, and what others ask for through the control socket.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    wishes: (mpsc::Sender<Wish>, mpsc::Receiver<Wish>),
    successor: Arc<Notify>,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            wishes: mpsc::channel(1),
            successor: Arc::default(),
        })
    }

    /// Hands `sockets` to a successor that asks for them, and has the settings read anew for others who
    /// want that, in a thread of its own.
    fn wait_for_others(&self, offer: Offer, sockets: Sockets) {
        let (wishes, successor) = (self.wishes.0.clone(), self.successor.clone());
        let reload = move || {
            let (wish, outcome) = oneshot::channel();
            let asked = wishes.blocking_send(wish).ok();
            let stopping = || {
                StartError::new("the program is stopping", "the running program", "start it anew")
            };
            asked.and_then(|()| outcome.blocking_recv().ok()).unwrap_or_else(|| Err(stopping()))
        };
        let wait = move || match offer.wait(&sockets, reload) {
            Ok(()) => successor.notify_one(),
            Err(error) => tracing::warn!(%error, "nobody can take this program's place"),
        };
        if let Err(error) = std::thread::Builder::new().name("control".into()).spawn(wait) {
            tracing::warn!(%error, "nobody can take this program's place");
        }
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::End(End::Stop),
            _ = self.interrupt.recv() => Order::End(End::Stop),
            _ = self.hang_up.recv() => Order::Reload(None),
            // Never all gone: one is held here.
            Some(wish) = self.wishes.1.recv() => Order::Reload(Some(wish)),
            () = self.successor.notified() => Order::End(End::Yield),
        }
    }

    async fn stop(&mut self) {
        while !matches!(self.next().await, Order::End(End::Stop)) {}
    }
}
