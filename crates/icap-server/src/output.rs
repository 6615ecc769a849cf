//! Bytes on their way to the client, gathered so that they leave in few calls.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// A chunk on its way out: its line, its data, the line end.
pub(crate) type Chunk<'a> = [&'a [u8]; 3];

/// Chunks that one call sends, at most.
pub(crate) const CHUNKS: usize = 4;

/// Bytes on their way out, gathered so that a small reply is one system call.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    /// Written bytes may still rest in the stream (TLS does that).
    unflushed: bool,
}

impl Output {
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting() == 0 && !self.unflushed
    }

    /// Gives back all memory, if nothing waits.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Writes all, and flushes the stream. Says in `moved` whether any byte went out.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        mut io: Pin<&mut (impl AsyncWrite + ?Sized)>,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let written = ready!(io.as_mut().poll_write(cx, &self.bytes[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.count(written);
            *moved = true;
        }
        if self.unflushed {
            ready!(io.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what waits, then `chunks`, in one call and without copying. Says how many of these are
    /// taken: the first in any case, and those of which the stream has taken a byte; what it has not
    /// taken of them is kept.
    pub(crate) fn write_through(
        &mut self,
        cx: &mut Context<'_>,
        io: Pin<&mut (impl AsyncWrite + ?Sized)>,
        chunks: &[Chunk<'_>],
        moved: &mut bool,
    ) -> io::Result<usize> {
        let waiting = &self.bytes[self.sent..];
        let mut slices = [IoSlice::new(waiting); 1 + 3 * CHUNKS];
        let parts = chunks.as_flattened();
        for (slice, part) in slices[1..].iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        let used = slices.len().min(1 + parts.len());
        let mut written = match io.poll_write_vectored(cx, &slices[..used]) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        *moved |= written > 0;
        let from_waiting = written.min(waiting.len());
        self.count(from_waiting);
        written -= from_waiting;
        self.unflushed |= written > 0;
        let mut taken = 0;
        for chunk in chunks {
            if taken > 0 && written == 0 {
                break;
            }
            for part in chunk {
                let from_part = written.min(part.len());
                self.bytes.extend_from_slice(&part[from_part..]);
                written -= from_part;
            }
            taken += 1;
        }
        Ok(taken)
    }

    fn count(&mut self, written: usize) {
        self.unflushed |= written > 0;
        self.sent += written;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes, then no more.
    struct Takes(usize, Vec<u8>);

    impl AsyncWrite for Takes {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut written = 0;
            for buf in bufs {
                let n = buf.len().min(self.0);
                self.1.extend_from_slice(&buf[..n]);
                self.0 -= n;
                written += n;
            }
            if written == 0 { Poll::Pending } else { Poll::Ready(Ok(written)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Wherever the stream stops taking: each chunk goes out whole and once, or is not taken.
    #[test]
    fn what_a_stream_does_not_take_of_several_chunks_is_kept_or_not_taken() {
        let cx = &mut Context::from_waker(Waker::noop());
        let chunks: [Chunk<'_>; 3] = [
            [b"5\r\n", b"first", b"\r\n"],
            [b"6\r\n", b"second", b"\r\n"],
            [b"5\r\n", b"third", b"\r\n"],
        ];
        let wire = chunks.as_flattened().concat();
        let ends: Vec<usize> = (1..=3).map(|n| chunks[..n].as_flattened().concat().len()).collect();
        for waiting in [&b""[..], b"head"] {
            for takes in 0..=waiting.len() + wire.len() {
                let mut output = Output::default();
                output.buffer().extend_from_slice(waiting);
                let mut stream = Takes(takes, Vec::new());
                let mut moved = false;
                let io = Pin::new(&mut stream);
                let taken = output.write_through(cx, io, &chunks, &mut moved).expect("a write");
                assert_eq!(moved, takes > 0);

                let begun = takes.saturating_sub(waiting.len());
                let whole = ends.iter().take_while(|end| **end <= begun).count();
                let at_end = whole > 0 && begun == ends[whole - 1];
                assert_eq!(taken, (whole + usize::from(!at_end)).clamp(1, 3), "{takes}");

                stream.0 = usize::MAX;
                assert!(output.poll_flush(cx, Pin::new(&mut stream), &mut moved).is_ready());
                assert_eq!(stream.1, [waiting, &wire[..ends[taken - 1]]].concat(), "{takes}");
            }
        }
    }
}
