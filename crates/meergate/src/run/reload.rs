//! Reading the settings anew while connections go on with those that they began with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use start_error::StartError;

use crate::config::{Config, Flags, Rule};
use crate::listen::Gateway;
use crate::metrics::ReloadLabels;
use crate::run::{settings, show};
use crate::session::Settings;
use crate::words::Reloaded;

/// How often the files of host lists are looked at.
const WATCH: Duration = Duration::from_secs(5);

impl Gateway {
    /// Reads the settings anew and has new connections go by them.
    ///
    /// # Errors
    /// Something is wrong with them. It is logged too, and the present ones stay in force.
    pub(crate) fn reload(&self, flags: &Flags, why: &str) -> Result<(), StartError> {
        let began = SystemTime::now();
        let replaced = self.replace(flags);
        let outcome = match &replaced {
            Ok(()) => {
                let ms = began.elapsed().map_or(0, |took| took.as_millis());
                tracing::info!(why, ms, "settings reloaded");
                Reloaded::Ok
            }
            Err(error) => {
                tracing::error!(why, %error, "settings not reloaded, the former ones stay in force");
                Reloaded::Failed
            }
        };
        self.shared.metrics.reloads.get_or_create(&ReloadLabels { outcome }).inc();
        let logs = [&self.shared.logs.connections, &self.shared.logs.transactions];
        for log in logs.into_iter().flatten() {
            log.reopen();
        }
        replaced
    }

    fn replace(&self, flags: &Flags) -> Result<(), StartError> {
        let former = self.settings.load_full();
        let config = flags.reread(&former.config)?;
        for (key, same) in fixed(&former.config, &config) {
            if !same {
                tracing::warn!(key, "changed, but takes effect at the next start only");
            }
        }
        let new = settings(config, &self.shared.metrics)?;
        loses_nothing(&former, &new)?;
        means_its_rules(&former.config, &new.config)?;
        new.tls.learn_from(&former.tls);
        show(&new, &self.shared.metrics);
        self.settings.store(Arc::new(new));
        Ok(())
    }

    /// Reloads whenever a file with host names changes.
    pub(crate) async fn watch_lists(self: Arc<Self>, flags: Flags) {
        let mut known = self.list_states().await;
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH) => {}
                () = self.shared.stopping() => return,
            }
            let now = self.list_states().await;
            // A list that is being written is read once it is left alone.
            if now != known && now == self.list_states_later().await {
                let gateway = self.clone();
                let flags = flags.clone();
                let work = move || drop(gateway.reload(&flags, "a list of hosts changed"));
                if tokio::task::spawn_blocking(work).await.is_err() {
                    return;
                }
                known = now;
            }
        }
    }

    async fn list_states_later(&self) -> Vec<State> {
        tokio::time::sleep(WATCH / 10).await;
        self.list_states().await
    }

    async fn list_states(&self) -> Vec<State> {
        let settings = self.settings.load_full();
        let look = move || {
            let rules = settings.config.rule.iter();
            rules.flat_map(|rule| rule.host_file.iter().map(|path| State::of(path))).collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

/// Whether `new` still has services, rules and users where `former` has, or says that it is meant to have
/// none: a file that was cut, or is being written, is right as far as it goes, and lets everything pass.
fn loses_nothing(former: &Settings, new: &Settings) -> Result<(), StartError> {
    let inspects = |settings: &Settings| settings.policy.chains().any(|chain| !chain.is_empty());
    let inspects_all = |settings: &Settings| settings.policy.default_decision().chain.is_some();
    let config = &new.config;
    let file =
        config.file.as_ref().map_or("the settings".into(), |path| path.display().to_string());
    let lost = [
        (inspects(former) && !inspects(new), config.icap.none, "no ICAP service", "icap.none"),
        (
            inspects_all(former) && !inspects_all(new),
            config.icap.none,
            "no ICAP service in the default chain",
            "icap.none",
        ),
        (
            !former.config.rule.is_empty() && config.rule.is_empty(),
            config.no_rules,
            "no rule",
            "no_rules",
        ),
        (
            former.users.is_some() && new.users.is_none(),
            config.users.none,
            "no users",
            "users.none",
        ),
    ];
    match lost.into_iter().find(|(lost, meant, ..)| *lost && !meant) {
        None => Ok(()),
        Some((_, _, what, key)) => Err(StartError::new(
            format!("{what} is left, where there was one"),
            file,
            format!("complete it; if that is meant, set {key} = true"),
        )),
    }
}

/// Whether each new rule without a condition says that it is meant: conditions may be what was cut.
fn means_its_rules(former: &Config, new: &Config) -> Result<(), StartError> {
    let is_cut = |rule: &&Rule| rule.is_for_all() && !rule.all && !former.rule.contains(rule);
    match new.rule.iter().position(|rule| is_cut(&rule)) {
        None => Ok(()),
        Some(at) => Err(StartError::new(
            "a new rule has no condition, and matches everything",
            format!("[[rule]] number {}", at + 1),
            "complete it; if that is meant, give it all = true",
        )),
    }
}

/// What tells that a file has changed.
#[derive(Debug, PartialEq, Eq)]
struct State {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

impl State {
    fn of(path: &Path) -> Self {
        let meta = fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            length: meta.as_ref().map_or(0, fs::Metadata::len),
            modified: meta.and_then(|meta| meta.modified().ok()),
        }
    }
}

/// Settings that are read at the start alone, and whether they are the same.
fn fixed(former: &Config, new: &Config) -> [(&'static str, bool); 7] {
    [
        ("listen", former.listen == new.listen),
        ("console.address", former.console.address == new.console.address),
        ("log", former.log == new.log),
        ("capture", former.capture == new.capture),
        ("firewall", former.firewall == new.firewall),
        ("user", former.user == new.user),
        ("sandbox", former.sandbox == new.sandbox),
    ]
}
