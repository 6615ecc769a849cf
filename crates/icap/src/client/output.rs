//! What a client sends, in pieces that need no copy.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Data shorter than this is copied next to its framing: one more segment costs more.
const COPY_BELOW: usize = 256;
/// Framing is cut from blocks of this size, so that a chunk costs no allocation.
const BLOCK: usize = 4096;

/// Segments that wait to be written, in order.
#[derive(Debug, Default)]
pub struct Output {
    segments: VecDeque<Bytes>,
    /// Framing and small data that is not yet a segment of its own.
    tail: BytesMut,
    len: usize,
}

impl Output {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Points `slices` at the first segments and returns how many of them were set.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let segments = self.segments.iter().map(|s| &s[..]).chain(Some(&self.tail[..]));
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(segments.filter(|s| !s.is_empty())) {
            *slice = IoSlice::new(segment);
            count += 1;
        }
        count
    }

    /// Forgets `count` bytes that have been written; more than wait are taken as all.
    pub fn advance(&mut self, count: usize) {
        let mut count = count.min(self.len);
        self.len -= count;
        while let Some(first) = self.segments.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.segments.pop_front();
        }
        self.tail.advance(count);
    }

    /// Appends bytes, by reference if there are enough of them.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.len() < COPY_BELOW {
            self.put(&bytes);
            return;
        }
        self.len += bytes.len();
        self.seal();
        self.segments.push_back(bytes);
    }

    /// Appends a copy of bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.seal();
            self.tail.reserve(BLOCK.max(bytes.len()));
        }
        self.tail.put_slice(bytes);
    }

    /// Forgets everything that waits.
    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.tail.clear();
        self.len = 0;
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.segments.push_back(self.tail.split().freeze());
        }
    }
}
