//! The program itself, started on free ports, and origins that a test scripts.
// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]
// Helpers fail the test that calls them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod h2;
pub mod icap;
pub mod parts;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything that must happen, however loaded the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Origins of tests are on loopback, at ports of their own.
pub const LOOPBACK: &str =
    "destinations = { allow = [\"127.0.0.0/8\", \"::1\"], connect_ports = [\"1-65535\"] }";

/// A running `meergate`.
pub struct Gateway {
    child: Child,
    /// The explicit proxy's address.
    pub proxy: SocketAddr,
    console: SocketAddr,
    /// Its files.
    pub dir: tempfile::TempDir,
}

impl Gateway {
    /// Starts it with these settings besides listener, console and state directory.
    pub fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("meergate.toml");
        let common = format!(
            "state_dir = {:?}\n{LOOPBACK}\n[console]\naddress = \"127.0.0.1:0\"\n[log]\ntransactions = {:?}\n{settings}\n",
            dir.path().join("state"),
            dir.path().join("transactions.log"),
        );
        std::fs::write(&file, common).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_meergate"))
            .arg("run")
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("stderr.log")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut proxy, mut console) = (None, None);
        loop {
            let line = lines.next().expect("meergate ended at its start").unwrap();
            if let Some(rest) = line.strip_prefix("listening on ")
                && let Some(address) = rest.strip_suffix(" (proxy)")
            {
                proxy = Some(address.parse().unwrap());
            }
            if let Some(rest) = line.strip_prefix("listening on ")
                && let Some(address) = rest.strip_suffix(" (console)")
            {
                console = Some(address.parse().unwrap());
            }
            if line == "ready" {
                break;
            }
        }
        thread::spawn(move || lines.for_each(drop));
        let proxy = proxy.expect("no proxy listener");
        Self { child, proxy, console: console.expect("no console"), dir }
    }

    /// The most memory that it had, KiB.
    pub fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    }

    /// A connection to the proxy, with a time limit on reads.
    pub fn connect(&self) -> TcpStream {
        connect(self.proxy)
    }

    /// Sends `request` on a new connection and returns all that comes back until its end.
    pub fn ask(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // It may answer and close before it has taken everything.
        let _ = stream.write_all(request);
        read_to_end(&mut stream)
    }

    /// What the console answers to a request for `path`.
    pub fn of_console(&self, path: &str) -> Vec<u8> {
        let mut stream = connect(self.console);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        read_to_end(&mut stream)
    }

    /// The value of a metric, named with its labels as it is written; 0 if it is not there.
    pub fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.of_console("/metrics")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// The records of the transactions so far, once there are at least `count`.
    pub fn transactions(&self, count: usize) -> Vec<serde_json::Value> {
        let path = self.dir.path().join("transactions.log");
        wait_for("transaction records", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let complete = text.rfind('\n').map_or("", |end| &text[..end]);
            let records: Vec<serde_json::Value> =
                complete.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            (records.len() >= count).then_some(records)
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection with a time limit on reads.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads until the end; a reset counts as one.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut piece = [0; 65536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(e) => panic!("after {} bytes: {e}", all.len()),
        }
    }
}

/// Reads until what came ends with `end`.
pub fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(end) {
        match stream.read(&mut byte) {
            Ok(1) => all.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    all
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// An origin whose answers a test scripts; it remembers all bytes of each connection.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// One connection of an [`Origin`].
pub struct Asked {
    /// The connection.
    pub stream: TcpStream,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    index: usize,
}

impl Origin {
    /// Runs `script` for each connection, in a thread of its own; the connection ends with it.
    pub fn start(script: impl Fn(&mut Asked) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, shared) = (Arc::new(script), seen.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let (script, seen) = (script.clone(), shared.clone());
                let index = {
                    let mut all = seen.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                thread::spawn(move || {
                    let mut asked = Asked { stream, seen, index };
                    script(&mut asked);
                    let _ = asked.stream.shutdown(Shutdown::Write);
                    while asked.read().is_some() {}
                });
            }
        });
        Self { address, seen }
    }

    /// Answers every request with `response`, byte for byte, and keeps the connection.
    pub fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(move |asked| {
            while asked.head().is_some() {
                if asked.stream.write_all(&response).is_err() {
                    return;
                }
            }
        })
    }

    /// All bytes that came, a connection each.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone()
    }

    /// A URL of this origin.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Asked {
    /// Reads some; `None` at the end.
    pub fn read(&mut self) -> Option<Vec<u8>> {
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(n) if n > 0 => {
                self.seen.lock().unwrap()[self.index].extend_from_slice(&piece[..n]);
                Some(piece[..n].to_vec())
            }
            _ => None,
        }
    }

    /// All that came on this connection.
    pub fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap()[self.index].clone()
    }

    /// Reads one head, byte by byte; `None` at the end of the connection.
    pub fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend_from_slice(&self.exactly(1)?);
        }
        Some(String::from_utf8_lossy(&head).into_owned())
    }

    /// Reads so many bytes; `None` if the connection ends before.
    pub fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut piece = vec![0; length];
        self.stream.read_exact(&mut piece).ok()?;
        self.seen.lock().unwrap()[self.index].extend_from_slice(&piece);
        Some(piece)
    }
}

/// What was received, to be looked at.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A tunnel to `origin`, as for TLS, in which plain HTTP is spoken.
pub fn tunnel(gateway: &Gateway, origin: &Origin) -> TcpStream {
    let mut stream = gateway.connect();
    let o = origin.address;
    write!(stream, "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\n\r\n").unwrap();
    let answer = text(&read_until(&mut stream, b"\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    stream
}
