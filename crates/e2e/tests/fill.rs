//! One client takes all that it can get of both programs, and the others do not notice: none of their requests fails,
//! and nothing bad reaches them. It goes on for `MEERGATE_FILL_SECONDS`, without which it does nothing; how long the others
//! waited and how much memory was taken is printed. The greedy one and its origins stand for other machines: their
//! threads get the cores when nobody else wants them. How long the programs waited for a core is printed too, since that
//! is this machine's share of what the others wait.

mod usage;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Inspected, content, process};
use rustix::net::{AddressFamily, SocketType, bind, connect, listen, socket};
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

use usage::{memory, processes};

/// Clients beside the greedy one, each at an address of its own.
const OTHERS: u8 = 50;
/// What they do between two requests.
const PACE: Duration = Duration::from_millis(100);
const SIZE: usize = 20_000;

/// What docs/settings.md lets the gateway take, in KiB: copies, windows of HTTP/2, connections, and itself.
const BOUND: usize = (512 + 256 + 320 + 64) << 10;

/// What an origin serves, made once.
struct Contents {
    bad: Vec<u8>,
    big: Vec<u8>,
    bomb: Vec<u8>,
    clean: Vec<u8>,
}

/// An origin that keeps nothing, and of which threads get a core when nobody else wants it.
fn origin(steps_back: bool) -> SocketAddr {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Its own queue is not to be what overflows.
    listen(&socket, 4096).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let contents = Arc::new(Contents {
        bad: content::infected(3, SIZE, SIZE / 2),
        big: content::noise(4, 64 << 20),
        bomb: content::gzip(&vec![0; 50 << 20]),
        clean: content::noise(5, SIZE),
    });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let contents = contents.clone();
            let small = thread::Builder::new().stack_size(64 << 10);
            // Too many threads: the connection is closed.
            let _ = small.spawn(move || {
                if steps_back {
                    step_back();
                }
                serve(&stream, &contents)
            });
        }
    });
    address
}

fn serve(stream: &TcpStream, contents: &Contents) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    loop {
        let (mut line, mut target, mut length) = (String::new(), String::new(), 0);
        loop {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if target.is_empty() {
                target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        io::copy(&mut input.by_ref().take(length), &mut io::sink())?;
        let (fields, body) = match target.as_str() {
            "/bad" => ("", &contents.bad),
            "/big" => ("", &contents.big),
            "/bomb" => ("Content-Encoding: gzip\r\n", &contents.bomb),
            _ => ("", &contents.clean),
        };
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        (&*stream).write_all(head.as_bytes())?;
        (&*stream).write_all(body)?;
    }
}

/// The calling thread gets a core when nobody else wants it.
fn step_back() {
    nice(19).unwrap();
}

/// All of 127.0.0.0/8 is this machine.
fn connect_as(client: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(client.into(), 0))?;
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(process::DEADLINE))?;
    Ok(stream)
}

struct Field {
    proxy: SocketAddr,
    origin: SocketAddr,
    /// The greedy one's: origins have no shares.
    greedy_origin: SocketAddr,
    over: AtomicBool,
}

impl Field {
    fn greedy_head(&self, method: &str, path: &str, fields: &str) -> String {
        let at = self.greedy_origin;
        format!("{method} http://{at}{path} HTTP/1.1\r\nHost: {at}\r\n{fields}\r\n")
    }

    fn greedy(&self) -> io::Result<TcpStream> {
        connect_as([127, 0, 0, 2], self.proxy)
    }

    /// Opens connections, says `first` on each, and keeps all that stay open, up to `most`.
    fn keep(&self, most: usize, first: &[u8]) {
        step_back();
        let mut kept = Vec::new();
        while !self.over.load(Relaxed) {
            if kept.len() == most {
                kept.retain(is_open);
                thread::sleep(PACE);
                continue;
            }
            match self.greedy() {
                Ok(stream) => {
                    // What does not fit is not waited for.
                    let _ = stream.set_nonblocking(true);
                    let _ = (&stream).write(first);
                    kept.push(stream);
                }
                Err(_) => thread::sleep(PACE),
            }
        }
    }

    /// Asks as fast as it is answered.
    fn ask_on(&self, request: &[u8]) {
        step_back();
        while !self.over.load(Relaxed) {
            let once = || -> io::Result<()> {
                let mut stream = self.greedy()?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                stream.write_all(request)?;
                let mut buffer = [0; 64 << 10];
                while !self.over.load(Relaxed) {
                    if stream.read(&mut buffer)? == 0 {
                        break;
                    }
                }
                Ok(())
            };
            // It is refused much: that is the point.
            let _ = once();
        }
    }
}

fn is_open(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(len) => len > 0,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// What became of the requests of the others.
#[derive(Default)]
struct Tally {
    /// How long each took.
    waits: Mutex<Vec<Duration>>,
    failed: Mutex<Vec<String>>,
    passed: AtomicU64,
    blocked: AtomicU64,
}

impl Tally {
    fn take_part(&self, field: &Field, number: u8) {
        let (mut stream, mut round) = (None, u32::from(number));
        while !field.over.load(Relaxed) {
            round += 1;
            let bad = round.is_multiple_of(10);
            let began = Instant::now();
            match one(field, number, &mut stream, bad) {
                Ok(Answer::Clean) if !bad => self.waits.lock().unwrap().push(began.elapsed()),
                Ok(Answer::Blocked) if bad => drop(self.blocked.fetch_add(1, Relaxed)),
                Ok(Answer::Clean) => drop(self.passed.fetch_add(1, Relaxed)),
                Ok(Answer::Blocked) => self.failed.lock().unwrap().push("blocked".into()),
                Err(error) => {
                    stream = None;
                    self.failed.lock().unwrap().push(format!("{error}"));
                }
            }
            thread::sleep(PACE);
        }
    }

    /// How long all but one of so many waited at most.
    fn all_but(&self, one_of: usize) -> Duration {
        let mut waits = self.waits.lock().unwrap();
        waits.sort_unstable();
        waits[waits.len() - 1 - waits.len() / one_of]
    }
}

enum Answer {
    Blocked,
    Clean,
}

fn one(field: &Field, number: u8, kept: &mut Option<TcpStream>, bad: bool) -> io::Result<Answer> {
    let stream = match kept {
        Some(stream) => stream,
        None => kept.insert(connect_as([127, 0, 1, number + 1], field.proxy)?),
    };
    stream.write_all(
        format!(
            "GET http://{0}{1} HTTP/1.1\r\nHost: {0}\r\n\r\n",
            field.origin,
            if bad { "/bad" } else { "/" }
        )
        .as_bytes(),
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let mut body = vec![0; length.and_then(|len| len.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body)?;
    if head.contains("connection: close") {
        *kept = None;
    }
    match &*status {
        "200" if bad || body == content::noise(5, SIZE) => Ok(Answer::Clean),
        "403" => Ok(Answer::Blocked),
        // The page says why.
        _ => Err(io::Error::other(format!("{head}{}", String::from_utf8_lossy(&body)))),
    }
}

/// How long the threads of a process and its children have run, and waited for a core.
fn ran_and_waited(of: u32) -> [Duration; 2] {
    let threads = processes(of).flat_map(|process| fs::read_dir(process.join("task")).unwrap());
    let mut sum = [Duration::ZERO; 2];
    for thread in threads.flatten() {
        let Ok(times) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
        for (sum, nanoseconds) in sum.iter_mut().zip(times.split_whitespace()) {
            *sum += Duration::from_nanos(nanoseconds.parse().unwrap_or(0));
        }
    }
    sum
}

#[test]
fn a_client_that_takes_all_it_can_get_takes_nothing_from_others() {
    let seconds = std::env::var("MEERGATE_FILL_SECONDS").ok().and_then(|text| text.parse().ok());
    let Some(long) = seconds.map(Duration::from_secs) else {
        return println!("skipped: MEERGATE_FILL_SECONDS says for how long");
    };
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most.or(Some(65_536)), maximum: most }).unwrap();
    let inspected = Inspected::start();
    let gateway = inspected.proxy();
    let sizes = || {
        let mib = |pid| memory(pid) >> 10;
        (mib(gateway.process.pid()), mib(inspected.inspector.process.pid()))
    };
    let [origin, greedy_origin] = [false, true].map(origin);
    let field =
        || Field { proxy: gateway.proxy(), origin, greedy_origin, over: AtomicBool::new(false) };
    let others = |field: &Field, during: Duration, greedy: bool| {
        let tally = Tally::default();
        let mut most = (0, 0);
        thread::scope(|scope| {
            for number in 0..OTHERS {
                let (tally, field) = (&tally, &field);
                scope.spawn(move || tally.take_part(field, number));
            }
            if greedy {
                be_greedy(scope, field);
            }
            let end = Instant::now() + during;
            while Instant::now() < end {
                thread::sleep(PACE);
                let now = sizes();
                most = (most.0.max(now.0), most.1.max(now.1));
            }
            field.over.store(true, Relaxed);
        });
        (tally, most)
    };
    let (alone, before) = others(&field(), long.min(Duration::from_secs(20)) / 2, false);
    let times = || {
        let processes = [gateway.process.pid(), inspected.inspector.process.pid()];
        processes.map(ran_and_waited)
    };
    let times_before = times();
    let (beside, during) = others(&field(), long, true);
    for (name, now, before) in
        [("gateway", 0), ("inspector", 1)].map(|(name, at)| (name, times()[at], times_before[at]))
    {
        let [ran, waited] = [0, 1].map(|at| now[at].saturating_sub(before[at]));
        println!("the {name}'s threads ran for {ran:?}, and waited for a core for {waited:?}");
    }
    let asked = beside.waits.lock().unwrap().len();
    println!(
        "{asked} requests of others, p99 {:?} alone, {:?} beside the greedy one, where half waited {:?} and one of \
         1,000 more than {:?}; {} bad ones blocked; MiB of the gateway and the inspector: {before:?} alone, at most \
         {during:?}",
        alone.all_but(100),
        beside.all_but(100),
        beside.all_but(2),
        beside.all_but(1000),
        beside.blocked.load(Relaxed),
    );
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_secs(10));
        println!("after {:?}: {:?} MiB", began.elapsed(), sizes());
    }
    if !beside.failed.lock().unwrap().is_empty() {
        let log = gateway.process.log() + &inspected.inspector.process.log();
        let told = ["connect", "ERROR", "engine"];
        let told = |line: &&str| told.iter().any(|word| line.contains(word));
        log.lines().filter(told).take(50).for_each(|line| println!("{line}"));
    }
    for tally in [&alone, &beside] {
        let failed = tally.failed.lock().unwrap();
        assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed.first());
        assert_eq!(tally.passed.load(Relaxed), 0, "bad ones passed");
        assert!(tally.blocked.load(Relaxed) > 0);
    }
    assert!(during.0 << 10 < BOUND, "{during:?}");
}

/// Each of the ways to take more than a share.
fn be_greedy<'scope>(scope: &'scope thread::Scope<'scope, '_>, field: &'scope Field) {
    let cut = |fields: &str, body: &[u8]| {
        [
            field
                .greedy_head("POST", "/", &format!("Content-Length: 50000000\r\n{fields}"))
                .as_bytes(),
            body,
        ]
        .concat()
    };
    let zeros = content::gzip(&vec![0; 30 << 20]);
    let long_head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(60_000));
    let kept = [
        (1_500, long_head.into_bytes()),
        (1_500, Vec::new()),
        (300, cut("", &content::noise(6, 200_000))),
        (200, cut("Content-Encoding: gzip\r\n", &zeros[..zeros.len() - 9])),
        (200, field.greedy_head("GET", "/big", "").into_bytes()),
    ];
    for (most, first) in kept {
        scope.spawn(move || field.keep(most, &first));
    }
    let many_fields: String = (0..60).map(|n| format!("X-{n}: {}\r\n", "y".repeat(900))).collect();
    let asked = [
        field.greedy_head("GET", "/bomb", ""),
        field.greedy_head("GET", "/big", "Connection: close\r\n"),
        field.greedy_head("GET", "/bad", "Connection: close\r\n"),
        field.greedy_head("GET", "/", &format!("Connection: close\r\n{many_fields}")),
    ];
    for request in asked {
        for _ in 0..2 {
            let request = request.clone().into_bytes();
            scope.spawn(move || field.ask_on(&request));
        }
    }
}
