//! The texts of settings and of lists that they name: what a reload must not take for whole if it was cut.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use start_error::StartError;

/// What files held when they were read.
type Read = Arc<Mutex<HashMap<PathBuf, Arc<[u8]>>>>;

/// Reads the files of one set of settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    read: Read,
    /// Those of the settings in force, if this is a reload.
    former: Option<Read>,
}

impl Texts {
    /// For settings that take the place of those that these texts are of.
    pub(super) fn successor(&self) -> Self {
        Self { read: Read::default(), former: Some(self.read.clone()) }
    }

    /// The text of the file `path`, of which errors say that it holds `what`. A reload takes no file that was cut.
    pub(crate) fn read(&self, path: &Path, what: &str) -> Result<String, StartError> {
        let place = || path.display().to_string();
        let bytes = match &self.former {
            None => fs::read(path).map_err(|e| {
                let remedy = "name a readable file";
                StartError::new(format!("cannot read {what} ({e})"), place(), remedy)
            })?,
            Some(former) => {
                let before = of(former, path);
                whole_file::read(path, before.as_deref()).map_err(|cut| {
                    StartError::new(format!("cannot take {what}: {cut}"), place(), cut.remedy())
                })?
            }
        };
        let text = String::from_utf8(bytes).map_err(|e| {
            StartError::new(format!("{what} are no text ({e})"), place(), "write it in UTF-8")
        })?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(path.to_owned(), text.as_bytes().into());
        Ok(text)
    }
}

fn of(read: &Read, path: &Path) -> Option<Arc<[u8]>> {
    read.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
}
