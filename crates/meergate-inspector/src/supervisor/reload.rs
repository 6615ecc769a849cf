//! Reloads: new rules are tried first, then loaded in place or by a second engine.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use start_error::StartError;
use tokio::sync::{mpsc, oneshot};

use super::{Running, Supervisor, manager};
use crate::error::{Error, Reason};
use crate::link::{Order, Report};
use crate::loaded::Loaded;
use crate::settings::Settings;
use crate::supervisor::child::{Child, Event};
use crate::supervisor::kept::Kept;
use crate::supervisor::reading::{Former, Reading};

/// Who waits for the result of a reload.
type Answer = Option<oneshot::Sender<Result<Loaded, Reason>>>;

/// Settings read anew, or why they are not taken.
pub(super) type Reread = (Result<Reading, StartError>, Answer);

/// A reload under way.
pub(super) struct Reload {
    pub(super) began: Instant,
    pub(super) settings: Settings,
    /// What their file held.
    text: Option<Vec<u8>>,
    pub(super) answer: Answer,
    /// Why the new rules were given up, if this is now the way back to the old ones.
    pub(super) given_up: Option<Reason>,
    pub(super) stage: Stage,
}

pub(super) enum Stage {
    /// A process of its own tries the new rules and settings.
    Checking(Child),
    /// A second engine starts, to take over.
    HandingOver(Box<Running>),
    /// The second engine serves, and the first one, of this number, is to take no new connections:
    /// until it says so, some of them would meet the old rules.
    Closing { id: u64, since: Instant, result: Result<Loaded, Reason> },
    /// The engine loads the rules in place.
    InPlace,
}

impl Supervisor {
    /// Keeps the rules that serve, so that there is a way back to them.
    pub(super) fn keep(&mut self) {
        if self.kept.as_ref().is_some_and(|kept| *kept.settings() == self.settings) {
            return;
        }
        match Kept::copy(&self.settings, self.store.path()) {
            Ok(kept) => self.kept = Some(kept),
            Err(error) => tracing::warn!(%error, "the rules in force cannot be kept"),
        }
    }

    /// The engine has loaded rules with which it does not inspect: one with the rules before them
    /// takes its place.
    pub(super) async fn fall_back(&mut self, reason: Reason) {
        tracing::error!(%reason, "with the new rules nothing can be inspected: going back");
        let Some(old) = self.kept.as_ref().map(|kept| kept.settings().clone()) else {
            return self.end_reload(Err(reason)).await;
        };
        match (self.spawn(&old), &mut self.reload) {
            (Ok(next), Some(reload)) => {
                reload.settings = old;
                reload.given_up = Some(reason);
                reload.stage = Stage::HandingOver(Box::new(next));
            }
            (Err(error), _) => {
                self.end_reload(Err(Reason::new(format!("{reason}; {error}")))).await;
            }
            // Nobody has asked for a reload, so there was none.
            (Ok(_), None) => {}
        }
    }

    /// Has settings and rules read anew, aside: files that are being written are waited for.
    pub(super) fn reread(&self, answer: Answer, to: &mpsc::Sender<Reread>) {
        let rules = self.kept.as_ref().map(|kept| kept.copies().to_vec()).unwrap_or_default();
        let former = Former { text: self.text.clone(), rules };
        let (source, to) = (self.source.clone(), to.clone());
        tokio::task::spawn_blocking(move || {
            // At the program's end nobody wants it any more.
            let _ = to.blocking_send((source(&former), answer));
        });
    }

    pub(super) async fn begin_reload(
        &mut self,
        reading: Result<Reading, StartError>,
        answer: Answer,
    ) {
        if self.reload.is_some() {
            return reply(
                answer,
                Err(Reason::new("a reload is under way: try again when it is done")),
            );
        }
        let began = Instant::now();
        let prepared = reading.map_err(Error::from).and_then(|Reading { settings, text }| {
            if settings.listen != self.settings.listen || settings.metrics != self.settings.metrics
            {
                return Err(Error::Start(StartError::new(
                    "cannot change while the program runs",
                    "listen, metrics",
                    "restart it",
                )));
            }
            let child = self.spawn_child(&settings, true)?;
            Ok((settings, text, child))
        });
        match prepared {
            Ok((settings, text, child)) => {
                tracing::info!("reloading: trying the new rules");
                let stage = Stage::Checking(child);
                self.reload = Some(Reload { began, settings, text, answer, given_up: None, stage });
            }
            Err(error) => {
                self.reload = Some(Reload {
                    began,
                    settings: self.settings.clone(),
                    text: None,
                    answer,
                    given_up: None,
                    stage: Stage::InPlace,
                });
                self.end_reload(Err(error.into())).await;
            }
        }
    }

    /// The process that tries the new rules has come to a result.
    pub(super) async fn checked(&mut self, event: Event) {
        let has_ended = matches!(event, Event::Ended(_));
        let failed = match event {
            Event::Report(Report::Ready(_)) => None,
            Event::Report(Report::Failed(reason)) => Some(reason),
            Event::Report(_) => return,
            Event::Ended(how) => {
                Some(Reason::new(format!("the process that tried the new rules has ended: {how}")))
            }
        };
        // Ending takes it two seconds, for which nobody waits. Soon, or many reloads would leave many.
        if let Some(reload) = &mut self.reload
            && let Stage::Checking(child) = std::mem::replace(&mut reload.stage, Stage::InPlace)
            && !has_ended
        {
            self.ending.push_back((Instant::now() + super::STOP_PATIENCE, child));
        }
        if let Some(reason) = failed {
            return self.end_reload(Err(reason)).await;
        }
        let Some(mut reload) = self.reload.take() else { return };
        let same = reload.settings == self.settings;
        let stage = match &mut self.current {
            Some(running)
                if same
                    && running.ready.is_some()
                    && running.yaml == fingerprint(&self.settings) =>
            {
                running.child.order(Order::Reload).await;
                Ok(Stage::InPlace)
            }
            _ => {
                self.spawn(&reload.settings.clone()).map(|next| Stage::HandingOver(Box::new(next)))
            }
        };
        match stage {
            Ok(stage) => {
                reload.stage = stage;
                self.reload = Some(reload);
            }
            Err(error) => {
                self.reload = Some(reload);
                self.end_reload(Err(error.into())).await;
            }
        }
    }

    /// News of the engine that is to take over.
    pub(super) async fn handed_over(&mut self, event: Event) {
        let mut old = None;
        let mut result = match event {
            Event::Report(Report::Ready(loaded)) => Ok(loaded),
            Event::Report(Report::Failed(reason)) => Err(reason),
            Event::Report(_) => return,
            Event::Ended(how) => {
                Err(Reason::new(format!("the new engine ended while it started: {how}")))
            }
        };
        if result.is_ok()
            && let Some(reload) = &mut self.reload
            && let Stage::HandingOver(next) = std::mem::replace(&mut reload.stage, Stage::InPlace)
        {
            let given_up = reload.given_up.take();
            self.settings = reload.settings.clone();
            self.restart = None;
            let mut next = *next;
            (next.ready, next.beat) = (Some(Instant::now()), Instant::now());
            if let Some(mut running) = self.current.replace(next) {
                running.child.order(Order::Drain).await;
                old = Some(running.child.id);
                self.ending.push_back((Instant::now() + super::DRAIN_PATIENCE, running.child));
                if self.ending.len() > super::ENDING
                    && let Some((_, oldest)) = self.ending.front()
                {
                    tracing::warn!("many engines were replaced lately: the first of them is ended");
                    oldest.kill();
                }
            }
            match given_up {
                Some(reason) => result = Err(reason),
                None => self.keep(),
            }
        }
        if let (Err(failure), Some(Reload { given_up: Some(reason), .. })) =
            (&mut result, &self.reload)
        {
            *failure = Reason::new(format!("{reason}; and there is no way back: {failure}"));
        }
        match (old, &mut self.reload) {
            (Some(id), Some(reload)) => {
                reload.stage = Stage::Closing { id, since: Instant::now(), result };
            }
            _ => self.end_reload(result).await,
        }
    }

    /// News of a process that is done: it ends the reload that waits for it.
    pub(super) async fn replaced(&mut self, process: u64, event: &Event) {
        let is_closed = matches!(event, Event::Report(Report::Closed) | Event::Ended(_));
        let Some(reload) = self.reload.as_mut().filter(|_| is_closed) else { return };
        match std::mem::replace(&mut reload.stage, Stage::InPlace) {
            Stage::Closing { id, result, .. } if id == process => self.end_reload(result).await,
            other => reload.stage = other,
        }
    }

    pub(super) async fn end_reload(&mut self, result: Result<Loaded, Reason>) {
        let Some(reload) = self.reload.take() else { return };
        let result = result.map(|loaded| Loaded {
            milliseconds: reload.began.elapsed().as_millis() as u64,
            ..loaded
        });
        match &result {
            Ok(loaded) => {
                self.text = reload.text;
                self.totals.reloads += 1;
                manager::reloaded(loaded);
                if let Some(warning) = loaded.warning() {
                    tracing::warn!("{warning}");
                }
                tracing::info!(
                    rules = loaded.rules,
                    dropping = loaded.dropping,
                    skipped = loaded.skipped,
                    lost = loaded.lost,
                    version = loaded.version,
                    milliseconds = loaded.milliseconds,
                    "reloaded"
                );
            }
            Err(reason) => {
                self.totals.refused += 1;
                tracing::error!(%reason, "reload refused, the old rules stay");
            }
        }
        if let Some(running) = &mut self.current {
            running.child.order(Order::Count(self.totals)).await;
        }
        reply(reload.answer, result);
    }
}

pub(super) fn reply(answer: Answer, result: Result<Loaded, Reason>) {
    if let Some(answer) = answer {
        // Whoever asked may have given up.
        let _ = answer.send(result);
    }
}

/// What Suricata cannot change while it runs.
pub(super) fn fingerprint(settings: &Settings) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Some(yaml) = &settings.suricata_yaml {
        // A file that cannot be read now is found out by the engine.
        std::fs::read(yaml).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}
