//! Moving content from where it comes to where it goes.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use icap_client::{Body, BodyError, Frame};
use shares::Client;

use super::Sink;
use crate::io::{Turn, give_way};

/// Frames moved before others get their turn.
const BUDGET: usize = 32;
/// Content bytes of one connection or stream, at the four places where they are counted, and apart
/// from them the bytes of trailers.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    counts: [AtomicU64; 4],
    trailers: [AtomicU64; 4],
}

/// A place where content is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    FromClient,
    FromOrigin,
    ToClient,
    ToOrigin,
}

impl Progress {
    pub(crate) fn add(&self, place: Counted, bytes: u64) {
        self.counts[place as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_trailers(&self, place: Counted, bytes: u64) {
        self.trailers[place as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, place: Counted) -> u64 {
        self.counts[place as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn trailers(&self, place: Counted) -> u64 {
        self.trailers[place as usize].load(Ordering::Relaxed)
    }

    /// Grows whenever content moves anywhere.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().map(|c| c.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// Why a pump stopped before its end.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The sink failed: whoever should get the content is gone.
    Sink(io::Error),
    /// The source failed. The sink was told to let its receiver see a cut.
    Source(BodyError),
}

/// Moves a message's content into a sink, to its end.
pub(crate) struct Pump<S> {
    body: Option<Body>,
    ahead: Option<Frame>,
    sink: S,
    counted: Counted,
    failed: Option<BodyError>,
    /// Something of the content was read.
    begun: bool,
    turn: Turn,
}

impl<S: Sink> Pump<S> {
    /// At the expense of the client `party`.
    pub(crate) fn new(body: Option<Body>, sink: S, counted: Counted, party: Client) -> Self {
        let turn = Turn::of(party);
        Self { body, ahead: None, sink, counted, failed: None, begun: false, turn }
    }

    /// The content, if nothing of it was read yet.
    pub(crate) fn into_body(self) -> Option<Body> {
        self.body.filter(|_| !self.begun)
    }

    pub(crate) fn abort(&mut self) {
        self.sink.abort();
    }

    /// Sends the head alone, while the content is held back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.poll_flush(cx)
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<Result<(), Stopped>> {
        if self.failed.is_none() {
            match ready!(self.poll_inner(cx, progress)) {
                Err(Stopped::Source(e)) => self.failed = Some(e),
                Err(e) => {
                    self.sink.abort();
                    return Poll::Ready(Err(e));
                }
                Ok(()) => return Poll::Ready(Ok(())),
            }
        }
        // What came before the failure may be read by the receiver; it just never sees an end.
        let _ = ready!(self.sink.poll_flush(cx));
        self.sink.abort();
        match self.failed.take() {
            Some(e) => Poll::Ready(Err(Stopped::Source(e))),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<Result<(), Stopped>> {
        ready!(self.turn.poll(cx));
        for _ in 0..BUDGET {
            // One frame is read ahead, so that the last one and the end share a write.
            if self.ahead.is_none()
                && let Some(body) = &mut self.body
            {
                match body.as_mut().poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        self.begun = true;
                        self.ahead = Some(frame);
                    }
                    Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(Stopped::Source(e))),
                    Poll::Ready(None) => self.body = None,
                    Poll::Pending => {
                        ready!(self.sink.poll_flush(cx)).map_err(Stopped::Sink)?;
                        return Poll::Pending;
                    }
                }
            }
            if self.ahead.is_none() {
                return self.sink.poll_end(cx).map_err(Stopped::Sink);
            }
            ready!(self.sink.poll_ready(cx)).map_err(Stopped::Sink)?;
            let mut is_over = false;
            if let Some(frame) = self.ahead.take() {
                match &frame {
                    Frame::Data(data) => {
                        progress.add(self.counted, data.len() as u64);
                        is_over = self.turn.moved(data.len());
                    }
                    Frame::Trailers(lines) => {
                        progress.add_trailers(self.counted, lines.len() as u64);
                    }
                }
                self.sink.push(frame).map_err(Stopped::Sink)?;
            }
            if is_over {
                break;
            }
        }
        give_way(cx);
        Poll::Pending
    }
}
