//! A child process with captured output: started, waited for by event, ended by its id.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long any single wait may take. Generous: it only bounds how long a failure hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How often a state that sends no event (an open port, an ended child) is looked at.
const POLL: Duration = Duration::from_millis(10);

/// How many of the last lines are shown when something fails.
const SHOWN: usize = 60;

/// A running program, in a process group of its own; the whole group is killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
}

impl Process {
    /// Starts `command` with no input and both outputs captured line by line.
    ///
    /// # Panics
    /// When the program can't be started, with the program's name.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: can't start {command:?}: {error}"));
        let log = Arc::new(Log::default());
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        log.open(2);
        log.clone().follow(Stream::Out, stdout);
        log.clone().follow(Stream::Err, stderr);
        Self { name: name.to_owned(), child, log }
    }

    /// Waits for a line of standard output or error that `wanted` accepts, earlier ones included,
    /// and returns what it made of it.
    ///
    /// # Panics
    /// After [`DEADLINE`], or when the process ended without such a line; with its log.
    pub fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut seen = 0;
        let mut lines = self.log.lock();
        loop {
            while let Some(line) = lines.all.get(seen) {
                if let Some(found) = wanted(&line.text) {
                    return found;
                }
                seen += 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            let over = lines.open == 0;
            if over || left.is_zero() {
                drop(lines);
                let why = if over { "it closed its outputs" } else { "too long" };
                panic!("{}: waited for {what}: {why}\n{}", self.name, self.log_tail());
            }
            lines =
                self.log.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a line that contains `text` and returns the line.
    ///
    /// # Panics
    /// As [`Process::wait_for`].
    pub fn wait_for_line(&mut self, text: &str) -> String {
        self.wait_for(text, |line| line.contains(text).then(|| line.to_owned()))
    }

    /// Waits until something accepts TCP connections at `addr`.
    ///
    /// # Panics
    /// After [`DEADLINE`], or when the process has ended; with its log.
    pub fn wait_for_port(&mut self, addr: SocketAddr) {
        self.wait_until(&format!("a listener at {addr}"), || TcpStream::connect(addr).is_ok());
    }

    /// Waits until `condition` holds; for states that send no event.
    ///
    /// # Panics
    /// After [`DEADLINE`], or when the process has ended; with its log.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition() {
            if let Some(status) = self.child.try_wait().expect("the child's status") {
                panic!("{}: ended ({status}) before {what}\n{}", self.name, self.log_tail());
            }
            if Instant::now() > end {
                panic!("{}: waited for {what}: too long\n{}", self.name, self.log_tail());
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for the process to end by itself, and for the last of its output.
    ///
    /// # Panics
    /// After [`DEADLINE`], with its log.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child's status") {
                self.log.wait_closed(Instant::now() + Duration::from_secs(5));
                return status;
            }
            if Instant::now() > end {
                panic!("{}: waited for its end: too long\n{}", self.name, self.log_tail());
            }
            thread::sleep(POLL);
        }
    }

    /// The exit status, if the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child's status")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL to the process itself (not to its children).
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends SIGKILL to the process and all its children at once.
    pub fn kill_group(&self) {
        let _gone_already = kill_process_group(self.rustix_pid(), Signal::KILL);
    }

    /// Sends SIGTERM to the process itself.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends `signal` to the process itself. One that has ended already is left alone.
    pub fn signal(&self, signal: Signal) {
        let _gone_already = kill_process(self.rustix_pid(), signal);
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.text(|line| line.stream == Stream::Out)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.text(|line| line.stream == Stream::Err)
    }

    /// What it has written so far, both outputs in order of arrival.
    pub fn log(&self) -> String {
        self.text(|_| true)
    }

    fn text(&self, wanted: impl Fn(&Line) -> bool) -> String {
        let lines = self.log.lock();
        lines.all.iter().filter(|line| wanted(line)).fold(String::new(), |mut text, line| {
            text.push_str(&line.text);
            text.push('\n');
            text
        })
    }

    fn log_tail(&self) -> String {
        let lines = self.log.lock();
        let skipped = lines.all.len().saturating_sub(SHOWN);
        let mut text = format!("--- log of {} ({skipped} earlier lines not shown)\n", self.name);
        for line in lines.all.iter().skip(skipped) {
            let _infallible = writeln!(text, "  {}", line.text);
        }
        text
    }

    fn rustix_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        // Children that outlived their leader keep the group, and its id, alive.
        self.kill_group();
        let _ = self.child.wait();
    }
}

/// The lines a process wrote, and word of new ones.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<Line>,
    /// Outputs that are still open.
    open: usize,
}

#[derive(Debug)]
struct Line {
    stream: Stream,
    text: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stream {
    Err,
    Out,
}

impl Log {
    fn open(&self, outputs: usize) {
        self.lock().open = outputs;
    }

    fn follow(self: Arc<Self>, stream: Stream, output: impl Read + Send + 'static) {
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                self.lock().all.push(Line { stream, text });
                self.more.notify_all();
            }
            self.lock().open -= 1;
            self.more.notify_all();
        });
    }

    /// Children that outlive the process may hold its outputs open, hence the limit.
    fn wait_closed(&self, end: Instant) {
        let mut lines = self.lock();
        while lines.open > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            lines = self.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
