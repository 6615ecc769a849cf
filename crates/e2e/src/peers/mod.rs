//! Other people's programs, as Debian ships them, each with a configuration of the test's own.
//!
//! A peer owns its [`Process`](crate::Process), its [`Port`](crate::Port) and its temporary folder,
//! and ends with the value. None of them touches the machine's own services or settings.

pub mod c_icap;
pub mod clamd;
pub mod e2guardian;
pub mod nginx;
pub mod squid;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The full path of a peer's program, looked for in `PATH` and in the `sbin` folders.
///
/// # Panics
/// When it is not installed, naming the script that installs it.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run scripts/install-deps"))
}

/// A client's program that knows of no proxy, certificate or registry of the machine's own.
///
/// # Panics
/// As [`program`].
pub fn client(name: &str) -> Command {
    let mut command = Command::new(program(name));
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy().to_lowercase();
        let begins =
            ["cargo_", "git_", "npm_", "pip_", "ssl_"].iter().any(|own| text.starts_with(own));
        let ends = ["_proxy", "_ca_bundle", "_ca_certs"].iter().any(|own| text.ends_with(own));
        if begins || ends {
            command.env_remove(variable);
        }
    }
    command
}

/// Debian's Python, which has the libraries of its packages; another one may come first in `PATH`.
///
/// # Panics
/// When it is not installed, naming the script that installs it.
pub fn python() -> Command {
    client("/usr/bin/python3")
}

/// Gives `path` to `user`, as peers need that drop their rights when started by root.
///
/// Does nothing when the tests don't run as root: peers keep the test's user then.
///
/// # Panics
/// When there is no such user.
pub fn give_to(user: &str, path: &Path) {
    if rustix::process::getuid().is_root() {
        let status = Command::new("chown").arg("-R").arg(user).arg(path).status();
        assert!(status.is_ok_and(|status| status.success()), "chown {user} {}", path.display());
    }
}
