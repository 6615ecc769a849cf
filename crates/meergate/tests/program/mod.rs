//! The program itself with settings of a test's own, and what it says.
#![allow(dead_code, unreachable_pub)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use crate::support::{LOOPBACK, wait_for};

/// A running `meergate` with any listeners.
pub struct Program {
    child: Child,
    said: Arc<Mutex<String>>,
    listeners: Vec<(String, SocketAddr)>,
    /// Its files; `meergate.toml` is among them.
    pub dir: Arc<TempDir>,
}

impl Program {
    /// Starts it with these settings besides state directory and console.
    pub fn start(settings: &str) -> Self {
        let dir = TempDir::new().unwrap();
        write_settings(&dir, settings);
        Self::run(Arc::new(dir), &[])
    }

    /// The same, where no file may grow beyond some KiB, as if the disk were full by then, until
    /// [`Self::give_room`].
    pub fn start_on_a_full_disk(settings: &str) -> Self {
        let dir = TempDir::new().unwrap();
        write_settings(&dir, settings);
        let mut shell = Command::new("sh");
        // Without the signal, writing is an error.
        let limited = "trap '' XFSZ; ulimit -S -f 16; exec \"$0\" \"$@\"";
        shell.args(["-c", limited, env!("CARGO_BIN_EXE_meergate")]);
        Self::run_as(shell, Arc::new(dir), &[])
    }

    /// Files may grow from now on.
    pub fn give_room(&self) {
        let pid = self.child.id().to_string();
        let given = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &pid]).status();
        assert!(given.unwrap().success());
    }

    /// Starts another one in its place; returns the former one.
    pub fn replace(&mut self) -> Self {
        let successor = Self::run(self.dir.clone(), &["--replace"]);
        std::mem::replace(self, successor)
    }

    fn run(dir: Arc<TempDir>, arguments: &[&str]) -> Self {
        Self::run_as(Command::new(env!("CARGO_BIN_EXE_meergate")), dir, arguments)
    }

    fn run_as(mut command: Command, dir: Arc<TempDir>, arguments: &[&str]) -> Self {
        let mut child = command
            .args(["run", "--config"])
            .arg(dir.path().join("meergate.toml"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let shared = said.clone();
        thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|n| n > 0) {
                eprint!("{line}");
                shared.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let mut listeners = Vec::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next().expect("meergate ended at its start").unwrap();
            if let Some((address, kind)) =
                line.strip_prefix("listening on ").and_then(|rest| rest.rsplit_once(" ("))
            {
                let kind = kind.trim_end_matches(')').to_owned();
                listeners.push((kind, address.parse().unwrap()));
            }
            if line == "ready" {
                break;
            }
        }
        thread::spawn(move || lines.for_each(drop));
        Self { child, said, listeners, dir }
    }

    /// Where the listener of this kind is.
    pub fn at(&self, kind: &str) -> SocketAddr {
        self.listeners.iter().find(|(k, _)| k == kind).unwrap_or_else(|| panic!("no {kind}")).1
    }

    /// Waits until it has logged `text`, so many times.
    pub fn wait_for_log(&self, text: &str, times: usize) {
        wait_for(text, || (self.said.lock().unwrap().matches(text).count() >= times).then_some(()));
    }

    /// How often it has logged `text` by now.
    pub fn times_logged(&self, text: &str) -> usize {
        self.said.lock().unwrap().matches(text).count()
    }

    /// Whether it has logged `text` by now.
    pub fn has_logged(&self, text: &str) -> bool {
        self.said.lock().unwrap().contains(text)
    }

    /// What the kernel says of it.
    pub fn status(&self) -> String {
        fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap()
    }

    /// Replaces its settings' file.
    pub fn write_settings(&self, settings: &str) {
        write_settings(&self.dir, settings);
    }

    /// Sends it a signal, as `kill` names them.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end; whether it was a success.
    pub fn wait_for_end(&mut self) -> bool {
        wait_for("the program's end", || self.child.try_wait().unwrap()).success()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What its console has at `path`.
    pub fn console(&self, path: &str) -> String {
        let mut stream = crate::support::connect(self.at("console"));
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The certificate of its CA.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("state/ca.pem")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With loopback as a destination, unless the settings say something about destinations.
fn write_settings(dir: &TempDir, settings: &str) {
    let loopback = if settings.contains("destinations") { "" } else { LOOPBACK };
    let text = format!(
        "state_dir = {:?}\n{loopback}\nconsole.address = \"127.0.0.1:0\"\n{settings}\n",
        dir.path().join("state")
    );
    fs::write(dir.path().join("meergate.toml"), text).unwrap();
}

/// Runs the program to its end with these arguments, and `input`.
pub fn run_to_end(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_meergate"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    child.wait_with_output().unwrap()
}
