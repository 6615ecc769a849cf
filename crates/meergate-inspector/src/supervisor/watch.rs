//! Sees that rule files or settings have changed.
//!
//! It looks at them every few seconds instead of asking the kernel to be told: that works on any
//! file system, and for files that are replaced as well as for those that are written.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::Interval;

use crate::settings::Settings;

/// How often the files are looked at. A change counts once it has been there for as long.
const EVERY: Duration = Duration::from_secs(2);

/// The files that are watched; none if that was not asked for.
pub(crate) struct Watch {
    files: Vec<PathBuf>,
    interval: Interval,
    known: Vec<Option<(SystemTime, u64)>>,
    pending: bool,
}

/// Begins to watch, if the settings say so.
pub(crate) fn begin(settings: &Settings) -> Watch {
    let files: Vec<PathBuf> = match settings.watch {
        true => {
            let tls = settings
                .tls
                .iter()
                .flat_map(|tls| [&tls.cert, &tls.key].into_iter().chain(&tls.client_ca));
            settings.rules.iter().chain(&settings.suricata_yaml).chain(tls).cloned().collect()
        }
        false => Vec::new(),
    };
    let known = files.iter().map(stamp).collect();
    Watch { files, interval: tokio::time::interval(EVERY), known, pending: false }
}

impl Watch {
    /// Waits until a file has changed and stayed so. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.files.is_empty() {
            return std::future::pending().await;
        }
        loop {
            self.interval.tick().await;
            let now: Vec<_> = self.files.iter().map(stamp).collect();
            let moved = now != self.known;
            self.known = now;
            match (moved, self.pending) {
                (true, _) => self.pending = true,
                (false, true) => {
                    self.pending = false;
                    return;
                }
                (false, false) => {}
            }
        }
    }
}

fn stamp(path: &PathBuf) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
