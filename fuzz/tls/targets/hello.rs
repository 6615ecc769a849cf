//! The ClientHello: no input panics, an answer never changes as more bytes come, and what is read
//! does not depend on how the message is cut into records.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The program's own files, without the rest of it: with all its cryptography it would take minutes
// to build.
#[path = "../../../crates/meergate/src/tls"]
mod tls {
    #[allow(dead_code)]
    pub(crate) mod hello;
}
#[allow(dead_code)]
#[path = "../../../crates/meergate/src/words/target.rs"]
mod words;

use tls::hello::{ClientHello, MAX_HELLO, looks_like_tls};

fuzz_target!(|input: &[u8]| {
    let whole = ClientHello::read(input);
    // Each byte of short inputs, and some of long ones. Once decided, more bytes change nothing.
    let step = 1 + input.len() / 256;
    for length in (0..input.len()).step_by(step) {
        let cut = ClientHello::read(&input[..length]);
        assert!(
            cut == Ok(None) || cut == whole || cut.is_err() && whole.is_err(),
            "cut at {length}"
        );
    }
    let Ok(Some(read)) = whole else { return };
    assert!(looks_like_tls(input[0]));
    if let Some(name) = &read.server_name {
        assert!(!name.is_empty() && name.len() <= 253 && **name == name.to_ascii_lowercase());
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        assert!(name.parse::<std::net::IpAddr>().is_err());
    }
    assert!(read.alpn.as_ref().is_none_or(|names| (1..=64).contains(&names.len())));
    let message = message(input);
    for size in [1, 7, 1000] {
        let split = records(&message, size);
        if split.len() <= MAX_HELLO {
            let same = ClientHello { length: split.len(), ..read.clone() };
            assert_eq!(ClientHello::read(&split), Ok(Some(same)), "records of {size}");
        }
    }
});

/// The handshake message of records that were accepted.
fn message(mut bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (body, next) = rest.split_at(length.min(rest.len()));
        message.extend_from_slice(body);
        let whole = match message[..] {
            [_, a, b, c, ..] => 4 + usize::from(a) * 65536 + usize::from(b) * 256 + usize::from(c),
            _ => usize::MAX,
        };
        if message.len() >= whole {
            break;
        }
        bytes = next;
    }
    message
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for piece in message.chunks(size) {
        records.extend_from_slice(&[22, 3, 1]);
        records.extend_from_slice(&(piece.len() as u16).to_be_bytes());
        records.extend_from_slice(piece);
    }
    records
}
