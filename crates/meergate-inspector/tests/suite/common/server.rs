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
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.rules");
        std::fs::write(&file, rules).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_meergate-inspector"))
            .arg("run")
            .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--rules"])
            .arg(&file)
            .arg("--eve")
            .arg(dir.path().join("eve.json"))
            .args(args)
            .env("TMPDIR", dir.path())
            .env("XDG_RUNTIME_DIR", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
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
        let mut server = Self {
            child,
            icap: ([127, 0, 0, 1], 0).into(),
            metrics: ([127, 0, 0, 1], 0).into(),
            unix: None,
            lines,
            dir,
        };
        server.wait_ready();
        server
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).expect("the program says ready");
            if line == "ready" {
                return;
            }
            let Some(rest) = line.strip_prefix("listening on ") else { continue };
            let (addr, what) = rest.split_once(' ').unwrap();
            match (addr.strip_prefix("unix:"), what) {
                (Some(path), _) => self.unix = Some(path.into()),
                (None, "(icap)") => self.icap = addr.parse().unwrap(),
                (None, "(metrics)") => self.metrics = addr.parse().unwrap(),
                (None, other) => panic!("unknown listener {other}"),
            }
        }
    }

    /// A new ICAP connection.
    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.icap).unwrap(), &format!("icap://{}", self.icap))
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

    /// A folder of the test's own.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
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

    /// Waits for an EVE record that `wanted` accepts.
    pub(crate) fn wait_eve(
        &self,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        let path = self.dir.path().join("eve.json");
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

    /// Sends a signal to the program by the `kill` command.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
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
