//! Message bodies as they move between a protocol, this client and the next service.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::Failure;

/// One piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Body bytes, without any transfer framing. Never empty.
    Data(Bytes),
    /// Trailer field lines as they came, each ended by CRLF, without the empty line that closes
    /// them. Always the last frame.
    Trailers(Bytes),
}

/// Where body bytes come from.
///
/// A source is polled by one task at a time and does its own work (reading a socket, driving an
/// ICAP transaction) inside `poll_frame`, so that back-pressure needs no queue.
pub trait BodySource: Send {
    /// The next frame; `None` after the last one. An error is final and means that the message is
    /// incomplete: whoever sends it on must not end it cleanly.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>>;

    /// Bytes of data still to come, if that is certain. A source that states a length fails rather
    /// than yield more or fewer.
    fn exact_length(&self) -> Option<u64> {
        None
    }
}

/// An owned body.
pub type Body = Pin<Box<dyn BodySource>>;

/// Awaits the next frame of a body.
///
/// # Errors
/// As [`BodySource::poll_frame`].
pub async fn next_frame(body: &mut Body) -> Option<Result<Frame, BodyError>> {
    std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await
}

/// A body that is wholly in memory.
#[derive(Clone, Debug, Default)]
pub struct Full {
    chunks: VecDeque<Bytes>,
    trailers: Option<Bytes>,
    length: u64,
}

impl Full {
    /// A body of the given pieces; empty pieces are left out.
    pub fn new(chunks: impl IntoIterator<Item = Bytes>, trailers: Option<Bytes>) -> Self {
        let chunks: VecDeque<Bytes> = chunks.into_iter().filter(|c| !c.is_empty()).collect();
        let length = chunks.iter().map(|c| c.len() as u64).sum();
        Self { chunks, trailers: trailers.filter(|t| !t.is_empty()), length }
    }

    /// A body of one piece.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new([bytes.into()], None)
    }

    /// This body behind the type that messages carry.
    pub fn boxed(self) -> Body {
        Box::pin(self)
    }
}

impl BodySource for Full {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            self.length -= chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::Data(chunk))));
        }
        Poll::Ready(self.trailers.take().map(|t| Ok(Frame::Trailers(t))))
    }

    fn exact_length(&self) -> Option<u64> {
        Some(self.length)
    }
}

/// Why a body ended before its end.
#[derive(Clone, Debug)]
pub struct BodyError {
    cause: Cause,
}

#[derive(Clone, Debug)]
enum Cause {
    Source(Arc<dyn std::error::Error + Send + Sync>),
    Service(Arc<Failure>),
}

impl BodyError {
    /// The sender of the message failed: its connection broke or its framing was wrong.
    pub fn source(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Cause::Source(error.into().into()) }
    }

    /// The ICAP service failed, if it was the service and not the sender.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.cause {
            Cause::Service(failure) => Some(failure),
            Cause::Source(_) => None,
        }
    }
}

impl From<Failure> for BodyError {
    fn from(failure: Failure) -> Self {
        Self { cause: Cause::Service(Arc::new(failure)) }
    }
}

impl From<std::io::Error> for BodyError {
    fn from(error: std::io::Error) -> Self {
        Self::source(error)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Source(e) => write!(f, "the body's sender failed: {e}"),
            Cause::Service(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for BodyError {}
