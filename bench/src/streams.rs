//! What streams cost (`protocol = "any"`), through both programs: the latency of a small chunk beside that of
//! an ICAP transaction, the rate of a large stream beside that of a body of HTTP, and memory.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use crate::interrupt;
use crate::load::icap::{Caller, Kind, Load};
use crate::peers::{Inspector, Meergate};
use crate::pki::Pki;
use crate::{pattern, proc};

/// A chunk whose latency is measured, bytes.
const CHUNK: usize = 100;
/// Chunks of one stream.
const CHUNKS: usize = 5_000;
/// Streams at once, and how often each says something.
const AT_ONCE: usize = 64;
const EVERY: Duration = Duration::from_millis(20);
/// Bytes of the stream whose rate is measured.
const LARGE: usize = 100 << 20;
/// Clients that idle streams are spread over: one may have a share only.
const CLIENTS: u8 = 200;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rounds of the rates and latencies.
    pub rounds: usize,
    /// Idle streams.
    pub idle: usize,
    /// Bytes of the stream under which memory is watched.
    pub long: usize,
}

/// Measures with these rules, and says what came of it.
///
/// # Errors
/// A connection fails, or what comes back is not what was sent.
pub fn measure(rules: &Path, extent: Extent) -> Result<String, String> {
    let told = |error: std::io::Error| error.to_string();
    let pki = Pki::new();
    let inspector = Inspector::start(rules);
    let icap = [format!("icap://{}/suricata", inspector.addr())];
    let [echo, sink, http] = [echo as fn(TcpStream), sink, take_put].map(|serve| {
        listen(move |socket| {
            thread::spawn(move || serve(socket));
        })
    });
    // There are thousands of these.
    let greet = listen(greet);
    let start = |port: u16| Meergate::with_streams(&pki, &icap, port);
    let echo = start(echo);
    let mut text = String::new();
    for _ in 0..extent.rounds {
        interrupt::check().map_err(|stopped| stopped.to_string())?;
        let icap = exchanges(inspector.addr())?;
        let mut stream = connect(echo.addr()).map_err(told)?;
        let chunks = ping_pong(&mut stream, CHUNKS, Duration::ZERO).map_err(told)?;
        let _ = writeln!(
            text,
            "a chunk of {CHUNK} bytes: p50 {:.3} ms, p99 {:.3} ms; an ICAP REQMOD: p50 {:.3} ms: {:.2} times",
            at(&chunks, 0.5),
            at(&chunks, 0.99),
            at(&icap, 0.5),
            at(&chunks, 0.5) / at(&icap, 0.5),
        );
        let all = many(echo.addr()).map_err(told)?;
        let _ = writeln!(
            text,
            "{AT_ONCE} streams, a chunk each {} ms: p50 {:.3} ms, p99 {:.3} ms",
            EVERY.as_millis(),
            at(&all, 0.5),
            at(&all, 0.99),
        );
    }
    drop(echo);
    let (raw, put) = (start(sink), start(http));
    for _ in 0..extent.rounds {
        interrupt::check().map_err(|stopped| stopped.to_string())?;
        let cost = |gateway: &Meergate, head: &[u8]| {
            let both = [gateway.pid(), inspector.pid()];
            let cpu = proc::cpu_seconds(&both);
            let began = Instant::now();
            upload(gateway.addr(), head, LARGE)?;
            Ok::<_, std::io::Error>((began.elapsed().as_secs_f64(), proc::cpu_seconds(&both) - cpu))
        };
        let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
        let stream = cost(&raw, b"<").map_err(told)?;
        let body = cost(&put, head.as_bytes()).map_err(told)?;
        let _ = writeln!(
            text,
            "{} MB as a stream: {:.2} s, {:.2} s of CPU; as a body of HTTP: {:.2} s, {:.2} s: {:.2} times the rate, \
             {:.2} times the CPU",
            LARGE >> 20,
            stream.0,
            stream.1,
            body.0,
            body.1,
            body.0 / stream.0,
            stream.1 / body.1,
        );
    }
    let before = resident(&raw, &inspector);
    upload(raw.addr(), b"<", extent.long).map_err(told)?;
    let after = resident(&raw, &inspector);
    let _ = writeln!(
        text,
        "{} MB through one stream: the gateway grew by {} KiB, the inspector by {} KiB",
        extent.long >> 20,
        after.0.saturating_sub(before.0),
        after.1.saturating_sub(before.1),
    );
    drop((raw, put));
    let quiet = start(greet);
    // What the first ones need is needed once.
    let first = idle(quiet.addr(), extent.idle.min(200)).map_err(told)?;
    let before = resident(&quiet, &inspector);
    let rest = idle(quiet.addr(), extent.idle).map_err(told)?;
    let after = resident(&quiet, &inspector);
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / rest.len() as f64;
    let _ = writeln!(
        text,
        "{} idle streams: {:.1} KiB each in the gateway, {:.1} KiB in the inspector",
        rest.len(),
        each(before.0, after.0),
        each(before.1, after.1),
    );
    drop(first);
    Ok(text)
}

fn resident(gateway: &Meergate, inspector: &Inspector) -> (u64, u64) {
    (proc::resident_kib(&[gateway.pid()]), proc::resident_kib(&[inspector.pid()]))
}

/// The share of `times` that is not above the result, milliseconds.
fn at(times: &[Duration], share: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get((last as f64 * share) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Has each connection to a port of its own served.
fn listen(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let _ = socket.set_nodelay(true);
            serve(socket);
        }
    });
    port
}

fn echo(mut socket: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = socket.read(&mut buffer) {
        if socket.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

fn sink(mut socket: TcpStream) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(1..) = socket.read(&mut buffer) {}
    let _ = socket.write_all(b"taken");
}

fn take_put(mut socket: TcpStream) {
    let mut buffer = vec![0; 256 << 10];
    let (mut read, mut ends) = (0, None);
    while ends.is_none_or(|end| read < end) {
        let Ok(more @ 1..) = socket.read(&mut buffer) else { return };
        if ends.is_none() {
            let head = buffer[..more].windows(4).position(|four| four == b"\r\n\r\n");
            ends = head.map(|at| at + 4 + LARGE);
        }
        read += more;
    }
    let _ =
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ntaken");
}

fn greet(mut socket: TcpStream) {
    let _ = socket.write_all(b"220 here\r\n");
    // As long as the process lives: its end is the peer's to say.
    std::mem::forget(socket);
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Half of the time that each of so many chunks takes there and back: that of one direction.
fn ping_pong(
    stream: &mut TcpStream,
    chunks: usize,
    every: Duration,
) -> std::io::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(chunks);
    let (said, mut heard) = ([b'<'; CHUNK], [0; CHUNK]);
    for _ in 0..chunks {
        thread::sleep(every);
        let began = Instant::now();
        stream.write_all(&said)?;
        stream.read_exact(&mut heard)?;
        times.push(began.elapsed() / 2);
    }
    Ok(times)
}

fn many(to: SocketAddr) -> std::io::Result<Vec<Duration>> {
    let threads: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            thread::spawn(move || {
                let mut stream = connect(to)?;
                // Not all at the same moment.
                thread::sleep(EVERY * number as u32 / AT_ONCE as u32);
                ping_pong(&mut stream, 250, EVERY)
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().expect("a client's thread")?);
    }
    Ok(all)
}

/// How long each of some ICAP transactions takes, on one connection.
fn exchanges(server: SocketAddr) -> Result<Vec<Duration>, String> {
    let load = Load {
        server,
        paths: ("/suricata".into(), "/suricata".into()),
        kind: Kind::Reqmod,
        body: 0,
        preview: None,
        allow_204: true,
        tuple: Some(1),
        extra: String::new(),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    runtime.block_on(async {
        let mut caller = Caller::new(load, 0);
        let mut times = Vec::with_capacity(CHUNKS);
        for _ in 0..CHUNKS {
            let began = Instant::now();
            caller.call().await?;
            times.push(began.elapsed());
        }
        Ok(times)
    })
}

/// Sends so many bytes behind `head`, and awaits the server's word that it has them.
fn upload(to: SocketAddr, head: &[u8], length: usize) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    let block = pattern::slice(0, pattern::MAX_SLICE);
    stream.write_all(head)?;
    let mut left = length;
    while left > 0 {
        let piece = left.min(block.len());
        stream.write_all(&block[..piece])?;
        left -= piece;
    }
    if head == b"<" {
        stream.shutdown(Shutdown::Write)?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match answer.ends_with(b"taken") {
        true => Ok(()),
        false => Err(std::io::Error::other("it did not arrive")),
    }
}

/// Streams that have their greeting, and wait.
fn idle(to: SocketAddr, count: usize) -> std::io::Result<Vec<TcpStream>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let open = |number: usize| async move {
        let socket = TcpSocket::new_v4()?;
        let client = Ipv4Addr::new(127, 0, 1, (number % usize::from(CLIENTS)) as u8 + 1);
        socket.bind(SocketAddr::new(IpAddr::V4(client), 0))?;
        let stream = socket.connect(to).await?.into_std()?;
        stream.set_nonblocking(false)?;
        Ok::<_, std::io::Error>(stream)
    };
    let mut all = Vec::with_capacity(count);
    // Some at once: each client is given a moment to speak first.
    for first in (0..count).step_by(500) {
        let from = all.len();
        for number in first..count.min(first + 500) {
            all.push(runtime.block_on(open(number))?);
        }
        for stream in &mut all[from..] {
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.read_exact(&mut [0; 10])?;
        }
    }
    Ok(all)
}
