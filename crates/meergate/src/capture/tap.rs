//! A stream whose bytes are captured as they pass.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flow::{Flow, Side};

/// A stream whose bytes are captured as they pass.
#[derive(Debug)]
pub struct Tap<S> {
    inner: S,
    flow: Flow,
    /// Who speaks in what is read.
    far: Side,
}

impl<S> Tap<S> {
    /// A stream at whose other end is the client.
    pub(crate) fn of_client(inner: S, flow: Flow) -> Self {
        Self { inner, flow, far: Side::Client }
    }

    /// A stream at whose other end is the server.
    pub(crate) fn of_server(inner: S, flow: Flow) -> Self {
        Self { inner, flow, far: Side::Server }
    }

    fn near(&self) -> Side {
        match self.far {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = &polled {
            let far = self.far;
            match &buf.filled()[before..] {
                [] if buf.remaining() > 0 => self.flow.end(far),
                data => self.flow.data(far, data),
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let near = self.near();
        self.flow.end(near);
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(written)) = &polled {
            let (near, mut left) = (self.near(), *written);
            for buf in bufs {
                let taken = left.min(buf.len());
                self.flow.data(near, &buf[..taken]);
                left -= taken;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
