//! The program under test as a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Client;

/// Generous: the machine may be busy with everything else.
const PATIENCE: Duration = Duration::from_secs(120);

/// The antivirus test string.
pub(crate) const EICAR: &[u8] =
    br"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";

/// Rules of most tests.
pub(crate) const RULES: &str = r#"
drop http any any -> any any (msg:"EICAR in a response"; flow:established,to_client; file.data; content:"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"; sid:1000001; rev:3;)
drop http any any -> any any (msg:"EICAR in a request"; flow:established,to_server; http.request_body; content:"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"; sid:1000002; rev:1;)
drop http any any -> any any (msg:"forbidden path"; flow:established,to_server; http.uri; content:"/forbidden"; sid:1000003; rev:1;)
drop http any any -> any any (msg:"forbidden field"; flow:established,to_client; http.header; content:"X-Forbidden"; sid:1000004; rev:1;)
alert http any any -> any any (msg:"seen"; flow:established,to_server; http.uri; content:"/seen"; sid:1000005; rev:1;)
"#;

/// A running inspector; ended when dropped.
pub(crate) struct Server {
    child: Child,
    icap: SocketAddr,
    metrics: SocketAddr,
    unix: Option<PathBuf>,
    lines: mpsc::Receiver<String>,
    dir: TempDir,
}

impl Server {
    /// With [`RULES`] and these further arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::with_rules(RULES, args)
    }

    /// With these rules and further arguments; waits until it is ready.
    pub(crate) fn with_rules(rules: &str, args: &[&str]) -> Self {
        Self::launch(rules, "", args).ready()
    }

    /// With these rules and this settings file.
    pub(crate) fn with_rules_and_settings(rules: &str, settings: &str) -> Self {
        Self::launch(rules, settings, &[]).ready()
    }

    /// With this settings file, and further arguments.
    pub(crate) fn with_settings(settings: &str, args: &[&str]) -> Self {
        Self::launch(RULES, settings, args).ready()
    }

    /// Does not wait until it is ready, but only until it listens.
    pub(crate) fn unready(rules: &str, settings: &str, args: &[&str]) -> Self {
        let mut server = Self::launch(rules, settings, args);
        server.listen_until(|server, _| server.metrics.port() != 0);
        server
    }

    /// Of another copy of the program.
    pub(crate) fn of_program(program: &Path, args: &[&str]) -> Self {
        Self::launch_program(program, RULES, "", args).ready()
    }

    fn launch(rules: &str, settings: &str, args: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_meergate-inspector"));
        Self::launch_program(program, rules, settings, args)
    }

    fn launch_program(program: &Path, rules: &str, settings: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name| dir.path().join(name);
        std::fs::create_dir(at("events")).unwrap();
        std::fs::write(at("test.rules"), rules).unwrap();
        std::fs::write(at("settings.toml"), settings).unwrap();
        let mut child = Command::new(program)
            .args(["run", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--config"])
            .arg(at("settings.toml"))
            .arg("--rules")
            .arg(at("test.rules"))
            .arg("--control")
            .arg(at("control"))
            .arg("--eve")
            .arg(at("events/eve.json"))
            .args(args)
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::sync_channel(1000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { child, icap: nowhere, metrics: nowhere, unix: None, lines, dir }
    }

    fn ready(mut self) -> Self {
        self.listen_until(|_, line| line == "ready");
        self
    }

    fn listen_until(&mut self, done: impl Fn(&Self, &str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).expect("the program says more");
            if let Some((addr, what)) =
                line.strip_prefix("listening on ").and_then(|rest| rest.split_once(' '))
            {
                match (addr.strip_prefix("unix:"), what) {
                    (Some(path), _) => self.unix = Some(path.into()),
                    (None, "(icap)") => self.icap = addr.parse().unwrap(),
                    (None, "(metrics)") => self.metrics = addr.parse().unwrap(),
                    (None, other) => panic!("unknown listener {other}"),
                }
            }
            if done(self, &line) {
                return;
            }
        }
    }

    /// A new ICAP connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.icap)
    }

    /// Where ICAP is spoken.
    pub(crate) fn icap(&self) -> SocketAddr {
        self.icap
    }

    /// Where ICAP is spoken over a Unix socket.
    pub(crate) fn unix(&self) -> &Path {
        self.unix.as_deref().expect("a unix listener")
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its rule file.
    pub(crate) fn rules(&self) -> PathBuf {
        self.dir.path().join("test.rules")
    }

    /// Its settings file.
    pub(crate) fn settings(&self) -> PathBuf {
        self.dir.path().join("settings.toml")
    }

    /// Its control socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.dir.path().join("control")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The files of compiled patterns that its engines have in common, in order.
    pub(crate) fn compiled_patterns(&self) -> Vec<PathBuf> {
        let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries(self.dir.path())
            .flat_map(|private| entries(&private.path().join("patterns")))
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "hs"))
            .collect();
        found.sort();
        found
    }

    /// Waits until it has logged this.
    pub(crate) fn wait_log(&self, text: &str) {
        self.wait_until(text, || self.log().contains(text));
    }

    /// Waits until something is so.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "there is no {what:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to the engine's process.
    pub(crate) fn kill_engine(&self, signal: &str) {
        kill(signal, &self.engine());
    }

    /// Stops the engine's process; none of its threads does anything any more.
    pub(crate) fn stop_engine(&self) {
        let engine = self.engine();
        kill("-STOP", &engine);
        let is_stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap();
            stat.rsplit(") ").next().unwrap().starts_with('T')
        };
        self.wait_until("a stopped engine", || {
            let mut tasks = std::fs::read_dir(format!("/proc/{engine}/task")).unwrap();
            tasks.all(|task| is_stopped(task.unwrap()))
        });
    }

    /// Bytes of memory that the engine's process occupies.
    pub(crate) fn engine_memory(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.engine())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// KiB of memory that the supervisor occupies for itself, without what it shares with files.
    pub(crate) fn supervisor_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What the kernel says of the engine's process.
    pub(crate) fn engine_status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.engine())).unwrap()
    }

    /// The engine's process id; waits for it if there is none.
    pub(crate) fn engine(&self) -> String {
        let pid = self.pid();
        let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        self.wait_until("an engine's process", || !children().unwrap().is_empty());
        children().unwrap().split_whitespace().next().expect("it has just ended").to_owned()
    }

    /// The metrics page.
    pub(crate) fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        page
    }

    /// One value of the metrics page, labels included in the name.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = self.metrics();
        let prefix = format!("meergate_inspector_{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
    }

    /// Waits until a metric has this value.
    pub(crate) fn wait_metric(&self, name: &str, value: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(name) != value {
            assert!(Instant::now() < deadline, "{name} is {}, not {value}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where EVE records are written.
    pub(crate) fn events(&self) -> PathBuf {
        self.dir.path().join("events/eve.json")
    }

    /// Waits for an EVE record that `wanted` accepts.
    pub(crate) fn wait_eve(
        &self,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        let path = self.events();
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let found = text.lines().filter_map(|l| serde_json::from_str(l).ok()).find(&wanted);
            if let Some(record) = found {
                return record;
            }
            assert!(Instant::now() < deadline, "no such record in\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether there is an EVE record that `wanted` accepts.
    pub(crate) fn has_eve(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> bool {
        let text = std::fs::read_to_string(self.events()).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .any(|record| wanted(&record))
    }

    /// Sends a signal to the program by the `kill` command.
    pub(crate) fn signal(&self, signal: &str) {
        kill(signal, &self.pid().to_string());
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        self.signal("-TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}",
                std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}
