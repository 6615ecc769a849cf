//! The body of an answer that is still on its way.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use icap::client::Event;

use crate::bypass::Bypassed;
use crate::incoming::Incoming;
use crate::transaction::{Rest, Transaction};
use crate::{BodyError, BodySource, FailureKind, Frame, ServiceMetrics};

/// Drives its transaction whenever it is polled: the original goes to the service, the answer
/// comes from it.
pub(crate) struct Live {
    ahead: VecDeque<Bytes>,
    state: State,
    metrics: Arc<ServiceMetrics>,
}

enum State {
    Running(Box<Transaction>),
    /// A 206: the rest is the original's.
    Original(Incoming),
    Done,
}

impl Live {
    /// `ahead` was received already.
    pub(crate) fn new(
        ahead: Vec<Bytes>,
        transaction: Box<Transaction>,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        Self { ahead: ahead.into(), state: State::Running(transaction), metrics }
    }

    fn end(
        &mut self,
        trailers: Bytes,
        use_original: Option<u64>,
    ) -> Result<Option<Frame>, BodyError> {
        let State::Running(transaction) = std::mem::replace(&mut self.state, State::Done) else {
            return Ok(None);
        };
        let endpoint = transaction.endpoint().clone();
        let unread = transaction.unread_trailers();
        let rest = transaction.finish();
        let Some(offset) = use_original else {
            return Ok((!trailers.is_empty()).then_some(Frame::Trailers(trailers)));
        };
        let original = match rest {
            Rest::Intact(Some(original)) => original.after(Vec::new(), offset),
            Rest::Intact(None) | Rest::Lost => None,
        };
        let original = original.ok_or_else(|| {
            let detail = format!(
                "{} refers to byte {offset} of the original body, which is beyond its end",
                endpoint.label
            );
            let failure = endpoint.failure(FailureKind::Protocol, detail);
            self.metrics.failures(FailureKind::Protocol).add(1);
            BodyError::from(failure)
        })?;
        self.state = State::Original(match unread {
            None => original,
            Some(of) => Bypassed::trailers(original, of, &self.metrics),
        });
        Ok(None)
    }
}

impl BodySource for Live {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let this = &mut *self;
        if let Some(data) = this.ahead.pop_front() {
            return Poll::Ready(Some(Ok(Frame::Data(data))));
        }
        loop {
            let transaction = match &mut this.state {
                State::Running(transaction) => transaction,
                State::Original(original) => return Pin::new(original).poll_frame(cx),
                State::Done => return Poll::Ready(None),
            };
            match ready!(transaction.poll_event(cx)) {
                Ok(Event::Data(data)) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Ok(Event::End { trailers, use_original }) => {
                    match this.end(trailers, use_original) {
                        Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                        Ok(None) => {}
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
                Ok(_) => {}
                Err(trouble) => {
                    let endpoint = transaction.endpoint().clone();
                    this.state = State::Done;
                    let failure = trouble.into_failure(&endpoint);
                    endpoint.note_failure(&failure);
                    this.metrics.failures(failure.kind()).add(1);
                    tracing::warn!(
                        service = %endpoint.service,
                        reason = failure.detail(),
                        "the rest of an adapted message is lost; its transfer is cut off"
                    );
                    return Poll::Ready(Some(Err(failure.into())));
                }
            }
        }
    }
}

/// A body whose length was announced: it ends in an error rather than elsewhere.
pub(crate) struct Announced<B> {
    pub(crate) inner: B,
    pub(crate) left: u64,
}

impl<B: BodySource + Unpin> BodySource for Announced<B> {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let wrong =
            || BodyError::source("the service's body does not have the length its head says");
        match &frame {
            Some(Ok(Frame::Data(data))) => match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(wrong()))),
            },
            None | Some(Ok(Frame::Trailers(_))) if self.left > 0 => {
                self.left = 0;
                return Poll::Ready(Some(Err(wrong())));
            }
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn exact_length(&self) -> Option<u64> {
        Some(self.left)
    }
}
