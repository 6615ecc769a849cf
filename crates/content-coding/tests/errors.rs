//! Each way to be wrong, by its name and place.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::io::Write;

use common::{PLAIN, coded, codings, decode, gzip, raw, whole, zlib, zstd};
use content_coding::{Coding, Error, Fault};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use zlib_rs::crc32::crc32;

fn fault(codings: &str, coded: &[u8]) -> (Fault, u64) {
    let outcome = whole(codings, coded);
    let error = outcome.error.unwrap_or_else(|| panic!("{codings}: no error"));
    (error.fault, error.offset)
}

/// The content with one byte changed by `change`.
fn with(mut coded: Vec<u8>, at: usize, change: impl Fn(u8) -> u8) -> Vec<u8> {
    coded[at] = change(coded[at]);
    coded
}

/// The content with the byte that is so far from its end turned over.
fn wrong_at_end(coded: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = coded.len() - from_end;
    with(coded, at, |byte| !byte)
}

#[test]
fn an_end_before_the_end() {
    for (name, coded) in coded().into_iter().skip(1) {
        for end in 1..coded.len() {
            assert_eq!(fault(name, &coded[..end]).0, Fault::Truncated, "{name} to {end}");
        }
    }
}

#[test]
fn something_after_the_end() {
    for (name, coded) in coded().into_iter().skip(1) {
        let end = coded.len() as u64;
        let (fault, offset) = fault(name, &[&coded[..], b"more"].concat());
        assert_eq!(fault, Fault::Trailing, "{name}");
        assert!(offset > end && offset <= end + 4, "{name}: {offset} after {end}");
    }
    // Only gzip may be filled up with zeros, and nothing comes after these.
    let padded = [&gzip(PLAIN)[..], &[0; 5000]].concat();
    assert_eq!(whole("gzip", &padded).error, None);
    let end = padded.len() as u64;
    let hidden = [&padded[..], &gzip(b"hidden")].concat();
    assert_eq!(fault("gzip", &hidden), (Fault::Trailing, end + 1));
    let after = [&zlib(PLAIN)[..], &[0]].concat();
    assert_eq!(fault("deflate", &after), (Fault::Trailing, after.len() as u64));
}

#[test]
fn wrong_checksums_and_lengths() {
    let length = gzip(PLAIN).len() as u64;
    assert_eq!(fault("gzip", &wrong_at_end(gzip(PLAIN), 8)), (Fault::Checksum, length - 4));
    assert_eq!(fault("gzip", &wrong_at_end(gzip(PLAIN), 4)), (Fault::Length, length));
    assert_eq!(fault("deflate", &wrong_at_end(zlib(PLAIN), 1)).0, Fault::Checksum);
    assert_eq!(fault("zstd", &wrong_at_end(zstd(PLAIN), 1)).0, Fault::Checksum);
}

#[test]
fn what_came_before_a_fault_is_handed_out_first() {
    let outcome = whole("gzip", &wrong_at_end(gzip(PLAIN), 8));
    assert!(outcome.plain == PLAIN);
    let outcome = whole("gzip, deflate", &wrong_at_end(zlib(&gzip(PLAIN)), 1));
    assert!(outcome.plain == PLAIN);
    let inner = Error { coding: Coding::Gzip, fault: Fault::Checksum, layer: 1, offset: 0 };
    let coded = wrong_at_end(gzip(PLAIN), 8);
    let offset = coded.len() as u64 - 4;
    assert_eq!(whole("gzip, zstd", &zstd(&coded)).error, Some(Error { offset, ..inner }));
}

#[test]
fn one_coding_under_the_name_of_another() {
    assert_eq!(fault("gzip", &zlib(PLAIN)), (Fault::Header, 1));
    assert_eq!(fault("gzip", &raw(PLAIN)).0, Fault::Header);
    assert_eq!(fault("gzip", PLAIN).0, Fault::Header);
    assert_eq!(fault("deflate", &gzip(PLAIN)).0, Fault::Data);
    assert_eq!(fault("zstd", &gzip(PLAIN)).0, Fault::Header);
    assert_eq!(fault("br", &gzip(PLAIN)).0, Fault::Data);
    assert_eq!(fault("deflate, gzip", &gzip(PLAIN)).0, Fault::Data);
}

#[test]
fn headers_of_gzip() {
    assert_eq!(fault("gzip", &with(gzip(PLAIN), 2, |_| 7)), (Fault::Header, 3));
    for flag in [0x20, 0x40, 0x80] {
        assert_eq!(fault("gzip", &with(gzip(PLAIN), 3, |_| flag)), (Fault::Header, 4));
    }
}

#[test]
fn a_checksum_of_a_gzip_header_is_held_to() {
    let header = [0x1f, 0x8b, 8, 2, 0, 0, 0, 0, 0, 255];
    let sum = (crc32(0, &header) as u16).to_le_bytes();
    let coded = [&header[..], &sum, &gzip(PLAIN)[10..]].concat();
    assert_eq!(whole("gzip", &coded).error, None);
    assert_eq!(fault("gzip", &with(coded, 11, |byte| !byte)), (Fault::Checksum, 12));
}

#[test]
fn dictionaries_that_nobody_agreed_on() {
    // zlib: 0x78bb has FDICT, and is divisible by 31.
    let coded = [&[0x78, 0xbb, 0, 0, 0, 1][..], &raw(PLAIN)].concat();
    assert_eq!(fault("deflate", &coded), (Fault::Dictionary, 2));
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 5, 0x29, 0, 0, 1, 2, 3, 4, 5];
    assert_eq!(fault("zstd", &frame), (Fault::Dictionary, 7));
    // The number 0 stands for none.
    let frame = with(frame.to_vec(), 5, |_| 0);
    assert_eq!(whole("zstd", &frame).plain, [1, 2, 3, 4, 5]);
}

#[test]
fn windows_that_no_client_has() {
    // One block of five bytes. 13 << 3 is 8 MiB, one more an eighth more.
    let frame = |window| [0x28, 0xb5, 0x2f, 0xfd, 0, window, 0x29, 0, 0, 1, 2, 3, 4, 5];
    assert_eq!(whole("zstd", &frame(13 << 3)).plain, [1, 2, 3, 4, 5]);
    assert_eq!(fault("zstd", &frame(13 << 3 | 1)), (Fault::Window, 6));
    assert_eq!(fault("zstd", &frame(31 << 3 | 7)), (Fault::Window, 6));
    // A single segment is its own window.
    let single = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &(8u32 << 20 | 1).to_le_bytes()].concat();
    assert_eq!(fault("zstd", &single), (Fault::Window, 9));
    // br: the mark of a large window of 2^25 bytes.
    assert_eq!(fault("br", &[0x11, 0x19, 0x03]).0, Fault::Data);
}

#[test]
fn a_zlib_content_that_is_raw_deflate_as_well() {
    // The header and the next three bytes are a stored block's: 0x9c bytes long.
    let coded = [0x78, 0x9c, 0x00, 0x63, 0xff];
    assert_eq!(fault("deflate", &coded), (Fault::Ambiguous, 5));
    // A byte off, and raw DEFLATE it is not.
    assert_eq!(fault("deflate", &[0x78, 0x9c, 0x00, 0x64, 0xff]).0, Fault::Truncated);
}

#[test]
fn what_cannot_be_zlib_is_raw_deflate() {
    // 0x78 with a wrong check, a window that does not exist, another method.
    for first in [[0x78, 0x9d], [0x88, 0x1c], [0x79, 0x9c]] {
        let error = whole("deflate", &first).error;
        assert!(error.is_some_and(|error| error.fault != Fault::Header), "{first:x?}");
    }
    // Everything that two bytes can hold.
    assert_eq!(whole("deflate", &[0x03, 0x00]).error, None);
    assert_eq!(fault("deflate", &[0x03, 0x00, 0x00]).0, Fault::Trailing);
    let one = raw(b"a");
    assert_eq!(decode(&codings("deflate"), one.chunks(1), 1).plain, b"a");
}

#[test]
fn frames_that_zstd_does_not_know() {
    // Older than RFC 8878, and a reserved bit.
    assert_eq!(fault("zstd", &[0x27, 0xb5, 0x2f, 0xfd, 0, 0]), (Fault::Header, 4));
    assert_eq!(fault("zstd", &[0x28, 0xb5, 0x2f, 0xfd, 8, 0]), (Fault::Header, 5));
}

#[test]
fn a_raw_content_whose_first_byte_comes_alone_out_of_another_coding_is_refused() {
    let mut outer = DeflateEncoder::new(Vec::new(), Compression::default());
    outer.write_all(&raw(PLAIN)[..1]).unwrap();
    // Nothing, for longer than a client reads at once.
    for _ in 0..10_000 {
        outer.flush().unwrap();
    }
    let mut coded = outer.get_ref().clone();
    while coded.len() < 40_000 {
        coded.extend([0, 0, 0, 0xff, 0xff]);
    }
    let error = whole("deflate, deflate", &coded).error.unwrap();
    assert_eq!((error.fault, error.layer), (Fault::Ambiguous, 1));
}

fn aws(coded: &[u8]) -> Result<Vec<u8>, Error> {
    let mut decoder = content_coding::Decoder::new(&codings("").in_aws_chunks());
    let (mut at, mut plain) = (0, Vec::new());
    let mut output = [0; 7];
    loop {
        let piece = &coded[at..coded.len().min(at + 3)];
        let progress = decoder.decode(piece, &mut output)?;
        at += progress.consumed;
        plain.extend_from_slice(&output[..progress.produced]);
        if progress.drained && at == coded.len() {
            break;
        }
    }
    while !decoder.finish(&mut output)?.done {}
    Ok(plain)
}

#[test]
fn chunks_of_aws_are_taken_as_they_are_written() {
    let signature = "0aF".repeat(20);
    let line = |length: &str| format!("{length};chunk-signature={signature}\r\n");
    let signed = format!("{}hello\r\n{}world\r\n{}\r\n", line("5"), line("5"), line("0"));
    let sums = "x-amz-checksum-crc32:AAAAAA==\r\n";
    for good in [
        signed.clone(),
        "5\r\nhello\r\n05\r\nworld\r\n0\r\n\r\n".to_owned(),
        format!("A\r\nhelloworld\r\n0\r\n{sums}\r\n"),
        format!(
            "a\r\nhelloworld\r\n{}{sums}x-amz-trailer-signature:{signature}\r\n\r\n",
            line("0")
        ),
        "a\r\nhelloworld\r\n0\r\nx-amz-checksum-crc32:AA==\n\r\n\r\n\r\n".to_owned(),
    ] {
        assert_eq!(aws(good.as_bytes()).unwrap(), b"helloworld", "{good}");
    }
    assert_eq!(aws(b"").unwrap(), b"");
    for end in 1..signed.len() {
        assert_eq!(aws(&signed.as_bytes()[..end]).unwrap_err().fault, Fault::Truncated, "{end}");
    }
    for bad in [
        "hello",
        "\r\nhello",
        ";chunk-signature=0\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5;chunk-signature=\r\nhello\r\n",
        "5;chunk-signature=payload\r\nhello\r\n",
        "5;other=0\r\nhello\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "00000000000005\r\nhello\r\n0\r\n\r\n",
        "0\r\n\r\n<script>",
        &format!("5;chunk-signature={}\r\nhello\r\n0\r\n\r\n", "0".repeat(145)),
        &format!("0\r\n{}\r\n\r\n", "a".repeat(512)),
    ] {
        assert_eq!(aws(bad.as_bytes()).unwrap_err().fault, Fault::Header, "{bad}");
    }
}
