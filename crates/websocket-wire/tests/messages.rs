//! Messages as peers say them, however they are cut.

use proptest::prelude::*;
use websocket_wire::{
    Deflate, ErrorKind, Event, Frame, Limits, Offers, Opcode, Reader, Role, Side, write_head,
};
use zlib_rs::{Deflate as Compress, DeflateFlush};

const LIMITS: Limits = Limits::new(1 << 20);

/// A peer that compresses or not, and cuts its messages as it likes.
struct Peer {
    role: Role,
    compress: Option<(Compress, bool)>,
}

impl Peer {
    fn new(role: Role, side: Option<Side>) -> Self {
        let compress = side.map(|side| {
            let bits = side.window_bits.max(9);
            (Compress::new(9, false, bits), side.keeps_context)
        });
        Self { role, compress }
    }

    fn compressed(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let (compress, keeps_context) = self.compress.as_mut()?;
        let mut out = flushed(compress, text);
        if !*keeps_context {
            compress.reset();
        }
        out.truncate(out.len() - 4);
        Some(out)
    }

    /// A message in parts of so many bytes, with pings between them.
    fn say(&mut self, opcode: Opcode, text: &[u8], part: usize, pings: bool) -> Vec<u8> {
        let compressed = self.compressed(text);
        let is_compressed = compressed.is_some();
        let payload = compressed.unwrap_or_else(|| text.to_vec());
        let mut parts: Vec<_> = payload.chunks(part.max(1)).collect();
        if parts.is_empty() {
            parts.push(b"");
        }
        let mut out = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let opcode = if i == 0 { opcode } else { Opcode::Continuation };
            let is_final = i + 1 == parts.len();
            self.frame(opcode, is_final, is_compressed && i == 0, part, &mut out);
            if pings && !is_final {
                self.frame(Opcode::Ping, true, false, b"ping", &mut out);
            }
        }
        out
    }

    fn frame(&self, opcode: Opcode, fin: bool, rsv1: bool, payload: &[u8], out: &mut Vec<u8>) {
        let mask = (self.role == Role::Client).then_some([7, 0x80, 0xff, 9]);
        let length = payload.len() as u64;
        write_head(&Frame { opcode, is_final: fin, is_compressed: rsv1, mask, length }, out);
        let key = mask.unwrap_or_default();
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}

fn flushed(compress: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; text.len() * 2 + 100];
    let before = compress.total_out();
    assert!(compress.compress(text, &mut out, DeflateFlush::SyncFlush).is_ok());
    out.truncate((compress.total_out() - before) as usize);
    out
}

fn side(keeps_context: bool, window_bits: u8) -> Side {
    Side { keeps_context, window_bits }
}

/// All messages, and the number of control frames.
fn read(reader: &mut Reader, bytes: &[u8], cut: usize) -> Result<(Vec<Vec<u8>>, usize), ErrorKind> {
    let (mut messages, mut controls) = (Vec::new(), 0);
    for mut piece in bytes.chunks(cut) {
        while let Some(event) = reader.read(&mut piece).map_err(|error| error.kind())? {
            let is_control = match event {
                Event::Message { payload, .. } => {
                    messages.push(payload.to_vec());
                    false
                }
                Event::Control { payload, .. } => {
                    assert_eq!(payload, b"ping");
                    controls += 1;
                    true
                }
            };
            let told = if is_control {
                &b"ping"[..]
            } else {
                messages.last().map_or(&b""[..], |last| last)
            };
            assert!(reader.payload() == told, "it can be read again");
            if told.len() % 2 == 0 {
                reader.forget();
                assert_eq!(reader.payload(), b"");
                assert!(is_control || reader.memory() <= 200 << 10, "{}", reader.memory());
            }
        }
        assert!(piece.is_empty());
    }
    Ok((messages, controls))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_said_is_read(
        messages in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                prop::collection::vec(prop::sample::select(&b"ab"[..]), 0..90_000),
            ],
            1..8,
        ),
        part in 1..70_000usize,
        cut in prop_oneof![1..40usize, 1_000..100_000usize],
        is_client in any::<bool>(),
        agreed in prop::option::of((any::<bool>(), 9..=15u8)),
    ) {
        let role = if is_client { Role::Client } else { Role::Server };
        let side = agreed.map(|(keeps, bits)| side(keeps, bits));
        let mut peer = Peer::new(role, side);
        let mut reader = Reader::new(role, side, LIMITS);
        for message in messages {
            let part = part.max(message.len() / 50);
            let bytes = peer.say(Opcode::Binary, &message, part, true);
            let (read, _) = read(&mut reader, &bytes, cut).unwrap();
            prop_assert!(read == [message], "{} bytes", bytes.len());
            prop_assert!(!reader.is_within());
        }
    }

    #[test]
    fn nothing_panics_and_cuts_change_nothing(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        first in prop::sample::select(&[0xc1u8, 0x81, 0x41, 0x01, 0x88, 0x89][..]),
        cut in 1..20usize,
        keeps in any::<bool>(),
    ) {
        bytes.insert(0, first);
        let side = Some(side(keeps, 15));
        let at_once = read_all(&mut Reader::new(Role::Server, side, LIMITS), &bytes, usize::MAX);
        let in_pieces = read_all(&mut Reader::new(Role::Server, side, LIMITS), &bytes, cut);
        prop_assert_eq!(at_once, in_pieces);
    }
}

/// What is read before an error, and the error.
fn read_all(reader: &mut Reader, bytes: &[u8], cut: usize) -> (Vec<String>, Option<ErrorKind>) {
    let mut seen = Vec::new();
    for mut piece in bytes.chunks(cut.min(bytes.len().max(1))) {
        loop {
            match reader.read(&mut piece) {
                Ok(None) => break,
                Ok(Some(event)) => seen.push(format!("{event:?}")),
                Err(error) => return (seen, Some(error.kind())),
            }
        }
    }
    (seen, None)
}

#[test]
fn the_examples_of_rfc_7692_are_read() {
    let hello: [&[u8]; 5] = [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        // Not compressed; a final block; two blocks; and the same again, out of the window.
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
    ];
    let mut reader = Reader::new(Role::Server, Some(side(true, 15)), LIMITS);
    let peer = Peer::new(Role::Server, None);
    for hello in hello {
        let mut bytes = Vec::new();
        peer.frame(Opcode::Text, true, true, hello, &mut bytes);
        assert_eq!(read(&mut reader, &bytes, 3), Ok((vec![b"Hello".to_vec()], 0)), "{hello:x?}");
    }
    // Behind a final block some have forgotten what was before.
    let mut bytes = Vec::new();
    peer.frame(Opcode::Text, true, true, hello[3], &mut bytes);
    assert_eq!(read(&mut reader, &bytes, 3), Err(ErrorKind::Compression));
}

#[test]
fn compressed_data_that_is_read_in_two_ways_is_refused() {
    let peer = Peer::new(Role::Server, None);
    let mut compress = Compress::new(9, false, 15);
    let whole = flushed(&mut compress, &[b'x'; 500]);
    let cut = &whole[..whole.len() - 6];
    let table: [(&str, &[&[u8]]); 6] = [
        ("it ends within a block", &[cut]),
        ("it has no end", &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9]]),
        ("nothing", &[&[]]),
        (
            "more behind a final block",
            &[&[
                0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00,
            ]],
        ),
        ("no such block", &[&[0x06, 0x00]]),
        // The last Hello is out of a window that the sender has agreed not to keep.
        (
            "what was forgotten",
            &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], &[0xf2, 0x00, 0x11, 0x00, 0x00]],
        ),
    ];
    for (what, messages) in table {
        for cut in [1, 2, 1000] {
            let mut reader = Reader::new(Role::Server, Some(side(false, 15)), LIMITS);
            let (last, before) = messages.split_last().unwrap();
            for message in before {
                let mut bytes = Vec::new();
                peer.frame(Opcode::Binary, true, true, message, &mut bytes);
                read(&mut reader, &bytes, cut).unwrap();
            }
            let mut bytes = Vec::new();
            peer.frame(Opcode::Binary, true, true, last, &mut bytes);
            assert_eq!(read(&mut reader, &bytes, cut), Err(ErrorKind::Compression), "{what}");
            assert!(reader.read(&mut &b"\x81\0"[..]).is_err(), "nothing more is read");
        }
    }
}

#[test]
fn the_window_is_the_one_that_was_agreed_on() {
    let mut peer = Peer::new(Role::Client, Some(side(true, 15)));
    let first: Vec<u8> =
        (0..2000u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
    let bytes = [
        peer.say(Opcode::Binary, &first, 99_999, false),
        peer.say(Opcode::Binary, &first[..100], 99_999, false),
    ];
    let mut wide = Reader::new(Role::Client, Some(side(true, 15)), LIMITS);
    let mut narrow = Reader::new(Role::Client, Some(side(true, 12)), LIMITS);
    for reader in [&mut wide, &mut narrow] {
        assert_eq!(read(reader, &bytes[0], 99), Ok((vec![first.clone()], 0)));
    }
    assert_eq!(read(&mut wide, &bytes[1], 99), Ok((vec![first[..100].to_vec()], 0)));
    assert_eq!(read(&mut narrow, &bytes[1], 99), Err(ErrorKind::Compression));
}

#[test]
fn limits_hold_for_what_is_said_and_for_what_it_stands_for() {
    let limits = Limits::new(10_000);
    for (length, fits) in [(9_999, true), (10_000, true), (10_001, false)] {
        for compressed in [false, true] {
            for part in [100, 99_999] {
                let side = compressed.then_some(side(true, 15));
                let mut peer = Peer::new(Role::Client, side);
                let mut reader = Reader::new(Role::Client, side, limits);
                let bytes = peer.say(Opcode::Text, &vec![b'a'; length], part, false);
                let expected = match fits {
                    true => Ok((vec![vec![b'a'; length]], 0)),
                    false => Err(ErrorKind::TooLong),
                };
                assert_eq!(read(&mut reader, &bytes, 77), expected, "{length} {compressed} {part}");
            }
        }
    }
    // It is known from the head alone.
    let mut reader = Reader::new(Role::Server, None, limits);
    assert_eq!(
        read(&mut reader, &[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0], 99),
        Err(ErrorKind::TooLong)
    );
    // Frames without an end, each of nothing.
    let peer = Peer::new(Role::Server, None);
    let mut bytes = Vec::new();
    peer.frame(Opcode::Text, false, false, b"", &mut bytes);
    for _ in 0..40_000 {
        peer.frame(Opcode::Continuation, false, false, b"", &mut bytes);
    }
    let mut reader = Reader::new(Role::Server, None, limits);
    assert_eq!(read(&mut reader, &bytes, 999), Err(ErrorKind::TooLong));
}

#[test]
fn what_rfc_6455_forbids_is_refused() {
    use ErrorKind::{Protocol, Text};
    let table: &[(&str, &[u8], ErrorKind)] = &[
        ("RSV1 on a ping", &[0xc9, 0], Protocol),
        ("RSV1 on a continuation", &[0x01, 0, 0xc0, 0], Protocol),
        ("RSV2", &[0xa1, 0], Protocol),
        ("RSV3", &[0x91, 0], Protocol),
        ("opcode 3", &[0x83, 0], Protocol),
        ("opcode 7", &[0x87, 0], Protocol),
        ("opcode 11", &[0x8b, 0], Protocol),
        ("opcode 15", &[0x8f, 0], Protocol),
        ("a ping in parts", &[0x09, 0], Protocol),
        ("a close in parts", &[0x08, 0], Protocol),
        ("a long ping", &[0x89, 126, 0, 126], Protocol),
        ("a server's mask", &[0x81, 0x80, 1, 2, 3, 4], Protocol),
        ("a continuation of nothing", &[0x80, 0], Protocol),
        ("a continuation of nothing, and more", &[0x00, 0], Protocol),
        ("text within text", &[0x01, 0, 0x81, 0], Protocol),
        ("bytes within text", &[0x01, 0, 0x02, 0], Protocol),
        ("16 bits for 125", &[0x81, 126, 0, 125], Protocol),
        ("64 bits for 65,535", &[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Protocol),
        ("half a code", &[0x88, 1, 3], Protocol),
        ("code 999", &[0x88, 2, 3, 0xe7], Protocol),
        ("code 1005", &[0x88, 2, 3, 0xed], Protocol),
        ("code 2000", &[0x88, 2, 7, 0xd0], Protocol),
        ("a reason that is no text", &[0x88, 3, 3, 0xe8, 0xff], Text),
        ("a close within a message", &[0x01, 0, 0x88, 0], Protocol),
        ("text behind a close", &[0x88, 0, 0x81, 0], Protocol),
        ("a close behind a close", &[0x88, 0, 0x88, 0], Protocol),
        ("no text", &[0x81, 1, 0xff], Text),
        ("half a character", &[0x81, 2, 0xe2, 0x82], Text),
        ("a surrogate", &[0x81, 3, 0xed, 0xa0, 0x80], Text),
    ];
    for (what, bytes, kind) in table {
        for cut in [1, 99] {
            let mut reader = Reader::new(Role::Server, Some(side(true, 15)), LIMITS);
            let (_, error) = read_all(&mut reader, bytes, cut);
            assert_eq!(error, Some(*kind), "{what}");
        }
    }
    for (what, bytes) in [("no mask", &[0x81, 0][..]), ("compressed", &[0xc1, 0x80, 0, 0, 0, 0])] {
        let mut reader = Reader::new(Role::Client, None, LIMITS);
        assert_eq!(read_all(&mut reader, bytes, 1).1, Some(Protocol), "{what}");
    }
    // A character may lie on both sides of a border.
    let mut reader = Reader::new(Role::Server, None, LIMITS);
    let bytes = [0x01, 2, 0xe2, 0x82, 0x80, 1, 0xac];
    assert_eq!(read(&mut reader, &bytes, 1), Ok((vec!["€".into()], 0)));
}

#[test]
fn only_what_can_be_read_is_agreed_on() {
    let offered = |value: &'static str| Offers::read([value.as_bytes()].into_iter());
    let table = [
        ("permessage-deflate", Some("permessage-deflate")),
        (
            "Permessage-Deflate; Client_Max_Window_Bits",
            Some("permessage-deflate; client_max_window_bits"),
        ),
        (
            "a, permessage-deflate; server_max_window_bits=\"10\", b; c=\"d,e\"",
            Some("permessage-deflate; server_max_window_bits=10"),
        ),
        (
            "permessage-deflate; client_max_window_bits=8 , permessage-deflate;server_no_context_takeover",
            Some(
                "permessage-deflate; client_max_window_bits=8, permessage-deflate; server_no_context_takeover",
            ),
        ),
        ("permessage-deflate; more", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=08", None),
        ("permessage-deflate; client_no_context_takeover=1", None),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
        ("x-webkit-deflate-frame, permessage-bzip2", None),
        ("\"permessage-deflate\"", None),
        ("", None),
    ];
    for (value, expected) in table {
        assert_eq!(offered(value).value().as_deref(), expected, "{value}");
    }
    let offers = "permessage-deflate; client_max_window_bits, permessage-deflate; server_max_window_bits=12; client_max_window_bits=10";
    let whole = side(true, 15);
    let answers = [
        ("", Ok(None)),
        (" , ", Ok(None)),
        ("permessage-deflate", Ok(Some(Deflate { client: whole, server: whole }))),
        (
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=9",
            Ok(Some(Deflate { client: side(false, 15), server: side(true, 9) })),
        ),
        (
            "permessage-deflate; client_max_window_bits=11; server_no_context_takeover",
            Ok(Some(Deflate { client: side(true, 11), server: side(false, 15) })),
        ),
        ("permessage-deflate; client_max_window_bits", Err(ErrorKind::Negotiation)),
        ("permessage-deflate; client_max_window_bits=16", Err(ErrorKind::Negotiation)),
        ("permessage-deflate; x", Err(ErrorKind::Negotiation)),
        ("permessage-deflate, permessage-deflate", Err(ErrorKind::Negotiation)),
        ("permessage-bzip2", Err(ErrorKind::Negotiation)),
        ("permessage-deflate; =", Err(ErrorKind::Negotiation)),
    ];
    for (answer, expected) in answers {
        let agreed = offered(offers).agreed([answer.as_bytes()].into_iter());
        assert_eq!(agreed.map_err(|error| error.kind()), expected, "{answer}");
    }
    let narrow =
        offered("permessage-deflate; server_max_window_bits=12; server_no_context_takeover");
    for (answer, fits) in [
        ("permessage-deflate", false),
        ("permessage-deflate; server_no_context_takeover", false),
        ("permessage-deflate; server_no_context_takeover; server_max_window_bits=13", false),
        ("permessage-deflate; server_no_context_takeover; server_max_window_bits=12", true),
        (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits=9",
            false,
        ),
    ] {
        assert_eq!(narrow.agreed([answer.as_bytes()].into_iter()).is_ok(), fits, "{answer}");
    }
    let none = offered("").agreed([&b"permessage-deflate"[..]].into_iter());
    assert!(none.is_err());
}
