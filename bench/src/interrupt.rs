//! An interrupted run leaves nothing behind: peers have process groups of their own, so that a terminal's
//! interrupt reaches this program alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, process, thread};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::proc;

static CAME: AtomicBool = AtomicBool::new(false);

/// Ends all that this program has started at SIGINT and SIGTERM; [`came`] says then that the run is over.
///
/// # Errors
/// The kernel refused.
pub fn watch() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("interrupt".into()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut int), Ok(mut term)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                CAME.store(true, Ordering::Relaxed);
                end_all();
            }
        });
    })?;
    Ok(())
}

/// Whether the run was interrupted.
pub fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// The run was interrupted: what was measured last is of servers that were ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

/// As [`came`], for `?`.
///
/// # Errors
/// The run was interrupted.
pub fn check() -> Result<(), Interrupted> {
    if came() { Err(Interrupted) } else { Ok(()) }
}

fn end_all() {
    let own = process::id();
    for pid in proc::tree(&[own]).into_iter().filter(|pid| *pid != own) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ended_already = kill_process(pid, Signal::KILL);
        }
    }
}
