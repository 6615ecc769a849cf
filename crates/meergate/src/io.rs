//! Byte streams: one boxed type for every kind of connection, and bytes read ahead of it.

mod blocks;
mod relay;
mod socket;
mod turn;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

pub use blocks::{BLOCK, block};
pub use relay::{Direction, RelayEnd, relay};
pub use socket::{Cut, Socket};
pub(crate) use turn::InTurns;
pub use turn::Turn;

/// Wakes the task when the thread's other connections had their turn, those too for which something
/// has come since. A waker that is woken at once would not do: the event loop looks for what came
/// only when nobody is awake, or after many turns.
pub(crate) fn give_way(cx: &mut Context<'_>) {
    // Asking is all that its first poll does.
    let _ = pin!(yield_now()).poll(cx);
}

/// Any two-way byte stream: TCP, TLS over it, or one with bytes put back in front.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A stream whose kind no longer matters.
pub type Io = Box<dyn Stream>;

/// A stream with bytes that were read ahead of time and are to be read again first.
#[derive(Debug)]
pub struct Prefixed<S> {
    prefix: Bytes,
    inner: S,
}

impl<S> Prefixed<S> {
    /// Puts `prefix` in front of what `inner` will deliver.
    pub fn new(prefix: Bytes, inner: S) -> Self {
        Self { prefix, inner }
    }

    /// The bytes not read again yet, and the stream.
    pub fn into_parts(self) -> (Bytes, S) {
        (self.prefix, self.inner)
    }

    /// The stream underneath.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let length = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..length]);
        self.prefix.advance(length);
        if self.prefix.is_empty() {
            // An emptied `Bytes` still holds its whole allocation.
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn whoever_gives_way_lets_those_go_first_for_whom_something_has_come() {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        near.set_nonblocking(true).expect("a socket of the event loop");
        let mut near = UnixStream::from_std(near).expect("a socket of the event loop");
        let waiting = tokio::spawn(async move { near.read_u8().await.expect("a byte") });
        // It waits by now, and the byte is there before the first turn.
        yield_now().await;
        far.write_all(b"x").expect("a byte sent");
        let hungry = tokio::spawn(async move {
            let mut turns = 0;
            let until_it_had_its_turn = poll_fn(|cx| {
                turns += 1;
                match waiting.is_finished() {
                    true => Poll::Ready(()),
                    false => {
                        give_way(cx);
                        Poll::Pending
                    }
                }
            });
            until_it_had_its_turn.await;
            turns
        });
        let turns = hungry.await.expect("the number of turns");
        assert!(turns <= 3, "{turns} turns before the other's first");
    }
}
