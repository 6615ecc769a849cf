//! The chunked coding: no input panics, cuts make no difference, and a decoder written for this
//! test alone, from the grammar, agrees on everything that is accepted.
#![no_main]

use bytes::BytesMut;
use http_fuzz::{Cuts, split};
use http_wire::{ChunkEvent, ChunkedDecoder, check_trailers};
use libfuzzer_sys::fuzz_target;

const MAX_TRAILERS: usize = 200;

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    let whole = decode(bytes, [bytes.len()].into_iter());
    let cut = decode(bytes, Cuts::new(seed));
    match (&whole.1, &cut.1) {
        (End::Fault, End::Fault) => {}
        _ => assert_eq!(whole, cut),
    }
    if let (data, End::Complete { used, trailers }) = whole {
        assert_eq!(by_the_grammar(bytes), Some((data, used)));
        check_trailers(&trailers).unwrap();
        assert!(trailers.len() <= MAX_TRAILERS);
    }
});

#[derive(Debug, PartialEq)]
enum End {
    Complete { used: usize, trailers: Vec<u8> },
    Fault,
    Open,
}

fn decode(bytes: &[u8], cuts: impl Iterator<Item = usize>) -> (Vec<u8>, End) {
    let mut decoder = ChunkedDecoder::new(MAX_TRAILERS);
    let (mut buf, mut rest, mut data) = (BytesMut::new(), bytes, Vec::new());
    for length in cuts {
        let (piece, left) = rest.split_at(length.min(rest.len()));
        rest = left;
        buf.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buf) {
                Err(_) => return (data, End::Fault),
                Ok(None) => break,
                Ok(Some(ChunkEvent::Data(piece))) => {
                    assert!(!piece.is_empty() && !decoder.is_done());
                    data.extend_from_slice(&piece);
                }
                Ok(Some(ChunkEvent::End { trailers })) => {
                    assert!(decoder.is_done());
                    let used = bytes.len() - rest.len() - buf.len();
                    return (data, End::Complete { used, trailers: trailers.to_vec() });
                }
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    (data, End::Open)
}

/// RFC 9112 section 7.1, without any tolerance; the content, and how long the message is.
fn by_the_grammar(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line = |at: usize| {
        let end = bytes[at..].windows(2).position(|w| w == b"\r\n")?;
        Some((&bytes[at..at + end], at + end + 2))
    };
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let (text, next) = line(at)?;
        let digits = text.split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        at = next;
        if size == 0 {
            break;
        }
        data.extend_from_slice(bytes.get(at..at + size)?);
        at += size;
        (bytes.get(at..at + 2)? == b"\r\n").then_some(())?;
        at += 2;
    }
    loop {
        let (text, next) = line(at)?;
        at = next;
        if text.is_empty() {
            return Some((data, at));
        }
    }
}
