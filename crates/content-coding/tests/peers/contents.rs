//! Contents at random, right ones and wrong ones, that carry a marker.

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use content_coding::Coding;
use fastrand::Rng;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write;
use zlib_rs::adler32::adler32;
use zlib_rs::crc32::crc32;
use zstd_safe::{CCtx, CParameter};

use crate::damage;

pub const MARKER: &[u8] = b"The marker that nobody may find unseen.";

/// A message's content.
pub struct Content {
    /// The values of its Content-Encoding fields.
    pub fields: Vec<String>,
    pub coded: Vec<u8>,
    pub plain: Vec<u8>,
    /// Everyone should read it, and read the same.
    pub honest: bool,
}

impl Content {
    pub fn any(random: &mut Rng) -> Content {
        let plain = plain(random);
        let mut codings: Vec<_> = (0..random.usize(1..=3)).map(|_| any_coding(random)).collect();
        let mut coded = plain.clone();
        // Once, after one of the layers.
        let damaged = random.bool().then(|| random.usize(0..codings.len()));
        for (layer, coding) in codings.iter_mut().enumerate() {
            coded = encode(*coding, &coded, random);
            if damaged == Some(layer) {
                match random.u8(0..8) {
                    0 => *coding = any_coding(random),
                    1 if *coding == Coding::Deflate => coded = damage::two_in_one(&plain, random),
                    2 if *coding == Coding::Brotli => coded = large_window(&coded, random),
                    3 if *coding == Coding::Zstd => coded = frame_by_hand(&coded, random),
                    _ => damage::any(&mut coded, *coding, random),
                }
            }
        }
        let fields = fields(&codings, random);
        Content { fields, coded, plain, honest: damaged.is_none() }
    }
}

fn any_coding(random: &mut Rng) -> Coding {
    const ALL: [Coding; 4] = [Coding::Brotli, Coding::Deflate, Coding::Gzip, Coding::Zstd];
    ALL[random.usize(0..ALL.len())]
}

fn plain(random: &mut Rng) -> Vec<u8> {
    const WORDS: [&str; 8] = ["the ", "between ", "<div>", "\r\n", "other ", "0", "because ", "é"];
    let mut plain = Vec::new();
    for _ in 0..random.usize(0..6) {
        match random.u8(0..4) {
            0 => plain.extend((0..random.usize(0..400)).map(|_| random.u8(..))),
            1 => plain.extend(std::iter::repeat_n(random.u8(..), random.usize(0..3000))),
            _ => (0..random.usize(0..200)).for_each(|_| {
                plain.extend_from_slice(WORDS[random.usize(0..WORDS.len())].as_bytes());
            }),
        }
    }
    // Somewhere, at the end most of all.
    let at = if random.bool() { plain.len() } else { random.usize(0..=plain.len()) };
    plain.splice(at..at, MARKER.iter().copied());
    plain
}

fn fields(codings: &[Coding], random: &mut Rng) -> Vec<String> {
    let mut fields = vec![String::new()];
    for coding in codings {
        let mut token = coding.token().to_owned();
        if *coding == Coding::Gzip && random.u8(..4) == 0 {
            token = "x-gzip".to_owned();
        }
        if random.u8(..4) == 0 {
            token = token.to_uppercase();
        }
        match fields.last_mut() {
            Some(field) if field.is_empty() => *field = token,
            Some(field) if random.bool() => {
                field.push_str([",", ", ", " ,\t"][random.usize(0..3)]);
                field.push_str(&token);
            }
            _ => fields.push(token),
        }
    }
    fields
}

fn encode(coding: Coding, plain: &[u8], random: &mut Rng) -> Vec<u8> {
    match coding {
        // No client undoes them, and no token stands for them here.
        Coding::AwsChunked => plain.to_vec(),
        Coding::Brotli => brotli(plain, false, random),
        Coding::Deflate if random.bool() => deflate(plain, random),
        Coding::Deflate => zlib(plain, random),
        Coding::Gzip => parts(plain, random, gzip),
        Coding::Zstd => parts(plain, random, zstd),
    }
}

/// One to three of them, one after the other.
fn parts(plain: &[u8], random: &mut Rng, one: fn(&[u8], &mut Rng) -> Vec<u8>) -> Vec<u8> {
    let cut = match random.u8(0..4) {
        0 => random.usize(0..=plain.len()),
        _ => return one(plain, random),
    };
    let mut coded = one(&plain[..cut], random);
    coded.extend(parts(&plain[cut..], random, one));
    coded
}

/// Raw DEFLATE of any level, with flushes.
pub fn deflate(plain: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(random.u32(0..=9)));
    for piece in plain.chunks(random.usize(1..=4000)) {
        encoder.write_all(piece).unwrap();
        if random.u8(0..4) == 0 {
            encoder.flush().unwrap();
        }
    }
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8], random: &mut Rng) -> Vec<u8> {
    // Every window; no dictionary; what is left makes it divisible by 31.
    let head = u16::from(random.u8(0..8) << 4 | 8) << 8 | u16::from(random.u8(0..4)) << 6;
    let head = head + (31 - head % 31) % 31;
    let mut coded = head.to_be_bytes().to_vec();
    coded.extend(deflate(plain, random));
    coded.extend(adler32(1, plain).to_be_bytes());
    coded
}

fn gzip(plain: &[u8], random: &mut Rng) -> Vec<u8> {
    let flags = if random.bool() { 0 } else { random.u8(0..32) };
    let mut coded = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, random.u8(..), 255];
    let text = |random: &mut Rng| -> Vec<u8> {
        let mut text: Vec<_> = (0..random.usize(0..300)).map(|_| random.u8(1..)).collect();
        text.push(0);
        text
    };
    if flags & 4 != 0 {
        let extra = random.u8(..);
        coded.extend([extra, 0]);
        coded.extend((0..extra).map(|_| random.u8(..)));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            coded.extend(text(random));
        }
    }
    if flags & 2 != 0 {
        coded.extend((crc32(0, &coded) as u16).to_le_bytes());
    }
    coded.extend(deflate(plain, random));
    coded.extend(crc32(0, plain).to_le_bytes());
    coded.extend((plain.len() as u32).to_le_bytes());
    coded
}

fn brotli(plain: &[u8], large_window: bool, random: &mut Rng) -> Vec<u8> {
    let params = BrotliEncoderParams {
        quality: random.i32(0..=9),
        lgwin: random.i32(10..=22),
        large_window,
        ..BrotliEncoderParams::default()
    };
    let mut encoder = CompressorWriter::with_params(Vec::new(), 4096, &params);
    for piece in plain.chunks(random.usize(1..=4000)) {
        encoder.write_all(piece).unwrap();
        if random.u8(0..4) == 0 {
            encoder.flush().unwrap();
        }
    }
    encoder.into_inner()
}

fn large_window(plain: &[u8], random: &mut Rng) -> Vec<u8> {
    brotli(plain, true, random)
}

fn zstd(plain: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(random.i32(-5..=12))).unwrap();
    context.set_parameter(CParameter::ChecksumFlag(random.bool())).unwrap();
    context.set_parameter(CParameter::ContentSizeFlag(random.bool())).unwrap();
    let mut coded = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
    context.compress2(&mut coded, plain).unwrap();
    coded
}

/// A frame with any header, of blocks that need no compressor.
fn frame_by_hand(plain: &[u8], random: &mut Rng) -> Vec<u8> {
    let descriptor = random.u8(..) & if random.bool() { 0b0010_0000 } else { 0b1110_1011 };
    let mut coded = vec![0x28, 0xb5, 0x2f, 0xfd, descriptor];
    let single = descriptor & 0x20 != 0;
    if !single {
        coded.push(random.u8(..));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    coded.extend((0..dictionary).map(|_| random.u8(..2)));
    let size = match descriptor >> 6 {
        0 => usize::from(single),
        flag => 1 << flag,
    };
    let length = (plain.len() as u64).to_le_bytes();
    coded.extend(&length[..size]);
    let mut blocks = plain.chunks(random.usize(1..=4000)).peekable();
    while let Some(block) = blocks.next() {
        let header = u32::from(blocks.peek().is_none()) | (block.len() as u32) << 3;
        coded.extend(&header.to_le_bytes()[..3]);
        coded.extend(block);
    }
    coded
}
