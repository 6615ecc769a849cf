//! HTTP/1.1 load over kept or new connections.

use std::sync::Arc;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::link::{Link, Route};
use super::{Done, Effort, Gate, Sample, Tally, Watched, press};
use crate::pattern::Check;

/// An HTTP/1.1 load: GETs of one body.
#[derive(Clone, Debug)]
pub struct Load {
    /// The way to the origin.
    pub route: Route,
    /// Path of the body on the origin.
    pub path: String,
    /// Its length in bytes.
    pub body: u64,
    /// Whether each request has a connection of its own.
    pub new_connections: bool,
}

impl Load {
    /// Runs the load and counts.
    pub fn run(&self, effort: &Effort, watched: &Watched) -> Sample {
        let load = self.clone();
        press(effort, watched, move |_, gate| connection(load.clone(), gate))
    }

    fn request(&self) -> Vec<u8> {
        let Route { host, port, proxy, tls, .. } = &self.route;
        let target = match (proxy, tls) {
            (true, None) => format!("http://{host}:{port}{}", self.path),
            _ => self.path.clone(),
        };
        let close = if self.new_connections { "Connection: close\r\n" } else { "" };
        format!(
            "GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: meergate-bench\r\n\
             Accept: */*\r\n{close}\r\n"
        )
        .into_bytes()
    }
}

/// Opens `connections` and leaves them idle, each after one request; for what an idle one costs.
///
/// # Errors
/// The first that failed.
pub async fn idle(load: &Load, connections: usize) -> Result<Vec<Link>, String> {
    let request = load.request();
    let mut buffer = vec![0; 64 << 10];
    let mut links = Vec::with_capacity(connections);
    for number in 0..connections {
        let mut link = load.route.open().await.map_err(|error| format!("{number}: {error}"))?;
        exchange(&mut link, &request, &mut buffer, load.body).await?;
        links.push(link);
    }
    Ok(links)
}

async fn connection(load: Load, gate: Arc<Gate>) -> Tally {
    let mut tally = Tally::default();
    let request = load.request();
    let mut buffer = vec![0; 64 << 10];
    let mut link = None;
    while gate.open() {
        let well = tally.one(&gate, transaction(&load, &request, &mut buffer, &mut link)).await;
        if !well {
            link = None;
        }
    }
    tally
}

async fn transaction(
    load: &Load,
    request: &[u8],
    buffer: &mut [u8],
    slot: &mut Option<Link>,
) -> Result<Done, String> {
    let link = match slot {
        Some(link) => link,
        None => slot.insert(load.route.open().await?),
    };
    let (done, closes) = exchange(link, request, buffer, load.body).await?;
    if closes || load.new_connections {
        *slot = None;
    }
    Ok(done)
}

async fn exchange(
    link: &mut Link,
    request: &[u8],
    buffer: &mut [u8],
    body: u64,
) -> Result<(Done, bool), String> {
    link.write_all(request).await.map_err(|error| format!("write: {}", error.kind()))?;
    link.flush().await.map_err(|error| format!("write: {}", error.kind()))?;
    let mut filled = 0;
    let end = loop {
        let n = read(link, &mut buffer[filled..]).await?;
        if n == 0 {
            return Err("closed before the reply".into());
        }
        let from = filled.saturating_sub(3);
        filled += n;
        if let Some(at) = memmem::find(&buffer[from..filled], b"\r\n\r\n") {
            break from + at + 4;
        }
        if filled == buffer.len() {
            return Err("a head without end".into());
        }
    };
    let head = Head::parse(&buffer[..end])?;
    let mut check = Check::default();
    check.take(&buffer[end..filled]);
    match head.framing {
        Framing::Chunked => {
            let mut chunks = Chunks::default();
            check = Check::default();
            let mut ended = chunks.take(&buffer[end..filled], &mut check)?;
            while !ended {
                let n = read(link, buffer).await?;
                if n == 0 {
                    return Err("closed within the body".into());
                }
                ended = chunks.take(&buffer[..n], &mut check)?;
            }
        }
        Framing::Length(length) => {
            while check.seen() < length {
                let n = read(link, buffer).await?;
                if n == 0 {
                    return Err("closed within the body".into());
                }
                check.take(&buffer[..n]);
            }
        }
        Framing::UntilClose => loop {
            match read(link, buffer).await? {
                0 => break,
                n => check.take(&buffer[..n]),
            }
        },
    }
    let done = Done { bytes: check.seen(), right: check.is_exactly(body) };
    Ok((done, head.closes))
}

async fn read(link: &mut Link, buffer: &mut [u8]) -> Result<usize, String> {
    link.read(buffer).await.map_err(|error| format!("read: {}", error.kind()))
}

#[derive(Clone, Copy)]
enum Framing {
    Chunked,
    Length(u64),
    UntilClose,
}

struct Head {
    framing: Framing,
    closes: bool,
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(head).map_err(|_| "a head that is no text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.get(8..12) != Some(" 200") {
            return Err(format!("reply {status}"));
        }
        let mut closes = status.starts_with("HTTP/1.0");
        let mut framing = Framing::UntilClose;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                framing = Framing::Length(value.parse().map_err(|_| "bad Content-Length")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Framing::Chunked;
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.eq_ignore_ascii_case("close");
            }
        }
        closes |= matches!(framing, Framing::UntilClose);
        Ok(Self { framing, closes })
    }
}

/// A chunked body as it arrives.
#[derive(Default)]
struct Chunks {
    line: Vec<u8>,
    left: usize,
    last: bool,
}

impl Chunks {
    fn take(&mut self, mut data: &[u8], check: &mut Check) -> Result<bool, String> {
        while !data.is_empty() {
            if self.left > 0 {
                let (now, rest) = data.split_at(data.len().min(self.left));
                check.take(now);
                self.left -= now.len();
                data = rest;
                continue;
            }
            let Some(at) = memchr::memchr(b'\n', data) else {
                self.line.extend_from_slice(data);
                return Ok(false);
            };
            self.line.extend_from_slice(&data[..at]);
            data = &data[at + 1..];
            let line = std::mem::take(&mut self.line);
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches('\r');
            if text.is_empty() {
                // The end of a chunk, or of the whole.
                if self.last {
                    return if data.is_empty() { Ok(true) } else { Err("bytes after it".into()) };
                }
            } else if !self.last {
                let digits = text.split(';').next().unwrap_or_default().trim();
                self.left = usize::from_str_radix(digits, 16).map_err(|_| "bad chunk line")?;
                self.last = self.left == 0;
            }
        }
        Ok(false)
    }
}
