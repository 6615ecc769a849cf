//! Contents of which only some stretches go on.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use icap_client::{Body, BodyError, BodySource, Frame};

use super::ask::{Part, Span};
use super::content_range::ContentRange;
use super::misfit::Misfit;
use super::multipart::{Boundary, Parts};
use super::stretches::{Run, Writer};

/// Frames looked at before others get their turn, if none of them holds anything for the client.
const BUDGET: usize = 32;

/// A part's content as the client gets it. All of the inner one is read; what goes on last waits
/// until the inner one has ended well.
pub(super) struct Cutter {
    inner: Body,
    pieces: Pieces,
    /// What goes on; the last of it may not yet.
    out: VecDeque<Bytes>,
    /// Bytes still to go on, if that is certain.
    left: Option<u64>,
    ended: bool,
}

impl Cutter {
    pub(super) fn new(inner: Body, pieces: Pieces) -> Self {
        let left = pieces.length();
        Self { inner, pieces, out: VecDeque::new(), left, ended: false }
    }
}

impl BodySource for Cutter {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let this = self.get_mut();
        for _ in 0..BUDGET {
            if (this.ended || this.out.len() > 1)
                && let Some(data) = this.out.pop_front()
            {
                this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                return Poll::Ready(Some(Ok(Frame::Data(data))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let taken = match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) => this.pieces.take(data, &mut this.out),
                // They are about the content that came.
                Some(Ok(Frame::Trailers(_))) => Ok(()),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => {
                    this.ended = true;
                    this.pieces.end(&mut this.out)
                }
            };
            if let Err(wrong) = taken {
                this.out.clear();
                let e = std::io::Error::new(std::io::ErrorKind::InvalidData, wrong);
                return Poll::Ready(Some(Err(BodyError::source(e))));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn exact_length(&self) -> Option<u64> {
        self.left
    }
}

/// What is cut out of what, and how it is written.
pub(super) struct Pieces {
    source: Source,
    writer: Writer,
}

enum Source {
    One(Run),
    Several(Parts),
}

impl Pieces {
    /// Stretches of one range, whose content is of this `kind`.
    pub(super) fn of_one(range: ContentRange, spans: Vec<Span>, kind: Option<Vec<u8>>) -> Self {
        let writer = Writer::new(spans.len() > 1);
        Self { source: Source::One(Run::new(range, spans, kind)), writer }
    }

    /// What is wanted of several ranges.
    pub(super) fn of_several(part: Part, boundary: Boundary) -> Self {
        Self { source: Source::Several(Parts::new(part, boundary)), writer: Writer::new(true) }
    }

    /// What stands between the parts, if several may be written.
    pub(super) fn boundary(&self) -> Option<&str> {
        self.writer.boundary()
    }

    /// How long the whole of it will be, if there are no heads in it.
    fn length(&self) -> Option<u64> {
        match (&self.source, self.writer.boundary()) {
            (Source::One(run), None) => Some(run.wanted()),
            _ => None,
        }
    }

    /// Takes what comes next.
    ///
    /// # Errors
    /// It is not what was announced.
    pub(super) fn take(
        &mut self,
        mut data: Bytes,
        out: &mut VecDeque<Bytes>,
    ) -> Result<(), Misfit> {
        match &mut self.source {
            Source::One(run) => {
                run.take(&mut data, &self.writer, out);
                if data.is_empty() { Ok(()) } else { Err(Misfit::More) }
            }
            Source::Several(parts) => parts.take(data, &self.writer, out),
        }
    }

    /// Takes that nothing more comes.
    ///
    /// # Errors
    /// Something is missing.
    pub(super) fn end(&self, out: &mut VecDeque<Bytes>) -> Result<(), Misfit> {
        let complete = match &self.source {
            Source::One(run) => run.is_over(),
            Source::Several(parts) => parts.is_complete(),
        };
        if !complete {
            return Err(Misfit::Less);
        }
        self.writer.end(out);
        Ok(())
    }
}
