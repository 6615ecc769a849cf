//! Fixed transactions in process, for `bench/guards`: under callgrind their instructions are
//! counted, and here their allocations.
//!
//! `guard <name> <times>` does one so many times and prints the allocations a time; without
//! arguments it prints the names.

use std::alloc::System;
use std::io;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use icap_server::{Config, Echo, Peer, Router, Shutdown, serve_connection};
use meergate_bench::load::icap::{Kind, Load};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a browser sends.
const HTTP_REQUEST: &[u8] = b"GET /static/app/main.4f1c9d.js?v=7 HTTP/1.1\r\n\
    Host: www.example.test\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.test/\r\nCookie: session=8f14e45fceea167a5a36dedd4bea2543\r\n\
    Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\
    Connection: keep-alive\r\n\r\n";

/// What an origin answers.
const HTTP_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\
    Date: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: application/javascript\r\n\
    Content-Length: 51432\r\nLast-Modified: Mon, 16 Nov 2026 08:30:00 GMT\r\nETag: \"6558d1f0-c8e8\"\r\n\
    Cache-Control: public, max-age=31536000\r\nAccept-Ranges: bytes\r\n\r\n";

type Guard = (&'static str, fn(usize));

const GUARDS: &[Guard] = &[
    ("http-wire-request-head", |times| {
        let limits = http_wire::Limits::default();
        for _ in 0..times {
            let mut buffer = BytesMut::from(HTTP_REQUEST);
            let head = http_wire::RequestHead::parse(&mut buffer, &limits);
            let head = head.expect("a sound head").expect("a whole head");
            head.framing().expect("a framing");
            assert!(head.keep_alive());
        }
    }),
    ("http-wire-response-head", |times| {
        let limits = http_wire::Limits::default();
        for _ in 0..times {
            let mut buffer = BytesMut::from(HTTP_RESPONSE);
            let head = http_wire::ResponseHead::parse(&mut buffer, &limits);
            let head = head.expect("a sound head").expect("a whole head");
            head.framing(b"GET").expect("a framing");
        }
    }),
    ("http-wire-edit", |times| {
        let limits = http_wire::Limits::default();
        let head = http_wire::RequestHead::from_bytes(HTTP_REQUEST.into(), &limits);
        let head = head.expect("a sound head");
        for _ in 0..times {
            let mut edit = head.edit();
            edit.remove("connection").set("via", "1.1 gate");
            edit.build().expect("a sound head");
        }
    }),
    ("icap-request-head", |times| {
        let limits = icap::Limits::default();
        let wire = request(Kind::Respmod, 0, false);
        for _ in 0..times {
            let mut buffer = BytesMut::from(&wire[..]);
            icap::RequestHead::parse(&mut buffer, &limits).expect("sound").expect("whole");
        }
    }),
    ("icap-server-options", |times| serve(&request(Kind::Options, 0, false), times)),
    ("icap-server-echo-204", |times| serve(&request(Kind::Respmod, 1 << 10, true), times)),
    ("icap-server-echo-1k", |times| serve(&request(Kind::Respmod, 1 << 10, false), times)),
    ("icap-server-echo-1m", |times| serve(&request(Kind::Respmod, 1 << 20, false), times)),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = &arguments[..] else {
        for (name, _) in GUARDS {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    let found = GUARDS.iter().find(|(known, _)| known == name);
    let (Some((_, run)), Ok(times)) = (found, times.parse::<usize>()) else {
        eprintln!("guard: no guard {name}, or no number {times}");
        return ExitCode::FAILURE;
    };
    // What the first one sets up for all is not counted.
    run(1);
    let region = Region::new(ALLOCATOR);
    run(times);
    let change = region.change();
    println!("{}", (change.allocations + change.reallocations) / times.max(1));
    ExitCode::SUCCESS
}

/// A request of the load generator in one piece.
fn request(kind: Kind, body: u64, allow_204: bool) -> Bytes {
    let load = Load {
        server: ([127, 0, 0, 1], 1344).into(),
        paths: ("/echo".into(), "/echo".into()),
        kind,
        body,
        preview: None,
        allow_204,
        tuple: Some(0),
        extra: String::new(),
    };
    load.exchanges(0).iter().flat_map(|exchange| exchange.first.concat()).collect()
}

/// Serves one connection on which `request` comes `times` times.
fn serve(request: &Bytes, times: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let router = Router::new().route("/echo", Echo::new());
    let (config, shutdown) = (Config::default(), Shutdown::new());
    let io = Replay { request: request.clone(), rest: Bytes::new(), left: times };
    runtime.expect("an event loop").block_on(async {
        serve_connection(io, BytesMut::new(), Peer::Unix, &router, &config, &shutdown).await;
    });
}

/// A client that sends the same again and again, in pieces of up to 64 KiB, and takes everything.
struct Replay {
    request: Bytes,
    rest: Bytes,
    left: usize,
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            if self.left == 0 {
                return Poll::Ready(Ok(()));
            }
            self.left -= 1;
            self.rest = self.request.clone();
        }
        let now = self.rest.len().min(buffer.remaining()).min(64 << 10);
        buffer.put_slice(&self.rest[..now]);
        self.rest.advance(now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
