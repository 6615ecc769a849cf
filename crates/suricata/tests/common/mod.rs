//! A real engine with one worker, shared by the tests of a file (a process has one engine).
#![allow(dead_code)] // No test file uses all of it.
#![allow(clippy::unwrap_used, clippy::panic)] // Only #[test] functions are exempt by clippy.toml.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use std::{env, fs};

use suricata::{Direction, Engine, EngineConfig, Error, Flow, Tuple, Verdict, Worker};
use tempfile::TempDir;

/// Set in the process of a case of its own.
const CASE: &str = "SURICATA_TEST_CASE";

pub(crate) const EICAR: &[u8] =
    br"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";

/// Content that drops in either direction's body, an URL that drops, and an alert that does not.
pub(crate) const RULES: &str = r#"
drop http any any -> any any (msg:"EICAR in a response"; flow:established,to_client; file.data; content:"X5O!P%@AP[4|5c|PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"; classtype:trojan-activity; sid:1000001; rev:3;)
drop http any any -> any any (msg:"EICAR in an upload"; flow:established,to_server; http.request_body; content:"X5O!P%@AP[4|5c|PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"; sid:1000002; rev:1;)
drop http any any -> any any (msg:"forbidden URL"; flow:established,to_server; http.uri; content:"/forbidden"; sid:1000003; rev:1;)
alert http any any -> any any (msg:"worth a note"; flow:established,to_server; http.uri; content:"/noted"; sid:1000004; rev:1;)
drop tcp any any -> any 2525 (msg:"raw bytes"; flow:established,to_server; content:"swordfish"; sid:1000005; rev:1;)
drop http any any -> any any (msg:"two halves"; flow:established,to_client; file.data; content:"first-half"; content:"second-half"; distance:0; sid:1000006; rev:1;)
"#;

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// An engine and the thread that feeds it.
pub(crate) struct Lab {
    pub(crate) engine: Engine,
    jobs: SyncSender<Job>,
    pub(crate) folder: TempDir,
}

impl Lab {
    pub(crate) fn start(rules: &str, adjust: impl FnOnce(EngineConfig) -> EngineConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.rules");
        fs::write(&file, rules).unwrap();
        let (engine, seeds) = Engine::start(adjust(EngineConfig::new().rules([&file]))).unwrap();
        let (jobs, queue) = sync_channel::<Job>(16);
        let (ready, is_ready) = sync_channel(1);
        let seed = seeds.into_iter().next().unwrap();
        thread::spawn(move || {
            let mut worker = match seed.attach() {
                Ok(worker) => worker,
                Err(error) => return ready.send(Err(error)).unwrap(),
            };
            ready.send(Ok(())).unwrap();
            loop {
                match queue.recv_timeout(Duration::from_millis(2)) {
                    Ok(job) => job(&mut worker),
                    Err(RecvTimeoutError::Timeout) => {
                        if worker.idle().is_err() {
                            return;
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        is_ready.recv().unwrap().unwrap();
        Self { engine, jobs, folder }
    }

    pub(crate) fn rules_file(&self) -> PathBuf {
        self.folder.path().join("test.rules")
    }

    /// Runs `job` on the worker's thread.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = sync_channel(1);
        let job = move |worker: &mut Worker| {
            let _ = answer.send(catch_unwind(AssertUnwindSafe(|| job(worker))));
        };
        self.jobs.send(Box::new(job)).unwrap();
        answered.recv().unwrap().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

pub(crate) fn tuple(port: u16) -> Tuple {
    Tuple::new(([10, 1, 2, 3], port).into(), ([198, 51, 100, 9], 80).into()).unwrap()
}

pub(crate) fn tuple6(port: u16) -> Tuple {
    let client = format!("[2001:db8::7]:{port}").parse().unwrap();
    Tuple::new(client, "[2001:db8:1::80]:80".parse().unwrap()).unwrap()
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: files.example\r\n\r\n").into_bytes()
}

pub(crate) fn response(fields: &str, body: &[u8]) -> Vec<u8> {
    let mut message =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{fields}\r\n\r\n")
            .into_bytes();
    message.extend_from_slice(body);
    message
}

pub(crate) fn with_length(body: &[u8]) -> Vec<u8> {
    response(&format!("Content-Length: {}", body.len()), body)
}

/// `body` in chunks of `size` bytes.
pub(crate) fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in body.chunks(size) {
        coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    response("Transfer-Encoding: chunked", &coded)
}

/// Bytes that match nothing and do not compress to nothing.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed | 1);
    (0..len).map(|_| b'a' + (random.next() % 26) as u8).collect()
}

/// Small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Feeds pieces until a drop; returns the verdict and how many bytes went in.
pub(crate) fn feed_pieces<'a>(
    worker: &mut Worker,
    flow: &mut Flow,
    direction: Direction,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Verdict, usize), Error> {
    let mut fed = 0;
    for piece in pieces {
        fed += piece.len();
        let verdict = worker.feed(flow, direction, piece)?;
        if verdict.is_drop() {
            return Ok((verdict, fed));
        }
    }
    Ok((Verdict::Pass, fed))
}

/// One whole exchange on a flow of its own, the response in pieces of `size`.
pub(crate) fn exchange(
    worker: &mut Worker,
    tuple: Tuple,
    request: &[u8],
    response: &[u8],
    size: usize,
) -> Result<Verdict, Error> {
    let mut flow = worker.open(tuple, None)?;
    let verdict = worker.feed(&mut flow, Direction::ToServer, request)?;
    let (verdict, _) = if verdict.is_drop() {
        (verdict, 0)
    } else {
        feed_pieces(worker, &mut flow, Direction::ToClient, response.chunks(size))?
    };
    let at_the_end = worker.close(flow)?;
    Ok(if verdict.is_drop() { verdict } else { at_the_end })
}

/// The sid behind a drop; `None` for a pass.
#[track_caller]
pub(crate) fn sid(verdict: &Verdict) -> Option<u32> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Drop(dropped) => {
            let signature = dropped.signature.as_ref();
            Some(signature.unwrap_or_else(|| panic!("dropped without a signature: {dropped}")).sid)
        }
    }
}

/// Resident memory of this process in KiB.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs the calling test again in a process of its own, with `CASE` set; `true` in that process.
pub(crate) fn alone(name: &str) -> bool {
    if env::var_os(CASE).is_some() {
        return true;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CASE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}", output.status);
    false
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

pub(crate) fn start_error(config: EngineConfig) -> Error {
    match Engine::start(config) {
        Ok(_) => panic!("the engine started"),
        Err(error) => error,
    }
}
