//! What makes a content wrong, or two at once.

use content_coding::Coding;
use fastrand::Rng;
use zlib_rs::adler32::adler32;

use crate::contents::deflate;

/// Changes it in one of many ways.
pub fn any(coded: &mut Vec<u8>, coding: Coding, random: &mut Rng) {
    let length = coded.len();
    let at = match random.u8(0..4) {
        // Headers and trailers are where most is to be got wrong.
        0 => random.usize(0..length.min(12)),
        1 => length - 1 - random.usize(0..length.min(9)),
        _ => random.usize(0..length),
    };
    match random.u8(0..12) {
        0 => coded[at] ^= 1 << random.u8(0..8),
        1 => coded[at] = random.u8(..),
        2 => drop(coded.remove(at)),
        3 => coded.insert(at, random.u8(..)),
        4 => coded.truncate(at),
        5 => coded.extend(std::iter::repeat_n(0, random.usize(1..40))),
        6 => coded.extend((0..random.usize(1..40)).map(|_| random.u8(..))),
        7 => coded.extend(coded.clone()),
        8 => {
            coded.extend([0; 3]);
            coded.extend_from_within(..length);
        }
        // By itself or before the content: a frame to be skipped, a member or a block of nothing.
        9 => {
            let skippable = [0x50 | random.u8(0..16), 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
            let at = if random.bool() { 0 } else { length };
            coded.splice(at..at, skippable);
        }
        10 if coding == Coding::Deflate => dictionary(coded),
        10 if coding == Coding::Gzip => coded[3] ^= 1 << random.u8(0..8),
        10 => coded.splice(0..0, [random.u8(..)]).for_each(drop),
        _ => coded[length / 2..].reverse(),
    }
}

/// Says that a dictionary is needed, in a header that is right otherwise.
fn dictionary(coded: &mut Vec<u8>) {
    if let [first, second, ..] = &mut coded[..] {
        let head = u16::from(*first) << 8 | u16::from(*second & 0xc0 | 0x20);
        *second = (head + (31 - head % 31) % 31) as u8;
        coded.splice(2..2, [0, 0, 0, 1]);
    }
}

/// A zlib content that is a raw one as well: its header is the beginning of a stored block.
///
/// ```text
/// 0    2   3   5   7             ..161            ..65386  zlib: two bytes of header, a stored block
///      len ~len                                            raw:  a stored block of 156 bytes, then what
///                                                                is compressed in the other's plain text
/// ```
pub fn two_in_one(hidden: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut coded = vec![0x78, 0x9c, 0x00, 0x63, 0xff];
    let length: u16 = 0xff63;
    coded.extend((!length).to_le_bytes());
    let mut plain = vec![b' '; 5 + 0x9c - coded.len()];
    plain.extend(deflate(hidden, random));
    plain.resize(usize::from(length), b' ');
    coded.extend(&plain);
    // An empty last block.
    coded.extend([1, 0, 0, 0xff, 0xff]);
    coded.extend(adler32(1, &plain).to_be_bytes());
    coded
}
