//! One end of an HTTP/1 connection: its stream, what was read ahead, what waits to be written.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::io::{BLOCK, Io, block};

/// Pieces below this are copied together; larger ones are written from where they are.
const SMALL: usize = 4 * 1024;

thread_local! {
    // A waiting connection holds no read buffer: heads arrive here and are copied out exactly.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BLOCK]);
}

/// A connection end shared between the request body, the response body and the loop around them.
/// All of them run in one task, so the lock is never waited for.
#[derive(Clone)]
pub(super) struct SharedWire(Arc<Mutex<Wire>>);

impl SharedWire {
    pub(super) fn new(io: Io, input: BytesMut) -> Self {
        let out = Outbox::default();
        Self(Arc::new(Mutex::new(Wire {
            io,
            input,
            out,
            in_body: false,
            unfinished: false,
            awaits_continue: false,
            broken: false,
            fault: None,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn flush(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.lock().poll_flush(cx)).await
    }

    /// The stream and what was read ahead, if nobody else holds this end any more.
    pub(super) fn into_parts(self) -> Option<(Io, BytesMut)> {
        let wire = Arc::into_inner(self.0)?.into_inner().unwrap_or_else(PoisonError::into_inner);
        Some((wire.io, wire.input))
    }
}

pub(super) struct Wire {
    io: Io,
    pub(super) input: BytesMut,
    pub(super) out: Outbox,
    /// A body has been begun and its end was not read: no head can follow.
    pub(super) in_body: bool,
    /// A message has been begun and its end was not written: no other can follow.
    pub(super) unfinished: bool,
    /// The client holds its content back until it is told 100 (Continue), and was told nothing yet.
    pub(super) awaits_continue: bool,
    /// What was written is not a whole message: the connection must end here.
    pub(super) broken: bool,
    /// What is wrong with the framing of the present body.
    pub(super) fault: Option<http_wire::Error>,
}

impl Wire {
    /// Whether the messages so far have ended, both ways, so that others may follow.
    pub(super) fn is_between_messages(&self) -> bool {
        !self.in_body && !self.unfinished && !self.broken
    }

    /// Reads more input; 0 at the end of the stream. `room` is how much is expected: little data
    /// goes through a shared buffer, much is read in place.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        if room > SMALL * 2 {
            if self.input.is_empty() && self.input.capacity() < BLOCK && room >= BLOCK {
                self.input = block();
            }
            self.input.reserve(room.min(BLOCK));
            return pin!(self.io.read_buf(&mut self.input)).poll(cx);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            self.input.extend_from_slice(buf.filled());
            Poll::Ready(Ok(buf.filled().len()))
        })
    }

    /// Writes all that is queued, down to the socket.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = {
                let slices = self.out.slices();
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What waits to be written: small pieces gathered around at most one large one.
#[derive(Default)]
pub(super) struct Outbox {
    front: BytesMut,
    large: Bytes,
    back: BytesMut,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.large.is_empty() && self.back.is_empty()
    }

    /// Whether it should be flushed before more is put in.
    pub(super) fn is_full(&self) -> bool {
        !self.large.is_empty() || self.front.len() >= BLOCK
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        match self.large.is_empty() {
            true => self.front.extend_from_slice(bytes),
            false => self.back.extend_from_slice(bytes),
        }
    }

    pub(super) fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < SMALL || !self.large.is_empty() {
            self.put(&bytes);
        } else {
            self.large = bytes;
        }
    }

    fn slices(&self) -> [IoSlice<'_>; 3] {
        // Streams without vectored writes take the first slice that is not empty.
        [IoSlice::new(&self.front), IoSlice::new(&self.large), IoSlice::new(&self.back)]
    }

    fn advance(&mut self, mut written: usize) {
        let front = written.min(self.front.len());
        self.front.advance(front);
        written -= front;
        let large = written.min(self.large.len());
        self.large.advance(large);
        written -= large;
        self.back.advance(written.min(self.back.len()));
        if self.front.is_empty() && self.large.is_empty() {
            self.large = Bytes::new();
            self.front = std::mem::take(&mut self.back);
        }
    }
}
