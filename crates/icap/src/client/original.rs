use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// The beginning of the body that was handed in, for the case that the original goes on: by
/// reference, never copied.
#[derive(Clone, Debug, Default)]
pub struct Original {
    /// The pieces in order.
    pub chunks: VecDeque<Bytes>,
    /// Bytes of all pieces.
    pub len: u64,
    /// The trailers, raw lines, if the body has ended with some.
    pub trailers: Option<Bytes>,
    /// Whether the body ends with these pieces; otherwise its source has more.
    pub ended: bool,
}

impl Original {
    /// Drops up to `count` bytes from the front and returns how many it did not have: those are
    /// still to be dropped from what the source yields.
    pub fn skip(&mut self, mut count: u64) -> u64 {
        while let Some(first) = self.chunks.front_mut() {
            let len = first.len() as u64;
            if count < len {
                // Lossless: count is below the length of a slice.
                first.advance(count as usize);
                self.len -= count;
                return 0;
            }
            count -= len;
            self.len -= len;
            self.chunks.pop_front();
        }
        count
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len() as u64;
        self.chunks.push_back(chunk);
    }
}
