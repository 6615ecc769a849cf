//! What Suricata is started with: checked files, a private folder, a command line.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

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
        fs::File::open(yaml).map_err(|error| {
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

/// Puts what Suricata is to read into a private folder: settings, the canary's rule, and the rule files under names
/// without anything that its globbing would take for a pattern.
pub(crate) fn write_folder(
    config: &EngineConfig,
    canary: &Canary,
) -> io::Result<(TempDir, Vec<(String, PathBuf)>)> {
    let folder = tempfile::Builder::new().prefix("meergate-engine-").tempdir()?;
    if config.yaml.is_none() {
        let log_dir = config.log_dir.as_deref().unwrap_or(folder.path());
        fs::write(folder.path().join("suricata.yaml"), settings::built_in(config, log_dir))?;
    }
    let rules = folder.path().join("rules");
    fs::create_dir(&rules)?;
    fs::write(rules.join("0.rules"), canary.rule())?;
    let mut files = Vec::new();
    for (number, path) in config.rules.iter().enumerate() {
        let alias = rules.join(format!("{}.rules", number + 1));
        symlink(path, &alias)?;
        files.push((alias.to_string_lossy().into_owned(), path.clone()));
    }
    Ok((folder, files))
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
