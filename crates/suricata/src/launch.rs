//! What Suricata is started with: checked files, a private folder, a command line.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::canary::Canary;
use crate::config::{EngineConfig, EveOutput, PatternCache};
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
    if let PatternCache::ReadOnly(path) | PatternCache::ReadWrite(path) = &mut config.patterns {
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
    config.rules.iter().try_for_each(|path| check_file(path, config.tolerate_bad_rules))?;
    let folders = [
        config.log_dir.as_deref(),
        match &config.eve {
            EveOutput::File(path) => path.parent(),
            EveOutput::AsConfigured | EveOutput::None => None,
        },
        match &config.patterns {
            PatternCache::ReadOnly(folder) | PatternCache::ReadWrite(folder) => Some(folder),
            PatternCache::AsConfigured => None,
        },
    ];
    for folder in folders.into_iter().flatten() {
        if !folder.is_dir() {
            return Err(Error::config(format!("the folder {} does not exist", folder.display())));
        }
    }
    Ok(())
}

/// What Suricata reads besides the caller's files, in a private folder: settings, and the canary's rule. It reads them
/// anew at each reload.
pub(crate) struct Folder(TempDir);

const CHECK: &str = "check.rules";
/// What stands for all rule files on the command line. In an error message it reads as it should.
const RULE_FILES: &str = "(the rule files)";

impl Folder {
    /// Makes the folder.
    pub(crate) fn create(config: &EngineConfig, canary: &Canary) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("meergate-engine-").tempdir()?;
        if config.yaml.is_none() {
            let log_dir = config.log_dir.as_deref().unwrap_or(dir.path());
            settings::write_built_in(config, dir.path(), log_dir)?;
        }
        fs::write(dir.path().join(CHECK), canary.rule())?;
        Ok(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The command line that the `suricata` program would be given.
pub(crate) fn arguments(config: &EngineConfig, folder: &Path) -> Result<Vec<CString>, Error> {
    let own_yaml = folder.join("suricata.yaml");
    let yaml = config.yaml.as_deref().unwrap_or(&own_yaml);
    let mut arguments: Vec<&OsStr> = vec![
        OsStr::new("suricata"),
        OsStr::new("-c"),
        yaml.as_os_str(),
        OsStr::new("-s"),
        OsStr::new(RULE_FILES),
    ];
    if let Some(log_dir) = &config.log_dir {
        arguments.extend([OsStr::new("-l"), log_dir.as_os_str()]);
    }
    arguments.into_iter().map(|argument| as_c(argument.as_bytes())).collect()
}

/// What stands for the rule files on that command line, and patterns that match the files: ours, then the caller's.
pub(crate) fn rule_files(
    config: &EngineConfig,
    folder: &Path,
) -> Result<(CString, Vec<CString>), Error> {
    let check = folder.join(CHECK);
    let paths = std::iter::once(&check).chain(&config.rules);
    let files = paths.map(|path| as_c(&literal(path))).collect::<Result<_, _>>()?;
    Ok((as_c(RULE_FILES.as_bytes())?, files))
}

/// A pattern that matches this path alone.
fn literal(path: &Path) -> Vec<u8> {
    let escaped = |&byte: &u8| {
        let special = matches!(byte, b'*' | b'?' | b'[' | b'\\');
        special.then_some(b'\\').into_iter().chain([byte])
    };
    path.as_os_str().as_bytes().iter().flat_map(escaped).collect()
}

fn as_c(text: &[u8]) -> Result<CString, Error> {
    CString::new(text)
        .map_err(|_| Error::config(format!("{} holds a NUL byte", String::from_utf8_lossy(text))))
}
