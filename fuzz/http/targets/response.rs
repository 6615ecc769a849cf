//! Heads of responses: as for requests.
#![no_main]

use bytes::BytesMut;
use http_fuzz::{Cuts, LIMITS, check_fields, read, split, values};
use http_wire::{Framing, Limits, ResponseHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    lenient(seed, bytes);
    let whole = read(bytes, [bytes.len()].into_iter(), ResponseHead::parse, ResponseHead::bytes);
    let cut = read(bytes, Cuts::new(seed), ResponseHead::parse, ResponseHead::bytes);
    match (&whole, &cut) {
        (Err(_), Err(_)) => {}
        _ => assert_eq!(whole, cut),
    }
    let Ok(Some((raw, used))) = whole else { return };
    assert_eq!(&bytes[..used], &raw[..]);
    let head = ResponseHead::from_bytes(raw.clone(), &LIMITS).unwrap();
    assert!(check_fields(&raw, head.fields()) <= LIMITS.max_fields);
    assert!((100..=999).contains(&head.status()));
    assert!(raw.starts_with(b"HTTP/1.") && raw[9..12] == *head.status().to_string().as_bytes());
    let _ = head.reason();
    let lengths = values(&raw, "Content-Length");
    let codings = values(&raw, "Transfer-Encoding");
    let bodiless = matches!(head.status(), 100..=199 | 204 | 304);
    for method in [&b"GET"[..], b"HEAD", b"CONNECT"] {
        match head.framing(method) {
            Err(_) => {}
            Ok(Framing::None) => assert!(bodiless || method != b"GET"),
            Ok(_) if bodiless || method == b"HEAD" => panic!("content where there is none"),
            Ok(Framing::UntilClose) => assert!(lengths.is_empty() && codings.is_empty()),
            Ok(Framing::Length(length)) => {
                assert!(codings.is_empty());
                assert_eq!(lengths, [length.to_string().as_bytes()]);
            }
            Ok(Framing::Chunked) => {
                assert!(lengths.is_empty());
                assert!(matches!(codings[..], [coding] if coding.eq_ignore_ascii_case(b"chunked")));
            }
        }
    }
    assert_eq!(head.edit().build().unwrap().bytes(), head.bytes());
});

/// What is written anew has one reading, and is the same however it came.
fn lenient(seed: u64, bytes: &[u8]) {
    let parse = |buf: &mut BytesMut, limits: &Limits| {
        ResponseHead::parse_lenient(buf, limits).map(|read| read.map(|read| read.head))
    };
    let whole = read(bytes, [bytes.len()].into_iter(), parse, ResponseHead::bytes);
    let cut = read(bytes, Cuts::new(seed), parse, ResponseHead::bytes);
    match (&whole, &cut) {
        (Err(_), Err(_)) => {}
        _ => assert_eq!(whole, cut),
    }
    let Ok(Some((raw, _))) = whole else { return };
    // A line may grow by the CR and the space that it lacked.
    let limits = Limits { max_head: LIMITS.max_head * 3, ..LIMITS };
    let head = ResponseHead::from_bytes(raw.clone(), &limits).unwrap();
    assert!(check_fields(&raw, head.fields()) <= LIMITS.max_fields);
    assert!(head.framing(b"GET").is_ok());
    let again = ResponseHead::parse_lenient(&mut BytesMut::from(&raw[..]), &limits);
    assert!(!again.unwrap().unwrap().is_mended);
}
