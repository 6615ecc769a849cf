//! gzip: no input panics, cuts make no difference, and what is accepted is what a reader that was
//! written for this test, over another inflater, makes of it.
#![no_main]

use content_coding_fuzz::{decode, split};
use libfuzzer_sys::fuzz_target;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

fuzz_target!(|input: &[u8]| {
    let Some((seed, coded)) = split(input) else { return };
    let outcome = decode("gzip", seed, coded);
    if outcome.whole {
        assert!(members(coded).as_ref() == Some(&outcome.plain));
    }
});

fn members(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    while rest.iter().any(|byte| *byte != 0) {
        let flags = *rest.get(3)?;
        let mut at = 10;
        if flags & 4 != 0 {
            at += 2 + usize::from(u16::from_le_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                at += rest.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
            }
        }
        at += usize::from(flags & 2);
        let (member, used) = inflate(rest.get(at..)?)?;
        let trailer = rest.get(at + used..at + used + 8)?;
        assert_eq!(trailer[4..], (member.len() as u32).to_le_bytes());
        plain.extend(member);
        rest = &rest[at + used + 8..];
    }
    Some(plain)
}

/// The content, and how many bytes it was made from.
fn inflate(coded: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut plain = vec![0; 2 << 20];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut state = DecompressorOxide::new();
    let (status, used, length) = decompress(&mut state, coded, &mut plain, 0, flags);
    plain.truncate(length);
    (status as i32 == 0).then_some((plain, used))
}
