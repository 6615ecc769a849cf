//! Fewer rights for a process that reads what strangers send.
//!
//! All of it holds for the calling thread and those that it starts later, so it is entered before
//! any thread is started.

use std::path::PathBuf;

use caps::{CapSet, Capability};
use confine::{Calls, Files, folder_of};
use nix::sys::prctl;
use nix::unistd::{setgid, setgroups, setuid};
use start_error::StartError;

use crate::config::{Config, Way};
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
    // To add firewall rules, and to remove them at the end.
    let programs = config.firewall.apply;
    if config.sandbox.landlock {
        // The network is not confined, since it is what all is about.
        let files =
            Files { read: readable(config), write: writable(config), programs, network: true };
        files.enter();
    }
    if config.sandbox.seccomp {
        Calls { programs, network: true }.enter();
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
