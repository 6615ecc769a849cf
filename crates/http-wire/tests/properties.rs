//! What holds for any bytes at all.

use bytes::{Bytes, BytesMut};
use http_wire::{
    ChunkEvent, ChunkedDecoder, LAST_CHUNK, Limits, MAX_CHUNK_HEADER, RequestHead, ResponseHead,
    chunk_header,
};
use proptest::prelude::*;

/// Bytes that often are almost a head.
fn almost_a_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"Content-Length: 1\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"Connection: close, x\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Every outcome of reading `bytes` in pieces of `size`, as text.
fn read<H: std::fmt::Debug>(
    bytes: &[u8],
    size: usize,
    parse: impl Fn(&mut BytesMut, &Limits) -> Result<Option<H>, http_wire::Error>,
    text: impl Fn(&H) -> Bytes,
) -> Result<Option<(Bytes, usize)>, http_wire::ErrorKind> {
    let mut buf = BytesMut::new();
    let mut fed = 0;
    for piece in bytes.chunks(size) {
        buf.extend_from_slice(piece);
        fed += piece.len();
        match parse(&mut buf, &Limits::default()) {
            Err(e) => return Err(e.kind()),
            Ok(Some(head)) => return Ok(Some((text(&head), fed - buf.len()))),
            Ok(None) => {}
        }
    }
    Ok(None)
}

proptest! {
    #[test]
    fn a_head_reads_the_same_however_it_is_cut(bytes in almost_a_head(), size in 1usize..40) {
        let whole = bytes.len().max(1);
        let request = |size| read(&bytes, size, RequestHead::parse, |h| h.bytes().clone());
        let response = |size| read(&bytes, size, ResponseHead::parse, |h| h.bytes().clone());
        // A fault behind a complete head belongs to the next one, so cuts may not change a head.
        prop_assert_eq!(request(size), request(whole));
        prop_assert_eq!(response(size), response(whole));
    }

    #[test]
    fn what_is_accepted_is_kept(bytes in almost_a_head()) {
        let mut buf = BytesMut::from(&bytes[..]);
        if let Ok(Some(head)) = RequestHead::parse(&mut buf, &Limits::default()) {
            let skipped = usize::from(bytes.starts_with(b"\r\n")) * 2;
            prop_assert_eq!(&bytes[skipped..skipped + head.bytes().len()], &head.bytes()[..]);
            let lines: usize = head.fields().map(|f| f.line.len()).sum();
            let start = head.bytes().windows(2).position(|w| w == b"\r\n").unwrap() + 2;
            prop_assert_eq!(start + lines + 2, head.bytes().len());
            let same = head.edit().build().unwrap();
            prop_assert_eq!(same.bytes(), head.bytes());
            // None of these may panic, whatever was accepted.
            let _ = (head.framing(), head.host(), head.target_form(), head.expects_continue());
            let _ = (head.keep_alive(), head.hop_by_hop().count());
        }
    }

    #[test]
    fn a_field_is_found_by_its_name_if_it_is_there(
        names in proptest::collection::vec("[a-zA-Z-]{1,4}", 0..8),
        asked in "[a-zA-Z-]{1,4}",
    ) {
        let lines: Vec<_> = names.iter().map(|name| format!("{name}: 1\r\n")).collect();
        let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.concat());
        let head = ResponseHead::from_bytes(text.into(), &Limits::default()).unwrap();
        for asked in names.iter().chain([&asked]) {
            let there = names.iter().filter(|name| name.eq_ignore_ascii_case(asked)).count();
            prop_assert_eq!(head.all(asked).count(), there);
            prop_assert_eq!(head.all(&asked.to_ascii_uppercase()).count(), there);
            prop_assert_eq!(head.field(asked).is_some(), there > 0);
        }
    }

    #[test]
    fn chunks_decode_to_what_was_encoded(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
        size in 1usize..50,
    ) {
        let mut wire = Vec::new();
        for piece in &pieces {
            wire.extend_from_slice(chunk_header(piece.len(), &mut [0; MAX_CHUNK_HEADER]));
            wire.extend_from_slice(piece);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(LAST_CHUNK);
        wire.extend_from_slice(b"next");
        let (mut decoder, mut buf, mut data) = (ChunkedDecoder::default(), BytesMut::new(), Vec::new());
        for piece in wire.chunks(size) {
            buf.extend_from_slice(piece);
            while let Some(event) = decoder.decode(&mut buf).unwrap() {
                if let ChunkEvent::Data(bytes) = event {
                    data.extend_from_slice(&bytes);
                }
            }
        }
        prop_assert!(decoder.is_done());
        prop_assert_eq!(data, pieces.concat());
        prop_assert_eq!(&buf[..], b"next");
    }

    #[test]
    fn no_bytes_upset_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = ChunkedDecoder::default();
        let mut buf = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decoder.decode(&mut buf) {}
        prop_assert!(buf.len() <= bytes.len());
    }
}
