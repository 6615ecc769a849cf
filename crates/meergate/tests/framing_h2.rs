//! HTTP/2 messages that are ambiguous or hostile, each sent through a socket: what the sender gets,
//! and that the other side never sees them.
#![allow(clippy::unwrap_used, reason = "helpers fail the test that calls them")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use support::h2::{
    Frames, Handler, Origin, RawOrigin, collect, connect, gateway, get, handler, request, send,
    soon, tls,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers everything that has arrived whole with 200 and 40 KB; counts that.
fn plain(whole: Arc<AtomicUsize>) -> Handler {
    handler(move |request, mut respond| {
        let whole = whole.clone();
        async move {
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                let Ok(data) = data else { return };
                let _ = body.flow_control().release_capacity(data.len());
            }
            if body.trailers().await.is_err() {
                return;
            }
            whole.fetch_add(1, Ordering::SeqCst);
            let Ok(mut stream) = respond.send_response(http::Response::new(()), false) else {
                return;
            };
            send(&mut stream, Bytes::from_static(&[b'x'; 40_000]), true).await;
        }
    })
}

/// The client's preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Field lines as HPACK literals, neither indexed nor compressed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_never_reach_the_origin() {
    let whole = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start(1000, plain(whole.clone())).await;
    let (gateway, _dir) = gateway(&origin, "");
    let host = format!("localhost:{}", origin.address.port());
    let get: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", &host), (":path", "/1")];
    let with = |extra: &[(&str, &str)]| frame(1, 5, 1, &block(&[&get[..], extra].concat()));
    let only = |fields: &[(&str, &str)]| frame(1, 5, 1, &block(fields));
    let post = |length: &'static str, data: &[u8]| {
        let mut fields: Vec<(&str, &str)> = get.to_vec();
        fields[0].1 = "POST";
        fields.push(("content-length", length));
        [frame(1, 4, 1, &block(&fields)), frame(0, 1, 1, data)].concat()
    };
    let trailers = |fields: &[(&str, &str)]| {
        let mut asked: Vec<(&str, &str)> = get.to_vec();
        asked[0].1 = "POST";
        let data = frame(0, 0, 1, b"1234");
        [frame(1, 4, 1, &block(&asked)), data, frame(1, 5, 1, &block(fields))].concat()
    };
    let mut unended = trailers(&[("x-a", "1")]);
    let end = unended.len() - block(&[("x-a", "1")]).len() - 5;
    unended[end] = 4;
    let table: Vec<(&str, &str, Vec<u8>)> = vec![
        ("a name in capitals", "goaway 1", with(&[("X-A", "1")])),
        ("an empty name", "goaway 1", with(&[("", "1")])),
        ("a space in a name", "goaway 1", with(&[("x a", "1")])),
        ("a colon in a name", "goaway 1", with(&[("x:a", "1")])),
        ("a line end in a value", "goaway 1", with(&[("x-a", "1\r\nx-b: 2")])),
        ("a bare LF in a value", "goaway 1", with(&[("x-a", "1\n2")])),
        ("a NUL in a value", "goaway 1", with(&[("x-a", "1\0")])),
        ("connection", "reset 1", with(&[("connection", "close")])),
        ("transfer-encoding", "reset 1", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", "reset 1", with(&[("upgrade", "h2c")])),
        ("keep-alive", "reset 1", with(&[("keep-alive", "1")])),
        ("proxy-connection", "reset 1", with(&[("proxy-connection", "keep-alive")])),
        ("te", "reset 1", with(&[("te", "gzip")])),
        ("another host", "400", with(&[("host", "other")])),
        ("a pseudo-field after a field", "reset 1", with(&[("x-a", "1"), (":path", "/2")])),
        ("an unknown pseudo-field", "goaway 1", with(&[(":x", "1")])),
        ("a response's pseudo-field", "reset 1", with(&[(":status", "200")])),
        ("two methods", "reset 1", with(&[(":method", "POST")])),
        ("two lengths", "reset 1", with(&[("content-length", "0"), ("content-length", "1")])),
        ("a length without content", "reset 1", with(&[("content-length", "5")])),
        ("a length that is none", "reset 1", with(&[("content-length", "x")])),
        ("a signed length", "reset 1", with(&[("content-length", "+0")])),
        ("no method", "reset 1", only(&get[1..])),
        ("no path", "reset 1", only(&get[..3])),
        ("no scheme", "reset 1", only(&[get[0], get[2], get[3]])),
        ("no authority", "400", only(&[get[0], get[1], get[3]])),
        ("an empty path", "reset 1", only(&[get[0], get[1], get[2], (":path", "")])),
        ("a relative path", "reset 1", only(&[get[0], get[1], get[2], (":path", "x")])),
        ("a space in the path", "reset 1", only(&[get[0], get[1], get[2], (":path", "/a b")])),
        (
            "a line end in the path",
            "reset 1",
            only(&[get[0], get[1], get[2], (":path", "/ HTTP/1.1\r\nx: y")]),
        ),
        (
            "a line end in the method",
            "goaway 1",
            only(&[(":method", "GET / HTTP/1.1\r\n"), get[1], get[2], get[3]]),
        ),
        (
            "a user in the authority",
            "400",
            only(&[get[0], get[1], (":authority", "u@localhost"), get[3]]),
        ),
        ("another scheme", "400", only(&[get[0], (":scheme", "http"), get[2], get[3]])),
        ("CONNECT", "405", only(&[(":method", "CONNECT"), get[2]])),
        ("less content than announced", "reset 1", post("5", b"1234")),
        ("more content than announced", "reset 1", post("5", b"123456")),
        ("HEADERS on stream 0", "goaway 1", frame(1, 5, 0, &block(&get))),
        ("HEADERS on an even stream", "goaway 1", frame(1, 5, 2, &block(&get))),
        ("DATA before HEADERS", "goaway 1", frame(0, 1, 1, b"x")),
        ("CONTINUATION alone", "goaway 1", frame(9, 4, 1, &block(&get))),
        (
            "a frame between HEADERS and CONTINUATION",
            "goaway 1",
            [frame(1, 1, 1, &block(&get)), frame(6, 0, 0, &[0; 8])].concat(),
        ),
        (
            "a stream that depends on itself",
            "reset 1",
            [frame(1, 0x25, 1, &[&[0, 0, 0, 1, 16][..], &block(&get)].concat())].concat(),
        ),
        ("too much padding", "goaway 1", frame(1, 0xd, 1, &[&[255][..], &block(&get)].concat())),
        ("broken HPACK", "goaway 1", frame(1, 5, 1, &[0xff; 8])),
        ("PUSH_PROMISE", "goaway 1", frame(5, 4, 1, &[&[0, 0, 0, 2][..], &block(&get)].concat())),
        (
            "a window past its limit",
            "goaway 3",
            [frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]
                .concat(),
        ),
        ("a window update of nothing", "goaway 1", frame(8, 0, 0, &[0; 4])),
        ("SETTINGS of an odd length", "goaway 1", frame(4, 0, 0, &[0; 5])),
        ("SETTINGS with a wrong value", "goaway 1", frame(4, 0, 0, &[0, 2, 0, 0, 0, 9])),
        ("a PING of an odd length", "goaway 1", frame(6, 0, 0, &[0; 7])),
        ("a frame past the maximum", "goaway 6", frame(0, 0, 1, &[0; 20_000])),
        ("GOAWAY of an odd length", "goaway 1", frame(7, 0, 0, &[0; 3])),
        // What a parser that is not strict would take for two requests, or for another one.
        ("HTTP/1.1", "goaway 6", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("another preface", "goaway 6", PREFACE[..24].to_vec()),
        ("a stream used twice", "goaway 1", [only(&get), only(&get)].concat()),
        ("a status for a method", "reset 1", only(&[(":status", "200"), get[1], get[2], get[3]])),
        ("a bare CR in a value", "goaway 1", with(&[("x-a", "1\r2")])),
        ("two hosts", "400", with(&[("host", &host), ("host", &host)])),
        ("two authorities", "reset 1", with(&[(":authority", &host)])),
        ("two paths", "reset 1", with(&[(":path", "/2")])),
        (
            "a list of authorities",
            "reset 1",
            only(&[get[0], get[1], (":authority", "a, b"), get[3]]),
        ),
        ("an asterisk", "400", only(&[get[0], get[1], get[2], (":path", "*")])),
        ("a NUL in the path", "reset 1", only(&[get[0], get[1], get[2], (":path", "/a\0b")])),
        ("a list of lengths", "reset 1", post("4, 4", b"1234")),
        ("a length with a space in it", "reset 1", post("4 4", b"1234")),
        ("a length past all numbers", "reset 1", post("18446744073709551616", b"1234")),
        ("a length in trailers", "reset 2", trailers(&[("content-length", "5")])),
        ("a coding in trailers", "reset 1", trailers(&[("transfer-encoding", "chunked")])),
        ("a host in trailers", "reset 2", trailers(&[("host", "other")])),
        ("trailers that do not end it", "reset 1", unended),
    ];
    assert!(table.len() >= 70, "only {} rows", table.len());
    for (what, expected, frames) in &table {
        let mut stream = tls(&gateway, &origin, &[b"h2"]).await;
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(frames).await.unwrap();
        // A PING after it: when it is answered (or the connection ended), all is decided.
        let _ = stream.write_all(&frame(6, 0, 0, b"are done")).await;
        let mut answers = Vec::new();
        let mut piece = [0; 4096];
        let seen = soon(what, async {
            loop {
                match stream.read(&mut piece).await {
                    Ok(0) | Err(_) => return "closed".to_owned(),
                    Ok(n) => answers.extend_from_slice(&piece[..n]),
                }
                if let Some(seen) = answer(&answers) {
                    return seen;
                }
            }
        })
        .await;
        assert_eq!(seen, *expected, "{what}");
    }
    assert_eq!(whole.load(Ordering::SeqCst), 0, "something ambiguous reached the origin whole");
}

/// What the frames so far say that became of stream 1: `reset N`, `goaway N` (the error codes of
/// RFC 9113 section 7), or the status of an answer.
fn answer(mut frames: &[u8]) -> Option<String> {
    while frames.len() >= 9 {
        let length = u32::from_be_bytes([0, frames[0], frames[1], frames[2]]) as usize;
        let payload = frames.get(9..9 + length)?;
        let code = |at: usize| payload.get(at + 3).map_or(0, |code| *code);
        match frames[3] {
            1 => return Some(status(payload)),
            3 => return Some(format!("reset {}", code(0))),
            7 => return Some(format!("goaway {}", code(4))),
            _ => {}
        }
        frames = &frames[9 + length..];
    }
    None
}

/// The status at the start of a field block: by its index in HPACK's static table, or in the
/// Huffman code of its Appendix B.
fn status(block: &[u8]) -> String {
    match block {
        [0x88, ..] => "200".to_owned(),
        [0x8c, ..] => "400".to_owned(),
        [0x48, 0x83, 0x68, 0x0d, 0xff, ..] => "405".to_owned(),
        other => format!("{other:x?}"),
    }
}

/// The nth piece of a flood.
type Flood<'a> = &'a dyn Fn(u32) -> Vec<u8>;

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_bounded() {
    let origin = Origin::start(1000, plain(Arc::default())).await;
    let (gateway, _dir) = gateway(&origin, "");
    let host = format!("localhost:{}", origin.address.port());
    let asked =
        block(&[(":method", "GET"), (":scheme", "https"), (":authority", &host), (":path", "/1")]);
    let rapid_reset =
        |n: u32| [frame(1, 5, 2 * n + 1, &asked), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat();
    let empty_data = |n: u32| match n {
        0 => frame(1, 4, 1, &asked),
        _ => frame(0, 0, 1, b""),
    };
    let continuation = |n: u32| match n {
        0 => frame(1, 1, 1, &asked),
        _ => frame(9, 0, 1, &block(&[("x-a", "0123456789012345678901234567890123456789")])),
    };
    let faulty = |n: u32| frame(1, 5, 2 * n + 1, &block(&[("X", "1")]));
    let floods: [(&str, Flood<'_>); 4] = [
        ("rapid reset", &rapid_reset),
        ("empty DATA", &empty_data),
        ("CONTINUATION", &continuation),
        ("faulty streams", &faulty),
    ];
    let counted = || gateway.metric("meergate_limited_total{limit=\"http2-flood\"}");
    let mut expected = 0;
    for (what, flood) in floods {
        let stream = tls(&gateway, &origin, &[b"h2"]).await;
        let (mut reader, mut writer) = tokio::io::split(stream);
        writer.write_all(PREFACE).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut sink = [0; 65536];
            while matches!(reader.read(&mut sink).await, Ok(1..)) {}
        });
        let ended = soon(what, async {
            for n in 0..200_000 {
                if writer.write_all(&flood(n)).await.is_err() || reading.is_finished() {
                    return true;
                }
            }
            false
        })
        .await;
        assert!(ended, "{what} went on without end");
        // A faulty stream ends the connection by itself, without many of them.
        expected += u64::from(what != "faulty streams");
        support::wait_for(what, || (counted() == expected).then_some(()));
    }
    let sender = connect(&gateway, &origin).await;
    let (status, content) = soon("a fair client", get(&sender, &origin, "/1")).await.unwrap();
    assert_eq!((status, content.len()), (200, 40_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_responses_never_reach_the_client() {
    let raw = RawOrigin::start().await;
    let (gateway, _dir) = gateway(&raw.origin, "");
    let table = responses();
    assert!(table.len() >= 45, "only {} rows", table.len());
    for (what, expected, frames) in table {
        raw.answer(frames);
        let sender = connect(&gateway, &raw.origin).await;
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(request(&raw.origin, "GET", "/"), true).unwrap();
        let seen = soon(what, async {
            let Ok(response) = response.await else { return "cut".to_owned() };
            let status = response.status().as_u16();
            let fields = format!("{:?}", response.headers());
            assert!(!fields.contains("x-a"), "{what}: {fields}");
            match collect(response.into_body()).await {
                Ok(content) if status == 200 => format!("200 and {} bytes", content.len()),
                Ok(_) => status.to_string(),
                Err(_) => "cut".to_owned(),
            }
        })
        .await;
        assert_eq!(seen, expected, "{what}");
    }
}

/// Each with what the client gets instead: a page, or a reset. Pseudo-fields in a wrong place are
/// dropped by the HTTP/2 library, so that nothing of them goes further.
fn responses() -> Vec<(&'static str, &'static str, Frames)> {
    const OK: (&str, &str) = (":status", "200");
    const SMUGGLED: &[u8] = b"smuggled";
    let head = |flags: u8, fields: &'static [(&'static str, &'static str)]| -> Frames {
        Box::new(move |stream| frame(1, flags, stream, &block(fields)))
    };
    let only = |fields| head(5, fields);
    let with_content = |fields: &'static [(&'static str, &'static str)]| -> Frames {
        Box::new(move |stream| {
            [frame(1, 4, stream, &block(fields)), frame(0, 1, stream, SMUGGLED)].concat()
        })
    };
    let after_head = |more: fn(u32) -> Vec<u8>| -> Frames {
        Box::new(move |stream| [frame(1, 4, stream, &block(&[OK])), more(stream)].concat())
    };
    let instead = |frames: fn(u32) -> Vec<u8>| -> Frames { Box::new(frames) };
    vec![
        ("no status", "502", only(&[("x-a", "1")])),
        ("no field at all", "502", only(&[])),
        ("two statuses", "502", only(&[OK, (":status", "404")])),
        ("a status that is none", "502", only(&[(":status", "2x0")])),
        ("a status of two digits", "502", only(&[(":status", "20")])),
        ("a status of four digits", "502", only(&[(":status", "0200")])),
        ("a status with a reason", "502", only(&[(":status", "200 OK")])),
        ("a switch of protocols", "502", only(&[(":status", "101")])),
        ("a request's pseudo-field", "200 and 0 bytes", only(&[OK, (":path", "/")])),
        ("an unknown pseudo-field", "502", only(&[OK, (":x", "1")])),
        ("a pseudo-field after a field", "502", only(&[("x-a", "1"), OK])),
        ("a name in capitals", "502", only(&[OK, ("X-A", "1")])),
        ("an empty name", "502", only(&[OK, ("", "1")])),
        ("a space in a name", "502", only(&[OK, ("x a", "1")])),
        ("a line end in a value", "502", only(&[OK, ("x-a", "1\r\nx-b: 2")])),
        ("a bare LF in a value", "502", only(&[OK, ("x-a", "1\n2")])),
        ("a NUL in a value", "502", only(&[OK, ("x-a", "1\0")])),
        ("connection", "502", only(&[OK, ("connection", "close")])),
        ("transfer-encoding", "502", only(&[OK, ("transfer-encoding", "chunked")])),
        ("upgrade", "502", only(&[OK, ("upgrade", "h2c")])),
        ("keep-alive", "502", only(&[OK, ("keep-alive", "1")])),
        ("proxy-connection", "502", only(&[OK, ("proxy-connection", "close")])),
        (
            "two lengths",
            "502",
            with_content(&[OK, ("content-length", "8"), ("content-length", "7")]),
        ),
        ("a list of lengths", "502", with_content(&[OK, ("content-length", "8, 8")])),
        ("a length that is none", "502", with_content(&[OK, ("content-length", "x")])),
        ("a signed length", "502", with_content(&[OK, ("content-length", "+8")])),
        ("content in a 204", "502", with_content(&[(":status", "204")])),
        ("more content than announced", "cut", with_content(&[OK, ("content-length", "7")])),
        ("less content than announced", "cut", with_content(&[OK, ("content-length", "9")])),
        ("a length without content", "502", only(&[OK, ("content-length", "9")])),
        ("a 1xx that ends the stream", "502", only(&[(":status", "103")])),
        ("DATA before HEADERS", "502", instead(|stream| frame(0, 1, stream, b"x"))),
        (
            "trailers that do not end it",
            "cut",
            after_head(|s| frame(1, 4, s, &block(&[("x-a", "1")]))),
        ),
        ("a status in trailers", "200 and 0 bytes", after_head(|s| frame(1, 5, s, &block(&[OK])))),
        ("a capital in trailers", "cut", after_head(|s| frame(1, 5, s, &block(&[("X-A", "1")])))),
        (
            "a length in trailers",
            "cut",
            after_head(|s| frame(1, 5, s, &block(&[("content-length", "1")]))),
        ),
        ("DATA on stream 0", "cut", after_head(|_| frame(0, 1, 0, b"x"))),
        ("DATA with too much padding", "cut", after_head(|s| frame(0, 9, s, &[255, 0]))),
        ("HEADERS on a stream never opened", "502", instead(|s| frame(1, 5, s + 2, &block(&[OK])))),
        (
            "a pushed stream",
            "502",
            instead(|s| frame(5, 4, s, &[&[0, 0, 0, 2][..], &block(&[OK])].concat())),
        ),
        ("CONTINUATION alone", "502", instead(|s| frame(9, 4, s, &block(&[OK])))),
        ("broken HPACK", "502", instead(|s| frame(1, 5, s, &[0xff; 8]))),
        ("a frame past the maximum", "cut", after_head(|s| frame(0, 1, s, &[0; 20_000]))),
        ("a window update of nothing", "cut", after_head(|s| frame(8, 0, s, &[0; 4]))),
        ("SETTINGS of an odd length", "502", instead(|_| frame(4, 0, 0, &[0; 5]))),
        (
            "HTTP/1.1",
            "502",
            instead(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        ),
        ("an end without an answer", "502", instead(|s| frame(3, 0, s, &[0, 0, 0, 0]))),
        ("GOAWAY instead", "502", instead(|_| frame(7, 0, 0, &[0; 8]))),
    ]
}
