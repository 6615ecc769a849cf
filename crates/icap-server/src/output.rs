use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

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

    /// Sends what waits, then `parts`, in one call and without copying; what the stream does not
    /// take is kept.
    pub(crate) fn write_through(
        &mut self,
        cx: &mut Context<'_>,
        io: Pin<&mut (impl AsyncWrite + ?Sized)>,
        parts: [&[u8]; 3],
        moved: &mut bool,
    ) -> io::Result<()> {
        let waiting = &self.bytes[self.sent..];
        let [a, b, c] = parts;
        let slices = [waiting, a, b, c].map(IoSlice::new);
        let mut written = match io.poll_write_vectored(cx, &slices) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        *moved |= written > 0;
        let from_waiting = written.min(waiting.len());
        self.count(from_waiting);
        written -= from_waiting;
        self.unflushed |= written > 0;
        for part in parts {
            let from_part = written.min(part.len());
            self.bytes.extend_from_slice(&part[from_part..]);
            written -= from_part;
        }
        Ok(())
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
