//! Each way to be wrong, by its name and place.
#![allow(clippy::panic, reason = "tests may panic")]

mod common;

use common::{PLAIN, coded, gzip, raw, whole, zlib, zstd};
use content_coding::{Coding, Error, Fault};

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
