//! Brings up what is measured, each program with its best sensible settings for many connections.
//!
//! Everything listens on loopback, has a folder of its own and ends with its value.

mod c_icap;
mod clamd;
mod icapsuricata;
mod mitmproxy;
mod nginx;
mod null;
mod ours;
mod relay;
mod splitter;
mod squid;
mod vey_proxy;

pub use c_icap::CIcap;
pub use clamd::Clamd;
pub use e2e::peers::e2guardian::E2Guardian;
pub use icapsuricata::Icapsuricata;
pub use mitmproxy::Mitmproxy;
pub use nginx::Nginx;
pub use null::{Null, serve as serve_null};
pub use ours::{Inspector, Meergate};
pub use relay::{Relay, Relaying, serve as serve_relay};
pub use splitter::Splitter;
pub use squid::Squid;
pub use vey_proxy::VeyProxy;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder that servers which drop their rights can enter.
pub(crate) fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("meergate-bench-").tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    folder
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
