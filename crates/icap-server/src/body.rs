//! The body of a request, as a service reads it.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use icap::Headers;
use icap::server::RequestEvent;

use crate::TransactError;
use crate::wire::{Patience, Wire};

/// The reading half of a transaction: the request's body, piece by piece as it comes.
pub struct BodyReader<'a> {
    wire: &'a Wire,
    buf: &'a mut BytesMut,
    /// Bytes at the front of `buf` that the last event lent out.
    lent: usize,
    read: u64,
    /// Whether anything of the body, be it framing, may have been taken off `buf`.
    asked: bool,
}

/// What comes next in a request's body.
#[derive(Debug)]
pub enum BodyEvent<'a> {
    /// Bytes of the body, at least one; lent until the next call, without a copy.
    Data(&'a [u8]),
    /// The body is over. Again and again if asked again.
    End {
        /// Fields after the last chunk; mostly none.
        trailers: Headers,
    },
    /// The preview is over and did not hold the whole body: the client waits for an answer.
    /// Again and again until [`Reply::continue_`](crate::Reply::continue_).
    PreviewEnd,
}

impl<'a> BodyReader<'a> {
    pub(crate) fn new(wire: &'a Wire, buf: &'a mut BytesMut) -> Self {
        Self { wire, buf, lent: 0, read: 0, asked: false }
    }

    /// Waits for the next event. Before it waits for input it sends what the reply has gathered.
    /// Cancel safe.
    ///
    /// # Errors
    /// `Protocol` if the body is malformed, `Stalled` if it does not come, `Io` if the connection
    /// broke or ended. Pass them on.
    pub async fn next(&mut self) -> Result<BodyEvent<'_>, TransactError> {
        let event = poll_fn(|cx| self.poll_step(cx)).await?;
        self.lend(event)
    }

    /// As [`next`](Self::next), for a service that drives several things in one future. Data that
    /// an earlier call returned is gone with this one.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BodyEvent<'_>, TransactError>> {
        let event = ready!(self.poll_step(cx))?;
        Poll::Ready(self.lend(event))
    }

    /// Bytes of body returned so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Whether the body was never asked for: all of it is still to come.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.asked
    }

    /// Takes off the bytes lent last, at the end of the transaction.
    pub(crate) fn release(&mut self) {
        self.buf.advance(self.lent);
        self.lent = 0;
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<RequestEvent, TransactError>> {
        self.release();
        self.asked = true;
        loop {
            let mut core = self.wire.core.borrow_mut();
            let event = core.body(self.buf)?;
            let patience = match core.is_between_chunks() && self.buf.is_empty() {
                true => Patience::Silence,
                false => Patience::Stall,
            };
            drop(core);
            if let Some(event) = event {
                if let RequestEvent::Data(len) = event {
                    self.lent = len;
                    self.read += len as u64;
                }
                return Poll::Ready(Ok(event));
            }
            ready!(self.wire.poll_fill(cx, self.buf, patience))?;
        }
    }

    fn lend(&self, event: RequestEvent) -> Result<BodyEvent<'_>, TransactError> {
        Ok(match event {
            RequestEvent::Data(len) => BodyEvent::Data(&self.buf[..len]),
            RequestEvent::End { trailers } if trailers.is_empty() => {
                BodyEvent::End { trailers: Headers::new() }
            }
            RequestEvent::End { trailers } => BodyEvent::End {
                trailers: Headers::parse_lines(&trailers, &self.wire.config.limits)?,
            },
            RequestEvent::PreviewEnd => BodyEvent::PreviewEnd,
        })
    }
}
