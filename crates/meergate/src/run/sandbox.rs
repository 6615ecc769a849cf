//! Fewer rights for a process that reads what strangers send.
//!
//! All of it holds for the calling thread and those that it starts later, so it is entered before
//! any thread is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::libc;
use nix::sys::prctl;
use nix::unistd::{setgid, setgroups, setuid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use crate::config::{Config, Way};
use crate::error::StartError;
use crate::rights;

/// What name look-ups and the programs `nft` and `ip` read.
const SYSTEM: [&str; 10] = [
    "/bin",
    "/dev/null",
    "/dev/urandom",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/usr",
];

/// System calls that the program does not make once it serves, and an intruder would.
const DENIED: [i64; 29] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
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

/// As [`DENIED`], unless firewall rules are to be removed at the end.
const DENIED_ALONE: [i64; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// Gives up what serving by `config` does not need. Listeners are open and files read already.
///
/// # Errors
/// The user of the settings does not exist, or the program may not become it. What the kernel
/// cannot do is logged instead.
pub(crate) fn enter(config: &Config) -> Result<(), StartError> {
    if let Some(name) = &config.user {
        become_user(name, config)?;
    }
    rights::settle();
    if config.sandbox.landlock {
        match confine(config) {
            Ok(RulesetStatus::FullyEnforced) => tracing::debug!("landlock is on"),
            Ok(status) => tracing::warn!(?status, "this kernel can do only part of landlock"),
            Err(error) => tracing::warn!(%error, "landlock is off"),
        }
    }
    if config.sandbox.seccomp
        && let Err(error) = filter(config)
    {
        tracing::warn!(error, "seccomp is off");
    }
    Ok(())
}

/// Whether CAP_NET_ADMIN is still needed: to speak from clients' addresses, and to remove rules.
fn needs_net_admin(config: &Config) -> bool {
    config.firewall.apply
        || config.listen.iter().any(|l| l.way == Way::Tproxy { keep_client_address: true })
}

fn become_user(name: &str, config: &Config) -> Result<(), StartError> {
    let refuse = |what: String| {
        StartError::new(what, format!("user = {name:?}"), "start as root, or leave `user` out")
    };
    let Some(user) = rights::owner(config)? else { return Ok(()) };
    let net_admin = needs_net_admin(config);
    let changed = (|| {
        prctl::set_keepcaps(net_admin)?;
        setgroups(&rights::groups(&user)?)?;
        setgid(user.gid)?;
        setuid(user.uid)
    })();
    changed.map_err(|e| refuse(format!("cannot become the user ({e})")))?;
    if net_admin {
        keep_net_admin().map_err(|e| refuse(format!("cannot keep CAP_NET_ADMIN ({e})")))?;
    }
    Ok(())
}

/// Keeps CAP_NET_ADMIN alone, also for programs that this one starts.
fn keep_net_admin() -> Result<(), caps::errors::CapsError> {
    let only = caps::CapsHashSet::from_iter([Capability::CAP_NET_ADMIN]);
    caps::set(None, CapSet::Effective, &only)?;
    caps::set(None, CapSet::Inheritable, &only)?;
    caps::set(None, CapSet::Permitted, &only)?;
    caps::set(None, CapSet::Ambient, &only)
}

/// Files: only those that are needed. The network is not confined, since it is what all is about.
fn confine(config: &Config) -> Result<RulesetStatus, RulesetError> {
    let abi = ABI::V6;
    let mut read = AccessFs::ReadFile | AccessFs::ReadDir;
    if config.firewall.apply {
        read |= AccessFs::Execute;
    }
    let write = AccessFs::from_all(abi) & !AccessFs::Execute;
    // Paths that do not exist are left out: what is not there needs no rights.
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(readable(config), read))?
        .add_rules(path_beneath_rules(writable(config), write))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// What a reload may have to read again.
fn readable(config: &Config) -> Vec<PathBuf> {
    let icap = config.icap.files();
    let certificates = config.client_certificate.iter().flat_map(|c| [&c.cert, &c.key]);
    let named = [&config.ca.cert, &config.ca.key, &config.users.file, &config.file];
    let mut paths: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    // A file that is replaced is another file: so the right is to the folder.
    paths.extend(named.into_iter().flatten().map(|path| folder_of(path)));
    let upstream = &config.upstream;
    paths.extend(upstream.ca.iter().chain(&upstream.intermediates).map(|path| folder_of(path)));
    paths.extend(config.rule.iter().flat_map(|r| &r.host_file).map(|path| folder_of(path)));
    paths.extend(certificates.map(|path| folder_of(path)));
    paths.extend(icap.map(folder_of));
    paths.extend(config.state_dir());
    paths.extend(config.sandbox.read.iter().cloned());
    paths
}

fn writable(config: &Config) -> Vec<PathBuf> {
    let named = [&config.log.connections, &config.log.transactions, &config.tls.keylog];
    let mut paths: Vec<PathBuf> = named.into_iter().flatten().map(|path| folder_of(path)).collect();
    paths.extend(config.capture.folder.clone());
    // Where the output of `nft` and `ip` goes.
    paths.push("/dev/null".into());
    paths.extend(config.sandbox.write.iter().cloned());
    paths
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_path_buf(),
        None => path.to_path_buf(),
    }
}

fn filter(config: &Config) -> Result<(), String> {
    let denied = DENIED.iter().chain(DENIED_ALONE.iter().filter(|_| !config.firewall.apply));
    let rules: BTreeMap<i64, Vec<_>> = denied.map(|&call| (call, Vec::new())).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    let denial = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denial, arch)
        .and_then(BpfProgram::try_from)
        .map_err(|e| e.to_string())?;
    apply_filter(&filter).map_err(|e| e.to_string())
}
