//! The mark of a running program in its state directory: of two, one is asked for reloads and
//! successions. The process id in it is for people; nobody is signalled by it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use start_error::StartError;

use crate::config::Config;
use crate::files;

/// Held as long as the program runs; a lock tells a running program from one that was killed.
#[derive(Debug)]
pub(crate) struct Running(#[expect(dead_code, reason = "held for its lock")] File);

impl Running {
    /// Marks this process as the one that runs with the state directory. `None` if another one
    /// does, or there is no such directory: then nobody asks this one for anything.
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
        // Without it the next one to start believes that it is alone.
        let _ = thread::Builder::new().name("mark".into()).spawn(wait);
    }
}

fn write_id(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn path(config: &Config) -> Result<PathBuf, StartError> {
    config.state_dir().map(|dir| dir.join("meergate.pid"))
}

fn open(path: &Path) -> io::Result<File> {
    files::open(OpenOptions::new().write(true), path, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: Some(dir.path().into()), ..Config::default() };
        let running = Running::mark(&config).unwrap();
        assert!(Running::mark(&config).is_none());
        drop(running);
        assert!(Running::mark(&config).is_some());
    }
}
