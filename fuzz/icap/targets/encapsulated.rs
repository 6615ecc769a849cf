//! `Encapsulated`: what parses is within its limit and is written as it was meant.
#![no_main]

use icap::{Encapsulated, Limits, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let limits = Limits::default();
    let Ok(parts) = Encapsulated::parse(input, &limits) else { return };
    assert!(parts.heads_len() <= limits.max_encapsulated);
    assert!(parts.req_hdr != Some(0) && parts.res_hdr != Some(0));
    let mut written = Vec::new();
    parts.encode(&mut written);
    let list = written.strip_prefix(b"Encapsulated: ").unwrap().strip_suffix(b"\r\n").unwrap();
    assert_eq!(Encapsulated::parse(list, &limits), Ok(parts));
    for method in [Method::Options, Method::Reqmod, Method::Respmod] {
        let _ = (parts.check_request(method), parts.check_response(method));
    }
});
