//! zstd: no input panics, cuts make no difference, and what is accepted is what another library
//! makes of it.
#![no_main]

use content_coding_fuzz::{ENOUGH, decode, split};
use libfuzzer_sys::fuzz_target;
use ruzstd::decoding::FrameDecoder;

fuzz_target!(|input: &[u8]| {
    let Some((seed, coded)) = split(input) else { return };
    let outcome = decode("zstd", seed, coded);
    if outcome.whole {
        let mut plain = vec![0; 2 * ENOUGH];
        // Clients have libzstd, as we have. The other library refuses some of what it takes, such as
        // a compressed block without a byte.
        if let Ok(length) = FrameDecoder::new().decode_all(coded, &mut plain) {
            assert!(plain[..length] == outcome.plain);
        }
    }
});
