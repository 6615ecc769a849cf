//! How fast each coding is undone, on one core:
//! `cargo run --release -p content-coding --example speed`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for a terminal")]

use std::io::Write;
use std::time::Instant;

use brotli::CompressorWriter;
use content_coding::{Codings, Decoder};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

const MEGABYTES: usize = 100;

fn main() {
    let plain = text();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&plain).unwrap();
    let mut br = CompressorWriter::new(Vec::new(), 1 << 16, 5, 22);
    br.write_all(&plain).unwrap();
    let mut zstd = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
    zstd_safe::compress(&mut zstd, &plain, 3).unwrap();
    let mut twice = GzEncoder::new(Vec::new(), Compression::default());
    twice.write_all(&gzip).unwrap();
    run("gzip", &gzip, plain.len());
    run("deflate", &zlib.finish().unwrap(), plain.len());
    run("br", &br.into_inner(), plain.len());
    run("zstd", &zstd, plain.len());
    run("gzip, gzip", &twice.finish().unwrap(), plain.len());
    run("identity", &plain, plain.len());
}

/// In pieces as they come over a network, into a buffer as an inspector has one.
fn run(codings: &str, coded: &[u8], length: usize) {
    let codings = Codings::parse([codings.as_bytes()]).unwrap();
    let mut output = vec![0; 64 * 1024];
    let begun = Instant::now();
    let mut decoder = Decoder::new(&codings);
    for mut piece in coded.chunks(64 * 1024) {
        while !decoder
            .decode(piece, &mut output)
            .map(|progress| {
                piece = &piece[progress.consumed..];
                progress.drained
            })
            .unwrap()
        {}
    }
    while !decoder.finish(&mut output).unwrap().done {}
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(decoder.produced(), length as u64);
    let rate = length as f64 / 1e6 / seconds;
    let names: Vec<_> = codings.applied().iter().map(|coding| coding.token()).collect();
    println!(
        "{:12} {:6.1} MB coded  {rate:6.0} MB/s decoded",
        names.join(", "),
        coded.len() as f64 / 1e6
    );
}

/// Lines as of a log, which compress about as web pages do.
fn text() -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "request", "answer", "from", "the", "server", "with", "status", "of", "a", "client",
        "error", "page", "index", "html", "style", "script",
    ];
    let mut random = fastrand::Rng::with_seed(1);
    let mut text = Vec::with_capacity(MEGABYTES * 1_000_000 + 200);
    while text.len() < MEGABYTES * 1_000_000 {
        for _ in 0..random.usize(3..14) {
            text.extend_from_slice(random.choice(WORDS).unwrap().as_bytes());
            text.push(b' ');
        }
        writeln!(text, "{:x}", random.u32(..)).unwrap();
    }
    text
}
