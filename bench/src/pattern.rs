//! The one body that all loads send and expect, so that every byte can be checked by place.

use std::sync::LazyLock;

use bytes::Bytes;

/// The body repeats after this many bytes. A prime, so that no buffer size of any program divides
/// it and a piece that arrives at the wrong place differs from the one that belongs there.
const PERIOD: usize = 65_521;

/// The longest piece [`slice()`] gives.
pub const MAX_SLICE: usize = 128 << 10;

/// Letters from a fixed generator: looks like text to matchers, compresses badly, trips no rule.
static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let period: Vec<u8> = (0..PERIOD)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b'a' + u8::try_from(state % 26).expect("below 26")
        })
        .collect();
    period.iter().copied().cycle().take(PERIOD + MAX_SLICE).collect()
});

/// `len` bytes of the body from `offset` on, without copying.
///
/// # Panics
/// When `len` is above [`MAX_SLICE`].
pub fn slice(offset: u64, len: usize) -> Bytes {
    assert!(len <= MAX_SLICE);
    let start = start(offset);
    TEXT.slice(start..start + len)
}

/// The whole body of `len` bytes in pieces of `piece` bytes.
pub fn pieces(len: u64, piece: usize) -> impl Iterator<Item = Bytes> {
    (0..len).step_by(piece).map(move |at| {
        let left = usize::try_from(len - at).unwrap_or(usize::MAX);
        slice(at, left.min(piece))
    })
}

/// Compares a body with the pattern as it arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Check {
    seen: u64,
    wrong: bool,
}

impl Check {
    /// Takes the next bytes of the body.
    pub fn take(&mut self, data: &[u8]) {
        for part in data.chunks(MAX_SLICE) {
            let start = start(self.seen);
            self.wrong |= part != &TEXT[start..start + part.len()];
            self.seen += part.len() as u64;
        }
    }

    /// Whether exactly the body of `len` bytes has been seen.
    pub fn is_exactly(&self, len: u64) -> bool {
        !self.wrong && self.seen == len
    }

    /// How many bytes have been seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

fn start(offset: u64) -> usize {
    usize::try_from(offset % PERIOD as u64).expect("below the period")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_cut_anyhow_is_recognised() {
        let whole: Vec<u8> = pieces(300_000, 70_001).flat_map(Vec::from).collect();
        let mut check = Check::default();
        for part in whole.chunks(777) {
            check.take(part);
        }
        assert!(check.is_exactly(300_000));
    }

    #[test]
    fn a_wrong_byte_and_a_missing_one_are_seen() {
        let mut body = slice(0, 1000).to_vec();
        let mut check = Check::default();
        check.take(&body[1..]);
        assert!(!check.is_exactly(999));
        body[999] ^= 1;
        let mut check = Check::default();
        check.take(&body);
        assert!(!check.is_exactly(1000));
        let mut check = Check::default();
        check.take(&body[..999]);
        assert!(!check.is_exactly(1000));
    }
}
