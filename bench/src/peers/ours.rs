//! Our own programs.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use e2e::Process;
use e2e::programs::LOOPBACK;
use tempfile::TempDir;

use super::folder;
use crate::pki::Pki;

const SOCKET: &str = "icap.sock";

/// A running `meergate`.
#[derive(Debug)]
pub struct Meergate {
    process: Process,
    addr: SocketAddr,
    _folder: TempDir,
}

impl Meergate {
    /// Starts it as an explicit proxy; REQMOD and RESPMOD go through `icap`, in this order.
    pub fn start(pki: &Pki, icap: &[String]) -> Self {
        Self::with_settings(pki, icap, "")
    }

    /// Starts it as an explicit proxy that lets everything by.
    pub fn bypassing(pki: &Pki) -> Self {
        Self::with_settings(pki, &[], "[[rule]]\naction = \"bypass\"\n")
    }

    /// Starts it with a listener from which all connections go to `port` on loopback, whatever is spoken.
    pub fn with_streams(pki: &Pki, icap: &[String], port: u16) -> Self {
        let settings = format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"target\"\ntarget = \"127.0.0.1:{port}\"\n\
             protocol = \"any\"\n"
        );
        Self::run(pki, icap, &settings, &[], "(target)")
    }

    fn with_settings(pki: &Pki, icap: &[String], settings: &str) -> Self {
        Self::run(pki, icap, settings, &["--listen", "127.0.0.1:0"], "(proxy)")
    }

    fn run(pki: &Pki, icap: &[String], settings: &str, listen: &[&str], way: &str) -> Self {
        let folder = folder();
        let file = folder.path().join("meergate.toml");
        fs::write(&file, settings).expect("a file of settings");
        let (ca, key) = pki.proxy_ca();
        let mut command = Command::new(binary("meergate"));
        command.arg("run").args(listen).args(["--console", "127.0.0.1:0", "--state-dir"]);
        command.arg(folder.path());
        command.arg("--config").arg(file);
        command.arg("--ca-cert").arg(ca).arg("--ca-key").arg(key);
        command.arg("--upstream-ca").arg(pki.origin_ca());
        command.args(LOOPBACK);
        for url in icap {
            command.args(["--icap", url]);
        }
        let mut process = Process::start("meergate", &mut command);
        let addr = process.wait_for("its port", |line| listening(line, way));
        process.wait_for_line("ready");
        Self { process, addr, _folder: folder }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// A running `meergate-inspector`.
#[derive(Debug)]
pub struct Inspector {
    process: Process,
    addr: SocketAddr,
    folder: TempDir,
}

impl Inspector {
    /// Starts it with one file of rules.
    pub fn start(rules: &Path) -> Self {
        let folder = folder();
        let mut command = Command::new(binary("meergate-inspector"));
        command.current_dir(folder.path());
        command.args(["run", "--listen", "127.0.0.1:0", "--listen"]);
        command.arg(format!("unix:{}", folder.path().join(SOCKET).display()));
        command.arg("--rules").arg(rules);
        command.arg("--control").arg(folder.path().join("control.sock"));
        let mut process = Process::start("meergate-inspector", &mut command);
        let addr = process.wait_for("its ICAP port", |line| listening(line, "(icap)"));
        process.wait_for_line("ready");
        Self { process, addr, folder }
    }

    /// Asks it to load its rules anew; what is started ends with the reload, well if it took.
    pub fn reload(&self) -> Child {
        let mut command = Command::new(binary("meergate-inspector"));
        command.arg("reload").arg("--control").arg(self.folder.path().join("control.sock"));
        command.spawn().expect("the inspector's program")
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The Unix socket on which it listens too.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// One of our programs: from `MEERGATE_BIN_DIR`, else from beside this one.
fn binary(name: &str) -> PathBuf {
    let folder = match env::var_os("MEERGATE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => env::current_exe().expect("this program's path").with_file_name(""),
    };
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not built: run `cargo build --release`", path.display());
    path
}

fn listening(line: &str, what: &str) -> Option<SocketAddr> {
    let rest = line.strip_prefix("listening on ")?.strip_suffix(what)?;
    rest.trim().parse().ok()
}
