//! The process that runs the engine: from the start of the engine to its orderly end.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use icap_server::Shutdown;
use suricata::{Engine, EngineConfig, EveOutput};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::exposition;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::sockets::Listening;
use crate::state::State;
use crate::worker::{self, Plan};

/// Serves ICAP on these sockets until told to stop by SIGTERM or SIGINT. `ready` is called once
/// every worker serves.
///
/// # Errors
/// One line for the operator.
pub(crate) fn serve(
    settings: Settings,
    listening: &[Listening],
    metrics_listener: Option<std::net::TcpListener>,
    ready: impl FnOnce(),
) -> Result<(), String> {
    let began = Instant::now();
    let (engine, seeds) = Engine::start(engine_config(&settings)?).map_err(|e| e.to_string())?;
    for o in engine.overrides() {
        tracing::warn!(setting = o.name, was = o.was, now = o.now, "overridden: {}", o.why);
    }
    let metrics = Metrics::new(settings.workers);
    let state = Arc::new(State::new(settings, metrics.clone(), run_number()));
    note_rules(&state, &engine);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    let shutdown = Shutdown::new();
    let (_reloading, reloads) = watch::channel(false);
    let workers = spawn(&state, seeds, listening, &shutdown, &reloads)?;

    let served = runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
        let mut int = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
        let Workers { mut ready_from, mut ended, .. } = workers;
        if let Some(listener) = metrics_listener {
            let page = metrics.clone();
            tokio::spawn(exposition::serve(listener, move || page.render()));
        }
        for _ in 0..state.settings.workers {
            tokio::select! {
                Some(_) = ready_from.recv() => {}
                Some(error) = ended.recv() => return Err(ended_early(error)),
            }
        }
        let rules = engine.rules();
        tracing::info!(
            rules = rules.good,
            skipped = rules.skipped,
            workers = state.settings.workers,
            milliseconds = began.elapsed().as_millis() as u64,
            "inspecting"
        );
        ready();
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            Some(error) = ended.recv() => return Err(ended_early(error)),
        }
        tracing::info!("stopping");
        shutdown.request();
        for _ in 0..state.settings.workers {
            if let Some(Err(error)) = ended.recv().await {
                return Err(error);
            }
        }
        Ok(())
    });
    served?;
    engine.stop().map_err(|e| format!("the engine did not stop in order: {e}"))
}

struct Workers {
    ready_from: mpsc::Receiver<usize>,
    ended: mpsc::Receiver<Result<(), String>>,
}

fn spawn(
    state: &Arc<State>,
    seeds: Vec<suricata::WorkerSeed>,
    listening: &[Listening],
    shutdown: &Shutdown,
    reloading: &watch::Receiver<bool>,
) -> Result<Workers, String> {
    let count = seeds.len();
    let (ready, ready_from) = mpsc::channel(count.max(1));
    let (ended_to, ended) = mpsc::channel(count.max(1));
    let (mailboxes, boxes): (Vec<_>, Vec<_>) = (0..count).map(|_| worker::mailbox()).unzip();
    let places = Arc::new(Semaphore::new(state.settings.limits.max_connections));
    let last = Arc::new(Barrier::new(count));
    for (index, (seed, mailbox)) in seeds.into_iter().zip(boxes).enumerate() {
        let sockets = listening.iter().map(Listening::try_clone).collect::<Result<_, _>>();
        let plan = Plan {
            index,
            seed,
            state: state.clone(),
            listening: sockets.map_err(|e| format!("cannot start a worker: {e}"))?,
            mailbox,
            mailboxes: mailboxes.clone(),
            places: places.clone(),
            reloading: reloading.clone(),
            shutdown: shutdown.clone(),
            last: last.clone(),
            ready: ready.clone(),
        };
        let ended = ended_to.clone();
        thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let ended = Ended(Some(ended));
                ended.tell(plan.run());
            })
            .map_err(|e| format!("cannot start a worker: {e}"))?;
    }
    Ok(Workers { ready_from, ended })
}

/// Tells that a worker has ended, also if it panics.
struct Ended(Option<mpsc::Sender<Result<(), String>>>);

impl Ended {
    fn tell(mut self, result: Result<(), String>) {
        if let Some(sender) = self.0.take() {
            // One place for each worker: there is room, or nobody listens any more.
            let _ = sender.try_send(result);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.try_send(Err("a worker panicked".to_owned()));
        }
    }
}

fn ended_early(result: Result<(), String>) -> String {
    result.err().unwrap_or_else(|| "a worker ended by itself".to_owned())
}

fn engine_config(settings: &Settings) -> Result<EngineConfig, String> {
    let workers = u16::try_from(settings.workers)
        .map_err(|_| format!("too many workers: workers: {}: at most 1024", settings.workers))?;
    let mut config = EngineConfig::new().workers(workers).rules(&settings.rules);
    if let Some(yaml) = &settings.suricata_yaml {
        config = config.yaml(yaml);
    }
    if let Some(eve) = &settings.eve {
        config = config.eve(EveOutput::File(eve.clone()));
    }
    Ok(config)
}

fn note_rules(state: &State, engine: &Engine) {
    let rules = engine.rules();
    state.metrics.process.rules.set(rules.good.into());
    state.metrics.process.rules_version.set(i64::try_from(rules.version).unwrap_or(i64::MAX));
    state.rules_changed(rules.version);
}

/// Different for each run of the program.
fn run_number() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32)
}
