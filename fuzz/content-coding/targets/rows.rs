//! Two and three codings: no input panics, and cuts make no difference. And whatever stands in a
//! field, its codings can be read.
#![no_main]

use content_coding::{Codings, MAX_CODINGS};
use content_coding_fuzz::{decode, split};
use libfuzzer_sys::fuzz_target;

const ROWS: [&str; 8] = [
    "gzip, gzip",
    "deflate, gzip",
    "gzip, deflate",
    "br, gzip",
    "zstd, deflate",
    "gzip, zstd",
    "gzip, deflate, gzip",
    "zstd, br, deflate",
];

fuzz_target!(|input: &[u8]| {
    let Some((seed, coded)) = split(input) else { return };
    decode(ROWS[seed as usize % ROWS.len()], seed, coded);
    if let Ok(codings) = Codings::parse(coded.split(|byte| *byte == b'\n')) {
        assert!(codings.applied().len() <= MAX_CODINGS);
        let tokens: Vec<_> = codings.applied().iter().map(|coding| coding.token()).collect();
        assert_eq!(Codings::parse([tokens.join(", ").as_bytes()]), Ok(codings));
    }
});
