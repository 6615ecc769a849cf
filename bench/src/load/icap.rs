//! ICAP load: OPTIONS, REQMOD, RESPMOD or pairs, over kept connections.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Done, Effort, Gate, Sample, Tally, Watched, press};
use crate::load::icap_reply::{Reply, Step};
use crate::pattern;

/// Body bytes in one chunk of what is sent.
const CHUNK: usize = 64 << 10;

/// Requests up to this size leave in one piece, as a client with a buffer would send them.
const JOINED: usize = 16 << 10;

/// What each transaction consists of.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// OPTIONS of the service.
    Options,
    /// A REQMOD without body, then a RESPMOD, on the same connection.
    Pair,
    /// REQMOD of a GET.
    Reqmod,
    /// RESPMOD of a page.
    Respmod,
}

/// An ICAP load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the server listens.
    pub server: SocketAddr,
    /// Path of the service for REQMOD and RESPMOD, with its slash.
    pub paths: (String, String),
    /// What each transaction consists of.
    pub kind: Kind,
    /// Body bytes of a RESPMOD.
    pub body: u64,
    /// `Preview`, bytes.
    pub preview: Option<usize>,
    /// Whether `Allow: 204` is sent.
    pub allow_204: bool,
    /// The tuple and the ids that Meergate sends are sent, if any, so that an inspector sees one flow
    /// a connection; the number keeps the flows of one run apart from those of the next.
    pub tuple: Option<u32>,
    /// ICAP header lines that are sent besides, each with its CRLF.
    pub extra: String,
}

/// One request on the wire, and what must come back.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Pieces up to the end, or up to the end of the preview.
    pub first: Vec<Bytes>,
    /// Pieces after `100 Continue`.
    pub rest: Vec<Bytes>,
    /// Body bytes that a 200 must bring back.
    pub body: u64,
    /// Body bytes that leave before the server says `100 Continue`.
    cut: u64,
}

impl Load {
    /// Runs the load and counts.
    pub fn run(&self, effort: &Effort, watched: &Watched) -> Sample {
        let load = self.clone();
        press(effort, watched, move |number, gate| connection(load.clone(), number, gate))
    }

    /// The exchanges that make up one transaction of connection `number`.
    pub fn exchanges(&self, number: usize) -> Vec<Exchange> {
        match self.kind {
            Kind::Options => vec![self.options()],
            Kind::Reqmod => vec![self.reqmod(number)],
            Kind::Respmod => vec![self.respmod(number)],
            Kind::Pair => vec![self.reqmod(number), self.respmod(number)],
        }
    }

    fn options(&self) -> Exchange {
        let uri = self.uri(&self.paths.1);
        let head = format!(
            "OPTIONS {uri} ICAP/1.0\r\nHost: {}\r\nEncapsulated: null-body=0\r\n\r\n",
            self.server
        );
        Exchange { first: vec![head.into()], rest: vec![], body: 0, cut: 0 }
    }

    fn reqmod(&self, number: usize) -> Exchange {
        let request = http_request();
        let uri = self.uri(&self.paths.0);
        let common = self.common(number, false);
        let head = format!(
            "REQMOD {uri} ICAP/1.0\r\n{common}Encapsulated: req-hdr=0, null-body={}\r\n\r\n{request}",
            request.len()
        );
        Exchange { first: vec![head.into()], rest: vec![], body: 0, cut: 0 }
    }

    fn respmod(&self, number: usize) -> Exchange {
        let (request, response) = (http_request(), http_response(self.body));
        let uri = self.uri(&self.paths.1);
        let common = self.common(number, true);
        let head = format!(
            "RESPMOD {uri} ICAP/1.0\r\n{common}Encapsulated: req-hdr=0, res-hdr={}, res-body={}\r\n\
             \r\n{request}{response}",
            request.len(),
            request.len() + response.len()
        );
        let preview = self.preview.map(|bytes| bytes as u64);
        let cut = preview.map_or(self.body, |preview| preview.min(self.body));
        let mut first = vec![Bytes::from(head)];
        first.extend(chunks(0, cut));
        let whole = cut == self.body;
        let ieof = whole && preview.is_some();
        first.push(Bytes::from_static(if ieof { b"0; ieof\r\n\r\n" } else { b"0\r\n\r\n" }));
        let mut rest = vec![];
        if !whole {
            rest.extend(chunks(cut, self.body));
            rest.push(Bytes::from_static(b"0\r\n\r\n"));
        }
        Exchange { first: joined(first), rest: joined(rest), body: self.body, cut }
    }

    fn uri(&self, path: &str) -> String {
        format!("icap://{}{path}", self.server)
    }

    fn common(&self, number: usize, with_body: bool) -> String {
        let mut text = format!("Host: {}\r\n{}", self.server, self.extra);
        if self.allow_204 {
            text += "Allow: 204\r\n";
        }
        if let (Some(preview), true) = (self.preview, with_body) {
            text += &format!("Preview: {preview}\r\n");
        }
        if let Some(run) = self.tuple {
            let port = 10_000 + number;
            text += &format!(
                "X-Client-IP: 10.1.0.2\r\nX-Client-Port: {port}\r\nX-Server-IP: 192.0.2.80\r\n\
                 X-Server-Port: 80\r\nX-Proto: http\r\nX-Connection-Id: {run}-{port}\r\n\
                 X-Transaction-Id: {run}-{port}-1\r\n"
            );
        }
        text
    }
}

/// The request of every encapsulated transaction.
pub fn http_request() -> &'static str {
    "GET http://origin.test/file HTTP/1.1\r\nHost: origin.test\r\nUser-Agent: meergate-bench\r\n\
     Accept: */*\r\n\r\n"
}

/// The head of every encapsulated response with `body` bytes.
pub fn http_response(body: u64) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {body}\r\n\r\n"
    )
}

fn chunks(from: u64, to: u64) -> impl Iterator<Item = Bytes> {
    (from..to).step_by(CHUNK).flat_map(move |at| {
        let len = usize::try_from(to - at).unwrap_or(usize::MAX).min(CHUNK);
        let head = Bytes::from(format!("{len:x}\r\n"));
        [head, pattern::slice(at, len), Bytes::from_static(b"\r\n")]
    })
}

fn joined(pieces: Vec<Bytes>) -> Vec<Bytes> {
    if pieces.len() > 1 && pieces.iter().map(Bytes::len).sum::<usize>() <= JOINED {
        vec![pieces.concat().into()]
    } else {
        pieces
    }
}

async fn connection(load: Load, number: usize, gate: Arc<Gate>) -> Tally {
    let mut tally = Tally::default();
    let mut caller = Caller::new(load, number);
    while gate.open() {
        tally.one(&gate, caller.call()).await;
    }
    tally
}

/// One connection, with one transaction at a time.
#[derive(Debug)]
pub struct Caller {
    load: Load,
    exchanges: Vec<Exchange>,
    link: Option<Link>,
}

impl Caller {
    /// Not connected yet.
    pub fn new(load: Load, number: usize) -> Self {
        let exchanges = load.exchanges(number);
        Self { load, exchanges, link: None }
    }

    /// One transaction.
    ///
    /// # Errors
    /// It failed, for the reason given; the next call begins with a new connection.
    pub async fn call(&mut self) -> Result<Done, String> {
        // Put back only when it went well, and dropped when the caller gives up.
        let mut link = self.link.take();
        let done = transaction(&self.load, &self.exchanges, &mut link).await?;
        self.link = link;
        Ok(done)
    }
}

async fn transaction(
    load: &Load,
    exchanges: &[Exchange],
    slot: &mut Option<Link>,
) -> Result<Done, String> {
    let mut done = Done { bytes: 0, right: true };
    for exchange in exchanges {
        let link = match slot {
            Some(link) => link,
            None => slot.insert(Link::open(load.server).await?),
        };
        let answer = Pending::new(link, exchange).await?;
        // A 204 stands for the body as sent; a 200 must bring it back.
        done.right &= answer.right;
        done.bytes += answer.bytes;
        if answer.closes {
            *slot = None;
        }
    }
    Ok(done)
}

/// A connection and what was read from it.
#[derive(Debug)]
struct Link {
    stream: TcpStream,
    buffer: Box<[u8]>,
}

impl Link {
    async fn open(server: SocketAddr) -> Result<Self, String> {
        let connect = tokio::time::timeout(Duration::from_secs(10), TcpStream::connect(server));
        let stream = connect
            .await
            .map_err(|_| "connect: no answer".to_owned())?
            .map_err(|error| format!("connect: {}", error.kind()))?;
        stream.set_nodelay(true).map_err(|error| format!("nodelay: {}", error.kind()))?;
        Ok(Self { stream, buffer: vec![0; 128 << 10].into() })
    }
}

/// One exchange under way. It writes and reads at once, since a server that answers while it reads
/// would otherwise be waited for by a client that waits for it.
struct Pending<'a> {
    link: &'a mut Link,
    exchange: &'a Exchange,
    continued: bool,
    piece: usize,
    offset: usize,
    reply: Reply,
    answer: Option<Answer>,
}

#[derive(Clone, Copy)]
struct Answer {
    right: bool,
    /// Body bytes that were sent.
    bytes: u64,
    closes: bool,
}

impl<'a> Pending<'a> {
    fn new(link: &'a mut Link, exchange: &'a Exchange) -> Self {
        let reply = Reply::default();
        Self { link, exchange, continued: false, piece: 0, offset: 0, reply, answer: None }
    }

    fn pieces(&self) -> &'a [Bytes] {
        if self.continued { &self.exchange.rest } else { &self.exchange.first }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        const AT_ONCE: usize = 32;
        while self.piece < self.pieces().len() {
            let left = &self.pieces()[self.piece..];
            let mut slices = [IoSlice::new(&[]); AT_ONCE];
            let count = left.len().min(AT_ONCE);
            for (slice, piece) in slices.iter_mut().zip(left) {
                *slice = IoSlice::new(piece);
            }
            slices[0] = IoSlice::new(&left[0][self.offset..]);
            let stream = Pin::new(&mut self.link.stream);
            let mut written = ready!(stream.poll_write_vectored(cx, &slices[..count]))
                .map_err(|error| format!("write: {}", error.kind()))?;
            while written > 0 {
                let rest = self.pieces()[self.piece].len() - self.offset;
                if written < rest {
                    self.offset += written;
                    break;
                }
                written -= rest;
                self.piece += 1;
                self.offset = 0;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        while self.answer.is_none() {
            let mut buffer = ReadBuf::new(&mut self.link.buffer);
            ready!(Pin::new(&mut self.link.stream).poll_read(cx, &mut buffer))
                .map_err(|error| format!("read: {}", error.kind()))?;
            let data = buffer.filled();
            if data.is_empty() {
                return Poll::Ready(Err("closed before the reply ended".into()));
            }
            match self.reply.take(data)? {
                Step::More => {}
                Step::Continue => {
                    if self.continued || self.exchange.rest.is_empty() {
                        return Poll::Ready(Err("100 Continue that nobody waits for".into()));
                    }
                    (self.continued, self.piece, self.offset) = (true, 0, 0);
                    return Poll::Ready(Ok(()));
                }
                Step::End { closes } => {
                    let right = self.reply.is_right(self.exchange.body)?;
                    let bytes = if self.continued { self.exchange.body } else { self.exchange.cut };
                    self.answer = Some(Answer { right, bytes, closes });
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Future for Pending<'_> {
    type Output = Result<Answer, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let written = self.poll_write(cx)?;
            let read = self.poll_read(cx)?;
            match (written, read, self.answer) {
                (Poll::Ready(()), Poll::Ready(()), Some(answer)) => return Poll::Ready(Ok(answer)),
                // Continued: the rest waits to be written.
                (_, Poll::Ready(()), None) => {}
                _ => return Poll::Pending,
            }
        }
    }
}
