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

/// Content below this is copied to what it is written with.
const SMALL: usize = 256;
/// Content from here on is not gathered any more: it is written at once. Where so much is expected
/// twice over, it is read into a buffer of its own.
const LARGE: usize = 4 * 1024;

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
            reading: Reading::Between,
            writing: Writing::Between,
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
    pub(super) reading: Reading,
    pub(super) writing: Writing,
}

/// How far the messages that are read have come.
pub(super) enum Reading {
    /// All that were begun have ended: another head may follow.
    Between,
    /// In the content of one.
    Content,
    /// In content whose framing is wrong.
    Faulty(http_wire::Error),
    /// Before content that its sender holds back until it is told 100 (Continue); it was told nothing yet.
    HeldBack,
    /// No other may follow: the last one ended with the connection, or with chunks that had to be mended.
    Over,
}

/// How far the messages that are written have come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// All that were begun are written: another may follow.
    Between,
    /// In the midst of one.
    Message,
    /// The connection must end here: with it a message does, or what was written of one is not the whole.
    Over,
}

impl Wire {
    /// Whether the messages so far have ended, both ways, so that others may follow.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.reading, Reading::Between) && self.writing == Writing::Between
    }

    /// Whether content has been begun and its end was not read: no head can follow.
    pub(super) fn is_in_content(&self) -> bool {
        matches!(self.reading, Reading::Content | Reading::Faulty(_) | Reading::HeldBack)
    }

    /// Whether content was held back until now; from here on it is not.
    pub(super) fn release(&mut self) -> bool {
        let held = matches!(self.reading, Reading::HeldBack);
        if held {
            self.reading = Reading::Content;
        }
        held
    }

    /// Reads more input; 0 at the end of the stream. `room` is how much is expected: little data
    /// goes through a shared buffer, much is read in place.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        if room > LARGE * 2 {
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

/// What waits to be written: a head, and one piece of content that is not small, with others copied
/// together around it. Those two stay where they are.
#[derive(Default)]
pub(super) struct Outbox {
    head: Bytes,
    front: BytesMut,
    data: Bytes,
    back: BytesMut,
    /// The receiver did not take all that was offered to it.
    is_cut: bool,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it should be flushed before more is put in.
    pub(super) fn is_full(&self) -> bool {
        self.is_cut || self.data.len() >= LARGE || self.len() >= BLOCK
    }

    fn len(&self) -> usize {
        self.head.len() + self.front.len() + self.data.len() + self.back.len()
    }

    pub(super) fn put_head(&mut self, head: &Bytes) {
        match self.is_empty() {
            true => self.head = head.clone(),
            false => self.put(head),
        }
    }

    /// Puts in a few bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        match self.data.is_empty() {
            true => self.front.extend_from_slice(bytes),
            false => self.back.extend_from_slice(bytes),
        }
    }

    pub(super) fn put_data(&mut self, data: Bytes) {
        if data.len() < SMALL || self.data.len() >= LARGE {
            return self.put(&data);
        }
        self.front.extend_from_slice(&std::mem::replace(&mut self.data, data));
        self.front.extend_from_slice(&std::mem::take(&mut self.back));
    }

    fn slices(&self) -> [IoSlice<'_>; 4] {
        // Streams without vectored writes take the first slice that is not empty.
        [&self.head, &self.front[..], &self.data, &self.back].map(IoSlice::new)
    }

    fn advance(&mut self, written: usize) {
        if written >= self.len() {
            *self = Self::default();
            return;
        }
        self.is_cut = true;
        let written = advance_bytes(&mut self.head, written);
        let written = advance(&mut self.front, written);
        let written = advance_bytes(&mut self.data, written);
        advance(&mut self.back, written);
        if self.head.is_empty() && self.front.is_empty() && self.data.is_empty() {
            self.front = std::mem::take(&mut self.back);
        }
    }
}

/// Takes up to `most` bytes off the front; returns how many there are beyond.
fn advance(piece: &mut impl Buf, most: usize) -> usize {
    let taken = most.min(piece.remaining());
    piece.advance(taken);
    most - taken
}

/// The same. Emptied `Bytes` would still hold their whole allocation.
fn advance_bytes(piece: &mut Bytes, most: usize) -> usize {
    let beyond = advance(piece, most);
    if piece.is_empty() {
        *piece = Bytes::new();
    }
    beyond
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_its_order_however_it_is_written() {
        let lengths = [1, SMALL - 1, SMALL, LARGE - 1, LARGE, 3, SMALL, BLOCK, SMALL];
        for step in [1, 7, SMALL, LARGE, usize::MAX] {
            let (mut outbox, mut expected, mut written) = (Outbox::default(), vec![], vec![]);
            for round in 0..3 {
                let head = Bytes::from(vec![b'0' + round; 300]);
                outbox.put_head(&head);
                expected.extend_from_slice(&head);
                for (letter, length) in (b'a'..).zip(lengths) {
                    let data = Bytes::from(vec![letter; length]);
                    outbox.put(b"<");
                    outbox.put_data(data.clone());
                    outbox.put(b">");
                    expected.extend([b"<", &data[..], b">"].concat());
                    // Part of it, as a socket that has little room would.
                    take(&mut outbox, 2 * step.min(BLOCK / 2), &mut written);
                }
            }
            while !outbox.is_empty() {
                take(&mut outbox, step, &mut written);
            }
            assert!(written == expected, "in steps of {step}");
        }
    }

    fn take(outbox: &mut Outbox, most: usize, written: &mut Vec<u8>) {
        let waiting = outbox.slices().each_ref().map(|slice| &slice[..]).concat();
        let taken = &waiting[..waiting.len().min(most)];
        written.extend_from_slice(taken);
        outbox.advance(taken.len());
    }

    #[test]
    fn small_pieces_are_gathered_and_large_ones_are_not() {
        let mut outbox = Outbox::default();
        let medium = Bytes::from(vec![1; LARGE - 1]);
        let large = Bytes::from(vec![2; LARGE]);
        outbox.put_head(&Bytes::from_static(b"head"));
        outbox.put_data(medium.clone());
        assert!(!outbox.is_full());
        assert_eq!(outbox.data.as_ptr(), medium.as_ptr());
        outbox.put_data(large.clone());
        assert!(outbox.is_full());
        assert_eq!(outbox.data.as_ptr(), large.as_ptr());
        assert_eq!(outbox.front, medium);

        // A receiver that is slow is asked to take the rest first.
        outbox.advance(outbox.len() - 1);
        assert!(outbox.is_full());
        outbox.advance(1);
        assert!(!outbox.is_full());

        let mut outbox = Outbox::default();
        let pieces = (0..).take_while(|_| {
            outbox.put_data(medium.clone());
            !outbox.is_full()
        });
        assert_eq!(pieces.count(), BLOCK / (LARGE - 1));
    }
}
