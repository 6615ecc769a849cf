//! Our own two programs, started as a user would start them.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::Process;

/// Flags of `meergate` for origins on loopback, at ports of their own.
pub const LOOPBACK: [&str; 6] = [
    "--allow-destination",
    "127.0.0.0/8",
    "--allow-destination",
    "::1",
    "--connect-ports",
    "1-65535",
];

/// `meergate run` with a state folder of its own, on free ports.
pub struct Gateway {
    /// The process, for its log and its end.
    pub process: Process,
    proxy: SocketAddr,
    console: SocketAddr,
    state: TempDir,
}

impl Gateway {
    /// Starts it with `args` after its own, and waits until it serves.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn start<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        Self::start_at("127.0.0.1:0", args)
    }

    /// As [`Gateway::start`], with the proxy listening on `address`.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn start_at<A: AsRef<OsStr>>(address: &str, args: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(binary("meergate"));
        command.args(["run", "--listen", address]).args(args);
        Self::run(TempDir::new().expect("a temporary folder"), command)
    }

    /// As [`Gateway::start`], with these settings, of which one has to be a listener.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn with_settings<A: AsRef<OsStr>>(
        settings: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let state = TempDir::new().expect("a temporary folder");
        let file = state.path().join("meergate.toml");
        fs::write(&file, settings).expect("a file of settings");
        let mut command = Command::new(binary("meergate"));
        command.args(["run", "--config"]).arg(file).args(args);
        Self::run(state, command)
    }

    fn run(state: TempDir, mut command: Command) -> Self {
        command.args(LOOPBACK);
        command.args(["--console", "127.0.0.1:0", "--state-dir"]).arg(state.path());
        let mut process = Process::start("meergate", &mut command);
        process.wait_for_line("ready");
        let at = |process: &mut Process, wanted: &dyn Fn(&str) -> bool| {
            listener(process, wanted).parse().expect("an address")
        };
        let proxy = at(&mut process, &|kind| kind != "console");
        let console = at(&mut process, &|kind| kind == "console");
        Self { process, proxy, console, state }
    }

    /// Where clients connect: the first listener.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Where the console and `/metrics` are.
    pub fn console(&self) -> SocketAddr {
        self.console
    }

    /// The certificate that clients must trust.
    pub fn authority(&self) -> PathBuf {
        self.state.path().join("ca.pem")
    }

    /// The folder it keeps its state in.
    pub fn state(&self) -> &Path {
        self.state.path()
    }
}

/// `meergate-inspector run` with an EVE file of its own, on a free port.
pub struct Inspector {
    /// The process, for its log and its end.
    pub process: Process,
    icap: SocketAddr,
    folder: TempDir,
}

impl Inspector {
    /// Starts it with `args` after its own, and waits until it serves.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn start<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = Command::new(binary("meergate-inspector"));
        command
            .args(["run", "--listen", "127.0.0.1:0", "--eve"])
            .arg(folder.path().join("eve.json"))
            // Its usual place is one for the machine; several of them run here at once.
            .arg("--control")
            .arg(folder.path().join("control"))
            .args(args);
        let mut process = Process::start("meergate-inspector", &mut command);
        process.wait_for_line("ready");
        let icap = listener(&mut process, &|kind| kind == "icap").parse().expect("an address");
        Self { process, icap, folder }
    }

    /// With the rules of `rules/test.rules`, which the tests' contents are made for.
    ///
    /// # Panics
    /// As [`Inspector::start`].
    pub fn with_test_rules() -> Self {
        Self::start([OsStr::new("--rules"), test_rules().as_os_str()])
    }

    /// Where it speaks ICAP.
    pub fn addr(&self) -> SocketAddr {
        self.icap
    }

    /// The URL of the service that inspects.
    pub fn url(&self) -> String {
        format!("icap://{}/suricata", self.icap)
    }

    /// The URL of the service that doesn't, and gives back what it gets.
    pub fn echo_url(&self) -> String {
        format!("icap://{}/echo", self.icap)
    }

    /// The URL of the service that inspects, inside TLS, if it was told to listen so.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn tls_url(&mut self) -> String {
        let port = self.process.wait_for("the TLS listener's address", |line| {
            let address = line.strip_prefix("listening on icaps://")?.strip_suffix(" (icap)")?;
            Some(address.parse::<SocketAddr>().ok()?.port())
        });
        format!("icaps://localhost:{port}/suricata")
    }

    /// The events so far, complete lines only.
    pub fn eve(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("eve.json")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for an alert of this signature in EVE that `wanted` accepts.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_for_alert(&mut self, sid: u64, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        let eve = self.folder.path().join("eve.json");
        self.process.wait_until(&format!("an EVE alert of signature {sid}"), || {
            let text = fs::read_to_string(&eve).unwrap_or_default();
            found = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|event| event["alert"]["signature_id"] == sid && wanted(event));
            found.is_some()
        });
        found.expect("the wait ends with an alert")
    }
}

/// The rules that tests and the demo run with.
pub fn test_rules() -> PathBuf {
    root().join("rules/test.rules")
}

/// The checkout's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs one of our programs to its end, as for a usage error; captures both outputs.
///
/// # Panics
/// When it can't be started.
pub fn run_to_end<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> Output {
    Command::new(binary(name))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The path of one of our programs: in `MEERGATE_BIN_DIR`, or beside the running test.
///
/// # Panics
/// When it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let folder = match std::env::var_os("MEERGATE_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().expect("the running program's path");
            // Tests are in `deps/` below the programs, `demo` is beside them.
            own.ancestors()
                .skip(1)
                .take(2)
                .find(|folder| folder.join(name).is_file())
                .unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace`"))
                .to_path_buf()
        }
    };
    folder.join(name)
}

/// The address in the first line `listening on ADDR (kind)` of a kind that is wanted.
fn listener(process: &mut Process, wanted: &dyn Fn(&str) -> bool) -> String {
    process.wait_for("a listener's address", |line| {
        let (addr, kind) = line.strip_prefix("listening on ")?.rsplit_once(" (")?;
        wanted(kind.trim_end_matches(')')).then(|| addr.to_owned())
    })
}
