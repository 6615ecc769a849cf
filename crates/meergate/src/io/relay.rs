//! Bytes passed both ways between two streams, unread: for bypassed connections and upgrades.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::{BLOCK, Stream, Turn, give_way};

thread_local! {
    // One buffer a thread instead of two a connection: what a slow peer does not take at once
    // is copied out, so idle relays hold no memory.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BLOCK]);
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both sides ended their streams.
    Finished,
    /// Nothing moved in either direction for the given time.
    Idle,
    /// One of the connections failed.
    Failed(io::Error),
}

/// Passes bytes between `client` and `server` until both ends are done, one fails, or nothing
/// moves for `idle`; in turns, at the expense of `turn`'s client. An end of stream is handed on by shutting down the other side's writing half.
///
/// `count` is called for each piece with its direction and length in bytes, as it is passed on.
pub async fn relay<C, S, F>(
    client: &mut C,
    server: &mut S,
    idle: Duration,
    mut turn: Turn,
    mut count: F,
) -> RelayEnd
where
    C: Stream + ?Sized,
    S: Stream + ?Sized,
    F: FnMut(Direction, usize),
{
    let mut up = Pipe::default();
    let mut down = Pipe::default();
    let timer = sleep(idle);
    tokio::pin!(timer);
    poll_fn(|cx| {
        ready!(turn.poll(cx));
        let mut moved = 0;
        let up = up.poll(cx, Pin::new(&mut *client), Pin::new(&mut *server), &mut |n| {
            moved += n;
            count(Direction::ToServer, n);
        });
        let down = down.poll(cx, Pin::new(&mut *server), Pin::new(&mut *client), &mut |n| {
            moved += n;
            count(Direction::ToClient, n);
        });
        match (up, down) {
            (Poll::Ready(Err(e)), _) | (_, Poll::Ready(Err(e))) => {
                return Poll::Ready(RelayEnd::Failed(e));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(RelayEnd::Finished),
            _ => {}
        }
        if moved > 0 {
            turn.moved(moved);
            timer.as_mut().reset(Instant::now() + idle);
        }
        poll_idle(timer.as_mut(), cx)
    })
    .await
}

fn poll_idle(timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<RelayEnd> {
    timer.poll(cx).map(|()| RelayEnd::Idle)
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    pending: Bytes,
    ended: bool,
    unflushed: bool,
    closed: bool,
}

impl Pipe {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        count: &mut dyn FnMut(usize),
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        // A fast pair must not starve the other direction or the other tasks of this thread.
        for _ in 0..16 {
            while !self.pending.is_empty() {
                let n = ready!(to.as_mut().poll_write(cx, &self.pending))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.pending.advance(n);
                self.unflushed = true;
                count(n);
            }
            self.pending = Bytes::new();
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                ready!(to.as_mut().poll_shutdown(cx))?;
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            match self.poll_piece(cx, from.as_mut(), to.as_mut(), count)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    if self.unflushed {
                        ready!(to.as_mut().poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        give_way(cx);
        Poll::Pending
    }

    /// Reads one piece and writes as much of it as is taken at once.
    fn poll_piece<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: Pin<&mut R>,
        to: Pin<&mut W>,
        count: &mut dyn FnMut(usize),
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(from.poll_read(cx, &mut buf))?;
            let data = buf.filled();
            if data.is_empty() {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            let taken = match to.poll_write(cx, data) {
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => 0,
            };
            if taken > 0 {
                self.unflushed = true;
                count(taken);
            }
            if taken < data.len() {
                self.pending = Bytes::copy_from_slice(&data[taken..]);
            }
            Poll::Ready(Ok(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn turn() -> Turn {
        Turn::of(IpAddr::from(Ipv4Addr::LOCALHOST).into())
    }

    #[tokio::test]
    async fn passes_both_ways_and_hands_on_the_end() {
        let (mut client_far, mut client) = duplex(10);
        let (mut server_far, mut server) = duplex(7);
        let relayed = tokio::spawn(async move {
            let mut counted = (0, 0);
            let end =
                relay(&mut client, &mut server, Duration::from_secs(30), turn(), |d, n| match d {
                    Direction::ToServer => counted.0 += n,
                    Direction::ToClient => counted.1 += n,
                })
                .await;
            (matches!(end, RelayEnd::Finished), counted)
        });
        let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            client_far.write_all(&sent).await.unwrap();
            client_far.shutdown().await.unwrap();
            let mut reply = Vec::new();
            client_far.read_to_end(&mut reply).await.unwrap();
            reply
        });
        let mut received = Vec::new();
        server_far.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        server_far.write_all(b"and back").await.unwrap();
        drop(server_far);
        assert_eq!(writer.await.unwrap(), b"and back");
        assert_eq!(relayed.await.unwrap(), (true, (100_000, 8)));
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_nothing_moves() {
        let (_client_far, mut client) = duplex(10);
        let (_server_far, mut server) = duplex(10);
        let end = relay(&mut client, &mut server, Duration::from_secs(60), turn(), |_, _| {}).await;
        assert!(matches!(end, RelayEnd::Idle));
    }
}
