//! One direction of a stream: what was read and shown, and of that what may leave.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::Io;

/// Bytes that are held at most, whatever the services would take: those without a verdict, and those
/// that their receiver does not take.
const MOST_HELD: usize = 256 << 10;

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// In order.
    Closed,
    /// TLS whose connection ended without saying so, as many programs do. It is not known whether
    /// something is missing, so its receiver is not told that it ended in order.
    Silently,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// What was read and has not left, the oldest first. Empty it takes no memory.
    held: BytesMut,
    /// Bytes that have left.
    left: u64,
    unflushed: bool,
    pub(super) ended: Option<Ended>,
    /// Its end has left, too.
    pub(super) closed: bool,
}

/// What came of reading.
pub(super) enum Read<'a> {
    Bytes(&'a [u8]),
    End,
}

impl Lane {
    /// Reads at most `room` bytes, which are held; they are to be shown next.
    pub(super) fn poll_read<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        from: &mut Io,
        room: usize,
        scratch: &mut [u8],
    ) -> Poll<io::Result<Read<'a>>> {
        let room = room.min(MOST_HELD - self.held.len().min(MOST_HELD)).min(scratch.len());
        if room == 0 || self.ended.is_some() {
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(&mut scratch[..room]);
        match ready!(Pin::new(from).poll_read(cx, &mut buffer)) {
            Ok(()) => {}
            // What rustls says of TLS without a close_notify.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.ended = Some(Ended::Silently);
                return Poll::Ready(Ok(Read::End));
            }
            Err(e) => return Poll::Ready(Err(e)),
        }
        let start = self.held.len();
        self.held.extend_from_slice(buffer.filled());
        if self.held.len() == start {
            self.ended = Some(Ended::Closed);
            return Poll::Ready(Ok(Read::End));
        }
        Poll::Ready(Ok(Read::Bytes(&self.held[start..])))
    }

    /// Takes back the last bytes of what was read. They were not shown.
    pub(super) fn take_back(&mut self, length: usize) -> BytesMut {
        self.held.split_off(self.held.len().saturating_sub(length))
    }

    /// Whether all that was read has left.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && !self.unflushed
    }

    /// Writes what lies below `cleared`, counted from the beginning, and the end if that is cleared,
    /// too. Ready with the bytes that were taken, as often as there is something to do.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Io,
        cleared: u64,
        end_cleared: bool,
    ) -> Poll<io::Result<usize>> {
        let may_leave = usize::try_from(cleared.saturating_sub(self.left)).unwrap_or(usize::MAX);
        let may_leave = may_leave.min(self.held.len());
        if may_leave > 0 {
            let taken = ready!(Pin::new(to).poll_write(cx, &self.held[..may_leave]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(taken);
            self.left += taken as u64;
            self.unflushed = true;
            if self.held.is_empty() {
                self.held = BytesMut::new();
            }
            return Poll::Ready(Ok(taken));
        }
        if self.unflushed {
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            self.unflushed = false;
        }
        if end_cleared && self.held.is_empty() && !self.closed {
            if self.ended == Some(Ended::Closed) {
                ready!(Pin::new(to).poll_shutdown(cx))?;
            }
            self.closed = true;
            return Poll::Ready(Ok(0));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn nothing_leaves_that_is_not_cleared() {
        let (mut far, near) = duplex(1 << 20);
        let (mut out_far, out) = duplex(1 << 20);
        let (mut from, mut to): (Io, Io) = (Box::new(near), Box::new(out));
        let mut lane = Lane::default();
        let mut scratch = [0; 100];
        far.write_all(b"0123456789").await.unwrap();
        far.shutdown().await.unwrap();
        for expected in [&b"0123456"[..], b"789", b""] {
            let read = poll_fn(|cx| {
                let read = ready!(lane.poll_read(cx, &mut from, 7, &mut scratch)).unwrap();
                Poll::Ready(match read {
                    Read::Bytes(bytes) => bytes.to_vec(),
                    Read::End => Vec::new(),
                })
            });
            assert_eq!(read.await, expected);
        }
        let mut write = async |cleared, end| {
            poll_fn(|cx| {
                Poll::Ready(lane.poll_write(cx, &mut to, cleared, end).map(Result::unwrap))
            })
            .await
        };
        assert_eq!(write(0, false).await, Poll::Pending);
        assert_eq!(write(4, false).await, Poll::Ready(4));
        assert_eq!(write(4, false).await, Poll::Pending);
        // More may be cleared than was read, where nobody looks.
        assert_eq!(write(u64::MAX, false).await, Poll::Ready(6));
        assert_eq!(write(10, false).await, Poll::Pending);
        assert_eq!(write(10, true).await, Poll::Ready(0));
        let mut all = Vec::new();
        out_far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"0123456789");
        assert!(lane.closed);
    }

    #[tokio::test]
    async fn no_more_is_read_than_may_be_held() {
        let (mut far, near) = duplex(1 << 20);
        let mut from: Io = Box::new(near);
        far.write_all(&vec![0; 1 << 20]).await.unwrap();
        let mut lane = Lane::default();
        let mut scratch = vec![0; 100_000];
        poll_fn(|cx| {
            while lane.poll_read(cx, &mut from, usize::MAX, &mut scratch).is_ready() {}
            Poll::Ready(())
        })
        .await;
        assert_eq!(lane.held.len(), MOST_HELD);
    }
}
