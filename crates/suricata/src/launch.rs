//! What Suricata is started with: checked files, a private folder, a command line.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, io};

use tempfile::TempDir;

use crate::canary::Canary;
use crate::config::{EngineConfig, EveOutput};
use crate::error::{Error, ErrorKind};
use crate::rules::check_file;
use crate::settings;

/// Suricata resolves relative paths against several folders; we against the current one.
pub(crate) fn absolute(mut config: EngineConfig) -> Result<EngineConfig, Error> {
    let make = |path: &mut PathBuf| -> Result<(), Error> {
        *path = std::path::absolute(&path).map_err(|error| {
            Error::config(format!("cannot resolve {}: {error}", path.display())).with_source(error)
        })?;
        Ok(())
    };
    config.yaml.iter_mut().try_for_each(make)?;
    config.rules.iter_mut().try_for_each(make)?;
    config.log_dir.iter_mut().try_for_each(make)?;
    if let EveOutput::File(path) = &mut config.eve {
        make(path)?;
    }
    Ok(config)
}

pub(crate) fn check_files(config: &EngineConfig) -> Result<(), Error> {
    if let Some(yaml) = &config.yaml {
        File::open(yaml).map_err(|error| {
            Error::config(format!("cannot read the settings {}: {error}", yaml.display()))
                .with_source(error)
        })?;
    } else if config.rules.is_empty() {
        return Err(Error::new(
            ErrorKind::Rules,
            "no rules are given, so nothing would be inspected",
        ));
    }
    config.rules.iter().try_for_each(|path| check_file(path))?;
    let folders = [
        config.log_dir.as_deref(),
        match &config.eve {
            EveOutput::File(path) => path.parent(),
            EveOutput::AsConfigured | EveOutput::None => None,
        },
    ];
    for folder in folders.into_iter().flatten() {
        if !folder.is_dir() {
            return Err(Error::config(format!("the folder {} does not exist", folder.display())));
        }
    }
    Ok(())
}

/// What Suricata reads, in a private folder: settings, the canary's rule, and the rule files under names without
/// anything that its globbing would take for a pattern. It reads them anew at each reload.
pub(crate) struct Folder {
    dir: TempDir,
    /// Held for as long as the process lives.
    _lock: File,
}

const PREFIX: &str = "meergate-engine-";
const LOCK: &str = "lock";

impl Folder {
    /// Makes the folder. Also gives the names under which Suricata reads the rule files, and where they lead.
    pub(crate) fn create(
        config: &EngineConfig,
        canary: &Canary,
    ) -> io::Result<(Self, Vec<(String, PathBuf)>)> {
        remove_abandoned();
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        // Locked before it has its name, so that nobody takes the folder for abandoned.
        let unnamed = dir.path().join("new");
        let lock = File::create(&unnamed)?;
        lock.lock()?;
        fs::rename(&unnamed, dir.path().join(LOCK))?;

        if config.yaml.is_none() {
            let log_dir = config.log_dir.as_deref().unwrap_or(dir.path());
            fs::write(dir.path().join("suricata.yaml"), settings::built_in(config, log_dir))?;
        }
        let rules = dir.path().join("rules");
        fs::create_dir(&rules)?;
        fs::write(rules.join("0.rules"), canary.rule())?;
        let mut files = Vec::new();
        for (number, path) in config.rules.iter().enumerate() {
            let alias = rules.join(format!("{}.rules", number + 1));
            symlink(path, &alias)?;
            files.push((alias.to_string_lossy().into_owned(), path.clone()));
        }
        Ok((Self { dir, _lock: lock }, files))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the folders of processes that were killed: nobody holds their locks.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())
            && let Ok(lock) = File::open(entry.path().join(LOCK))
            && lock.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The command line that the `suricata` program would be given.
pub(crate) fn arguments(config: &EngineConfig, folder: &Path) -> Result<Vec<CString>, Error> {
    let own_yaml = folder.join("suricata.yaml");
    let yaml = config.yaml.as_deref().unwrap_or(&own_yaml);
    let rules = folder.join("rules").join("*.rules");
    let mut arguments: Vec<&OsStr> = vec![
        OsStr::new("suricata"),
        OsStr::new("-c"),
        yaml.as_os_str(),
        OsStr::new("-s"),
        rules.as_os_str(),
    ];
    if let Some(log_dir) = &config.log_dir {
        arguments.extend([OsStr::new("-l"), log_dir.as_os_str()]);
    }
    let as_c = |argument: &OsStr| {
        CString::new(argument.as_bytes())
            .map_err(|_| Error::config(format!("{} holds a NUL byte", argument.to_string_lossy())))
    };
    arguments.into_iter().map(as_c).collect()
}
