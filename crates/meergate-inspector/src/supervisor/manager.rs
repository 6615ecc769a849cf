//! What the service manager is told, where there is one (`sd_notify(3)`).

use sd_notify::NotifyState;

use crate::loaded::Loaded;

/// The engine inspects with these rules.
pub(crate) fn inspecting(loaded: &Loaded) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("inspecting with {loaded}"))]);
}

/// The engine goes on with these rules.
pub(crate) fn reloaded(loaded: &Loaded) {
    tell(&[NotifyState::Status(&format!("inspecting with {loaded}"))]);
}

/// The engine does not inspect; connections wait.
pub(crate) fn waiting() {
    tell(&[NotifyState::Status("the engine is being started again; connections wait")]);
}

/// The supervisor makes progress. Its own watchdog is what looks after the engine.
pub(crate) fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// The program serves what is open to its end, and nothing new.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}
