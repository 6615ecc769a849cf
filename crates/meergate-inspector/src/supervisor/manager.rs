//! What the service manager is told, where there is one (`sd_notify(3)`).

use sd_notify::NotifyState;

/// The engine inspects with so many rules.
pub(crate) fn inspecting(rules: u32) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("inspecting with {rules} rules"))]);
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
