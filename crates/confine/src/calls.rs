//! System calls, by seccomp.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// What no server does once it serves, and an intruder would.
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

/// As [`DENIED`], unless programs are run.
const PROGRAMS: [i64; 2] = [libc::SYS_execve, libc::SYS_execveat];

/// As [`DENIED`], unless connections are opened. Sockets that are there already go on to serve.
const NETWORK: [i64; 2] = [libc::SYS_connect, libc::SYS_socket];

/// The system calls that a process may still make, beside those that any server makes.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// Those that run programs.
    pub programs: bool,
    /// Those that open sockets and connect them.
    pub network: bool,
}

impl Calls {
    /// Denies all others (EPERM). What the kernel cannot do is logged.
    pub fn enter(self) {
        if let Err(error) = self.filter() {
            tracing::warn!(%error, "seccomp is off");
        }
    }

    fn filter(self) -> Result<(), seccompiler::Error> {
        let programs = PROGRAMS.iter().filter(|_| !self.programs);
        let network = NETWORK.iter().filter(|_| !self.network);
        let denied = DENIED.iter().chain(programs).chain(network);
        let rules: BTreeMap<i64, Vec<_>> = denied.map(|&call| (call, Vec::new())).collect();
        let denial = SeccompAction::Errno(libc::EPERM as u32);
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, denial, arch)?;
        apply_filter(&BpfProgram::try_from(filter)?)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_not_allowed_is_denied_to_this_thread() {
        let may_run = |calls: Calls| {
            std::thread::spawn(move || {
                calls.enter();
                (
                    Command::new("/bin/true").status().is_ok(),
                    std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
                )
            })
            .join()
            .unwrap()
        };
        assert_eq!(may_run(Calls { programs: true, network: true }), (true, true));
        assert_eq!(may_run(Calls { programs: false, network: true }), (false, true));
        assert_eq!(may_run(Calls { programs: true, network: false }), (true, false));
    }
}
