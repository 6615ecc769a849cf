//! A server on a pipe, and a client that says exactly what it is told.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use icap_server::{Config, Outcome, Peer, Router, Routes, Shutdown, serve_connection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

/// Long enough for a machine with better things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    pub(crate) io: DuplexStream,
    pub(crate) server: JoinHandle<Outcome<DuplexStream>>,
    pub(crate) shutdown: Shutdown,
    seen: BytesMut,
}

/// Runs `test` on a current-thread runtime, where connections can be spawned.
pub(crate) fn local<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(PATIENCE, test).await.expect("in time") })
}

/// As [`local`], with a clock that jumps to the next deadline when nothing else is left to do.
pub(crate) fn in_no_time<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// A client of a server with `router`, over a pipe that holds 64 KiB each way.
pub(crate) fn connect<R: Routes + 'static>(router: Router<R>, config: Config) -> Client {
    let (io, far) = duplex(64 << 10);
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let server = spawn_local(async move {
        serve_connection(far, BytesMut::new(), Peer::Unix, &router, &config, &stop).await
    });
    Client { io, server, shutdown, seen: BytesMut::new() }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads up to and including `end`.
    pub(crate) async fn read_to(&mut self, end: &str) -> String {
        loop {
            let found = self.seen.windows(end.len()).position(|w| w == end.as_bytes());
            if let Some(at) = found {
                let text = self.seen.split_to(at + end.len());
                return String::from_utf8_lossy(&text).into_owned();
            }
            let read = self.io.read_buf(&mut self.seen).await.unwrap();
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Reads a head.
    pub(crate) async fn head(&mut self) -> String {
        self.read_to("\r\n\r\n").await
    }

    /// What has come and was not read.
    pub(crate) fn waiting(&mut self) -> String {
        let mut read = [0; 4096];
        let mut more = ReadBuf::new(&mut read);
        let mut cx = Context::from_waker(Waker::noop());
        if Pin::new(&mut self.io).poll_read(&mut cx, &mut more).is_ready() {
            self.seen.extend_from_slice(more.filled());
        }
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Reads all until the server closes.
    pub(crate) async fn rest(&mut self) -> String {
        while self.io.read_buf(&mut self.seen).await.unwrap() > 0 {}
        String::from_utf8_lossy(&self.seen.split()).into_owned()
    }

    /// Whether the connection still serves.
    pub(crate) async fn still_serves(&mut self) {
        self.send("OPTIONS icap://h/echo ICAP/1.0\r\n\r\n").await;
        let head = self.head().await;
        assert!(head.starts_with("ICAP/1.0 200 OK\r\n"), "{head}");
        assert!(head.contains("Methods: "), "{head}");
    }
}

/// An HTTP request head and a response head.
pub(crate) const REQ: &str = "GET http://o/f HTTP/1.1\r\nHost: o\r\n\r\n";
pub(crate) const RES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";

/// A RESPMOD head with further ICAP fields (each ending in CRLF) and both HTTP heads.
pub(crate) fn respmod(fields: &str) -> String {
    format!(
        "RESPMOD icap://h/echo ICAP/1.0\r\nHost: h\r\n{fields}\
         Encapsulated: req-hdr=0, res-hdr={}, res-body={}\r\n\r\n{REQ}{RES}",
        REQ.len(),
        REQ.len() + RES.len()
    )
}

/// A REQMOD without a body, to `path`.
pub(crate) fn reqmod(path: &str, fields: &str) -> String {
    format!(
        "REQMOD icap://h{path} ICAP/1.0\r\nHost: h\r\n{fields}\
         Encapsulated: req-hdr=0, null-body={}\r\n\r\n{REQ}",
        REQ.len()
    )
}
