//! What origins serve: bytes that can be made again for comparison, and the test signature.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// `length` bytes that only depend on `seed`, without structure that compresses or matches a rule.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The EICAR test file. Put together here, so that no scanner takes this source for it.
pub fn eicar() -> Vec<u8> {
    [&br"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR"[..], b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"].concat()
}

/// Noise of `length` bytes with the EICAR string at `offset`.
///
/// # Panics
/// When it doesn't fit.
pub fn infected(seed: u64, length: usize, offset: usize) -> Vec<u8> {
    let mut bytes = noise(seed, length);
    let eicar = eicar();
    bytes[offset..offset + eicar.len()].copy_from_slice(&eicar);
    bytes
}

/// Whether the EICAR string is in `bytes`.
pub fn has_eicar(bytes: &[u8]) -> bool {
    let eicar = eicar();
    bytes.windows(eicar.len()).any(|window| window == eicar)
}

/// `bytes` as gzip.
///
/// # Panics
/// Never: memory takes every write.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes every write");
    encoder.finish().expect("memory takes every write")
}
