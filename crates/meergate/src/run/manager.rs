//! What the service manager is told, where there is one (`sd_notify(3)`).

use sd_notify::NotifyState;

/// The program serves. From here on the manager's watchdog, if it is set, hears that the threads
/// still make progress.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
    if let Some(patience) = sd_notify::watchdog_enabled() {
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(patience / 2);
            loop {
                beat.tick().await;
                tell(NotifyState::Watchdog);
            }
        });
    }
}

/// The program serves what is open to its end, and nothing new.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}
