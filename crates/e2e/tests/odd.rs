//! Transactions that nobody means well, on both programs' ports and from the origin: the seeds of the fuzzers, changed
//! at random. Neither program ends, what is dropped is still dropped afterwards, and no descriptors stay taken.
//!
//! It goes on for `MEERGATE_ODD_SECONDS`, 5 by default. In a run of a quarter of an hour and more the memory of each
//! program stays what it was after the first ten minutes, within a tenth.

mod usage;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Curl, Inspected, Origin, Process, content, programs};

use usage::{memory, processes};

/// At once, and of either kind.
const CLIENTS: u64 = 4;
/// How long an answer is waited for: most of what is sent is cut short.
const PATIENCE: Duration = Duration::from_millis(50);
const SETTLED: Duration = Duration::from_secs(600);
/// Between two looks at what the programs take.
const PACE: Duration = Duration::from_millis(500);

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn one_of<'a>(&mut self, all: &'a [Vec<u8>]) -> &'a [u8] {
        &all[self.below(all.len())]
    }

    /// One of the seeds, with up to three changes.
    fn odd(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.one_of(seeds).to_vec();
        for _ in 0..self.below(4) {
            let (from, to) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
            let part = from.min(to)..from.max(to);
            match self.below(4) {
                0 => drop(bytes.drain(part)),
                1 => bytes.extend_from_within(part),
                2 => drop(bytes.splice(part, self.one_of(seeds).iter().copied())),
                _ => {
                    let value = self.below(256) as u8;
                    bytes.get_mut(from).into_iter().for_each(|byte| *byte = value);
                }
            }
        }
        bytes.truncate(64 << 10);
        bytes
    }
}

/// All files below a folder.
fn read(folder: &Path, seeds: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => read(&path, seeds),
            false => seeds.push(fs::read(path).unwrap()),
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for entry in fs::read_dir(programs::root().join("fuzz")).unwrap() {
        let folder = entry.unwrap().path().join("seeds");
        if folder.is_dir() {
            read(&folder, &mut seeds);
        }
    }
    assert!(seeds.len() > 50, "{} seeds", seeds.len());
    seeds
}

struct Field {
    seeds: Vec<Vec<u8>>,
    proxy: SocketAddr,
    icap: SocketAddr,
    origin: SocketAddr,
    over: AtomicBool,
    said: AtomicU64,
}

impl Field {
    /// Answers whoever comes with something odd.
    fn answer(&self, listener: &TcpListener) {
        let mut dice = Dice(3);
        for stream in listener.incoming() {
            if self.over.load(Relaxed) {
                return;
            }
            let codings = ["gzip", "br", "deflate", "zstd", "gzip, gzip", "none"];
            let coding = codings[dice.below(codings.len())];
            let mut bytes = dice.odd(&self.seeds);
            if dice.below(2) == 0 {
                let length = bytes.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {length}\r\n\r\n"
                );
                bytes.splice(..0, head.into_bytes());
            }
            // What it does with that is its own affair, here and below.
            let _ = stream.and_then(|stream| say(&stream, &bytes));
        }
    }

    fn ask(&self, seed: u64) {
        let mut dice = Dice(seed + 11);
        let at = self.origin;
        while !self.over.load(Relaxed) {
            let odd = dice.odd(&self.seeds);
            let length = odd.len();
            let (to, bytes) = match dice.below(6) {
                0 => (self.proxy, odd),
                1 => (self.icap, odd),
                2 => (
                    self.proxy,
                    [format!("CONNECT {at} HTTP/1.1\r\n\r\n").as_bytes(), &odd].concat(),
                ),
                3 => {
                    let head = format!(
                        "POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nContent-Encoding: gzip\r\n\
                         Content-Length: {length}\r\n\r\n"
                    );
                    (self.proxy, [head.as_bytes(), &odd].concat())
                }
                4 => {
                    let head = "GET http://o/ HTTP/1.1\r\nHost: o\r\n\r\n";
                    let answer = "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n";
                    let (first, second) = (head.len(), head.len() + answer.len());
                    let icap = format!(
                        "RESPMOD icap://h/suricata ICAP/1.0\r\nHost: h\r\nAllow: 204\r\nEncapsulated: req-hdr=0, \
                         res-hdr={first}, res-body={second}\r\n\r\n{head}{answer}{length:x}\r\n"
                    );
                    (self.icap, [icap.as_bytes(), &odd, b"\r\n0\r\n\r\n"].concat())
                }
                _ => {
                    let get = format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n");
                    (self.proxy, get.repeat(2).into_bytes())
                }
            };
            let _ = TcpStream::connect(to).and_then(|stream| say(&stream, &bytes));
            self.said.fetch_add(1, Relaxed);
        }
    }
}

/// Says all, and hears what comes of it.
fn say(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream.take(1 << 20), &mut io::sink())?;
    Ok(())
}

fn descriptors(of: u32) -> usize {
    processes(of).filter_map(|process| fs::read_dir(process.join("fd")).ok()).flatten().count()
}

#[test]
fn odd_transactions_leave_nothing_behind() {
    let seconds = std::env::var("MEERGATE_ODD_SECONDS").ok().and_then(|text| text.parse().ok());
    let long = Duration::from_secs(seconds.unwrap_or(5));
    let mut inspected = Inspected::start();
    let mut gateway = inspected.proxy();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let field = Field {
        seeds: seeds(),
        proxy: gateway.proxy(),
        icap: inspected.inspector.addr(),
        origin: listener.local_addr().unwrap(),
        over: AtomicBool::new(false),
        said: AtomicU64::new(0),
    };
    let bad = Origin::http(|_, reply| reply.ok("text/plain", &content::infected(3, 9_000, 4_000)));
    let is_blocked = || Curl::through(gateway.proxy()).run(&bad.url("/")).expect_status(403);
    is_blocked();
    let pids = [gateway.process.pid(), inspected.inspector.process.pid()];
    // The engine's process is the inspector's child: a new one would be a crash.
    let engines = processes(pids[1]).collect::<Vec<_>>();
    let taken = pids.map(descriptors);
    let (mut settled, mut last) = ([0; 2], [0; 2]);
    thread::scope(|scope| {
        scope.spawn(|| field.answer(&listener));
        for seed in 0..CLIENTS {
            let field = &field;
            scope.spawn(move || field.ask(seed));
        }
        let began = Instant::now();
        let mut said = Duration::ZERO;
        while began.elapsed() < long {
            thread::sleep(PACE);
            let now = pids.map(memory);
            let window = SETTLED / 10;
            let gone = began.elapsed();
            // The most of a minute, since it goes up and down.
            if gone > SETTLED - window && gone < SETTLED {
                settled = [0, 1].map(|at| settled[at].max(now[at]));
            }
            if gone + window > long {
                last = [0, 1].map(|at| last[at].max(now[at]));
            }
            if gone > said {
                said += window;
                let count = field.said.load(Relaxed);
                println!(
                    "{gone:?}: {count} said, KiB {now:?}, descriptors {:?}",
                    pids.map(descriptors)
                );
            }
        }
        field.over.store(true, Relaxed);
        // For whoever waits for it.
        let _ = TcpStream::connect(field.origin);
    });
    is_blocked();
    let alive = |process: &mut Process| process.ended().is_none();
    assert!(alive(&mut gateway.process) && alive(&mut inspected.inspector.process));
    assert_eq!(processes(pids[1]).collect::<Vec<_>>(), engines, "the engine is another one");
    // Connections that are kept for the next transaction.
    let kept = 200;
    gateway.process.wait_until("descriptors to be given back", || {
        [0, 1].iter().all(|at| descriptors(pids[*at]) <= taken[*at] + kept)
    });
    if long >= SETTLED * 3 / 2 {
        for at in [0, 1] {
            let (settled, last) = (settled[at], last[at]);
            assert!(
                last * 10 <= settled * 11,
                "{settled} KiB after ten minutes, {last} at the end"
            );
        }
    }
}
