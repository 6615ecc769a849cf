//! The mark of a running program in its state directory, so that it can be told to reload.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::Config;
use crate::error::StartError;

/// Held as long as the program runs; a lock tells a running program from one that was killed.
#[derive(Debug)]
pub(crate) struct Running(#[expect(dead_code, reason = "held for its lock")] File);

impl Running {
    /// Marks this process as the one that runs with the state directory. `None` if another one
    /// does, or there is no such directory: then `meergate reload` does not reach this one.
    pub(crate) fn mark(config: &Config) -> Option<Self> {
        let file = open(&path(config).ok()?).ok()?;
        file.try_lock().ok()?;
        write_id(&file).ok().map(|()| Self(file))
    }

    /// As [`Running::mark`], for the successor of the program that runs: opens the mark while that
    /// is still allowed, for [`Heir::wait`].
    pub(crate) fn inherit(config: &Config) -> Option<Heir> {
        open(&path(config).ok()?).ok().map(Heir)
    }
}

/// The successor of a program that still holds the mark.
#[derive(Debug)]
pub(crate) struct Heir(File);

impl Heir {
    /// Takes the mark when the former program ends, in a thread that waits for it.
    pub(crate) fn wait(self) {
        let wait = move || {
            if self.0.lock().is_ok() && write_id(&self.0).is_ok() {
                // Held until the process ends.
                loop {
                    thread::park();
                }
            }
        };
        // Without it only `meergate reload` does not find this program.
        let _ = thread::Builder::new().name("mark".into()).spawn(wait);
    }
}

/// Tells the program that runs with the state directory to reload; its process id.
///
/// # Errors
/// None runs with it, or it may not be told.
pub(crate) fn reload(config: &Config) -> Result<i32, StartError> {
    let path = path(config)?;
    let refuse = |what: String| {
        StartError::new(
            what,
            path.display().to_string(),
            "name the state directory of a running meergate with --state-dir or --config",
        )
    };
    let file = File::open(&path).map_err(|e| refuse(format!("no program runs here ({e})")))?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) => return Err(refuse("no program runs here".into())),
        Err(TryLockError::Error(e)) => return Err(refuse(e.to_string())),
    }
    let text = fs::read_to_string(&path).map_err(|e| refuse(e.to_string()))?;
    let pid = text.trim().parse().map_err(|_| refuse("no process id in it".into()))?;
    kill(Pid::from_raw(pid), Signal::SIGHUP)
        .map_err(|e| refuse(format!("process {pid} cannot be told ({e})")))?;
    Ok(pid)
}

fn write_id(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn path(config: &Config) -> Result<PathBuf, StartError> {
    config.state_dir().map(|dir| dir.join("meergate.pid"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_that_runs_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: Some(dir.path().into()), ..Config::default() };
        assert!(reload(&config).is_err());
        let running = Running::mark(&config).unwrap();
        assert!(Running::mark(&config).is_none());
        drop(running);
        let e = reload(&config).unwrap_err().to_string();
        assert!(e.contains("no program runs here"), "{e}");
    }
}
