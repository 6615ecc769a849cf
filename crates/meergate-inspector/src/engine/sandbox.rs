//! Fewer rights for the process that reads hostile bytes with C code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{SeccompAction, SeccompFilter, TargetArch, apply_filter};

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

/// System calls that neither the engine nor the program makes once it runs, and an intruder would.
const DENIED: [i64; 31] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// As [`DENIED`], unless a YAML of the user's own may have outputs that need the network.
const DENIED_OFFLINE: [i64; 2] = [libc::SYS_connect, libc::SYS_socket];

/// Gives up what the engine does not need, as far as the kernel can and the settings say. To be
/// called before any thread is started. Where it is not possible, that is logged.
///
/// Returns whether the compiled patterns are safe from a process that serves.
pub(crate) fn enter(begin: &Begin) -> bool {
    let settings = &begin.settings;
    let mut is_confined = false;
    if settings.sandbox.landlock {
        match confine(begin) {
            Ok(RulesetStatus::FullyEnforced) => {
                tracing::debug!("landlock is on");
                is_confined = true;
            }
            Ok(status) => {
                tracing::warn!(?status, "this kernel can do only part of landlock");
                is_confined = status == RulesetStatus::PartiallyEnforced;
            }
            Err(error) => tracing::warn!(%error, "landlock is off"),
        }
    }
    if settings.sandbox.seccomp
        && let Err(error) = filter(settings)
    {
        tracing::warn!(error, "seccomp is off");
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

/// Files: only those that are needed. Network: none, unless a YAML may need it.
fn confine(begin: &Begin) -> Result<RulesetStatus, RulesetError> {
    let settings = &begin.settings;
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    if settings.suricata_yaml.is_none() {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(abi) & !AccessFs::Execute;
    // Paths that do not exist are left out: what is not there needs no rights.
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(readable(begin), read))?
        .add_rules(path_beneath_rules(writable(begin), write))?
        .restrict_self()?;
    Ok(status.ruleset)
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

/// The folder of a file, and of what it is a link to.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_path_buf(),
        None => path.to_path_buf(),
    }
}

/// A path that the user's YAML gives at its top level.
fn yaml_value(settings: &Settings, key: &str) -> Option<PathBuf> {
    let text = std::fs::read_to_string(settings.suricata_yaml.as_ref()?).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let value = value.split('#').next()?.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.into())
}

fn filter(settings: &Settings) -> Result<(), String> {
    let offline = settings.suricata_yaml.is_none();
    let denied = DENIED.iter().chain(DENIED_OFFLINE.iter().filter(|_| offline));
    let rules: BTreeMap<i64, Vec<_>> = denied.map(|&call| (call, Vec::new())).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    let denial = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denial, arch)
        .and_then(seccompiler::BpfProgram::try_from)
        .map_err(|e| e.to_string())?;
    apply_filter(&filter).map_err(|e| e.to_string())
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
