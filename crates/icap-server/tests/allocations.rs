//! Memory on the hot path: nothing is allocated for a chunk, nor for a small transaction of a
//! connection that is warm.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use allocation_counter::measure;
use bytes::BytesMut;
use common::{local, reqmod, respmod};
use icap_server::{Config, Echo, Peer, Router, Shutdown, serve_connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sends the same bytes again and again, then ends; swallows what it is told.
struct Repeat {
    bytes: &'static [u8],
    at: usize,
    times: usize,
}

impl AsyncRead for Repeat {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.times > 0 {
            let rest = &self.bytes[self.at..];
            let len = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..len]);
            self.at += len;
            if self.at == self.bytes.len() {
                self.at = 0;
                self.times -= 1;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Repeat {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How often memory is allocated while `transaction` is served `times` times.
fn allocations(transaction: &str, times: usize) -> u64 {
    let bytes: &'static [u8] = transaction.to_owned().leak().as_bytes();
    let serve = |times| {
        local(async {
            let router = Router::new().route("/echo", Echo::new());
            let io = Repeat { bytes, at: 0, times };
            let (config, shutdown) = (Config::default(), Shutdown::new());
            serve_connection(io, BytesMut::new(), Peer::Unix, &router, &config, &shutdown).await;
        });
    };
    // What a connection costs until its buffers have grown is not the question.
    let before = measure(|| serve(times)).count_total;
    measure(|| serve(2 * times)).count_total.saturating_sub(before)
}

#[test]
fn a_small_transaction_allocates_nothing() {
    let body = "400\r\n".to_owned() + &"x".repeat(1024) + "\r\n0\r\n\r\n";
    for transaction in [
        reqmod("/echo", "X-Client-IP: 192.0.2.1\r\n"),
        respmod("X-Client-IP: 192.0.2.1\r\nAllow: 204\r\n") + &body,
        respmod("X-Client-IP: 192.0.2.1\r\n") + &body,
    ] {
        assert_eq!(allocations(&transaction, 1000), 0, "{transaction}");
    }
}

#[test]
fn a_chunk_allocates_nothing() {
    let chunk = "400\r\n".to_owned() + &"x".repeat(1024) + "\r\n";
    for chunks in [100, 1000, 5000] {
        let allocations = allocations(&(respmod("") + &chunk.repeat(chunks) + "0\r\n\r\n"), 10);
        assert!(allocations <= 10 * 5, "{allocations} in 10 transactions of {chunks} chunks");
    }
}
