//! The one engine of a process.

use std::ffi::CString;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use suricata_sys::{Ending, Failure, Ready, Seat};

use crate::canary::{self, Canary};
use crate::config::{EngineConfig, Mode, Override};
use crate::error::{Error, ErrorKind};
use crate::flow::Tuple;
use crate::launch::{Folder, absolute, arguments, check_files, rule_files};
use crate::monitor::{Monitor, MonitorSink, RulePolicy, lock};
use crate::phase::{Phase, Standing};
use crate::rules::RuleStats;
use crate::seed::WorkerSeed;
use crate::settings::{self, Applied};
use crate::stats::EngineStats;
use crate::worker;

/// How long the engine's thread may take to say why it ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// As a version: what is in force is not known, so nothing may pass.
pub(crate) const UNKNOWN_RULES: u64 = u64::MAX;

/// A handle to the engine. Dropping it leaves the engine running; [`Engine::stop`] ends it.
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    applied: Applied,
}

/// What the engine's thread, its workers and its handle share.
pub(crate) struct Shared {
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) canary: Canary,
    pub(crate) mode: Mode,
    /// The version of the rules in force.
    pub(crate) rules_version: AtomicU64,
    pub(crate) phase: Phase,
    /// Why the engine ended before its time.
    failure: Mutex<Option<String>>,
    canaries: AtomicU16,
    pub(crate) config: EngineConfig,
    pub(crate) rules: Mutex<RuleStats>,
    /// One reload at a time.
    pub(crate) reloading: Mutex<()>,
    _folder: Folder,
}

impl Engine {
    /// Starts the engine of this process, on a thread of its own. Returns when the rules are loaded, which takes
    /// milliseconds to seconds. Nothing is inspected before every seed is [attached](WorkerSeed::attach).
    ///
    /// SIGSEGV and SIGBUS get their default effect back: the process ends, without Rust's word about stack overflows.
    /// SIGRTMAX is the engine's from here on: it marks the turns of the thread that loads rules. If Suricata gives up in
    /// the middle of a packet, or one of its parsers panics, the process ends.
    ///
    /// # Errors
    /// * [`ErrorKind::AlreadyStarted`]: a process has one engine in its life, also if its start failed.
    /// * [`ErrorKind::Config`], [`ErrorKind::Rules`]: what and where. Some of these are found before Suricata is
    ///   touched; after the others the process cannot start another engine.
    pub fn start(config: EngineConfig) -> Result<(Self, Vec<WorkerSeed>), Error> {
        if !(1..=1024).contains(&config.workers) {
            return Err(Error::config(format!(
                "the number of workers must be from 1 to 1024, not {}",
                config.workers
            )));
        }
        let config = absolute(config)?;
        check_files(&config)?;

        let canary = Canary::new();
        let folder = Folder::create(&config, &canary).map_err(|error| {
            Error::config(format!("cannot write to a temporary folder: {error}")).with_source(error)
        })?;
        let arguments = arguments(&config, folder.path())?;
        let rules = rule_files(&config, folder.path())?;
        let policy = RulePolicy { tolerate_bad: config.tolerate_bad_rules, own: 1 };
        let monitor = Monitor::new(policy);
        suricata_sys::set_sink(Box::new(MonitorSink(Arc::clone(&monitor)))).map_err(|_| {
            Error::new(
                ErrorKind::AlreadyStarted,
                "an engine was already started in this process: start another process",
            )
        })?;

        let workers = config.workers;
        let shared = Arc::new(Shared {
            monitor,
            canary,
            mode: config.mode,
            rules_version: AtomicU64::new(1),
            phase: Phase::new(),
            failure: Mutex::new(None),
            canaries: AtomicU16::new(0),
            config,
            rules: Mutex::new(RuleStats::default()),
            reloading: Mutex::new(()),
            _folder: folder,
        });
        let (report, started) = sync_channel(1);
        let for_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("suricata-main".to_owned())
            .spawn(move || run(&for_thread, (arguments, rules), &report))
            .map_err(|error| {
                Error::config(format!("cannot start a thread: {error}")).with_source(error)
            })?;
        let (seats, applied) = started.recv().unwrap_or_else(|_| Err(Error::stopped()))?;

        let seeds = seats
            .into_iter()
            .zip(0..workers)
            .map(|(seat, index)| WorkerSeed::new(seat, index, Arc::clone(&shared)))
            .collect();
        Ok((Self { shared, applied }, seeds))
    }

    /// The rules in force.
    pub fn rules(&self) -> RuleStats {
        lock(&self.shared.rules).clone()
    }

    /// What the user's YAML (or [`EngineConfig::set`]) said and is not in force, for logging once.
    pub fn overrides(&self) -> &[Override] {
        &self.applied.overrides
    }

    /// All that was set over the YAML, as names and values: with these, each as `--set name=value`, the `suricata`
    /// program inspects as this engine does.
    pub fn forced(&self) -> &[(String, String)] {
        &self.applied.forced
    }

    /// Suricata's counters.
    pub fn stats(&self) -> EngineStats {
        self.shared.monitor.stats()
    }

    /// Makes Suricata reopen its log files before it next writes to them, after they were moved away.
    pub fn rotate_logs(&self) {
        suricata_sys::rotate_logs();
    }

    /// Whether the engine inspects: all workers are attached and it is not stopping.
    pub fn is_running(&self) -> bool {
        self.shared.phase.is_running() && !suricata_sys::stopping()
    }

    /// Suricata's version, such as `8.0.7`.
    pub fn version() -> &'static str {
        suricata_sys::version()
    }

    /// Tells the workers to end, which then answer with [`ErrorKind::Stopped`]; see [`Engine::stop`].
    pub fn begin_stop(&self) {
        suricata_sys::stop();
        self.shared.phase.stop_if_waiting();
    }

    /// Ends the engine. Waits until each worker was dropped.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]: a worker was not dropped. [`ErrorKind::Misuse`]: the calling thread holds one; the engine
    /// ends when that is dropped.
    pub fn stop(self) -> Result<(), Error> {
        self.begin_stop();
        if worker::is_here() {
            return Err(Error::new(
                ErrorKind::Misuse,
                "a worker's thread cannot wait for the end of the engine: drop the worker first",
            ));
        }
        if self.shared.phase.wait_for_end(self.shared.config.patience) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TimedOut, "the engine cannot stop: a worker was not dropped"))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("is_running", &self.is_running()).finish_non_exhaustive()
    }
}

/// What the engine's thread hands over once the rules are loaded.
type Started = (Vec<Seat>, Applied);

/// The command line, and what stands for the rule files there.
type Arguments = (Vec<CString>, (CString, Vec<CString>));

/// The life of the engine's thread.
fn run(shared: &Shared, arguments: Arguments, report: &SyncSender<Result<Started, Error>>) {
    let began = Instant::now();
    let ready = match start(shared, arguments) {
        Ok((ready, seats, applied)) => {
            let loaded = shared.monitor.take_rules().unwrap_or_default();
            *lock(&shared.rules) = RuleStats { version: 1, took: began.elapsed(), ..loaded.stats };
            let _ = report.send(Ok((seats, applied)));
            ready
        }
        Err(error) => {
            shared.phase.set(Standing::Ended);
            let _ = report.send(Err(error));
            return;
        }
    };
    if shared.phase.wait_for_workers(shared.config.workers) {
        let result = ready.post_init().and_then(|running| {
            shared.phase.set(Standing::Running);
            running.main_loop()
        });
        match result.map(Ending::shut_down) {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                tracing::error!("the engine did not end well: {failure}");
                *lock(&shared.failure) = Some(failure.to_string());
            }
            Err(failure) => {
                let reason = format!("{failure}: {}", shared.monitor.complaints());
                tracing::error!("the engine failed: {reason}");
                *lock(&shared.failure) = Some(reason);
            }
        }
    }
    shared.phase.set(Standing::Ended);
}

fn start(
    shared: &Shared,
    (arguments, (stand_in, files)): Arguments,
) -> Result<(Ready, Vec<Seat>, Applied), Error> {
    let config = &shared.config;
    let explain = |failure: Failure| {
        if failure == Failure::AlreadyBegun {
            return Error::new(ErrorKind::AlreadyStarted, failure.to_string());
        }
        if let Some(reason) = shared.monitor.take_rules().and_then(|rules| rules.refused) {
            return Error::new(ErrorKind::Rules, reason);
        }
        let complaints = shared.monitor.complaints();
        let complaints = if complaints.is_empty() { failure.to_string() } else { complaints };
        Error::config(match &config.yaml {
            Some(yaml) => format!("{}: {complaints}", yaml.display()),
            None => complaints,
        })
        .with_source(failure)
    };
    let inline = config.mode == Mode::Ips;
    let mut begun = suricata_sys::begin(arguments, inline, config.workers).map_err(explain)?;
    begun.name_rules(stand_in, files);
    let mut configured = begun.load_yaml().map_err(explain)?;
    let applied = settings::apply(&mut configured, config)?;
    configured.silence(canary::LANE.bits());
    let (ready, seats) = configured.init().map_err(explain)?;
    Ok((ready, seats, applied))
}

impl Shared {
    pub(crate) fn workers(&self) -> u16 {
        self.config.workers
    }

    pub(crate) fn patience(&self) -> Duration {
        self.config.patience
    }

    /// That the engine has ended, and why if it was before its time. Waits a moment for the word of its thread.
    pub(crate) fn ended(&self) -> Error {
        self.phase.wait_for_end(LAST_WORDS);
        match lock(&self.failure).as_deref() {
            Some(reason) => {
                Error::new(ErrorKind::Stopped, format!("the engine has stopped: {reason}"))
            }
            None => Error::stopped(),
        }
    }

    /// Another one each time: a tuple whose flow was dropped must rest.
    pub(crate) fn canary_tuple(&self) -> Result<Tuple, Error> {
        canary::tuple(self.canaries.fetch_add(1, Ordering::Relaxed))
    }
}
