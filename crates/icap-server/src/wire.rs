//! What connections run over.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use icap::server::Connection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::input;
use crate::output::{Chunk, Output};
use crate::round::Round;
use crate::timer::Timer;
use crate::{Config, TransactError};

/// What a connection needs of its stream, whatever it is.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// What the reading and the writing half of a transaction share: the stream, the protocol's
/// state, what waits to be sent, and the clock. All borrows end before a poll returns.
pub(crate) struct Wire<T: ?Sized = dyn Io> {
    pub(crate) core: RefCell<Connection>,
    pub(crate) output: RefCell<Output>,
    pub(crate) timer: RefCell<Timer>,
    pub(crate) config: Config,
    round: Round,
    io: RefCell<T>,
}

/// How long input may be waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// For the next request, of which nothing has come.
    Idle,
    /// For a body's next chunk, of which nothing has come.
    Silence,
    /// For the rest of a chunk: as long as something moves.
    Stall,
    /// For the rest of the heads.
    Until(Instant),
}

/// Bytes waiting to be sent at which a write is tried.
const WRITE_AT: usize = 32 << 10;

/// Bytes waiting to be sent at which no more are taken.
const FULL_AT: usize = 128 << 10;

/// A connection that has been idle for so long gives its buffers back: it may well be one of ten
/// thousand. A busy one keeps them.
const QUIET_AFTER: Duration = Duration::from_secs(1);

impl<T> Wire<T> {
    pub(crate) fn new(io: T, config: Config) -> Self {
        Self {
            core: RefCell::new(Connection::new(config.limits)),
            output: RefCell::default(),
            timer: RefCell::new(Timer::default()),
            config,
            round: Round::default(),
            io: RefCell::new(io),
        }
    }

    pub(crate) fn into_io(self) -> T {
        self.io.into_inner()
    }
}

impl Wire {
    /// Reads once into `buf`. Before it waits, what waits to be sent is sent, between two requests
    /// with the other replies of the [round](crate::round): so a reply leaves at the latest when
    /// there is nothing else to do, and a client that waits for it is never waited for.
    pub(crate) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        patience: Patience,
    ) -> Poll<Result<(), TransactError>> {
        let idle = matches!(patience, Patience::Idle);
        let read = input::poll_read(cx, Pin::new(&mut *self.io.borrow_mut()), buf, idle);
        if let Poll::Ready(read) = read {
            self.timer.borrow_mut().progress();
            return Poll::Ready(match read {
                Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            });
        }
        if idle {
            match self.output.borrow().waiting() {
                0 => self.round.pass(),
                _ if self.round.may_send(cx) => {}
                _ => return Poll::Pending,
            }
        }
        let flushed = match self.poll_write(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            flushed => flushed.is_ready(),
        };
        let mut timer = self.timer.borrow_mut();
        let expired = match patience {
            Patience::Until(deadline) => timer.poll_until(cx, deadline),
            Patience::Idle if flushed => {
                if timer.poll_stalled(cx, QUIET_AFTER).is_ready() {
                    *buf = BytesMut::new();
                    self.output.borrow_mut().release();
                }
                timer.poll_stalled(cx, self.config.idle_timeout)
            }
            Patience::Silence if flushed => timer.poll_stalled(cx, self.config.silence_timeout),
            Patience::Idle | Patience::Silence | Patience::Stall => {
                timer.poll_stalled(cx, self.config.stall_timeout)
            }
        };
        expired.map(|()| Err(TransactError::Stalled))
    }

    /// Ready when all that waits has been sent.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransactError>> {
        match self.poll_write(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_err(TransactError::Io)),
            Poll::Pending => self.poll_stalled(cx),
        }
    }

    /// Ready when more may be given to send.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransactError>> {
        if self.output.borrow().waiting() < WRITE_AT {
            return Poll::Ready(Ok(()));
        }
        match self.poll_write(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_err(TransactError::Io)),
            Poll::Pending if self.output.borrow().waiting() < FULL_AT => Poll::Ready(Ok(())),
            Poll::Pending => self.poll_stalled(cx),
        }
    }

    /// Appends a chunk, without regard to how much waits already.
    pub(crate) fn put(&self, line: &[u8], data: &[u8]) {
        let mut output = self.output.borrow_mut();
        let buffer = output.buffer();
        buffer.extend_from_slice(line);
        buffer.extend_from_slice(data);
        buffer.extend_from_slice(b"\r\n");
    }

    /// Offers chunks to the stream, without regard to how much waits already. Says how many are
    /// taken, one at least.
    pub(crate) fn send(&self, cx: &mut Context<'_>, chunks: &[Chunk<'_>]) -> io::Result<usize> {
        let mut moved = false;
        let mut io = self.io.borrow_mut();
        let result =
            self.output.borrow_mut().write_through(cx, Pin::new(&mut *io), chunks, &mut moved);
        self.note(moved);
        result
    }

    /// Ready when the stream's writing side is closed.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransactError>> {
        match Pin::new(&mut *self.io.borrow_mut()).poll_shutdown(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_err(TransactError::Io)),
            Poll::Pending => self.poll_stalled(cx),
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut moved = false;
        let mut io = self.io.borrow_mut();
        let result = self.output.borrow_mut().poll_flush(cx, Pin::new(&mut *io), &mut moved);
        self.note(moved);
        result
    }

    fn poll_stalled(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransactError>> {
        let limit = self.config.stall_timeout;
        self.timer.borrow_mut().poll_stalled(cx, limit).map(|()| Err(TransactError::Stalled))
    }

    fn note(&self, moved: bool) {
        if moved {
            self.timer.borrow_mut().progress();
        }
    }
}
