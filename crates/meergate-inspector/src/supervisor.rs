//! The process that the service manager knows: it keeps the listening sockets, and starts the
//! engine's process, again if need be. Connections wait meanwhile in the sockets' queues.

mod child;
pub(crate) mod control;
mod folder;
mod kept;
mod manager;
pub(crate) mod privileges;
pub(crate) mod reading;
mod reload;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use start_error::StartError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::{Error, Reason};
use crate::link::{Begin, Order, Report, Totals};
use crate::say::say;
use crate::settings::Settings;
use crate::sockets::Sockets;
use crate::supervisor::child::{Child, Event};
use crate::supervisor::control::Command;
use crate::supervisor::folder::Folder;
use crate::supervisor::kept::Kept;
use crate::supervisor::privileges::Access;
use crate::supervisor::reading::{Former, Reading};
use crate::supervisor::reload::{Reload, Stage, fingerprint, reply};

/// How often the engine's process is looked at.
const TICK: Duration = Duration::from_secs(1);
/// A process that served for so long was healthy: its end begins a new count of failures.
const HEALTHY: Duration = Duration::from_secs(60);
/// First and longest pause before the engine is started again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long the engine's process may take to end in order.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long rules may be tried at least: on a busy machine that takes minutes, since traffic comes first.
const CHECK_PATIENCE: Duration = Duration::from_secs(600);
/// How long an engine that was replaced may take: the hour that it gives its transactions, and what ending takes.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3660);
/// How long an engine that was replaced may go on to take new connections.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);
/// How many processes may be about to end.
const ENDING: usize = 4;
/// Where compiled patterns are, in the store.
const PATTERNS: &str = "patterns";
/// Events and commands that may wait.
const QUEUE: usize = 64;

/// Where settings come from, again and again.
pub(crate) type Source = Arc<dyn Fn(&Former) -> Result<Reading, StartError> + Send + Sync>;

/// Serves until told to stop.
///
/// # Errors
/// The engine does not start.
pub(crate) fn run(reading: Reading, source: Source, sockets: Sockets) -> Result<(), Error> {
    let Reading { settings, text } = reading;
    let store = Folder::create(&settings, Access::Read)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::System("start", e))?;
    runtime.block_on(async move {
        let (events, event) = mpsc::channel(QUEUE);
        let (commands, command) = mpsc::channel(QUEUE);
        let _control = control::listen(&settings, commands)?;
        let changes = watch::begin(&settings);
        let mut supervisor = Supervisor {
            settings,
            text,
            source,
            sockets,
            store,
            events,
            next_id: 0,
            current: None,
            ending: VecDeque::new(),
            restart: None,
            failures: 0,
            totals: Totals::default(),
            reload: None,
            kept: None,
            served: false,
        };
        supervisor.start()?;
        supervisor.attend(event, command, changes).await
    })
}

struct Supervisor {
    settings: Settings,
    /// What their file held.
    text: Option<Vec<u8>>,
    source: Source,
    sockets: Sockets,
    /// What outlives an engine: compiled patterns, and the rules that served last. Engines that serve
    /// cannot write to it, since what an intruder does in a process should end with it.
    store: Folder,
    events: mpsc::Sender<(u64, Event)>,
    next_id: u64,
    /// The process that serves, or is about to.
    current: Option<Running>,
    /// Processes that are done, or finish what they have in flight, and until when they may.
    ending: VecDeque<(Instant, Child)>,
    /// When to start the engine again.
    restart: Option<Instant>,
    failures: u32,
    totals: Totals,
    reload: Option<Reload>,
    /// What served last.
    kept: Option<Kept>,
    /// An engine has served before.
    served: bool,
}

struct Running {
    child: Child,
    /// What the YAML was when it started.
    yaml: u64,
    ready: Option<Instant>,
    beat: Instant,
}

impl Supervisor {
    async fn attend(
        &mut self,
        mut event: mpsc::Receiver<(u64, Event)>,
        mut command: mpsc::Receiver<Command>,
        mut changes: watch::Watch,
    ) -> Result<(), Error> {
        let mut tick = tokio::time::interval(TICK);
        let listen = |kind| signal(kind).map_err(|e| Error::System("hear of signals", e));
        let mut term = listen(SignalKind::terminate())?;
        let mut int = listen(SignalKind::interrupt())?;
        let mut hup = listen(SignalKind::hangup())?;
        let mut usr1 = listen(SignalKind::user_defined1())?;
        let (reread, mut read) = mpsc::channel(QUEUE);
        loop {
            let restart = self.restart;
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hup.recv() => self.reread(None, &reread),
                _ = usr1.recv() => self.reopen_logs().await,
                () = changes.changed() => self.reread(None, &reread),
                Some(Command::Reload(answer)) = command.recv() => {
                    self.reread(Some(answer), &reread);
                }
                Some((reading, answer)) = read.recv() => self.begin_reload(reading, answer).await,
                Some((id, event)) = event.recv() => self.note(id, event).await?,
                () = until(restart), if restart.is_some() => {
                    self.restart = None;
                    self.start()?;
                }
                _ = tick.tick() => {
                    self.look();
                    manager::alive();
                }
            }
        }
        tracing::info!("stopping");
        manager::stopping();
        self.stop(event).await;
        Ok(())
    }

    /// Has the engine open its logs anew. One that is to take over has them new anyway.
    async fn reopen_logs(&mut self) {
        if let Some(running) = &mut self.current {
            running.child.order(Order::ReopenLogs).await;
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        let running = self.spawn(&self.settings.clone())?;
        self.current = Some(running);
        Ok(())
    }

    fn spawn(&mut self, settings: &Settings) -> Result<Running, Error> {
        let child = self.spawn_child(settings, false)?;
        Ok(Running { child, yaml: fingerprint(settings), ready: None, beat: Instant::now() })
    }

    fn spawn_child(&mut self, settings: &Settings, check: bool) -> Result<Child, Error> {
        self.next_id += 1;
        let icap_sockets = if check { 0 } else { self.sockets.icap.len() };
        let totals = self.totals;
        let patterns = give_store(&self.store, settings)
            .map_err(|e| Error::System("give the engine its folder", e))?;
        let begin = Begin { settings: settings.clone(), check, patterns, icap_sockets, totals };
        let sockets = (!check).then_some(&self.sockets);
        let folder = Folder::create(settings, Access::Write)?;
        Child::start(self.next_id, begin, sockets, folder, self.events.clone())
            .map_err(|e| Error::System("start the engine's process", e))
    }

    /// What one of the processes says, or that it has ended.
    async fn note(&mut self, id: u64, event: Event) -> Result<(), Error> {
        match self.role(id) {
            Role::Current => match event {
                Event::Ended(how) => self.current_ended(&how),
                Event::Report(report) => self.current_says(report).await,
            },
            Role::Checking => {
                self.checked(event).await;
                Ok(())
            }
            Role::Next => {
                self.handed_over(event).await;
                Ok(())
            }
            Role::Gone => {
                self.replaced(id, &event).await;
                if let Event::Ended(how) = event {
                    self.ending.retain(|(_, child)| child.id != id);
                    tracing::info!(how, "an engine's process that was done has ended");
                }
                Ok(())
            }
        }
    }

    fn role(&self, id: u64) -> Role {
        if self.current.as_ref().is_some_and(|running| running.child.id == id) {
            return Role::Current;
        }
        match self.reload.as_ref().map(|reload| &reload.stage) {
            Some(Stage::Checking(child)) if child.id == id => Role::Checking,
            Some(Stage::HandingOver(next)) if next.child.id == id => Role::Next,
            _ => Role::Gone,
        }
    }

    async fn current_says(&mut self, report: Report) -> Result<(), Error> {
        let Some(running) = &mut self.current else { return Ok(()) };
        running.beat = Instant::now();
        match report {
            // The serving engine sends `Closed` only while it is being replaced or stopped.
            Report::Beat | Report::Closed => {}
            Report::Ready(loaded) => {
                running.ready = Some(Instant::now());
                // Before anybody hears of it and changes the files.
                self.keep();
                if !std::mem::replace(&mut self.served, true) {
                    say(format_args!("ready"));
                }
                manager::inspecting(&loaded);
                if let Some(warning) = loaded.warning() {
                    tracing::warn!("{warning}");
                }
                tracing::info!(
                    rules = loaded.rules,
                    dropping = loaded.dropping,
                    skipped = loaded.skipped,
                    lost = loaded.lost,
                    milliseconds = loaded.milliseconds,
                    "inspecting"
                );
            }
            Report::Failed(reason) if !self.served => return Err(reason.into()),
            Report::Failed(reason) => tracing::error!("{reason}"),
            Report::Reloaded(result) => {
                if result.is_ok() {
                    self.keep();
                }
                self.end_reload(result).await;
            }
            Report::Unproven(reason) => self.fall_back(reason).await,
        }
        Ok(())
    }

    fn current_ended(&mut self, how: &str) -> Result<(), Error> {
        let lived = self.current.take().and_then(|running| running.ready).map(|at| at.elapsed());
        if !self.served {
            return Err(
                Reason::new(format!("the engine's process ended while it started: {how}")).into()
            );
        }
        self.failures = match lived {
            Some(lived) if lived >= HEALTHY => 1,
            _ => self.failures + 1,
        };
        self.totals.restarts += 1;
        let pause = match self.failures {
            0 | 1 => Duration::ZERO,
            n => (BACK_OFF.0 * 2u32.saturating_pow(n - 2)).min(BACK_OFF.1),
        };
        self.restart = Some(Instant::now() + pause);
        manager::waiting();
        tracing::error!(
            how,
            failures = self.failures,
            pause_milliseconds = pause.as_millis() as u64,
            "the engine's process has ended: transactions in flight have failed, others wait"
        );
        if let Some(Reload { stage: Stage::InPlace, answer, .. }) =
            self.reload.take_if(|reload| matches!(reload.stage, Stage::InPlace))
        {
            self.totals.refused += 1;
            let what = format!("the engine's process ended during the reload: {how}");
            reply(answer, Err(Reason::new(what)));
        }
        Ok(())
    }

    /// Looks for processes that hang or have grown too large.
    fn look(&self) {
        let limits = &self.settings.limits;
        let start = limits.start_timeout.0;
        let current = self.current.iter().map(|running| match running.ready {
            Some(_) => (&running.child, running.beat, limits.hang_timeout.0),
            None => (&running.child, running.beat, start),
        });
        let reloading = self.reload.iter().filter_map(|reload| match &reload.stage {
            Stage::Checking(child) => Some((child, reload.began, CHECK_PATIENCE.max(start))),
            Stage::HandingOver(next) => Some((&next.child, next.beat, start)),
            Stage::Closing { id, since, .. } => {
                let old = self.ending.iter().find(|(_, child)| child.id == *id);
                old.map(|(_, child)| (child, *since, CLOSE_PATIENCE))
            }
            Stage::InPlace => None,
        });
        let late = |(child, since, patience): (_, Instant, _)| (child, since.elapsed() > patience);
        let ending = self.ending.iter().map(|(until, child)| (child, Instant::now() > *until));
        for (child, is_late) in current.chain(reloading).map(late).chain(ending) {
            if is_late {
                tracing::error!("the engine's process gives no sign of life: ending it");
                child.kill();
            }
            let memory = child.memory();
            if limits.engine_memory.0 > 0 && memory > limits.engine_memory.0 {
                tracing::error!(
                    memory,
                    limit = limits.engine_memory.0,
                    "the engine's process is too large: ending it"
                );
                child.kill();
            }
        }
    }

    async fn stop(&mut self, mut event: mpsc::Receiver<(u64, Event)>) {
        let stage = self.reload.take().map(|reload| reload.stage);
        let rest = match stage {
            Some(Stage::Checking(child)) => Some(child),
            Some(Stage::HandingOver(next)) => Some(next.child),
            Some(Stage::Closing { .. } | Stage::InPlace) | None => None,
        };
        let mut children: Vec<_> =
            self.current.take().map(|running| running.child).into_iter().collect();
        children.extend(self.ending.drain(..).map(|(_, child)| child));
        children.extend(rest);
        for child in &mut children {
            child.order(Order::Stop).await;
        }
        let mut left = children.len();
        let ended = async {
            while left > 0 {
                if let Some((_, Event::Ended(_))) = event.recv().await {
                    left -= 1;
                }
            }
        };
        if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
            tracing::error!("the engine's process does not end: ending it");
            children.iter().for_each(Child::kill);
        }
    }
}

enum Role {
    Checking,
    Current,
    Gone,
    Next,
}

/// Makes the store readable for these settings' user, and in it the folder of compiled patterns,
/// which that user writes to.
fn give_store(store: &Folder, settings: &Settings) -> io::Result<PathBuf> {
    privileges::give(store.path(), settings, Access::Read)?;
    let patterns = store.path().join(PATTERNS);
    if !patterns.exists() {
        std::fs::create_dir(&patterns)?;
    }
    privileges::give(&patterns, settings, Access::Write)?;
    Ok(patterns)
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}
