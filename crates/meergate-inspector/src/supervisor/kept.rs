//! The rules that served last, kept for when their successors turn out not to.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::settings::Settings;
use crate::supervisor::privileges::{self, Access};

/// A copy of the rule files of some settings. The files beside them, which rules may name, are
/// linked to. What a `suricata_yaml` names is not copied.
pub(crate) struct Kept {
    settings: Settings,
    /// Rule files, each with its copy.
    copies: Vec<(PathBuf, PathBuf)>,
    _folder: TempDir,
}

impl Kept {
    /// Copies the rule files to a folder of its own in `within`.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub(crate) fn copy(settings: &Settings, within: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("kept-").tempdir_in(within)?;
        let mut kept = settings.clone();
        for (number, path) in kept.rules.iter_mut().enumerate() {
            let place = folder.path().join(number.to_string());
            std::fs::create_dir(&place)?;
            let original = std::path::absolute(&path)?;
            let (Some(name), Some(beside)) = (original.file_name(), original.parent()) else {
                continue;
            };
            for entry in std::fs::read_dir(beside)? {
                let other = entry?.file_name();
                if other != name {
                    symlink(beside.join(&other), place.join(&other))?;
                }
            }
            // Written, not copied: whoever may read the folder may read what is in it.
            *path = place.join(name);
            std::fs::write(&path, std::fs::read(&original)?)?;
            privileges::give(&place, settings, Access::Read)?;
            privileges::give(path, settings, Access::Read)?;
            kept.sandbox.read.push(beside.to_path_buf());
        }
        privileges::give(folder.path(), settings, Access::Read)?;
        let copies = settings.rules.iter().cloned().zip(kept.rules.iter().cloned()).collect();
        Ok(Self { settings: kept, copies, _folder: folder })
    }

    /// Rule files, each with its copy.
    pub(crate) fn copies(&self) -> &[(PathBuf, PathBuf)] {
        &self.copies
    }

    /// The settings, with the copies as their rules.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}
