//! A scripted ICAP service on a loopback port, and messages to send through it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_wire::{Limits as HttpLimits, RequestHead, ResponseHead};
use icap::{BodyEvent, ChunkDecoder, Limits, Method};
use icap_client::{
    Adapted, AdaptedResponse, Body, BodyError, Chain, Frame, Full, ServiceConfig, Span,
    TransactionInfo, next_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bounds how long a failing test hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const OPTIONS_204: &str = "Methods: REQMOD, RESPMOD\r\nISTag: \"t\"\r\nAllow: 204\r\n";
pub const OPTIONS_206: &str = "Methods: REQMOD, RESPMOD\r\nISTag: \"t\"\r\nAllow: 204, 206\r\n";
pub const OPTIONS_PREVIEW: &str = "Methods: REQMOD, RESPMOD\r\nISTag: \"t\"\r\nAllow: 204, 206\r\nPreview: 1024\r\nTransfer-Preview: *\r\n";

/// The service's end of one connection.
pub struct Peer {
    pub stream: TcpStream,
    pub buf: BytesMut,
    /// Connections accepted before this one.
    pub number: usize,
}

/// A request as the service received it.
#[derive(Debug, Default)]
pub struct Received {
    pub head: icap::Headers,
    pub method: Option<Method>,
    pub uri: String,
    pub raw: String,
    pub preview: Option<u64>,
    pub req_hdr: Bytes,
    pub res_hdr: Bytes,
    pub has_body: bool,
    pub body: Vec<u8>,
    pub trailers: Bytes,
    /// The preview ended without the body.
    pub at_preview_end: bool,
    pub ieof: bool,
    /// Every chunk size line, as it came.
    pub chunk_lines: Vec<String>,
    decoder: Option<ChunkDecoder>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.get(name).map(|v| String::from_utf8_lossy(v).into_owned())
    }
}

impl Peer {
    /// Reads one request up to its body.
    pub async fn head(&mut self) -> Option<Received> {
        loop {
            let before = self.buf.clone();
            if let Some(head) = icap::RequestHead::parse(&mut self.buf, &Limits::default()).unwrap()
            {
                let raw = before[..before.len() - self.buf.len()].to_vec();
                let parts = head.encapsulated();
                while self.buf.len() < parts.heads_len() {
                    self.more().await?;
                }
                let req_hdr = self.buf.split_to(parts.req_hdr.unwrap_or(0)).freeze();
                let res_hdr = self.buf.split_to(parts.res_hdr.unwrap_or(0)).freeze();
                return Some(Received {
                    method: Some(head.method()),
                    uri: head.uri().to_owned(),
                    raw: String::from_utf8(raw).unwrap(),
                    preview: head.preview(),
                    req_hdr,
                    res_hdr,
                    has_body: parts.body.follows(),
                    decoder: parts
                        .body
                        .follows()
                        .then(|| ChunkDecoder::new(head.preview().is_some(), &Limits::default())),
                    head: head.headers().clone(),
                    ..Received::default()
                });
            }
            self.more().await?;
        }
    }

    /// Reads body to its end, or to the end of the preview; returns false if the client went.
    pub async fn body(&mut self, request: &mut Received) -> bool {
        while let Some(true) = self.piece(request).await {}
        request.decoder.as_ref().is_none_or(|d| d.is_done() || d.at_preview_end())
    }

    /// Reads one piece of body. False at its end or its preview's end.
    pub async fn piece(&mut self, request: &mut Received) -> Option<bool> {
        let Some(decoder) = &mut request.decoder else { return Some(false) };
        loop {
            match decoder.next(&mut self.buf).unwrap() {
                Some(BodyEvent::Data(len)) => {
                    request.body.extend_from_slice(&self.buf.split_to(len));
                    return Some(true);
                }
                Some(BodyEvent::PreviewEnd) => {
                    request.at_preview_end = true;
                    return Some(false);
                }
                Some(BodyEvent::End { ieof, trailers, .. }) => {
                    request.ieof = ieof;
                    request.trailers = trailers;
                    return Some(false);
                }
                None => {
                    let mut chunk = [0; 16384];
                    match self.stream.read(&mut chunk).await {
                        Ok(n) if n > 0 => self.buf.extend_from_slice(&chunk[..n]),
                        _ => return None,
                    }
                }
            }
        }
    }

    /// A whole request; at a preview's end, the preview.
    pub async fn request(&mut self) -> Option<Received> {
        let mut request = self.head().await?;
        self.body(&mut request).await.then_some(request)
    }

    /// Asks for the rest after a preview and reads it.
    pub async fn go_on(&mut self, request: &mut Received) {
        self.send("ICAP/1.0 100 Continue\r\n\r\n").await;
        if let Some(decoder) = &mut request.decoder {
            decoder.resume();
        }
        self.body(request).await;
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A client that has gone is for the test to notice.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Answers OPTIONS requests itself and returns the next other one.
    pub async fn after_options(&mut self, options: &str) -> Option<Received> {
        loop {
            let request = self.request().await?;
            if request.method != Some(Method::Options) {
                return Some(request);
            }
            self.send(options_reply(options)).await;
        }
    }

    /// Reads until the client closes.
    pub async fn drain(&mut self) {
        let mut chunk = [0; 16384];
        while matches!(self.stream.read(&mut chunk).await, Ok(1..)) {}
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.buf).await {
            Ok(n) if n > 0 => Some(()),
            _ => None,
        }
    }
}

pub fn options_reply(lines: &str) -> String {
    format!("ICAP/1.0 200 OK\r\n{lines}Encapsulated: null-body=0\r\n\r\n")
}

pub const PASS: &str = "ICAP/1.0 204 No Content\r\nISTag: \"t\"\r\n\r\n";

/// A 200 that carries this message: an HTTP head, and a body if there is one.
pub fn reply(kind: &str, head: &str, body: Option<&[u8]>) -> Vec<u8> {
    reply_with("", kind, head, body)
}

pub fn reply_with(lines: &str, kind: &str, head: &str, body: Option<&[u8]>) -> Vec<u8> {
    let part = if body.is_some() { format!("{kind}-body") } else { "null-body".into() };
    let mut out = format!(
        "ICAP/1.0 200 OK\r\nISTag: \"t\"\r\n{lines}Encapsulated: {kind}-hdr=0, {part}={}\r\n\r\n{head}",
        head.len()
    )
    .into_bytes();
    if let Some(body) = body {
        icap::encode_chunk(&mut out, body);
        out.extend_from_slice(b"0\r\n\r\n");
    }
    out
}

/// The message that came, sent back whole.
pub fn echo(request: &Received) -> Vec<u8> {
    let (kind, head) = match request.method {
        Some(Method::Respmod) => ("res", &request.res_hdr),
        _ => ("req", &request.req_hdr),
    };
    let head = std::str::from_utf8(head).unwrap();
    reply(kind, head, request.has_body.then_some(&request.body[..]))
}

/// 204 where it is allowed, else the message.
pub fn pass(request: &Received) -> Vec<u8> {
    match request.header("Allow") {
        Some(allow) if allow.contains("204") => PASS.into(),
        _ => echo(request),
    }
}

pub struct Server {
    pub addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub fn url(&self) -> String {
        format!("icap://{}/svc", self.addr)
    }

    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves each connection with `script`.
pub async fn serve<F, Fut>(script: F) -> Server
where
    F: Fn(Peer) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let number = counter.fetch_add(1, Ordering::SeqCst);
            connections.spawn(script(Peer { stream, buf: BytesMut::new(), number }));
        }
    });
    Server { addr, accepted, task }
}

/// Serves OPTIONS with `options` and every other request with `script`, connection kept.
pub async fn serve_requests<F, Fut>(options: &'static str, script: F) -> Server
where
    F: Fn(Peer, Received) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Option<Peer>> + Send + 'static,
{
    let script = Arc::new(script);
    serve(move |mut peer| {
        let script = script.clone();
        async move {
            while let Some(request) = peer.after_options(options).await {
                match script(peer, request).await {
                    Some(next) => peer = next,
                    None => return,
                }
            }
        }
    })
    .await
}

pub fn config(server: &Server) -> ServiceConfig {
    let mut config = ServiceConfig::new("svc", server.url());
    config.timeouts.preview = Span(Duration::from_secs(5));
    config
}

pub fn chain(server: &Server) -> Chain {
    Chain::from_services(&[config(server)]).unwrap()
}

pub fn info() -> TransactionInfo {
    TransactionInfo::new("http", "connection-1", "transaction-1")
}

pub fn get() -> RequestHead {
    request("GET /a.txt HTTP/1.1\r\nHost: o.test\r\n\r\n")
}

pub fn post(length: usize) -> RequestHead {
    request(&format!("POST /a.txt HTTP/1.1\r\nHost: o.test\r\nContent-Length: {length}\r\n\r\n"))
}

pub fn ok(length: usize) -> ResponseHead {
    response(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))
}

pub fn request(text: &str) -> RequestHead {
    RequestHead::from_bytes(Bytes::copy_from_slice(text.as_bytes()), &HttpLimits::default())
        .unwrap()
}

pub fn response(text: &str) -> ResponseHead {
    ResponseHead::from_bytes(Bytes::copy_from_slice(text.as_bytes()), &HttpLimits::default())
        .unwrap()
}

/// Bytes that no two places share.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

pub fn full(bytes: &[u8]) -> Option<Body> {
    Some(Full::from_bytes(bytes.to_vec()).boxed())
}

/// A body of frames that come by a channel, of unknown length unless it ends: what a test sends
/// is what the client can read.
pub struct Channel {
    receiver: tokio::sync::mpsc::Receiver<Result<Frame, BodyError>>,
}

impl icap_client::BodySource for Channel {
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        self.receiver.poll_recv(cx)
    }
}

pub type Frames = tokio::sync::mpsc::Sender<Result<Frame, BodyError>>;

pub fn channel() -> (Frames, Option<Body>) {
    channel_of(1024)
}

pub fn channel_of(frames: usize) -> (Frames, Option<Body>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(frames);
    (sender, Some(Box::pin(Channel { receiver })))
}

pub fn data(bytes: &[u8]) -> Result<Frame, BodyError> {
    Ok(Frame::Data(Bytes::copy_from_slice(bytes)))
}

/// All data of a body, and its trailers.
pub async fn collect(body: Option<Body>) -> Result<(Vec<u8>, Option<Bytes>), BodyError> {
    let mut bytes = Vec::new();
    let mut trailers = None;
    let Some(mut body) = body else { return Ok((bytes, None)) };
    let all = async {
        while let Some(frame) = next_frame(&mut body).await {
            match frame? {
                Frame::Data(data) => {
                    assert!(!data.is_empty());
                    bytes.extend_from_slice(&data);
                }
                Frame::Trailers(lines) => trailers = Some(lines),
            }
        }
        Ok::<_, BodyError>(())
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the body must end")?;
    Ok((bytes, trailers))
}

/// Sends a request, whatever comes of it.
pub async fn reqmod(
    chain: &Chain,
    head: RequestHead,
    body: Option<Body>,
) -> Result<Adapted, icap_client::Failure> {
    let info = info();
    let outcome = tokio::time::timeout(PATIENCE, chain.reqmod(&info, head, body)).await;
    outcome.expect("an outcome in time")
}

pub struct Forwarded {
    pub head: RequestHead,
    pub body: Vec<u8>,
    pub trailers: Option<Bytes>,
    pub changed: bool,
    pub bypassed: usize,
}

/// Sends a request that must go on.
pub async fn forward(chain: &Chain, head: RequestHead, body: Option<Body>) -> Forwarded {
    forward_as(chain, &info(), head, body).await
}

pub async fn forward_as(
    chain: &Chain,
    info: &TransactionInfo,
    head: RequestHead,
    body: Option<Body>,
) -> Forwarded {
    let adapted = tokio::time::timeout(PATIENCE, chain.reqmod(info, head, body)).await;
    match adapted.expect("an outcome in time").expect("no failure") {
        Adapted::Forward { head, body, changed, trail } => {
            let (body, trailers) = collect(body).await.expect("a whole body");
            Forwarded { head, body, trailers, changed, bypassed: trail.bypassed().count() }
        }
        Adapted::Respond { head, .. } => panic!("answered instead: {:?}", head.bytes()),
    }
}

pub async fn respmod(chain: &Chain, head: ResponseHead, body: Option<Body>) -> AdaptedResponse {
    let (info, request) = (info(), get());
    let adapted = chain.respmod(&info, &request, head, body);
    let adapted = tokio::time::timeout(PATIENCE, adapted).await;
    adapted.expect("an outcome in time").expect("no failure")
}
