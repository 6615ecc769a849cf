//! Contents in every coding, and a caller as the inspector is one.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::io::Write;

use content_coding::{Codings, Decoder, Error};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

pub const PLAIN: &[u8] = include_bytes!("../content/plain");
pub const BROTLI: &[u8] = include_bytes!("../content/plain.br");
pub const BROTLI_FLUSHED: &[u8] = include_bytes!("../content/flushed.br");

pub fn codings(value: &str) -> Codings {
    Codings::parse([value.as_bytes()]).unwrap()
}

pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

pub fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

pub fn raw(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut context = zstd_safe::CCtx::create();
    context.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
    let mut coded = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
    context.compress2(&mut coded, plain).unwrap();
    coded
}

/// Every coding, with the same plain content.
pub fn coded() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("identity", PLAIN.to_vec()),
        ("gzip", gzip(PLAIN)),
        ("deflate", zlib(PLAIN)),
        ("deflate", raw(PLAIN)),
        ("br", BROTLI.to_vec()),
        ("br", BROTLI_FLUSHED.to_vec()),
        ("zstd", zstd(PLAIN)),
        ("gzip, deflate", zlib(&gzip(PLAIN))),
        ("br, zstd, gzip", gzip(&zstd(BROTLI))),
        ("deflate, gzip, zstd", zstd(&gzip(&raw(PLAIN)))),
    ]
}

/// What came of a content: the output, and the error that ended it.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub plain: Vec<u8>,
    pub error: Option<Error>,
}

/// Gives a decoder pieces and takes what it writes, in portions of `room` bytes.
pub fn decode<'a>(
    codings: &Codings,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    room: usize,
) -> Outcome {
    let mut decoder = Decoder::new(codings);
    let mut plain = Vec::new();
    let error = feed(&mut decoder, pieces, room, &mut plain).err();
    assert_eq!(decoder.produced(), plain.len() as u64);
    assert!(decoder.settled() <= decoder.consumed());
    if let Some(error) = error {
        assert_eq!(decoder.decode(b"more", &mut [0; 64]).unwrap_err(), error, "it stays wrong");
        assert_eq!(decoder.finish(&mut [0; 64]).unwrap_err(), error, "it stays wrong");
    }
    Outcome { plain, error }
}

fn feed<'a>(
    decoder: &mut Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    room: usize,
    plain: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut output = vec![0; room];
    for piece in pieces {
        drain(decoder, piece, &mut output, plain)?;
    }
    loop {
        let finish = decoder.finish(&mut output)?;
        plain.extend_from_slice(&output[..finish.produced]);
        if finish.done {
            assert_eq!(decoder.settled(), decoder.consumed());
            return Ok(());
        }
    }
}

/// Gives one piece and takes all that comes of it.
pub fn drain(
    decoder: &mut Decoder,
    mut piece: &[u8],
    output: &mut [u8],
    plain: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        let progress = decoder.decode(piece, output)?;
        plain.extend_from_slice(&output[..progress.produced]);
        piece = &piece[progress.consumed..];
        if progress.drained {
            assert!(piece.is_empty());
            return Ok(());
        }
    }
}

/// The same in one piece.
pub fn whole(codings: &str, coded: &[u8]) -> Outcome {
    decode(&self::codings(codings), [coded], 4096)
}
