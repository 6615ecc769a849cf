//! The one engine of a process.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use suricata_sys::{Failure, MainThread, Seat};
use tempfile::TempDir;

use crate::canary::{self, Canary};
use crate::config::{EngineConfig, EveOutput, Mode, Override};
use crate::error::{Error, ErrorKind};
use crate::flow::Tuple;
use crate::monitor::{Monitor, MonitorSink, RulePolicy, lock};
use crate::rules::{RuleStats, check_file};
use crate::settings;
use crate::stats::EngineStats;
use crate::worker::WorkerSeed;

/// How often a wait looks whether it is over.
const GLANCE: Duration = Duration::from_millis(1);

/// A handle to the engine. Dropping it leaves the engine running; [`Engine::stop`] ends it.
pub struct Engine {
    shared: Arc<Shared>,
    overrides: Vec<Override>,
}

/// What the engine's thread, its workers and its handle share.
pub(crate) struct Shared {
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) canary: Canary,
    pub(crate) mode: Mode,
    /// The version of the rules in force.
    pub(crate) rules_version: AtomicU64,
    pub(crate) phase: Phase,
    canaries: AtomicU16,
    config: EngineConfig,
    rules: Mutex<RuleStats>,
    /// One reload at a time.
    reloading: Mutex<()>,
    /// Holds the settings and the names of the rule files; Suricata reads them anew at each reload.
    _folder: TempDir,
}

/// Where the engine stands, for those who wait for it.
pub(crate) struct Phase {
    standing: Mutex<Standing>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Initialised; so many seeds were attached.
    Waiting { attached: u16 },
    /// All workers are there.
    Running,
    /// It came to nothing, or it is over.
    Ended,
}

impl Engine {
    /// Starts the engine of this process, on a thread of its own. Returns when the rules are loaded, which takes
    /// milliseconds to seconds. Nothing is inspected before every seed is [attached](WorkerSeed::attach).
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
        let (folder, files) = write_folder(&config, &canary).map_err(|error| {
            Error::config(format!("cannot write to a temporary folder: {error}")).with_source(error)
        })?;
        let arguments = arguments(&config, folder.path())?;
        let policy = RulePolicy { tolerate_bad: config.tolerate_bad_rules, own: 1, files };
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
            phase: Phase {
                standing: Mutex::new(Standing::Waiting { attached: 0 }),
                changed: Condvar::new(),
            },
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
            .spawn(move || run(&for_thread, arguments, &report))
            .map_err(|error| {
                Error::config(format!("cannot start a thread: {error}")).with_source(error)
            })?;
        let (seats, overrides) = started.recv().unwrap_or_else(|_| Err(Error::stopped()))?;

        let seeds = seats
            .into_iter()
            .zip(0..workers)
            .map(|(seat, index)| WorkerSeed::new(seat, index, Arc::clone(&shared)))
            .collect();
        Ok((Self { shared, overrides }, seeds))
    }

    /// Loads the rules anew while traffic flows, and waits until every worker uses them. Workers must feed or
    /// [idle](crate::Worker::idle) meanwhile. Each then proves them with a canary before it next opens a flow.
    ///
    /// # Errors
    /// The old rules stay in force if the new ones have a file missing, no rule, or a rule that does not parse
    /// ([`ErrorKind::Rules`]), or if the YAML is broken ([`ErrorKind::Config`]).
    /// [`ErrorKind::TimedOut`]: some worker neither feeds nor idles; the reload is still under way.
    pub fn reload(&self) -> Result<RuleStats, Error> {
        let shared = &self.shared;
        let _one_at_a_time = lock(&shared.reloading);
        if !shared.phase.is_running() {
            return Err(Error::stopped());
        }
        check_files(&shared.config)?;
        let began = Instant::now();
        let deadline = began + shared.config.patience;
        let _ = shared.monitor.take_rules();
        let _ = shared.monitor.complaints();
        suricata_sys::reload_start()
            .map_err(|_| Error::new(ErrorKind::Rules, "another reload is under way"))?;
        while suricata_sys::reload_pending() {
            if !shared.phase.is_running() {
                return Err(Error::stopped());
            }
            if Instant::now() > deadline {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "the reload is waiting for a worker that neither feeds nor idles",
                ));
            }
            thread::sleep(GLANCE);
        }
        let loaded = shared.monitor.take_rules().ok_or_else(|| {
            Error::config(format!(
                "the settings cannot be loaded anew: {}",
                shared.monitor.complaints()
            ))
        })?;
        if let Some(reason) = loaded.refused {
            return Err(Error::new(ErrorKind::Rules, reason));
        }
        let version = shared.rules_version.fetch_add(1, Ordering::SeqCst) + 1;
        let stats = RuleStats { version, took: began.elapsed(), ..loaded.stats };
        *lock(&shared.rules) = stats.clone();
        Ok(stats)
    }

    /// The rules in force.
    pub fn rules(&self) -> RuleStats {
        lock(&self.shared.rules).clone()
    }

    /// What the user's YAML (or [`EngineConfig::set`]) said and is not in force, for logging once.
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
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

    /// Ends the engine. Waits until each worker was dropped, so not to be called by a thread that holds one.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]: a worker was not dropped.
    pub fn stop(self) -> Result<(), Error> {
        self.begin_stop();
        if self.shared.phase.wait_for_end(self.shared.config.patience) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TimedOut, "the engine cannot stop: a worker was not dropped"))
    }
}

/// What the engine's thread hands over once the rules are loaded.
type Started = (Vec<Seat>, Vec<Override>);

/// The life of the engine's thread.
fn run(shared: &Shared, arguments: Vec<CString>, report: &SyncSender<Result<Started, Error>>) {
    let began = Instant::now();
    let mut main = match start(shared, arguments) {
        Ok((main, seats, overrides)) => {
            let loaded = shared.monitor.take_rules().unwrap_or_default();
            *lock(&shared.rules) = RuleStats { version: 1, took: began.elapsed(), ..loaded.stats };
            let _ = report.send(Ok((seats, overrides)));
            main
        }
        Err(error) => {
            shared.phase.set(Standing::Ended);
            let _ = report.send(Err(error));
            return;
        }
    };
    if shared.phase.wait_for_workers(shared.config.workers) {
        let result = main.post_init().and_then(|()| {
            shared.phase.set(Standing::Running);
            main.main_loop()
        });
        if let Err(failure) = result {
            tracing::error!("the engine failed: {failure}: {}", shared.monitor.complaints());
            suricata_sys::stop();
        } else if let Err(failure) = main.shut_down() {
            tracing::error!("the engine did not end well: {failure}");
        }
    }
    shared.phase.set(Standing::Ended);
}

fn start(
    shared: &Shared,
    arguments: Vec<CString>,
) -> Result<(MainThread, Vec<Seat>, Vec<Override>), Error> {
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
    let mut main = MainThread::begin(arguments, inline, config.workers).map_err(explain)?;
    main.load_yaml().map_err(explain)?;
    let overrides = settings::apply(&mut main, config)?;
    suricata_sys::set_silent_lane(canary::LANE.bits());
    let seats = main.init().map_err(explain)?;
    Ok((main, seats, overrides))
}

impl Shared {
    pub(crate) fn workers(&self) -> u16 {
        self.config.workers
    }

    /// Another one each time: a tuple whose flow was dropped must rest.
    pub(crate) fn canary_tuple(&self) -> Result<Tuple, Error> {
        canary::tuple(self.canaries.fetch_add(1, Ordering::Relaxed))
    }
}

impl Phase {
    pub(crate) fn is_running(&self) -> bool {
        *lock(&self.standing) == Standing::Running
    }

    /// One more worker is about to attach. Returns once all are; `false` if they never will be.
    pub(crate) fn attach(&self, workers: u16) -> bool {
        let mut standing = lock(&self.standing);
        if let Standing::Waiting { attached } = &mut *standing {
            *attached += 1;
            self.changed.notify_all();
        }
        while matches!(*standing, Standing::Waiting { attached } if attached < workers) {
            standing = self.changed.wait(standing).unwrap_or_else(PoisonError::into_inner);
        }
        *standing != Standing::Ended
    }

    /// A seed was thrown away, so the engine can never run.
    pub(crate) fn abandon(&self) {
        self.set(Standing::Ended);
    }

    fn stop_if_waiting(&self) {
        let mut standing = lock(&self.standing);
        if matches!(*standing, Standing::Waiting { .. }) {
            *standing = Standing::Ended;
            self.changed.notify_all();
        }
    }

    fn set(&self, to: Standing) {
        *lock(&self.standing) = to;
        self.changed.notify_all();
    }

    fn wait_for_workers(&self, workers: u16) -> bool {
        let mut standing = lock(&self.standing);
        loop {
            match *standing {
                Standing::Waiting { attached } if attached == workers => return true,
                Standing::Waiting { .. } => {}
                Standing::Running | Standing::Ended => return false,
            }
            standing = self.changed.wait(standing).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for_end(&self, patience: Duration) -> bool {
        let standing = lock(&self.standing);
        let (standing, _) = self
            .changed
            .wait_timeout_while(standing, patience, |standing| *standing != Standing::Ended)
            .unwrap_or_else(PoisonError::into_inner);
        *standing == Standing::Ended
    }
}

/// Suricata resolves relative paths against several folders; we against the current one.
fn absolute(mut config: EngineConfig) -> Result<EngineConfig, Error> {
    let make = |path: &mut PathBuf| -> Result<(), Error> {
        *path = std::path::absolute(&path).map_err(|error| {
            Error::config(format!("cannot resolve {}: {error}", path.display())).with_source(error)
        })?;
        Ok(())
    };
    config.yaml.iter_mut().try_for_each(make)?;
    config.rules.iter_mut().try_for_each(make)?;
    config.log_dir.iter_mut().try_for_each(make)?;
    if let EveOutput::File(path) = &mut config.eve {
        make(path)?;
    }
    Ok(config)
}

fn check_files(config: &EngineConfig) -> Result<(), Error> {
    if let Some(yaml) = &config.yaml {
        fs::File::open(yaml).map_err(|error| {
            Error::config(format!("cannot read the settings {}: {error}", yaml.display()))
                .with_source(error)
        })?;
    } else if config.rules.is_empty() {
        return Err(Error::new(
            ErrorKind::Rules,
            "no rules are given, so nothing would be inspected",
        ));
    }
    config.rules.iter().try_for_each(|path| check_file(path))?;
    let folders = [
        config.log_dir.as_deref(),
        match &config.eve {
            EveOutput::File(path) => path.parent(),
            EveOutput::AsConfigured | EveOutput::None => None,
        },
    ];
    for folder in folders.into_iter().flatten() {
        if !folder.is_dir() {
            return Err(Error::config(format!("the folder {} does not exist", folder.display())));
        }
    }
    Ok(())
}

/// Puts what Suricata is to read into a private folder: settings, the canary's rule, and the rule files under names
/// without anything that its globbing would take for a pattern.
fn write_folder(
    config: &EngineConfig,
    canary: &Canary,
) -> io::Result<(TempDir, Vec<(String, PathBuf)>)> {
    let folder = tempfile::Builder::new().prefix("meergate-engine-").tempdir()?;
    if config.yaml.is_none() {
        let log_dir = config.log_dir.as_deref().unwrap_or(folder.path());
        fs::write(folder.path().join("suricata.yaml"), settings::built_in(config, log_dir))?;
    }
    let rules = folder.path().join("rules");
    fs::create_dir(&rules)?;
    fs::write(rules.join("0.rules"), canary.rule())?;
    let mut files = Vec::new();
    for (number, path) in config.rules.iter().enumerate() {
        let alias = rules.join(format!("{}.rules", number + 1));
        symlink(path, &alias)?;
        files.push((alias.to_string_lossy().into_owned(), path.clone()));
    }
    Ok((folder, files))
}

/// The command line that the `suricata` program would be given.
fn arguments(config: &EngineConfig, folder: &Path) -> Result<Vec<CString>, Error> {
    let own_yaml = folder.join("suricata.yaml");
    let yaml = config.yaml.as_deref().unwrap_or(&own_yaml);
    let rules = folder.join("rules").join("*.rules");
    let mut arguments: Vec<&OsStr> = vec![
        OsStr::new("suricata"),
        OsStr::new("-c"),
        yaml.as_os_str(),
        OsStr::new("-s"),
        rules.as_os_str(),
    ];
    if let Some(log_dir) = &config.log_dir {
        arguments.extend([OsStr::new("-l"), log_dir.as_os_str()]);
    }
    let as_c = |argument: &OsStr| {
        CString::new(argument.as_bytes())
            .map_err(|_| Error::config(format!("{} holds a NUL byte", argument.to_string_lossy())))
    };
    arguments.into_iter().map(as_c).collect()
}
