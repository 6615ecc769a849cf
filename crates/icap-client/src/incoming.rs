//! A body of which a part has been read ahead: what is retried, passed on or replayed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use icap::client::Original;
use tokio::time::timeout;

use crate::comparison::{Compared, Comparison, Side};
use crate::copies::Reserved;
use crate::{Body, BodyError, BodySource, Frame};

/// Pieces in hand, then the rest of a source.
#[derive(Default)]
pub(crate) struct Incoming {
    ahead: Original,
    /// Bytes to drop from the source before its rest is used.
    skip: u64,
    source: Option<Body>,
    /// Memory for what is in hand, and what is still to be copied.
    pub(crate) reserved: Reserved,
}

impl Incoming {
    pub(crate) fn new(source: Body) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// What an exchange took in, followed by the rest of what it came from.
    pub(crate) fn resume(original: Original, rest: Option<Self>, reserved: Reserved) -> Self {
        let mut this = Self { reserved, ..rest.unwrap_or_default() };
        this.put_back(original.chunks);
        if original.ended {
            this.ahead.trailers = original.trailers;
            this.ahead.ended = true;
        }
        this.reserved.shrink_to(this.ahead.len);
        this
    }

    /// This body behind the type that messages carry; the source itself if nothing was read ahead.
    pub(crate) fn into_body(self) -> Body {
        match self {
            Self { ahead, skip: 0, source: Some(source), .. }
                if ahead.chunks.is_empty() && ahead.trailers.is_none() && !ahead.ended =>
            {
                source
            }
            this => Box::pin(this),
        }
    }

    /// `prefix`, then this body from `offset` on. `None` if it is known to be shorter than that.
    pub(crate) fn after(mut self, prefix: Vec<Bytes>, offset: u64) -> Option<Self> {
        let missing = self.ahead.skip(offset);
        let available = match &self.source {
            Some(source) => source.exact_length(),
            None => Some(0),
        };
        let skip = self.skip + missing;
        if available.is_some_and(|available| available < skip) {
            return None;
        }
        self.skip = skip;
        self.put_back(prefix);
        self.reserved.shrink_to(self.ahead.len);
        Some(self)
    }

    /// Has `comparison` know of all that comes of it.
    pub(crate) fn compare(&mut self, side: Side, comparison: &Arc<Comparison>) {
        for chunk in &self.ahead.chunks {
            comparison.add(side, chunk);
        }
        match self.source.take() {
            Some(inner) if !self.ahead.ended => {
                let (skip, comparison) = (self.skip, comparison.clone());
                self.source = Some(Box::pin(Compared { inner, skip, side, comparison }));
            }
            _ => comparison.end(side),
        }
    }

    fn put_back(&mut self, chunks: impl IntoIterator<Item = Bytes, IntoIter: DoubleEndedIterator>) {
        for chunk in chunks.into_iter().rev() {
            self.ahead.len += chunk.len() as u64;
            self.ahead.chunks.push_front(chunk);
        }
    }

    /// Bytes of data still to come, if that is certain.
    pub(crate) fn exact_length(&self) -> Option<u64> {
        let rest = match &self.source {
            _ if self.ahead.ended => 0,
            Some(source) => source.exact_length()?.checked_sub(self.skip)?,
            None => 0,
        };
        Some(self.ahead.len + rest)
    }

    /// Whether all of it is in hand.
    pub(crate) fn is_complete(&self) -> bool {
        self.ahead.ended || self.source.is_none()
    }

    /// Whether it is certain that it ends without trailers.
    pub(crate) fn has_no_trailers(&self) -> bool {
        self.ahead.ended && self.ahead.trailers.is_none()
    }

    /// Bytes in hand.
    pub(crate) fn gathered(&self) -> u64 {
        self.ahead.len
    }

    /// Reads ahead until more than `enough` bytes are in hand, the body has ended, or the source
    /// has had `patience` and nothing to give.
    ///
    /// # Errors
    /// The source's own.
    pub(crate) async fn gather(
        &mut self,
        enough: u64,
        patience: Option<Duration>,
    ) -> Result<(), BodyError> {
        let all = std::future::poll_fn(|cx| self.poll_gather(cx, enough));
        match patience {
            // Too slow is no error: what there is will do.
            Some(patience) => timeout(patience, all).await.unwrap_or(Ok(())),
            None => {
                std::future::poll_fn(|cx| match self.poll_gather(cx, enough) {
                    Poll::Pending => Poll::Ready(Ok(())),
                    ready => ready,
                })
                .await
            }
        }
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>, enough: u64) -> Poll<Result<(), BodyError>> {
        loop {
            // With nothing left to come, one look more tells that the body has ended.
            if self.is_complete() || self.ahead.len > enough {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_source(cx)) {
                Some(Ok(Frame::Data(data))) => self.ahead.push(data),
                Some(Ok(Frame::Trailers(trailers))) => {
                    self.ahead.trailers = Some(trailers);
                    self.ahead.ended = true;
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => self.ahead.ended = true,
            }
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            let Some(source) = &mut self.source else { return Poll::Ready(None) };
            let frame = ready!(source.as_mut().poll_frame(cx));
            match frame {
                Some(Ok(Frame::Data(mut data))) => {
                    let drop = self.skip.min(data.len() as u64);
                    self.skip -= drop;
                    // Lossless: at most the length of a slice.
                    let data = data.split_off(drop as usize);
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::Data(data))));
                    }
                }
                Some(Err(error)) => {
                    self.source = None;
                    return Poll::Ready(Some(Err(error)));
                }
                end => {
                    self.source = None;
                    if self.skip > 0 {
                        let error = "the service refers to bytes beyond the end of the body";
                        return Poll::Ready(Some(Err(BodyError::source(error))));
                    }
                    return Poll::Ready(end);
                }
            }
        }
    }
}

impl BodySource for Incoming {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(chunk) = self.ahead.chunks.pop_front() {
            let left = self.ahead.len - chunk.len() as u64;
            self.ahead.len = left;
            self.reserved.shrink_to(left);
            return Poll::Ready(Some(Ok(Frame::Data(chunk))));
        }
        if let Some(trailers) = self.ahead.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
        }
        if self.ahead.ended {
            return Poll::Ready(None);
        }
        self.poll_source(cx)
    }

    fn exact_length(&self) -> Option<u64> {
        Incoming::exact_length(self)
    }
}
