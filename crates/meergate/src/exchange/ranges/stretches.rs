//! Stretches of one range, as they go on to the client.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use bytes::{Buf, Bytes};

use super::ask::Span;
use super::content_range::ContentRange;

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

    /// Bytes of it that go on and have not come yet.
    pub(super) fn wanted(&self) -> u64 {
        self.spans.iter().map(|span| span.last - span.first + 1).sum()
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
    pub(super) fn new(several: bool) -> Self {
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

    /// What stands between the stretches, if several may be written.
    pub(super) fn boundary(&self) -> Option<&str> {
        self.boundary.as_deref()
    }

    /// Writes what comes after the last one.
    pub(super) fn end(&self, out: &mut VecDeque<Bytes>) {
        if let Some(boundary) = &self.boundary {
            out.push_back(format!("\r\n--{boundary}--\r\n").into());
        }
    }
}
