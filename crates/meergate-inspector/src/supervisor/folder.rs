//! Private folders in the one for temporary files: what engine processes write, and what they read.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use start_error::StartError;
use tempfile::TempDir;

use crate::settings::Settings;
use crate::supervisor::privileges::{self, Access};

const PREFIX: &str = "meergate-inspector-";
const LOCK: &str = "lock";

/// A private folder. Removed at the end; if that never came, by the next program that makes one.
pub(crate) struct Folder {
    dir: TempDir,
    /// Held for as long as the process lives.
    _lock: File,
}

impl Folder {
    /// Makes a folder.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written to.
    pub(crate) fn create(settings: &Settings, access: Access) -> Result<Self, StartError> {
        remove_abandoned();
        make(settings, access).map_err(|e| {
            StartError::new(
                format!("cannot make a temporary folder ({e})"),
                env::temp_dir().display().to_string(),
                "set TMPDIR to a folder that can be written",
            )
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn make(settings: &Settings, access: Access) -> io::Result<Folder> {
    let dir = tempfile::Builder::new()
        .prefix(PREFIX)
        .permissions(PermissionsExt::from_mode(0o700))
        .tempdir()?;
    // Locked before it has its name, so that nobody takes the folder for abandoned.
    let unnamed = dir.path().join("new");
    let lock = File::create(&unnamed)?;
    lock.lock()?;
    fs::rename(&unnamed, dir.path().join(LOCK))?;
    privileges::give(dir.path(), settings, access)?;
    Ok(Folder { dir, _lock: lock })
}

/// Removes the folders of programs that were killed: nobody holds their locks.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())
            && is_unlocked(&entry.path().join(LOCK))
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether this is a file, and nobody holds its lock. Anybody may put things into a folder for
/// temporary files: a pipe of that name keeps nobody waiting.
fn is_unlocked(path: &Path) -> bool {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return false;
    };
    file.metadata().is_ok_and(|metadata| metadata.is_file()) && file.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_left_alone_and_an_abandoned_one_is_not() {
        let settings = Settings::default();
        let used = Folder::create(&settings, Access::Write).unwrap();
        let abandoned = Folder::create(&settings, Access::Read).unwrap();
        let path = abandoned.path().to_path_buf();
        // As if the program had been killed: the lock is gone, the folder is not.
        let Folder { dir, _lock } = abandoned;
        let _ = dir.keep();
        drop(_lock);
        let next = Folder::create(&settings, Access::Write).unwrap();
        assert!(used.path().exists() && next.path().exists());
        assert!(!path.exists());
    }

    #[test]
    fn a_pipe_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join(LOCK);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(!is_unlocked(&pipe));
        fs::remove_file(&pipe).unwrap();
        File::create(&pipe).unwrap();
        assert!(is_unlocked(&pipe));
    }
}
