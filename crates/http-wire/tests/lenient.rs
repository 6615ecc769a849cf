//! Responses as servers send them: each fault has one reading, and what is written anew has none.

use bytes::{Bytes, BytesMut};
use http_wire::{ChunkEvent, ChunkedDecoder, ErrorKind, Framing, Limits, ResponseHead};
use proptest::prelude::*;

/// How it is written, whether that is anew, and what is left.
fn read(text: &[u8]) -> Result<(String, bool, usize), ErrorKind> {
    let mut buf = BytesMut::from(text);
    let read = ResponseHead::parse_lenient(&mut buf, &Limits::default()).map_err(|e| e.kind())?;
    // One that is whole: it would be waited for otherwise.
    let read = read.ok_or(ErrorKind::NotOneHead)?;
    let written = String::from_utf8_lossy(read.head.bytes()).into_owned();
    Ok((written, read.is_mended, buf.len()))
}

#[test]
fn each_fault_has_one_reading() {
    let table = [
        // Lines.
        ("HTTP/1.1 200 OK\nA: b\n\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nA:  b\r\nC: d\n\r\n", "HTTP/1.1 200 OK\r\nA:  b\r\nC: d\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nA : b\r\nC\t :d\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nA: b \r\n\t c\r\n d\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b c d\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n \r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nA:\r\n b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n A: b\r\nC: d\r\n\r\n", "HTTP/1.1 200 OK\r\nC: d\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nC: d\r\nA b: c\r\n e\r\n\r\n", "HTTP/1.1 200 OK\r\nC: d\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\r\nno colon\r\n: b\r\nA\"b: c\r\nX:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX:\r\n\r\n",
        ),
        ("HTTP/1.1 200 OK\r\nA: b\u{1}c\u{7f}\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b c\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nA: b\rC: d\r\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b C: d\r\n\r\n"),
        ("HTTP/1.1 \t200  O\u{b}K\r\n\r\n", "HTTP/1.1 200  O K\r\n\r\n"),
        ("HTTP/1.1\t204\r\n\r\n", "HTTP/1.1 204\r\n\r\n"),
        ("HTTP/1.1 200 \n\n", "HTTP/1.1 200\r\n\r\n"),
        // Lengths and codings.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nTRANSFER-ENCODING: chunked, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length:9\r\nA: b\r\nContent-Length: 9\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:9\r\nA: b\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9, 09\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 00000000000000000000000\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\nTransfer-Encoding: gzip\r\nA: b\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n",
        ),
        ("HTTP/1.1 103 X\r\nContent-Length: 4\r\n\r\n", "HTTP/1.1 103 X\r\n\r\n"),
        (
            "HTTP/1.1 304 X\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        // Connection.
        (
            "HTTP/1.1 200 OK\r\nConnection: content-length, close\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ];
    for (came, written) in table {
        assert_eq!(read(came.as_bytes()), Ok((written.to_owned(), true, 0)), "{came:?}");
        let bytes = Bytes::copy_from_slice(came.as_bytes());
        let head = ResponseHead::from_bytes_lenient(bytes, &Limits::default()).unwrap();
        assert_eq!(head.bytes(), written.as_bytes(), "{came:?}");
        assert_eq!(read(written.as_bytes()), Ok((written.to_owned(), false, 0)), "{written:?}");
    }
}

#[test]
fn what_nobody_can_know_is_refused() {
    use ErrorKind::*;
    let table = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1,\r\n\r\n", ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\u{1}2\r\n\r\n", ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\n", ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n", ContentLength),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", UnknownCoding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n", TransferEncoding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chun\u{1}ked\r\n\r\n", TransferEncoding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n x\r\n\r\n", TransferEncoding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", TransferEncoding),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", ControlCharacter),
        ("HTTP/1.1 200 O\0K\r\n\r\n", ControlCharacter),
        ("HTTP/1.1 200OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1200 OK\r\n\r\n", StatusLine),
        ("HTTP/1.2 200 OK\r\n\r\n", Version),
        ("HTTP/2.0 200 OK\r\n\r\n", StatusLine),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", StatusLine),
        ("ICY 200 OK\r\n\r\n", StatusLine),
    ];
    for (came, kind) in table {
        assert_eq!(read(came.as_bytes()), Err(kind), "{came:?}");
    }
    let listed =
        |count| format!("HTTP/1.1 200 OK\r\nConnection: {}\r\n\r\n", ["a"; 65][..count].join(","));
    assert_eq!(read(listed(64).as_bytes()).map(|(_, is_mended, _)| is_mended), Ok(false));
    assert_eq!(read(listed(65).as_bytes()), Err(Connection));
    let limits = Limits { max_head: 64, max_fields: 2 };
    for (came, kind) in [
        (format!("HTTP/1.1 200 OK\nA: {}", "b".repeat(80)), HeadTooLong),
        (format!("HTTP/1.1 200 OK\n{}", "a\n".repeat(3)), TooManyFields),
    ] {
        let mut buf = BytesMut::from(came.as_bytes());
        let error = ResponseHead::parse_lenient(&mut buf, &limits).unwrap_err();
        assert_eq!(error.kind(), kind, "{came:?}");
    }
    let two = Bytes::from("HTTP/1.1 200 OK\nA: b\n\nHTTP/1.1 200 OK\n\n");
    assert!(ResponseHead::from_bytes_lenient(two, &Limits::default()).is_err());
}

fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, bool), ErrorKind> {
    let mut decoder = ChunkedDecoder::default().lenient();
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
    Ok((data, end.ok_or(ErrorKind::NotOneHead)?, decoder.is_mended()))
}

#[test]
fn chunks_of_servers() {
    for (came, trailers, is_mended) in [
        ("5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n", "A: b\r\n", false),
        ("5 ; a=b\r\nhello\r\n0\r\n\r\n", "", true),
        ("5 \t \r\nhello\r\n0  \r\n\r\n", "", true),
        ("5\nhello\n0\n\n", "", true),
        ("5\r\nhello\r\n0\r\n\n", "", true),
        ("5\r\nhello\r\n0\r\nA : b\r\nSet-Cookie: c\r\n\r\n", "A: b\r\n", true),
        ("5\r\nhello\r\n0\r\nA: b\r\n c\r\nD: e\n\n", "A: b c\r\nD: e\r\n", true),
    ] {
        for cut in 0..=came.len() {
            let (first, second) = came.as_bytes().split_at(cut);
            let expected = (b"hello".to_vec(), trailers.as_bytes().to_vec(), is_mended);
            assert_eq!(decode(&[first, second]), Ok(expected), "{came:?} cut at {cut}");
        }
    }
    for came in [
        " 5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\n0\r\nA: \0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
    ] {
        assert!(decode(&[came.as_bytes()]).is_err(), "{came:?}");
    }
    let long = format!("0\r\nA : {}\r\n\r\n", "x".repeat(9000));
    assert_eq!(decode(&[long.as_bytes()]), Err(ErrorKind::TrailersTooLong));
}

/// Bytes that often are almost a head of a server.
fn almost_a_head() -> impl Strategy<Value = Vec<u8>> {
    const STARTS: [&str; 5] = [
        "HTTP/1.1 200 OK",
        "HTTP/1.0 200",
        "HTTP/1.1  204 \u{1}",
        "HTTP/1.1 101 X",
        "HTTP/1.1 304 X",
    ];
    const PIECES: [&str; 12] = [
        "Content-Length: 1",
        "Content-Length : 01, 1",
        "content-length:2",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Connection: close, content-length",
        "A: b",
        " 1",
        "\tchunked",
        "\u{b}",
        ":",
        "\r",
    ];
    let start = proptest::sample::select(&STARTS[..]);
    let piece = proptest::sample::select(&PIECES[..]);
    let end = proptest::sample::select(&["\r\n", "\n", "\r\r\n", ""][..]);
    let odd = proptest::collection::vec(any::<u8>(), 0..4);
    let line = (piece, odd, end)
        .prop_map(|(piece, odd, end)| [piece.as_bytes(), &odd, end.as_bytes()].concat());
    (start, proptest::collection::vec(line, 0..8)).prop_map(|(start, lines)| {
        [start.as_bytes(), b"\n", &lines.concat(), b"\r\n\nHTTP/1.1 200 OK\r\n\r\n"].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_has_one_reading(bytes in almost_a_head(), size in 1usize..20) {
        let mut whole = BytesMut::from(&bytes[..]);
        let read = ResponseHead::parse_lenient(&mut whole, &Limits::default());
        // However it is cut, the same comes out, and as much of it is used.
        let (mut buf, mut fed, mut came) = (BytesMut::new(), 0, Ok(None));
        for piece in bytes.chunks(size) {
            buf.extend_from_slice(piece);
            fed += piece.len();
            came = ResponseHead::parse_lenient(&mut buf, &Limits::default());
            if !matches!(came, Ok(None)) {
                break;
            }
        }
        match (&read, &came) {
            (Ok(Some(whole_head)), Ok(Some(head))) => {
                prop_assert_eq!(whole_head.head.bytes(), head.head.bytes());
                prop_assert_eq!(bytes.len() - whole.len(), fed - buf.len());
            }
            (Err(_), Err(_)) | (Ok(None), Ok(None)) => {}
            other => prop_assert!(false, "{:?}", other),
        }
        let Ok(Some(read)) = read else { return Ok(()) };
        let head = read.head;
        // Strictly it is the same head.
        let strict = ResponseHead::from_bytes(head.bytes().clone(), &Limits::default()).unwrap();
        prop_assert_eq!(strict.fields().count(), head.fields().count());
        for method in [&b"GET"[..], b"HEAD"] {
            prop_assert!(head.framing(method).is_ok());
        }
        if let Ok(Framing::Length(length)) = head.framing(b"GET") {
            let value = text_of(head.field("Content-Length").unwrap().value);
            prop_assert_eq!(value, length.to_string());
        }
        let lines = head.bytes().strip_suffix(b"\r\n\r\n").unwrap().split(|b| *b == b'\n');
        for line in lines {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            prop_assert!(!line.iter().any(|b| *b < b' ' && *b != b'\t' || *b == 0x7f), "{:?}", line);
        }
        let mut again = BytesMut::from(&head.bytes()[..]);
        let again = ResponseHead::parse_lenient(&mut again, &Limits::default()).unwrap().unwrap();
        prop_assert!(!again.is_mended);
        prop_assert_eq!(again.head.bytes(), head.bytes());
    }

    #[test]
    fn no_bytes_upset_the_lenient_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = ChunkedDecoder::default().lenient();
        let mut buf = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decoder.decode(&mut buf) {}
        prop_assert!(buf.len() <= bytes.len());
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
