//! Settings and rules as they are in force, and read anew if their files are whole.

use std::path::{Path, PathBuf};

use start_error::StartError;

use crate::settings::Settings;

/// Settings, and what their file holds if there is one.
pub(crate) struct Reading {
    pub(crate) settings: Settings,
    pub(crate) text: Option<Vec<u8>>,
}

/// What files held of which the settings and rules in force are.
#[derive(Default)]
pub(crate) struct Former {
    /// The settings' file.
    pub(crate) text: Option<Vec<u8>>,
    /// Rule files, each with a copy of what it held.
    pub(crate) rules: Vec<(PathBuf, PathBuf)>,
}

impl Former {
    /// Reads the settings' file at `path`.
    ///
    /// # Errors
    /// It was cut, or cannot be read.
    pub(crate) fn reread(&self, path: &Path) -> Result<Vec<u8>, StartError> {
        whole(path, self.text.as_deref())
    }

    /// Looks at the files with rules that `settings` name. A `suricata_yaml` is compared with nothing.
    ///
    /// # Errors
    /// One was cut, or cannot be read.
    pub(crate) fn look_at_rules(&self, settings: &Settings) -> Result<(), StartError> {
        for path in settings.rules.iter().chain(&settings.suricata_yaml) {
            let copy = self.rules.iter().find(|(original, _)| original == path);
            // A copy that is gone is as one that was never made.
            let before = copy.and_then(|(_, copy)| std::fs::read(copy).ok());
            whole(path, before.as_deref())?;
        }
        Ok(())
    }
}

fn whole(path: &Path, former: Option<&[u8]>) -> Result<Vec<u8>, StartError> {
    whole_file::read(path, former)
        .map_err(|cut| StartError::new(cut.to_string(), path.display().to_string(), cut.remedy()))
}
