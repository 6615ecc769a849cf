//! Streams other than sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use common::{RES, local, respmod};
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
