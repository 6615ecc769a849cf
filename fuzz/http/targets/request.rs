//! Heads of requests: no input panics, cuts make no difference, what is accepted is kept byte for
//! byte and can be read in one way only.
#![no_main]

use bytes::BytesMut;
use http_fuzz::{Cuts, LIMITS, check_fields, read, split, values};
use http_wire::{Framing, Limits, RequestHead, TargetForm};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    let whole = read(bytes, [bytes.len()].into_iter(), RequestHead::parse, RequestHead::bytes);
    let cut = read(bytes, Cuts::new(seed), RequestHead::parse, RequestHead::bytes);
    match (&whole, &cut) {
        // Cuts may show a second fault before the first, never make one of none.
        (Err(_), Err(_)) => {}
        _ => assert_eq!(whole, cut),
    }
    let Ok(Some((raw, used))) = whole else { return };
    assert!(raw.len() <= LIMITS.max_head && bytes[..used].ends_with(&raw));
    let head = RequestHead::from_bytes(raw.clone(), &LIMITS).unwrap();
    assert!(check_fields(&raw, head.fields()) <= LIMITS.max_fields);
    let line = raw.split(|byte| *byte == b'\r').next().unwrap();
    assert_eq!(line.iter().filter(|byte| **byte == b' ').count(), 2, "three words");
    one_reading(&head, &raw);
    edits(&head);
});

/// What every other parser would have to agree with, were it ever so careless.
fn one_reading(head: &RequestHead, raw: &[u8]) {
    let lengths = values(raw, "Content-Length");
    let codings = values(raw, "Transfer-Encoding");
    match head.framing() {
        Err(_) => {}
        Ok(Framing::None) => assert!(lengths.is_empty() && codings.is_empty()),
        Ok(Framing::Length(length)) => {
            assert!(codings.is_empty());
            assert_eq!(lengths, [length.to_string().as_bytes()], "one number, in its one spelling");
        }
        Ok(Framing::Chunked) => {
            assert!(lengths.is_empty());
            assert!(matches!(codings[..], [coding] if coding.eq_ignore_ascii_case(b"chunked")));
        }
        Ok(Framing::UntilClose) => panic!("a request can't end with its connection"),
    }
    if let Ok(Some(host)) = head.host() {
        assert_eq!(values(raw, "Host").len(), 1);
        assert!(!host.host.is_empty() && !host.host.contains(['/', '@', ' ', ',', '\\']));
    }
    if let Ok(TargetForm::Absolute { authority, .. }) = head.target_form() {
        assert!(!authority.host.contains(['/', '@', ' ', '\\', '?', '#']));
    }
    let _ = (head.expects_continue(), head.keep_alive(), head.connection_upgrade());
    for name in head.hop_by_hop() {
        assert!(head.is_hop_by_hop(name));
    }
}

/// Edits touch what they name and nothing else, and can't bring in another line.
fn edits(head: &RequestHead) {
    assert_eq!(head.edit().build().unwrap().bytes(), head.bytes());
    let mut edit = head.edit();
    edit.remove("Content-Length").set("X-New", "one");
    let changed = edit.build().unwrap();
    assert_eq!(values(changed.bytes(), "x-new"), [b"one"]);
    assert!(changed.field("content-length").is_none());
    let kept = |head: &RequestHead| {
        let fields = head.fields().filter(|f| !f.is("Content-Length") && !f.is("X-New"));
        fields.map(|f| f.line.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(kept(head), kept(&changed));
    if let Some(field) = head.fields().next() {
        let mut edit = head.edit();
        edit.append("X-Odd", [field.value, b"\r\nX-More: 1"].concat());
        assert!(edit.build().is_err());
    }
    let limits = Limits { max_head: usize::MAX, max_fields: usize::MAX };
    let mut twice = BytesMut::from(&changed.bytes()[..]);
    let again = RequestHead::parse(&mut twice, &limits).unwrap().unwrap();
    assert!(twice.is_empty());
    assert_eq!(again.bytes(), changed.bytes());
}
