//! The body that a client sent, kept for when the answer is that it stays as it was.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces shorter than this are copied together: each would cost its bookkeeping, and keep the whole
/// buffer that it was read into, which may be a thousand times as long. Bytes.
const COPY_BELOW: usize = 4096;
/// Bytes that are copied together, at most.
const TOGETHER: usize = 16 << 10;

/// The beginning of the body that was handed in, for the case that the original goes on: by
/// reference but for short pieces, so that it takes little more memory than it has bytes, however
/// they came.
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

    /// Appends a piece.
    pub fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len() as u64;
        if chunk.len() >= COPY_BELOW {
            self.chunks.push_back(chunk);
            return;
        }
        // The last piece is one that short ones are copied into if nobody else has it, and it fits.
        let fits = self.chunks.back().is_some_and(|last| last.len() + chunk.len() <= TOGETHER);
        let last = fits.then(|| self.chunks.pop_back()).flatten().map(Bytes::try_into_mut);
        let mut together = match last {
            Some(Ok(together)) => together,
            Some(Err(other)) => {
                self.chunks.push_back(other);
                BytesMut::new()
            }
            None => BytesMut::new(),
        };
        together.extend_from_slice(&chunk);
        self.chunks.push_back(together.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_pieces_are_kept_together_and_long_ones_by_reference() {
        let buffer = Bytes::from(vec![7; 64 << 10]);
        let mut original = Original::default();
        let mut whole = Vec::new();
        for round in 0..3_u32 {
            for n in 0..10_000_u32 {
                // Each from a large buffer of its own, as a slow sender's are.
                let piece = buffer.slice(..1 + (n as usize + round as usize) % 3);
                whole.extend_from_slice(&piece);
                original.push(piece);
            }
            let long = buffer.slice(..COPY_BELOW);
            whole.extend_from_slice(&long);
            original.push(long.clone());
            assert_eq!(original.chunks.back().map(|chunk| chunk.as_ptr()), Some(long.as_ptr()));
        }
        assert_eq!(original.len, whole.len() as u64);
        assert_eq!(original.chunks.iter().flatten().copied().collect::<Vec<u8>>(), whole);
        assert!(original.chunks.len() < 12, "{}", original.chunks.len());
    }
}
