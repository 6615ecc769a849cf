//! Streams other than sockets, and what the access log says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use common::{RES, connect, local, reqmod, respmod};
use icap_server::{Config, Echo, Outcome, Peer, Router, Shutdown, serve_connection};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::task::spawn_local;

/// Keeps what is written until it is flushed, as a TLS stream may, and takes little at a time.
struct Reluctant {
    io: DuplexStream,
    kept: Vec<u8>,
}

impl AsyncRead for Reluctant {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Reluctant {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.kept.len() > 1000 {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let len = bytes.len().min(777);
        self.kept.extend_from_slice(&bytes[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.kept.is_empty() {
            let written = ready!(Pin::new(&mut this.io).poll_write(cx, &this.kept))?;
            this.kept.drain(..written);
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[test]
fn a_stream_that_keeps_bytes_until_flushed_is_flushed() {
    local(async {
        let (mut client, far) = duplex(1 << 20);
        let server = spawn_local(async move {
            let router = Router::new().route("/echo", Echo::new());
            let io = Reluctant { io: far, kept: Vec::new() };
            let (config, shutdown) = (Config::default(), Shutdown::new());
            serve_connection(io, BytesMut::new(), Peer::Unix, &router, &config, &shutdown).await
        });
        let body = "8000\r\n".to_owned() + &"x".repeat(0x8000) + "\r\n0\r\n\r\n";
        for _ in 0..3 {
            client.write_all((respmod("") + &body).as_bytes()).await.unwrap();
            let mut reply = Vec::new();
            while !reply.ends_with(b"\r\n0\r\n\r\n") {
                assert!(client.read_buf(&mut reply).await.unwrap() > 0);
            }
            let reply = String::from_utf8(reply).unwrap();
            assert_eq!(reply.matches('x').count(), 0x8000);
            assert!(reply.contains(RES));
        }
        drop(client);
        assert!(matches!(server.await.unwrap(), Outcome::Closed));
    });
}

/// Where a subscriber writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_access_log_has_a_line_for_each_transaction() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("icap_server::access=debug")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        local(async {
            let router = Router::new().route("/echo", Echo::new());
            let mut client = connect(router, Config::default());
            client.send(respmod("") + "5\r\nhello\r\n0\r\n\r\n").await;
            client.send(reqmod("/nobody", "")).await;
            client.send("OPTIONS icap://h/echo ICAP/1.0\r\nConnection: close\r\n\r\n").await;
            client.rest().await;
        });
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, words) in lines.iter().zip([
        ["method=RESPMOD", "uri=\"icap://h/echo\"", "status=200", "body_in=5", "body_out=5"],
        ["method=REQMOD", "uri=\"icap://h/nobody\"", "status=404", "body_in=0", "body_out=0"],
        ["method=OPTIONS", "uri=\"icap://h/echo\"", "status=200", "body_in=0", "body_out=0"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
        assert!(line.contains("microseconds="), "{line}");
    }
}
