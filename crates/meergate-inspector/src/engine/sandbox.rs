//! Fewer rights for the process that reads hostile bytes with C code.

use std::path::{Path, PathBuf};

use confine::{Calls, Confined, Files, folder_of};

use crate::link::Begin;
use crate::settings::Settings;

/// What any program reads.
const SYSTEM: [&str; 9] = [
    "/dev/null",
    "/dev/urandom",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/sys",
    "/usr",
    "/var/lib/suricata",
];

/// Gives up what the engine does not need, as far as the kernel can and the settings say. To be
/// called before any thread is started. Where it is not possible, that is logged.
///
/// Returns whether the compiled patterns are safe from a process that serves.
pub(crate) fn enter(begin: &Begin) -> bool {
    let settings = &begin.settings;
    // A YAML of the user's own may have outputs that need the network.
    let network = settings.suricata_yaml.is_some();
    let mut is_confined = false;
    if settings.sandbox.landlock {
        let (read, write) = (readable(begin), writable(begin));
        is_confined = Files { read, write, programs: false, network }.enter() != Confined::Not;
    }
    if settings.sandbox.seccomp {
        Calls { programs: false, network }.enter();
    }
    is_confined && !can_reach(begin)
}

/// Whether a process that serves may write to a folder around that of the compiled patterns, such
/// as that of its events.
fn can_reach(begin: &Begin) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let patterns = real(&begin.patterns);
    served(&begin.settings).iter().any(|folder| patterns.starts_with(real(folder)))
}

fn readable(begin: &Begin) -> Vec<PathBuf> {
    let settings = &begin.settings;
    // A file that is replaced is another file: so the right is to the folder.
    let named = settings.rules.iter().chain(&settings.suricata_yaml).map(|path| folder_of(path));
    // The engine's own tables lie beside its program.
    let engine = Path::new(suricata::SURICATA_PROGRAM).ancestors().nth(2).map(Path::to_path_buf);
    let mut paths: Vec<_> = SYSTEM.iter().map(PathBuf::from).chain(named).chain(engine).collect();
    paths.extend(yaml_value(settings, "default-rule-path"));
    paths.extend(settings.sandbox.read.iter().cloned());
    paths.push(begin.patterns.clone());
    paths
}

fn writable(begin: &Begin) -> Vec<PathBuf> {
    let mut paths = served(&begin.settings);
    // No traffic ever reaches a check.
    paths.extend(begin.check.then(|| begin.patterns.clone()));
    paths
}

/// What a process that serves may write to.
fn served(settings: &Settings) -> Vec<PathBuf> {
    let mut paths = vec![std::env::temp_dir()];
    paths.extend(settings.eve.as_deref().map(folder_of));
    paths.extend(yaml_value(settings, "default-log-dir"));
    paths.extend(settings.sandbox.write.iter().cloned());
    paths
}

/// A path that the user's YAML gives at its top level.
fn yaml_value(settings: &Settings, key: &str) -> Option<PathBuf> {
    let text = std::fs::read_to_string(settings.suricata_yaml.as_ref()?).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let value = value.split('#').next()?.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Totals;

    #[test]
    fn an_engine_that_serves_cannot_write_what_outlives_it() {
        let patterns = PathBuf::from("/store");
        let mut begin = Begin {
            settings: Settings::default(),
            check: true,
            patterns: patterns.clone(),
            icap_sockets: 0,
            totals: Totals::default(),
        };
        assert!(writable(&begin).contains(&patterns));
        begin.check = false;
        assert!(!writable(&begin).contains(&patterns) && readable(&begin).contains(&patterns));
        assert!(!can_reach(&begin));
        begin.settings.eve = Some("/eve.json".into());
        assert!(can_reach(&begin));
    }
}
