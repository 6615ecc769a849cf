//! A connection to an origin, of which the ServerHello is kept as it came.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flight::{Progress, ServerFlight};

/// A connection, and the ServerHello that came on it.
#[derive(Debug)]
pub struct Recorded<S> {
    inner: S,
    record: Record,
}

#[derive(Debug)]
enum Record {
    /// What came until now.
    Awaited {
        bytes: Vec<u8>,
        flight: ServerFlight,
    },
    Hello(Vec<u8>),
    /// None came, or it was taken.
    Nothing,
}

impl<S> Recorded<S> {
    /// Records what comes on `inner` from here on.
    pub fn new(inner: S) -> Self {
        let record = Record::Awaited { bytes: Vec::new(), flight: ServerFlight::default() };
        Self { inner, record }
    }

    /// The ServerHello, with its header, if one came that can be read. Nothing is recorded any more.
    pub fn take_hello(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.record, Record::Nothing) {
            Record::Hello(hello) => Some(hello),
            Record::Awaited { .. } | Record::Nothing => None,
        }
    }
}

impl Record {
    fn add(&mut self, came: &[u8]) {
        let Self::Awaited { bytes, flight } = self else { return };
        bytes.extend_from_slice(came);
        let read = loop {
            match flight.read(bytes) {
                // Asked for another one by the TLS library, which says it.
                Ok(Progress::Retry) => {}
                other => break other,
            }
        };
        match (flight.hello(), read) {
            (Some(hello), _) => *self = Self::Hello(hello.to_vec()),
            (None, Ok(Progress::Partial | Progress::Retry)) => {}
            (None, Ok(Progress::Complete) | Err(_)) => *self = Self::Nothing,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.record.add(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
