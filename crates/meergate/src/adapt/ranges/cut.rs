//! Contents of which only some stretches go on.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use icap_client::{Body, BodyError, BodySource, Frame};

use super::answer::ContentRange;
use super::ask::{Part, Span};
use super::multipart::{Boundary, Parts};

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
        self.writer.boundary.as_deref()
    }

    /// How long the whole of it will be, if there are no heads in it.
    fn length(&self) -> Option<u64> {
        match (&self.source, &self.writer.boundary) {
            (Source::One(run), None) => Some(run.spans.iter().map(|s| s.last - s.first + 1).sum()),
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
    ) -> Result<(), &'static str> {
        match &mut self.source {
            Source::One(run) => {
                run.take(&mut data, &self.writer, out);
                if data.is_empty() { Ok(()) } else { Err("more came than Content-Range says") }
            }
            Source::Several(parts) => parts.take(data, &self.writer, out),
        }
    }

    /// Takes that nothing more comes.
    ///
    /// # Errors
    /// Something is missing.
    pub(super) fn end(&self, out: &mut VecDeque<Bytes>) -> Result<(), &'static str> {
        let complete = match &self.source {
            Source::One(run) => run.is_over(),
            Source::Several(parts) => parts.is_complete(),
        };
        if !complete {
            return Err("less came than Content-Range says");
        }
        self.writer.end(out);
        Ok(())
    }
}

/// One range on its way, and the stretches of it that go on.
pub(super) struct Run {
    range: ContentRange,
    kind: Option<Vec<u8>>,
    at: u64,
    spans: VecDeque<Span>,
}

impl Run {
    pub(super) fn new(range: ContentRange, spans: Vec<Span>, kind: Option<Vec<u8>>) -> Self {
        Self { range, kind, at: range.span.first, spans: spans.into() }
    }

    /// Whether all of the range has come.
    pub(super) fn is_over(&self) -> bool {
        self.at > self.range.span.last
    }

    /// Takes what belongs to the range off the front of `data`.
    pub(super) fn take(&mut self, data: &mut Bytes, writer: &Writer, out: &mut VecDeque<Bytes>) {
        while !data.is_empty() && !self.is_over() {
            let (end, wanted) = match self.spans.front() {
                None => (self.range.span.last + 1, None),
                Some(span) if self.at < span.first => (span.first, None),
                Some(span) => (span.last + 1, Some(*span)),
            };
            let most = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(data.len());
            match wanted {
                None => data.advance(most),
                Some(span) => {
                    if self.at == span.first {
                        writer.begin(
                            ContentRange { span, ..self.range },
                            self.kind.as_deref(),
                            out,
                        );
                    }
                    out.push_back(data.split_to(most));
                }
            }
            self.at += most as u64;
            if wanted.is_some() && self.at == end {
                self.spans.pop_front();
            }
        }
    }
}

/// Writes stretches for the client: one by itself, or `multipart/byteranges` (RFC 9110 section
/// 14.6).
pub(super) struct Writer {
    /// Nobody else can know it, so that no content can hold it.
    boundary: Option<String>,
}

impl Writer {
    fn new(several: bool) -> Self {
        let boundary = several.then(|| {
            let random = RandomState::new();
            format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1))
        });
        Self { boundary }
    }

    fn begin(&self, range: ContentRange, kind: Option<&[u8]>, out: &mut VecDeque<Bytes>) {
        let Some(boundary) = &self.boundary else { return };
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        if let Some(kind) = kind {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(kind);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("Content-Range: {range}\r\n\r\n").as_bytes());
        out.push_back(head.into());
    }

    fn end(&self, out: &mut VecDeque<Bytes>) {
        if let Some(boundary) = &self.boundary {
            out.push_back(format!("\r\n--{boundary}--\r\n").into());
        }
    }
}
