//! The chunked coding, whole and cut at every byte.

use bytes::BytesMut;
use http_wire::{ChunkEvent, ChunkedDecoder, ErrorKind, Fields, MAX_CHUNK_HEADER, chunk_header};

fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<Vec<u8>>), ErrorKind> {
    let mut decoder = ChunkedDecoder::default();
    let mut buf = BytesMut::new();
    let (mut data, mut end) = (Vec::new(), None);
    for piece in pieces {
        buf.extend_from_slice(piece);
        while let Some(event) = decoder.decode(&mut buf).map_err(|e| e.kind())? {
            match event {
                ChunkEvent::Data(bytes) => data.extend_from_slice(&bytes),
                ChunkEvent::End { trailers } => end = Some(trailers.to_vec()),
            }
        }
    }
    assert_eq!(decoder.is_done(), end.is_some());
    Ok((data, end))
}

#[test]
fn a_body_cut_at_every_byte_reads_the_same() {
    let body = b"5;x=\"y\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nA: b\r\nC:d\r\n\r\n";
    for cut in 0..=body.len() {
        let (data, end) = decode(&[&body[..cut], &body[cut..]]).unwrap();
        assert_eq!(data, b"hello0123456789", "cut at {cut}");
        let trailers = end.unwrap();
        assert_eq!(trailers, b"A: b\r\nC:d\r\n");
        assert_eq!(Fields::new(&trailers).count(), 2);
    }
    let one_by_one: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(decode(&one_by_one).unwrap().0, b"hello0123456789");
}

#[test]
fn what_follows_is_left_alone() {
    let mut buf = BytesMut::from(&b"1\r\na\r\n0\r\n\r\nGET /"[..]);
    let mut decoder = ChunkedDecoder::default();
    assert_eq!(decoder.decode(&mut buf).unwrap(), Some(ChunkEvent::Data("a".into())));
    assert!(matches!(decoder.decode(&mut buf).unwrap(), Some(ChunkEvent::End { .. })));
    assert_eq!(decoder.decode(&mut buf).unwrap(), None);
    assert_eq!(buf, "GET /");
}

#[test]
fn malformed_chunks() {
    use ErrorKind::*;
    let long = format!("1;{}\r\na\r\n", "x".repeat(2000));
    let many = "1;abcdefghijklmnop=qrstuvwxyz\r\na\r\n".repeat(1000);
    let trailers = format!("0\r\nA: {}\r\n\r\n", "x".repeat(9000));
    let table: [(&str, ErrorKind); 26] = [
        ("\r\n", ChunkSize),
        ("g\r\n", ChunkSize),
        ("0x5\r\nhello\r\n", ChunkSize),
        ("+5\r\nhello\r\n", ChunkSize),
        ("-5\r\nhello\r\n", ChunkSize),
        (" 5\r\nhello\r\n", ChunkSize),
        ("5 \r\nhello\r\n", ChunkSize),
        ("5 ;a\r\nhello\r\n", ChunkSize),
        ("5\t\r\nhello\r\n", ChunkSize),
        ("5,5\r\nhello\r\n", ChunkSize),
        (";a\r\nhello\r\n", ChunkSize),
        ("5;\0\r\nhello\r\n", ChunkSize),
        ("5\nhello\n", BareLineEnd),
        ("5;a\nb\r\nhello\r\n", BareLineEnd),
        ("5\rhello\r\n", BareLineEnd),
        ("8000000000000000\r\n", ChunkSize),
        ("00000000000000005\r\nhello\r\n", ChunkSize),
        ("FFFFFFFFFFFFFFFF1\r\n", ChunkSize),
        ("5\r\nhello0\r\n\r\n", ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", ChunkEnd),
        ("5\r\nhelloworld\r\n", ChunkEnd),
        (&long, ChunkExtension),
        (&many, ChunkExtension),
        (&trailers, TrailersTooLong),
        ("0\r\nContent-Length: 5\r\n\r\n", Trailer),
        ("0\r\n A: b\r\n\r\n", Fold),
    ];
    for (text, kind) in table {
        let short: String = text.chars().take(40).collect();
        assert_eq!(decode(&[text.as_bytes()]).unwrap_err(), kind, "{short:?}");
    }
}

#[test]
fn trailers_as_long_as_allowed_pass_however_they_are_cut() {
    let wire = b"0\r\nA: 1234\r\n\r\n";
    for (max, passes) in [(9, true), (8, false)] {
        for cut in 0..wire.len() {
            let mut decoder = ChunkedDecoder::new(max);
            let mut buf = BytesMut::from(&wire[..cut]);
            let first = decoder.decode(&mut buf);
            buf.extend_from_slice(&wire[cut..]);
            let outcome = first.and_then(|_| decoder.decode(&mut buf));
            assert_eq!(outcome.is_ok(), passes, "at most {max}, cut at {cut}");
        }
    }
}

#[test]
fn headers_are_plain_hexadecimal() {
    let mut room = [0; MAX_CHUNK_HEADER];
    assert_eq!(chunk_header(0, &mut room), b"0\r\n");
    assert_eq!(chunk_header(0xa5, &mut room), b"a5\r\n");
    assert_eq!(chunk_header(usize::MAX, &mut room), b"ffffffffffffffff\r\n");
}
