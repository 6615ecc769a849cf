//! The process that runs the engine: from its first order to its end.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use icap_server::Shutdown;
use rustix::process::{Signal, set_parent_process_death_signal};
use start_error::StartError;
use suricata::{Engine, EngineConfig, EveOutput, PatternCache, RuleStats, WorkerSeed};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use crate::engine::workers::Workers;
use crate::engine::{exposition, sandbox};
use crate::error::{Error, Reason};
use crate::inspection::metrics::Metrics;
use crate::inspection::state::State;
use crate::link::{self, Begin, Order, Receiver, Report, Sender};
use crate::loaded::Loaded;
use crate::settings::{Mode, Settings};
use crate::sockets::Listening;

/// Suricata's name for the longest line or head of HTTP that it reads on.
const META_FIELD_LIMIT: &str = "app-layer.protocols.http.libhtp.default-config.meta-field-limit";
/// How long a reload may take on a busy machine: traffic comes first.
const RELOAD_PATIENCE: Duration = Duration::from_secs(600);
/// How often it is told that all workers are alive.
const BEAT: Duration = Duration::from_secs(1);
/// How long transactions in flight may take when the program is to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long, when another engine has taken over.
const DRAIN_GRACE: Duration = Duration::from_secs(3600);

/// Does what the supervisor at the other end of standard input says, and tells it what goes wrong.
///
/// # Errors
/// There is no supervisor.
pub(crate) fn run() -> Result<ExitCode, Error> {
    // Without its supervisor this process must not go on serving, not even to finish.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| Error::System("start", e.into()))?;
    let runtime = runtime()?;
    let link = || -> io::Result<_> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let sockets = link::receive_sockets(&stream)?;
        let _guard = runtime.enter();
        Ok((sockets, link::open(stream)?))
    };
    let alone = |why: String| {
        let advice = "use `meergate-inspector run`";
        StartError::new(format!("no supervisor ({why})"), "standard input", advice)
    };
    let (sockets, (mut sender, mut receiver)) = link().map_err(|e| alone(e.to_string()))?;
    let begin = match runtime.block_on(receiver.next()) {
        Ok(Some(Order::Begin(begin))) => begin,
        other => return Err(alone(format!("no order: {other:?}")).into()),
    };
    let patterns_are_safe = sandbox::enter(&begin);
    // Those that anybody may have put there are nothing that an engine should read.
    let patterns = |cache: fn(PathBuf) -> PatternCache| match patterns_are_safe {
        true => cache(begin.patterns.clone()),
        false => PatternCache::AsConfigured,
    };
    // Without a supervisor there is nobody to tell.
    let mut tell = |report| drop(runtime.block_on(sender.send(&report)));
    let result = if begin.check {
        // Traffic comes first.
        let _ = rustix::process::nice(5);
        check(&begin.settings, patterns(PatternCache::ReadWrite)).and_then(|checked| {
            // Nobody waits for its end, which takes two seconds.
            tell(Report::Ready(checked.loaded.clone()));
            checked.stop()
        })
    } else {
        let patterns = patterns(PatternCache::ReadOnly);
        link::sort_sockets(sockets, &begin).map_err(Error::from).and_then(|(listening, metrics)| {
            let process = Process { listening, metrics, begin, patterns };
            process.serve(&runtime, &mut sender, &mut receiver)
        })
    };
    Ok(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = runtime.block_on(sender.send(&Report::Failed(error.into())));
            ExitCode::FAILURE
        }
    })
}

/// An engine that inspects.
pub(crate) struct Checked {
    pub(crate) loaded: Loaded,
    engine: Engine,
}

impl Checked {
    /// Ends it.
    pub(crate) fn stop(self) -> Result<(), Error> {
        stop(self.engine)
    }
}

/// Starts an engine with these settings and proves that it inspects.
///
/// # Errors
/// One line for the operator.
pub(crate) fn check(settings: &Settings, patterns: PatternCache) -> Result<Checked, Error> {
    let began = Instant::now();
    let mut settings = settings.clone();
    settings.workers = 1;
    // A check leaves no trace in the logs of the engine that serves.
    let config = engine_config(&settings)?.eve(EveOutput::None).patterns(patterns);
    let (engine, seeds) = Engine::start(config)?;
    let prove = |seed: WorkerSeed| seed.attach().map(drop);
    seeds.into_iter().try_for_each(prove)?;
    Ok(Checked { loaded: loaded(&engine.rules(), began), engine })
}

fn stop(engine: Engine) -> Result<(), Error> {
    engine.stop().map_err(|e| Reason::new(format!("the engine did not stop: {e}")).into())
}

struct Process {
    listening: Vec<Listening>,
    metrics: Option<std::net::TcpListener>,
    begin: Box<Begin>,
    patterns: PatternCache,
}

impl Process {
    fn serve(
        self,
        runtime: &Runtime,
        sender: &mut Sender,
        receiver: &mut Receiver,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let settings = self.begin.settings;
        let config = engine_config(&settings)?.patterns(self.patterns);
        let (engine, seeds) = Engine::start(config)?;
        for o in engine.overrides() {
            tracing::warn!(setting = o.name, was = o.was, now = o.now, "overridden: {}", o.why);
        }
        let metrics =
            Metrics::new(settings.workers, self.listening.iter().find_map(Listening::tls));
        metrics.process.set_totals(self.begin.totals);
        let state = Arc::new(State::new(settings, metrics.clone()));
        let shutdown = Shutdown::new();
        let (reloading, reloads) = watch::channel(false);
        let workers = Workers::start(&state, seeds, &self.listening, &shutdown, &reloads)?;
        let engine = Arc::new(engine);
        let serving = Serving { state, engine, shutdown, reloading, workers, began };
        let engine = runtime.block_on(async {
            if let Some(listener) = self.metrics {
                let engine = Arc::downgrade(&serving.engine);
                let page = move || {
                    let stats = engine.upgrade().map(|engine| engine.stats()).unwrap_or_default();
                    metrics.render(&stats)
                };
                tokio::spawn(exposition::serve(listener, page));
            }
            serving.fulfil(sender, receiver).await
        })?;
        match Arc::into_inner(engine) {
            Some(engine) => stop(engine),
            // A reload still runs: it ends with the process.
            None => Ok(()),
        }
    }
}

/// What the main thread does while the workers work.
struct Serving {
    state: Arc<State>,
    engine: Arc<Engine>,
    shutdown: Shutdown,
    reloading: watch::Sender<bool>,
    workers: Workers,
    began: Instant,
}

impl Serving {
    async fn fulfil(
        mut self,
        sender: &mut Sender,
        receiver: &mut Receiver,
    ) -> Result<Arc<Engine>, Reason> {
        self.workers.ready().await?;
        let rules = self.engine.rules();
        self.note_rules(&rules);
        self.tell(sender, &Report::Ready(loaded(&rules, self.began))).await;
        let mut beat = tokio::time::interval(BEAT);
        let mut reload: Option<oneshot::Receiver<Result<Loaded, Reason>>> = None;
        let grace = loop {
            tokio::select! {
                order = receiver.next() => match order {
                    Ok(Some(Order::Reload)) => {
                        self.reloading.send_replace(true);
                        reload = Some(self.reload());
                    }
                    Ok(Some(Order::Count(totals))) => {
                        self.state.metrics.process.set_totals(totals);
                    }
                    Ok(Some(Order::ReopenLogs)) => self.engine.rotate_logs(),
                    Ok(Some(Order::Drain)) => break DRAIN_GRACE,
                    Ok(Some(Order::Begin(_) | Order::Stop) | None) | Err(_) => break STOP_GRACE,
                },
                result = finished(&mut reload) => {
                    reload = None;
                    self.reloading.send_replace(false);
                    let report = match self.workers.proved().await {
                        Ok(()) => Report::Reloaded(result),
                        Err(reason) => Report::Unproven(reason),
                    };
                    self.note_rules(&self.engine.rules());
                    self.tell(sender, &report).await;
                }
                ended = self.workers.ended() => return Err(ended),
                _ = beat.tick() => {
                    if self.state.metrics.all_alive() {
                        self.tell(sender, &Report::Beat).await;
                    }
                }
            }
        };
        self.state.set_grace(grace);
        self.shutdown.request();
        self.workers.closed().await;
        self.tell(sender, &Report::Closed).await;
        self.workers.all_ended().await?;
        Ok(self.engine)
    }

    /// A reload blocks, so it has a thread of its own.
    fn reload(&self) -> oneshot::Receiver<Result<Loaded, Reason>> {
        let (done, result) = oneshot::channel();
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            // Whoever has moved the logs away asks for a reload, too.
            engine.rotate_logs();
            let reloaded = engine.reload().map(|rules| loaded(&rules, began));
            drop(engine);
            // Nobody waits for it if the process is on its way out.
            let _ = done.send(reloaded.map_err(|e| Reason::new(e.to_string())));
        });
        result
    }

    fn note_rules(&self, rules: &RuleStats) {
        let process = &self.state.metrics.process;
        process.rules.set(rules.good.into());
        process.rules_dropping.set(rules.dropping.into());
        process.rules_lost.set(rules.bad.into());
        process.rules_version.set(i64::try_from(rules.version).unwrap_or(i64::MAX));
        self.state.rules_changed(rules.version);
    }

    async fn tell(&self, sender: &mut Sender, report: &Report) {
        // If the supervisor is gone, that is noticed where its orders are read.
        let _ = sender.send(report).await;
    }
}

async fn finished(
    reload: &mut Option<oneshot::Receiver<Result<Loaded, Reason>>>,
) -> Result<Loaded, Reason> {
    match reload {
        Some(result) => result.await.unwrap_or_else(|_| Err(Reason::new("the reload panicked"))),
        None => std::future::pending().await,
    }
}

fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::System("start", e))
}

/// What the engine is started with.
///
/// # Errors
/// One line for the operator.
pub(crate) fn engine_config(settings: &Settings) -> Result<EngineConfig, StartError> {
    let workers = u16::try_from(settings.workers).map_err(|_| {
        let place = format!("workers = {}", settings.workers);
        StartError::new("too many workers", place, "name at most 1024")
    })?;
    let mut config = EngineConfig::new().workers(workers).rules(&settings.rules);
    config = config.patience(RELOAD_PATIENCE);
    if let Some(yaml) = &settings.suricata_yaml {
        config = config.yaml(yaml);
    }
    if let Some(eve) = &settings.eve {
        config = config.eve(EveOutput::File(eve.clone()));
    }
    // Heads that are let in here must not be too long there.
    config = config.set(META_FIELD_LIMIT, settings.limits.max_head.to_string());
    let limits = &settings.limits;
    // Each connection has at most one body under way.
    config = config.room(limits.max_connections, limits.max_connections + limits.max_flows);
    for (name, value) in &settings.suricata {
        config = config.set(name, value);
    }
    let mode = match settings.mode {
        Mode::Ids => {
            tracing::warn!("mode is ids: nothing is blocked in time, this is for comparison only");
            suricata::Mode::Ids { ack_window: settings.ack_window }
        }
        Mode::Ips => suricata::Mode::Ips,
    };
    Ok(config.mode(mode).tolerate_bad_rules(settings.tolerate_bad_rules))
}

fn loaded(rules: &RuleStats, began: Instant) -> Loaded {
    for bad in &rules.bad_rules {
        tracing::warn!("a rule is lost: {bad}");
    }
    Loaded {
        rules: rules.good,
        dropping: rules.dropping,
        skipped: rules.skipped,
        lost: rules.bad,
        version: rules.version,
        milliseconds: began.elapsed().as_millis() as u64,
    }
}
