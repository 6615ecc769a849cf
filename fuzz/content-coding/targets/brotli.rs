//! br: no input panics, cuts make no difference, and what is accepted is what the library's own
//! reader makes of it.
#![no_main]

use content_coding_fuzz::{decode, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((seed, coded)) = split(input) else { return };
    let outcome = decode("br", seed, coded);
    if outcome.whole && !coded.is_empty() {
        let mut plain = Vec::new();
        brotli_decompressor::BrotliDecompress(&mut &coded[..], &mut plain).unwrap();
        assert!(plain == outcome.plain);
    }
});
