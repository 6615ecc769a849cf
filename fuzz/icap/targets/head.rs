//! Heads: no input panics, what parses stays within its limits and survives being written and
//! parsed again, and cuts make no difference.
#![no_main]

use bytes::BytesMut;
use icap::{Headers, Limits, RequestHead, ResponseHead};
use icap_fuzz::{Cuts, split};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_head: 2048,
    max_fields: 20,
    max_uri: 200,
    max_encapsulated: 4096,
    max_chunk_line: 100,
    max_trailers: 200,
};

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    request(seed, bytes);
    response(bytes);
    if let Ok(headers) = Headers::parse_lines(bytes, &LIMITS) {
        assert!(headers.len() <= LIMITS.max_fields);
    }
});

fn request(seed: u64, bytes: &[u8]) {
    let whole = RequestHead::parse(&mut BytesMut::from(bytes), &LIMITS);
    let (mut head, mut buf, mut scanned) = (RequestHead::empty(), BytesMut::new(), 0);
    let mut rest = bytes;
    let mut cut = Ok(false);
    for len in Cuts::new(seed) {
        let (piece, left) = rest.split_at(len.min(rest.len()));
        rest = left;
        buf.extend_from_slice(piece);
        cut = head.parse_into(&mut buf, &mut scanned, &LIMITS);
        if !matches!(cut, Ok(false)) || rest.is_empty() {
            break;
        }
    }
    match (&whole, &cut) {
        (Ok(Some(whole)), Ok(true)) => assert_eq!(whole.bytes(), head.bytes()),
        (Ok(None), Ok(false)) => {}
        (Err(a), Err(b)) => assert_eq!(a, b),
        _ => panic!("{whole:?} {cut:?}"),
    }
    let Ok(Some(head)) = whole else { return };
    assert!(head.bytes().len() <= LIMITS.max_head && head.headers().len() <= LIMITS.max_fields);
    assert!(head.encapsulated().heads_len() <= LIMITS.max_encapsulated);
    assert!(head.path().starts_with(['/', '*']));
    let mut written = BytesMut::new();
    head.encode(&mut written);
    let text = written.clone();
    // Written anew a head may be longer by some blanks.
    let again = RequestHead::parse(&mut written, &Limits::default()).unwrap().unwrap();
    assert_eq!(fields(again.headers()), fields(head.headers()));
    assert_eq!(again.encapsulated(), head.encapsulated());
    assert_eq!((again.uri(), again.preview()), (head.uri(), head.preview()));
    again.encode(&mut written);
    assert_eq!(text, written);
}

fn response(bytes: &[u8]) {
    let Ok(Some(head)) = ResponseHead::parse(&mut BytesMut::from(bytes), &LIMITS) else { return };
    let mut written = BytesMut::new();
    head.encode(&mut written);
    let again = ResponseHead::parse(&mut written, &Limits::default()).unwrap().unwrap();
    assert_eq!((again.status(), again.reason()), (head.status(), head.reason()));
    assert_eq!(again.encapsulated(), head.encapsulated());
    assert_eq!(fields(again.headers()), fields(head.headers()));
}

/// All fields but `Encapsulated`, which is written in a form of its own.
fn fields(headers: &Headers) -> Vec<(&[u8], &[u8])> {
    headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"Encapsulated")).collect()
}
