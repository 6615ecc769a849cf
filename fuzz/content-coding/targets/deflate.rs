//! deflate: no input panics, cuts make no difference, and what is accepted is what another inflater
//! makes of it.
#![no_main]

use content_coding_fuzz::{ENOUGH, decode, split};
use libfuzzer_sys::fuzz_target;
use miniz_oxide::inflate::{decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit};

fuzz_target!(|input: &[u8]| {
    let Some((seed, coded)) = split(input) else { return };
    let outcome = decode("deflate", seed, coded);
    let raw = decompress_to_vec_with_limit(coded, 2 * ENOUGH).ok();
    let zlib = decompress_to_vec_zlib_with_limit(coded, 2 * ENOUGH).ok();
    if outcome.whole && !coded.is_empty() {
        let plain = Some(outcome.plain);
        assert!(plain == zlib || zlib.is_none() && plain == raw);
        // Never is one of two contents chosen.
        assert!(zlib.is_none() || raw.is_none());
    }
});
