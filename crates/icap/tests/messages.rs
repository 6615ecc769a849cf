//! Heads, encapsulation and chunks: what is taken, what is refused, what is written.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic, in its helpers too")]

use bytes::{Buf, BytesMut};
use icap::{
    BodyEvent, BodyKind, ChunkDecoder, Encapsulated, ErrorKind, Headers, IsTag, Limits, Method,
    RequestHead, ResponseHead,
};

fn request(text: &str) -> Result<Option<RequestHead>, icap::Error> {
    RequestHead::parse(&mut BytesMut::from(text), &Limits::default())
}

fn response(text: &str) -> Result<Option<ResponseHead>, icap::Error> {
    ResponseHead::parse(&mut BytesMut::from(text), &Limits::default())
}

fn kind<T: std::fmt::Debug>(result: Result<T, icap::Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_request_head_tells_what_governs_the_transaction() {
    let head = request(
        "RESPMOD icap://h:1344/a/b?x=1 ICAP/1.0\r\nHost: h\r\npreview: 1024\r\n\
         ALLOW: trailers, 204 ,206\r\nconnection: Close\r\n\
         Encapsulated: req-hdr=0, res-hdr=10,res-body = 30\r\n\r\n",
    )
    .unwrap()
    .unwrap();
    assert_eq!(head.method(), Method::Respmod);
    assert_eq!(head.uri(), "icap://h:1344/a/b?x=1");
    assert_eq!(head.path(), "/a/b");
    assert_eq!(head.preview(), Some(1024));
    assert!(head.allows_204() && head.allows_206() && head.wants_close());
    assert_eq!(
        head.encapsulated(),
        Encapsulated { req_hdr: Some(10), res_hdr: Some(20), body: BodyKind::Res }
    );
    assert_eq!(head.headers().get("HOST"), Some(&b"h"[..]));
}

#[test]
fn a_head_is_incomplete_at_every_cut_and_its_rest_stays() {
    let text = "\r\nREQMOD icap://h/s ICAP/1.0\r\nHost: h\r\nEncapsulated: null-body=0\r\n\r\n";
    for cut in 0..text.len() {
        let mut buf = BytesMut::from(&text[..cut]);
        let mut head = RequestHead::empty();
        let mut scanned = 0;
        assert!(!head.parse_into(&mut buf, &mut scanned, &Limits::default()).unwrap());
        buf.extend_from_slice(&text.as_bytes()[cut..]);
        buf.extend_from_slice(b"rest");
        assert!(head.parse_into(&mut buf, &mut scanned, &Limits::default()).unwrap(), "{cut}");
        assert_eq!(&buf[..], b"rest");
        assert_eq!(head.path(), "/s");
    }
}

#[test]
fn folded_lines_are_joined() {
    let head = response(
        "ICAP/1.0 200 OK\r\nX-Violations-Found: 1\r\n\tstream\r\n\tEicar\r\n\t0\r\nISTag: \"x\"\r\n\r\n",
    )
    .unwrap()
    .unwrap();
    assert_eq!(
        head.headers().get("X-Violations-Found"),
        Some(&b"1  \tstream  \tEicar  \t0"[..]),
        "a value is one line, wherever it is passed on to"
    );
    let words: Vec<_> = head.headers().text("x-violations-found").unwrap().split('\t').collect();
    assert_eq!(words.iter().map(|w| w.trim()).collect::<Vec<_>>(), ["1", "stream", "Eicar", "0"]);
    assert_eq!(head.headers().text("istag"), Some("\"x\""));
}

#[test]
fn malformed_request_heads_are_refused_with_their_kind() {
    let with = |line: &str| format!("{line}\r\nEncapsulated: null-body=0\r\n\r\n");
    for (line, expected) in [
        ("REQMOD  icap://h/s ICAP/1.0", ErrorKind::StartLine),
        ("REQMOD icap://h/s", ErrorKind::StartLine),
        ("REQMOD http://h/s ICAP/1.0", ErrorKind::StartLine),
        ("REQMOD * ICAP/1.0", ErrorKind::StartLine),
        ("REQMOD icap://h/\u{e9} ICAP/1.0", ErrorKind::StartLine),
        ("GET / HTTP/1.1", ErrorKind::StartLine),
        ("REQMOD icap://h/s ICAP/2.0", ErrorKind::Version),
        ("REQMOD icap://h/s ICAP/10", ErrorKind::Version),
        ("LOGMOD icap://h/s ICAP/1.0", ErrorKind::Method),
        ("reqmod icap://h/s ICAP/1.0", ErrorKind::Method),
        ("REQMOD icap://h/s ICAP/1.0\r\nno colon", ErrorKind::Header),
        ("REQMOD icap://h/s ICAP/1.0\r\nspace : x", ErrorKind::Header),
        ("REQMOD icap://h/s ICAP/1.0\r\n: x", ErrorKind::Header),
        ("REQMOD icap://h/s ICAP/1.0\r\n folded: first", ErrorKind::Header),
        ("REQMOD icap://h/s ICAP/1.0\r\nX: a\rb", ErrorKind::Header),
        ("REQMOD icap://h/s ICAP/1.0\r\nX: a\0b", ErrorKind::Header),
        ("REQMOD icap://h/s ICAP/1.0\r\nPreview: -1", ErrorKind::Preview),
        ("REQMOD icap://h/s ICAP/1.0\r\nPreview: 1\r\nPreview: 2", ErrorKind::Preview),
        ("REQMOD icap://h/s ICAP/1.0\r\nEncapsulated: null-body=0", ErrorKind::Encapsulated),
    ] {
        assert_eq!(kind(request(&with(line))), expected, "{line}");
    }
    assert_eq!(kind(request("REQMOD icap://h/s ICAP/1.0\r\n\r\n")), ErrorKind::Encapsulated);
    assert!(request("OPTIONS * ICAP/1.0\r\n\r\n").unwrap().is_some());
}

#[test]
fn heads_are_bounded_before_they_are_complete() {
    let limits = Limits { max_head: 100, max_fields: 3, max_uri: 20, ..Limits::default() };
    let parse = |text: &str| RequestHead::parse(&mut BytesMut::from(text), &limits);
    let long = format!("REQMOD icap://h/s ICAP/1.0\r\nX: {}", "x".repeat(100));
    assert_eq!(kind(parse(&long)), ErrorKind::HeadTooLarge);
    assert_eq!(kind(parse(&format!("{long}\r\n\r\n"))), ErrorKind::HeadTooLarge);
    let many = "OPTIONS * ICAP/1.0\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n";
    assert_eq!(kind(parse(many)), ErrorKind::HeadTooLarge);
    let uri = format!("OPTIONS icap://h/{} ICAP/1.0\r\n\r\n", "x".repeat(20));
    assert_eq!(kind(parse(&uri)), ErrorKind::UriTooLong);
}

#[test]
fn response_heads_of_real_servers_parse() {
    for (text, status, reason) in [
        ("ICAP/1.0 204 Unmodified\r\n\r\n", 204, "Unmodified"),
        ("ICAP/1.0 200 \r\n\r\n", 200, ""),
        ("ICAP/1.0 200\r\n\r\n", 200, ""),
        ("ICAP/1.1 418 Bad composition\r\n\r\n", 418, "Bad composition"),
        ("ICAP/1.0 404 x\n\n", 404, "x"),
    ] {
        let head = response(text).unwrap().unwrap();
        assert_eq!((head.status(), head.reason()), (status, reason.as_bytes()), "{text:?}");
        assert_eq!(head.encapsulated(), None);
    }
    for text in ["ICAP/1.0 20 x", "ICAP/1.0 2000 x", "ICAP/1.0 x", "ICAP/1.0", "HTTP/1.1 200 OK"] {
        assert_eq!(kind(response(&format!("{text}\r\n\r\n"))), ErrorKind::StartLine, "{text}");
    }
}

#[test]
fn encapsulated_lists_are_valid_or_refused() {
    let parse = |value: &str| Encapsulated::parse(value.as_bytes(), &Limits::default());
    for good in [
        "null-body=0",
        "opt-body=0",
        "req-body=0",
        "req-hdr=0, null-body=1",
        "req-hdr=0, res-hdr=5, res-body=9",
        "RES-HDR=0,Null-Body=262144",
    ] {
        let mut written = Vec::new();
        let value = parse(good).unwrap();
        value.encode(&mut written);
        let written = String::from_utf8(written).unwrap();
        let again = written.strip_prefix("Encapsulated: ").unwrap().trim_end();
        assert_eq!(parse(again).unwrap(), value);
    }
    for bad in [
        "",
        "req-hdr=0",
        "req-hdr=0, res-hdr=5",
        "null-body=5",
        "req-hdr=1, null-body=5",
        "req-hdr=0, null-body=0",
        "req-hdr=0, req-hdr=5, null-body=9",
        "res-hdr=0, req-hdr=5, null-body=9",
        "null-body=0, req-hdr=0",
        "req-body=0, null-body=5",
        "req-hdr=0, null-body=-5",
        "req-hdr=0, null-body=+5",
        "req-hdr=0, null-body=0x5",
        "req-hdr=0, null-body=5,",
        "req-hdr=0; null-body=5",
        "req-hdr=0, res-hdr=9, res-body=5",
        "hdr=0, null-body=5",
    ] {
        assert_eq!(kind(parse(bad)), ErrorKind::Encapsulated, "{bad}");
    }
    for huge in ["req-hdr=0, null-body=262145", "req-hdr=0, req-body=18446744073709551615"] {
        assert_eq!(kind(parse(huge)), ErrorKind::TooLarge, "{huge}");
    }
}

/// Decodes `wire` handed over in two parts, and says what was seen.
fn decode(wire: &[u8], cut: usize, preview: bool) -> Result<(Vec<u8>, String), icap::Error> {
    let mut decoder = ChunkDecoder::new(preview, &Limits::default());
    let mut buf = BytesMut::from(&wire[..cut]);
    let mut rest = Some(&wire[cut..]);
    let (mut data, mut seen) = (Vec::new(), String::new());
    loop {
        match decoder.next(&mut buf)? {
            Some(BodyEvent::Data(len)) => {
                data.extend_from_slice(&buf[..len]);
                buf.advance(len);
            }
            Some(BodyEvent::PreviewEnd) => {
                seen.push_str("preview ");
                decoder.resume();
            }
            Some(BodyEvent::End { ieof, use_original_body, trailers }) => {
                let trailers = String::from_utf8_lossy(&trailers).into_owned();
                seen.push_str(&format!("end {ieof} {use_original_body:?} {trailers:?}"));
                assert!(decoder.is_done());
                seen.push_str(&format!(" {}", buf.len() + rest.map_or(0, <[u8]>::len)));
                return Ok((data, seen));
            }
            None => match rest.take() {
                Some(more) => buf.extend_from_slice(more),
                None => return Ok((data, format!("{seen}incomplete"))),
            },
        }
    }
}

#[test]
fn bodies_decode_the_same_cut_at_every_position() {
    for (wire, preview, data, seen) in [
        ("5\r\nhello\r\n0\r\n\r\nXY", false, "hello", "end false None \"\" 2"),
        (
            "3\r\nabc\r\n0\r\n\r\n2\r\nde\r\n0\r\n\r\n",
            true,
            "abcde",
            "preview end false None \"\" 0",
        ),
        ("3\r\nabc\r\n0; ieof\r\n\r\n", true, "abc", "end true None \"\" 0"),
        ("0;x=\"a;b\\\";\" ; IEOF \r\n\r\n", true, "", "end true None \"\" 0"),
        ("0\r\n\r\n0\r\n\r\n", true, "", "preview end false None \"\" 0"),
        (
            "1;n=v\r\na\r\n01 \r\nb\r\n0; use-original-body=77\r\n\r\n",
            false,
            "ab",
            "end false Some(77) \"\" 0",
        ),
        (
            "A\r\n0123456789\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
            false,
            "0123456789",
            "end false None \"X-A: 1\\r\\nX-B: 2\\r\\n\" 0",
        ),
    ] {
        for cut in 0..=wire.len() {
            let (got, events) = decode(wire.as_bytes(), cut, preview).unwrap();
            assert_eq!(
                (got.as_slice(), events.as_str()),
                (data.as_bytes(), seen),
                "{wire:?} {cut}"
            );
        }
    }
}

#[test]
fn malformed_bodies_are_refused() {
    for wire in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        " 5\r\n",
        "5\nhello",
        "5\r\nhelloo\r\n",
        "5\r\nhello\n0\r\n",
        "11111111111111111\r\n",
        "5 5\r\n",
        "0; use-original-body\r\n\r\n",
        "0; use-original-body=x\r\n\r\n",
        "0; use-original-body=1; use-original-body=2\r\n\r\n",
        "0\r\n\n",
    ] {
        assert_eq!(kind(decode(wire.as_bytes(), 0, false)), ErrorKind::Chunk, "{wire:?}");
    }
    for endless in ["0;".to_owned() + &"x".repeat(5000), "0\r\nX: ".to_owned() + &"x".repeat(20000)]
    {
        for suffix in ["", "\r\n\r\n"] {
            let wire = endless.clone() + suffix;
            assert_eq!(kind(decode(wire.as_bytes(), 0, false)), ErrorKind::Chunk);
        }
    }
}

#[test]
fn a_size_of_64_bits_costs_nothing() {
    let (data, seen) = decode(b"ffffffffffffffff\r\nabc", 3, false).unwrap();
    assert_eq!((data.as_slice(), seen.as_str()), (&b"abc"[..], "incomplete"));
}

#[test]
fn what_is_written_parses_again() {
    let encapsulated = Encapsulated { req_hdr: Some(3), res_hdr: None, body: BodyKind::Req };
    let mut head = RequestHead::new(Method::Reqmod, "icap://h:1344/s", Some(encapsulated)).unwrap();
    head.headers_mut().push("Host", "h:1344").unwrap();
    head.headers_mut().push("Preview", "0").unwrap();
    assert!(head.headers_mut().push("X-A", "a\r\nEvil: 1").is_err());
    assert!(head.headers_mut().push("X A", "a").is_err());
    let mut wire = BytesMut::new();
    head.encode(&mut wire);
    let text = wire.clone();
    let parsed = RequestHead::parse(&mut wire, &Limits::default()).unwrap().unwrap();
    assert_eq!((parsed.preview(), parsed.encapsulated()), (Some(0), encapsulated));
    parsed.encode(&mut wire);
    assert_eq!(wire, text);

    let mut head = ResponseHead::new(204, None);
    head.headers_mut().set("ISTag", "\"a\"").unwrap();
    head.headers_mut().set("istag", "\"b\"").unwrap();
    head.encode(&mut wire);
    assert!(wire.ends_with(b"ICAP/1.0 204 No Modifications Needed\r\nistag: \"b\"\r\n\r\n"));

    let mut body = Vec::new();
    icap::encode_chunk(&mut body, &[b'x'; 300]);
    icap::encode_chunk(&mut body, b"");
    let mut trailers = Headers::new();
    trailers.push("X-T", "1").unwrap();
    icap::encode_last_chunk(&mut body, &trailers);
    let (data, seen) = decode(&body, 0, false).unwrap();
    assert_eq!((data.len(), seen.as_str()), (300, "end false None \"X-T: 1\\r\\n\" 0"));
}

#[test]
fn istags_are_bounded_and_quotable() {
    assert_eq!(IsTag::new("W3E4R7U9-L2E4-2").unwrap().as_str(), "W3E4R7U9-L2E4-2");
    for bad in ["", "a b", "a\"", &"x".repeat(33)] {
        assert!(IsTag::new(bad).is_err(), "{bad}");
    }
    assert_eq!(IsTag::from_state("rules", 0xabc).as_str(), "rules-0000000000000abc");
    assert_eq!(IsTag::from_state(&"x".repeat(99), u64::MAX).as_str().len(), 32);
}
