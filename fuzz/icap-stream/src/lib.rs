//! What the fuzz targets share.

/// Splits fuzz input into a seed for cuts and the bytes to be cut.
pub fn split(input: &[u8]) -> Option<(u64, &[u8])> {
    let (seed, bytes) = input.split_first_chunk()?;
    Some((u64::from_le_bytes(*seed), bytes))
}

/// Lengths of pieces, from a seed: mostly small, now and then large.
pub struct Cuts(u64);

impl Cuts {
    /// A sequence that `seed` determines.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }
}

impl Iterator for Cuts {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bits = self.0 % 11;
        Some(1 + (self.0 >> 32) as usize % (1 << bits))
    }
}
