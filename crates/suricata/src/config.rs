//! How an engine is to be started.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::room::Room;

/// When the engine inspects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// As if passively: at acknowledgements. For comparison only. Verdicts come late, most of them when a flow ends,
    /// and some never.
    Ids {
        /// Acknowledge after this many bytes of a direction; inspection happens at acknowledgements.
        ack_window: u32,
    },
    /// Inline: a verdict comes with the bytes that cause it.
    #[default]
    Ips,
}

/// Where EVE records go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EveOutput {
    /// As the user's YAML says; nowhere without one.
    #[default]
    AsConfigured,
    /// Into this file, in addition to nothing else.
    File(PathBuf),
    /// Nowhere, even if the user's YAML says otherwise.
    None,
}

/// Where compiled patterns are kept, for other engines with the same rules (or most of them): compiling is half of the
/// work of loading many. With Hyperscan only, as Suricata's `detect.sgh-mpm-caching`; without it nothing is kept.
///
/// Whoever can write to the folder decides what later engines find, so one that hostile traffic has reached should not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PatternCache {
    /// As the user's YAML says; nowhere without one.
    #[default]
    AsConfigured,
    /// Patterns come from this folder; what is not there is compiled and not kept.
    ReadOnly(PathBuf),
    /// Patterns come from this folder, and those compiled are put there. What this engine has no use for is removed.
    ReadWrite(PathBuf),
}

/// How an [`Engine`](crate::Engine) is to be started. Everything has a default but the rules: an engine without any is
/// refused.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    pub(crate) yaml: Option<PathBuf>,
    pub(crate) rules: Vec<PathBuf>,
    pub(crate) workers: u16,
    pub(crate) log_dir: Option<PathBuf>,
    pub(crate) eve: EveOutput,
    pub(crate) patterns: PatternCache,
    pub(crate) mode: Mode,
    pub(crate) overrides: Vec<(String, String)>,
    pub(crate) room: Option<Room>,
    pub(crate) tolerate_bad_rules: bool,
    pub(crate) patience: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            yaml: None,
            rules: Vec::new(),
            workers: 1,
            log_dir: None,
            eve: EveOutput::default(),
            patterns: PatternCache::default(),
            mode: Mode::default(),
            overrides: Vec::new(),
            room: None,
            tolerate_bad_rules: false,
            patience: Duration::from_secs(120),
        }
    }
}

impl EngineConfig {
    /// One worker, inline, built-in settings, no rules yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The user's own `suricata.yaml`, with its rules and outputs. Some settings are forced all the same; see
    /// [`Engine::overrides`](crate::Engine::overrides). Without one, built-in settings serve.
    #[must_use]
    pub fn yaml(mut self, path: impl Into<PathBuf>) -> Self {
        self.yaml = Some(path.into());
        self
    }

    /// Adds rule files, in addition to those that a YAML names.
    #[must_use]
    pub fn rules<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.rules.extend(paths.into_iter().map(Into::into));
        self
    }

    /// How many workers, 1 to 1024. Each needs a thread of its own.
    #[must_use]
    pub fn workers(mut self, workers: u16) -> Self {
        self.workers = workers;
        self
    }

    /// Where Suricata's outputs put files with relative names; must exist. Without one: what the YAML says, or a
    /// private temporary folder.
    #[must_use]
    pub fn log_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_dir = Some(path.into());
        self
    }

    /// Where EVE records go.
    #[must_use]
    pub fn eve(mut self, output: EveOutput) -> Self {
        self.eve = output;
        self
    }

    /// Where compiled patterns are kept; nowhere if the YAML turns `detect.sgh-mpm-caching` off, or
    /// [`set`](Self::set) does.
    #[must_use]
    pub fn patterns(mut self, cache: PatternCache) -> Self {
        self.patterns = cache;
        self
    }

    /// Inline or passive.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets one of Suricata's settings by its dotted name, such as `flow.memcap`, over whatever the YAML says. Settings
    /// that safety depends on are not changed by this.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.overrides.push((name.into(), value.into()));
        self
    }

    /// Makes room: the engine's memory caps are at least what so many bodies under way at once need, on so many open
    /// flows, unless [`set`](Self::set) names them. What goes beyond fails, with [`Loss::Memory`](crate::Loss::Memory).
    #[must_use]
    pub fn room(mut self, bodies: usize, flows: usize) -> Self {
        self.room = Some(Room { bodies: bodies as u64, flows: flows as u64 });
        self
    }

    /// Whether to go on without rules that do not parse, and lines of the threshold file and of data sets, as
    /// Suricata does. Off by
    /// default: one bad rule is an error, and so is one with `replace`, since what is passed on is not changed. Missing
    /// files and an empty set are errors in any case.
    #[must_use]
    pub fn tolerate_bad_rules(mut self, yes: bool) -> Self {
        self.tolerate_bad_rules = yes;
        self
    }

    /// Writes the YAML that serves without one of the user's into `folder`, with outputs below `log_dir`, and returns
    /// where it is: for running the `suricata` program with it, and with what is [forced](crate::Engine::forced) on it.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write_built_in_yaml(&self, folder: &Path, log_dir: &Path) -> io::Result<PathBuf> {
        crate::settings::write_built_in(self, folder, log_dir)
    }

    /// How long [`Engine::reload`](crate::Engine::reload), [`Engine::stop`](crate::Engine::stop) and
    /// [`WorkerSeed::attach`](crate::WorkerSeed::attach) wait for the other workers; 2 minutes by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// A setting of the user that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Override {
    /// Its dotted name.
    pub name: String,
    /// What the user's YAML said.
    pub was: String,
    /// What is in force.
    pub now: String,
    /// Why.
    pub why: &'static str,
}
