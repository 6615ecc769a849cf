//! The contents of a request and its response as a stream of bytes, where one is spoken in them (RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use icap_client::{Body, Frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::exchange::Sink;

/// One end of it: what its peer says, and what it is told.
pub(crate) struct Content<S> {
    body: Body,
    /// Of the body, what was not read yet.
    ahead: Bytes,
    sink: S,
}

impl<S: Sink> Content<S> {
    pub(crate) fn new(body: Body, sink: S) -> Self {
        Self { body, ahead: Bytes::new(), sink }
    }

    /// Makes sure that the peer does not take what it was told for all.
    pub(crate) fn abort(&mut self) {
        self.sink.abort();
    }
}

impl<S: Sink> AsyncRead for Content<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.ahead.is_empty() {
            match ready!(this.body.as_mut().poll_frame(cx)) {
                None | Some(Ok(Frame::Trailers(_))) => return Poll::Ready(Ok(())),
                Some(Ok(Frame::Data(data))) => this.ahead = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let length = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..length]);
        this.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: Sink> AsyncWrite for Content<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.sink.poll_ready(cx))?;
        this.sink.push(Frame::Data(Bytes::copy_from_slice(bytes)))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().sink.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().sink.poll_end(cx)
    }
}
