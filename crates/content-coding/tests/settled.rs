//! What may be released: nothing of which more can be decoded than was written.

mod common;

use common::{PLAIN, coded, codings, decode, drain, raw, zlib};
use content_coding::Decoder;

/// What a decoder that is given these bytes and no more writes.
fn decoded(name: &str, coded: &[u8]) -> Vec<u8> {
    decode(&codings(name), [coded], 50_000).plain
}

#[test]
fn everything_is_settled_after_each_byte_once_it_is_drained() {
    for (name, coded) in coded() {
        let mut decoder = Decoder::new(&codings(name));
        let (mut plain, mut output) = (Vec::new(), vec![0; 4096]);
        for (at, byte) in coded.iter().enumerate() {
            drain(&mut decoder, &[*byte], &mut output, &mut plain).unwrap();
            let settled = decoder.settled() as usize;
            // Once the first two bytes have said what it is.
            assert!(settled == at + 1 || plain.is_empty(), "{name}: {settled} after {at}");
            if at % 50 == 0 {
                assert!(plain.starts_with(&decoded(name, &coded[..settled])), "{name} at {at}");
            }
        }
        assert!(plain == PLAIN);
    }
}

#[test]
fn nothing_is_settled_of_which_there_is_more_to_write() {
    for (name, coded) in coded() {
        let mut decoder = Decoder::new(&codings(name));
        let (mut plain, mut output) = (Vec::new(), [0; 7]);
        let mut rest = &coded[..];
        while !rest.is_empty() {
            let progress = decoder.decode(rest, &mut output).unwrap();
            plain.extend_from_slice(&output[..progress.produced]);
            rest = &rest[progress.consumed..];
            let settled = decoder.settled() as usize;
            assert!(plain.starts_with(&decoded(name, &coded[..settled])), "{name} at {settled}");
        }
    }
}

#[test]
fn the_first_byte_of_deflate_waits_for_the_second() {
    for coded in [raw(PLAIN), zlib(PLAIN)] {
        let mut decoder = Decoder::new(&codings("deflate"));
        let mut output = [0; 100];
        let progress = decoder.decode(&coded[..1], &mut output).unwrap();
        assert!(progress.drained);
        assert_eq!((decoder.consumed(), decoder.settled()), (1, 0));
        decoder.decode(&coded[1..2], &mut output).unwrap();
        assert_eq!((decoder.consumed(), decoder.settled()), (2, 2));
    }
}

#[test]
fn a_long_input_settles_bit_by_bit() {
    // 400 KB coded, of which each byte decodes to about 5.
    let plain: Vec<u8> =
        (0u32..250_000).flat_map(|n| [[0; 4], (n * 7919).to_le_bytes()].concat()).collect();
    let coded = common::gzip(&plain);
    assert!(coded.len() > 200_000);
    let mut decoder = Decoder::new(&codings("gzip"));
    let mut output = vec![0; 65_000];
    let mut rest = &coded[..];
    while !rest.is_empty() {
        let progress = decoder.decode(rest, &mut output).unwrap();
        rest = &rest[progress.consumed..];
        assert!(decoder.consumed() - decoder.settled() <= 16 * 1024);
    }
}

#[test]
fn members_after_the_first_are_counted() {
    let two = [common::gzip(b"one"), common::gzip(b"two")].concat();
    let mut decoder = Decoder::new(&codings("gzip"));
    let mut plain = Vec::new();
    drain(&mut decoder, &two, &mut [0; 64], &mut plain).unwrap();
    assert_eq!((plain.as_slice(), decoder.further_members()), (&b"onetwo"[..], 1));
}

#[test]
fn what_stands_for_no_content_is_counted() {
    // Extra field, name, comment.
    let mut gzip = b"\x1f\x8b\x08\x1c\0\0\0\0\0\x03\x05\0extraname\0comment\0".to_vec();
    gzip.extend_from_slice(&common::gzip(b"content")[10..]);
    let mut zstd = b"\x51\x2a\x4d\x18\x07\0\0\0skipped".to_vec();
    zstd.extend_from_slice(&common::zstd(b"content"));
    zstd.extend_from_slice(b"\x5f\x2a\x4d\x18\x04\0\0\0more");
    for (name, coded, skipped) in [
        ("gzip", gzip.clone(), 16),
        ("gzip", [&gzip[..], &gzip].concat(), 32),
        ("zstd", zstd.clone(), 11),
        ("gzip, zstd", common::zstd(&gzip), 16),
        ("zstd, gzip", common::gzip(&zstd), 11),
    ] {
        for size in [1, 3, usize::MAX] {
            let mut decoder = Decoder::new(&codings(name));
            let mut plain = Vec::new();
            for piece in coded.chunks(size.min(coded.len())) {
                drain(&mut decoder, piece, &mut [0; 64], &mut plain).unwrap();
            }
            assert!(plain.starts_with(b"content"), "{name}");
            assert_eq!(decoder.skipped(), skipped, "{name} in pieces of {size}");
        }
    }
}

#[test]
fn what_chunks_of_aws_have_beside_their_content_is_counted() {
    for (coded, skipped) in [
        ("5\r\nhello\r\n0\r\n\r\n", 0),
        ("0005\r\nhello\r\n000\r\n\r\n", 5),
        ("5;chunk-signature=ab\r\nhello\r\n0;chunk-signature=cd\r\n\r\n", 4),
        ("5\r\nhello\r\n0\r\nx-a:b\r\n\r\n", 5),
    ] {
        let mut decoder = Decoder::new(&codings("").in_aws_chunks());
        let mut plain = Vec::new();
        drain(&mut decoder, coded.as_bytes(), &mut [0; 64], &mut plain).unwrap();
        assert_eq!((plain.as_slice(), decoder.skipped()), (&b"hello"[..], skipped), "{coded}");
    }
}
