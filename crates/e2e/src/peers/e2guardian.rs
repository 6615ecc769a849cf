//! E2Guardian as an ICAP server: a filter by site, phrase and type.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{Port, Process, peers};

/// Debian's settings, of which each instance gets a copy.
const SETTINGS: &str = "/etc/e2guardian";
/// Settings of `e2guardian.conf` that are replaced.
const REPLACED: [&str; 4] = ["filterip", "filterports", "transparenthttpsport", "httpworkers"];

/// A running E2Guardian.
pub struct E2Guardian {
    /// The process, for its log and its end.
    pub process: Process,
    icap: Port,
    _proxy: Port,
    _folder: TempDir,
}

impl E2Guardian {
    /// The site that it blocks.
    pub const BANNED: &str = "banned.test";

    /// Starts it with Debian's own lists and one banned site.
    ///
    /// Its ICAP port is open on all addresses: it can't be told otherwise.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn start() -> Self {
        let (icap, proxy) = (Port::claim(), Port::claim());
        let folder = tempfile::Builder::new()
            // It reads the paths of included lists in lower case, so no random letters.
            .prefix(&format!("e2guardian-{}", icap.number()))
            .rand_bytes(0)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .tempdir()
            .expect("a temporary folder");
        let at = folder.path();
        copy(Path::new(SETTINGS), &at.join("etc"), &at.display().to_string());
        let banned = at.join("etc/lists/bannedsitelist");
        let list = fs::read_to_string(&banned).expect("a list of banned sites");
        fs::write(&banned, format!("{list}\n{}\n", Self::BANNED)).expect("a list of banned sites");

        let file = at.join("etc/e2guardian.conf");
        let text = fs::read_to_string(&file).expect("the main settings");
        fs::write(&file, config(&text, at, &icap, &proxy)).expect("the main settings");
        let mut command = Command::new(peers::program("e2guardian"));
        command.args(["-N", "-c"]).arg(file);
        let mut process = Process::start("e2guardian", &mut command);
        process.wait_for_port(icap.addr());
        Self { process, icap, _proxy: proxy, _folder: folder }
    }

    /// Where ICAP clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.icap.addr()
    }

    /// The URL for REQMOD.
    pub fn request_url(&self) -> String {
        format!("icap://{}/request", self.addr())
    }

    /// The URL for RESPMOD.
    pub fn response_url(&self) -> String {
        format!("icap://{}/response", self.addr())
    }
}

/// Copies settings, with every path to the original pointed at the copy.
fn copy(from: &Path, to: &Path, root: &str) {
    fs::create_dir_all(to).expect("a folder for settings");
    for entry in fs::read_dir(from).expect("E2Guardian's settings") {
        let entry = entry.expect("E2Guardian's settings");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target, root);
        } else {
            // Some lists are in old character sets.
            let bytes = fs::read(entry.path()).expect("a readable file");
            match String::from_utf8(bytes) {
                Ok(text) => fs::write(&target, text.replace(SETTINGS, &format!("{root}/etc"))),
                Err(error) => fs::write(&target, error.into_bytes()),
            }
            .expect("a copy");
        }
    }
}

fn config(text: &str, at: &Path, icap: &Port, proxy: &Port) -> String {
    let at = at.display();
    let user = if rustix::process::getuid().is_root() { "root" } else { "e2guardian" };
    let replaced = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        !line.trim_start().starts_with('#') && !REPLACED.contains(&name)
    };
    let kept: String = text.lines().filter(replaced).map(|line| line.to_owned() + "\n").collect();
    format!(
        "{kept}
filterip = 127.0.0.1
filterports = {}
httpworkers = 20
icapport = {}
icapreqmodurl = 'request'
icapresmodurl = 'response'
daemonuser = '{user}'
daemongroup = '{user}'
loglocation = '{at}/access.log'
pidfilename = '{at}/pid'
ipcfilename = '{at}/ipc'
urlipcfilename = '{at}/urlipc'
ipipcfilename = '{at}/ipipc'
",
        proxy.number(),
        icap.number(),
    )
}
