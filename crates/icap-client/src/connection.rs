//! One connection to an endpoint, between and during transactions.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use alarm::Alarm;
use bytes::BytesMut;
use icap::client::Output;
use shares::Share;
use tokio::io::AsyncWrite;
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

use crate::ServiceMetrics;
use crate::pool::Slot;
use crate::transport::{Connector, Stream};

/// Room that a read has in bytes: enough for answers without content, which is all that an idle
/// connection still holds.
const READ_ROOM: usize = 4 * 1024;
/// Room once a read has filled that, and bytes that are reserved at a time then.
const CONTENT_ROOM: usize = 16 * 1024;
const CONTENT_BLOCK: usize = 64 * 1024;
/// Segments of one write.
const SEGMENTS: usize = 64;

pub(crate) struct Connection {
    stream: Stream,
    /// Bytes received and not yet understood.
    pub(crate) input: BytesMut,
    pub(crate) peer: Option<SocketAddr>,
    /// The event loop that it was opened on, which stays the one that wakes whoever uses it.
    pub(crate) home: Id,
    pub(crate) idle_since: Instant,
    /// Whether it has served a transaction before.
    pub(crate) reused: bool,
    /// A read has filled its room: content is coming.
    content: bool,
    alarm: Alarm,
    metrics: Arc<ServiceMetrics>,
    /// The part of its client's share that it is, while it serves one.
    pub(crate) share: Option<Share>,
    /// Last: who waits for a connection looks at the shares when it is given back.
    _slot: Slot,
}

impl Connection {
    pub(crate) fn new(
        stream: Stream,
        peer: Option<SocketAddr>,
        slot: Slot,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        metrics.connections_opened.add(1);
        metrics.connections.add(1);
        Self {
            stream,
            input: BytesMut::new(),
            peer,
            home: Handle::current().id(),
            idle_since: Instant::now(),
            reused: false,
            content: false,
            alarm: Alarm::default(),
            metrics,
            share: None,
            _slot: slot,
        }
    }

    /// Writes as much of `output` as the stream takes in one go; at least one byte.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        output: &mut Output,
    ) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); SEGMENTS];
        let count = output.fill(&mut slices);
        let stream = Pin::new(&mut self.stream);
        let written = ready!(stream.poll_write_vectored(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.metrics.sent_bytes.add(written as u64);
        output.advance(written);
        Poll::Ready(Ok(()))
    }

    /// Hands what was written to the peer, where the transport keeps some back (TLS).
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Reads once into `input`; 0 means that the peer has closed.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (room, block) = match self.content {
            true => (CONTENT_ROOM, CONTENT_BLOCK),
            false => (READ_ROOM, 2 * READ_ROOM),
        };
        if self.input.capacity() - self.input.len() < room {
            self.input.reserve(block);
        }
        let before = self.input.len();
        let read =
            std::pin::pin!(tokio::io::AsyncReadExt::read_buf(&mut self.stream, &mut self.input));
        let result = ready!(Future::poll(read, cx));
        let count = self.input.len() - before;
        self.content |= count >= READ_ROOM;
        self.metrics.received_bytes.add(count as u64);
        Poll::Ready(result)
    }

    /// Lets go of what only a transaction needs.
    pub(crate) fn rest(&mut self) {
        self.idle_since = Instant::now();
        self.content = false;
        self.share = None;
        if self.input.capacity() > 2 * READ_ROOM {
            self.input = BytesMut::new();
        }
    }

    /// Whether it can serve another transaction: not kept for longer than `keep`, to an address
    /// that is still the service's, open, and nothing unasked has come.
    pub(crate) fn is_usable(&mut self, keep: Duration, connector: &Connector) -> bool {
        self.idle_since.elapsed() <= keep
            && connector.is_current(self.peer)
            && self.input.is_empty()
            && self.poll_read(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Ready when `deadline` has passed.
    pub(crate) fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.alarm.poll(cx, deadline)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.connections.add(-1);
    }
}
