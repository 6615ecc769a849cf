//! HTTP/2 through the program: every stream its own transaction.
#![allow(clippy::unwrap_used, reason = "helpers fail the test that calls them")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use support::Gateway;
use support::h2::{Origin, collect, connect, get, handler, request, send, soon, tls};
use support::icap::{Icap, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A gateway in front of `origin`, and the directory that its settings live in.
fn gateway(origin: &Origin, settings: &str) -> (Gateway, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&format!("{}{settings}", origin.settings(dir.path())));
    (gateway, dir)
}

/// Content that tells streams apart; every seventh is malware.
fn content(number: usize) -> Vec<u8> {
    let mut all = format!("stream {number} ").into_bytes();
    let block: Vec<u8> = (0..251u32).map(|n| (n as usize * (number + 1)) as u8).collect();
    while all.len() < 40_000 + number * 500 {
        all.extend_from_slice(&block);
    }
    if number.is_multiple_of(7) {
        all.extend_from_slice(b"MALWARE");
    }
    all
}

fn numbered() -> support::h2::Handler {
    handler(|request, mut respond| async move {
        let number = request.uri().path().trim_start_matches('/').parse().unwrap_or(1);
        let Ok(mut stream) = respond.send_response(http::Response::new(()), false) else { return };
        send(&mut stream, Bytes::from(content(number)), true).await;
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_have_verdicts_of_their_own() {
    let origin = Origin::start(1, numbered()).await;
    let icap = Icap::start(|m| match m.body.ends_with(b"MALWARE") {
        true => Verdict::Block,
        false => Verdict::Pass,
    });
    let (gateway, _dir) = gateway(&origin, &icap.settings());
    let sender = connect(&gateway, &origin).await;
    let asked = (0..100).map(|number| {
        let (sender, uri) = (sender.clone(), request(&origin, "GET", &format!("/{number}")));
        tokio::spawn(async move {
            let mut sender = sender.ready().await.unwrap();
            let (response, mut stream) = sender.send_request(uri, true).unwrap();
            if number % 11 == 5 {
                stream.send_reset(Reason::CANCEL);
                return None;
            }
            let response = response.await.unwrap();
            let status = response.status().as_u16();
            Some((status, collect(response.into_body()).await.unwrap()))
        })
    });
    let asked: Vec<_> = asked.collect();
    for (number, answer) in asked.into_iter().enumerate() {
        let Some((status, body)) = soon("a stream", answer).await.unwrap() else { continue };
        match number % 7 {
            0 => assert_eq!((status, body.as_slice()), (403, &b"blocked"[..]), "stream {number}"),
            _ => assert!(
                status == 200 && body == content(number),
                "stream {number}: {status}, {:?}",
                gateway.transactions(1).iter().find(|t| t["status"] == 502)
            ),
        }
    }
    let seen = icap.asked();
    assert!(seen.iter().all(|m| m.icap.contains("X-Proto: h2\r\n")), "{}", seen[0].icap);
    let id = |m: &str| m.lines().find_map(|l| l.strip_prefix("X-Stream-Id: ")).map(str::to_owned);
    let ids: std::collections::HashSet<_> = seen.iter().map(|m| id(&m.icap).unwrap()).collect();
    assert!(ids.len() >= 90, "streams share ids");
    assert!(seen[0].heads.starts_with("GET /"), "{}", seen[0].heads);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_no_one_reads_stops_no_other() {
    let origin = Origin::start(
        1,
        handler(|request, mut respond| async move {
            let size = if request.uri().path() == "/big" { 64 << 20 } else { 1000 };
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            send(&mut stream, Bytes::from(vec![b'x'; size]), true).await;
        }),
    )
    .await;
    let (gateway, _dir) = gateway(&origin, "");
    let sender = connect(&gateway, &origin).await;
    let mut unread = Vec::new();
    for _ in 0..3 {
        let mut sender = sender.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request(&origin, "GET", "/big"), true).unwrap();
        unread.push(soon("a head", response).await.unwrap());
    }
    for _ in 0..50 {
        let (status, body) = soon("a neighbour", get(&sender, &origin, "/")).await.unwrap();
        assert_eq!((status, body.len()), (200, 1000));
    }
    let all = soon("the unread one", collect(unread.remove(0).into_body())).await.unwrap();
    assert_eq!(all.len(), 64 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_stream_and_trailers_pass() {
    let origin = Origin::start(
        1,
        handler(|request, mut respond| async move {
            assert_eq!(request.headers()["te"], "trailers");
            let mut body = request.into_body();
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                send(&mut stream, data, false).await;
            }
            let sum = body.trailers().await.unwrap().unwrap()["x-sum"].clone();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("x-sum", sum);
            stream.send_trailers(trailers).unwrap();
        }),
    )
    .await;
    let (gateway, _dir) = gateway(&origin, "");
    let mut sender = connect(&gateway, &origin).await;
    let mut asked = request(&origin, "POST", "/pkg.Service/Chat");
    asked.headers_mut().insert("te", "trailers".parse().unwrap());
    asked.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (response, mut stream) = sender.send_request(asked, false).unwrap();
    let mut body = soon("the head", response).await.unwrap().into_body();
    for round in 0..10 {
        // Each answer must arrive before the next question is asked.
        send(&mut stream, Bytes::from(format!("question {round}")), false).await;
        let answer = soon("an answer", body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(answer.len()).unwrap();
        assert_eq!(answer, format!("question {round}"));
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    assert!(soon("the end", body.data()).await.is_none());
    let trailers = soon("trailers", body.trailers()).await.unwrap().unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-sum"]),
        (&"0".parse().unwrap(), &"7".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_falls_back_to_http1_is_translated() {
    let origin = Origin::start(1, numbered()).await;
    let (gateway, _dir) = gateway(&origin, "");
    let sender = connect(&gateway, &origin).await;
    assert_eq!(soon("HTTP/2", get(&sender, &origin, "/1")).await.unwrap().1, content(1));
    assert_eq!(soon("going away", get(&sender, &origin, "/goaway")).await.unwrap().0, 200);
    let many = (0..20).map(|_| async {
        let (status, body) = soon("HTTP/1", get(&sender, &origin, "/2")).await.unwrap();
        assert_eq!((status, body.as_slice()), (200, &b"http1"[..]));
    });
    for one in many {
        one.await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_inside_a_stream_is_relayed_and_counted() {
    let origin = Origin::start(
        1,
        handler(|request, mut respond| async move {
            assert_eq!(request.method(), http::Method::CONNECT);
            let mut body = request.into_body();
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                send(&mut stream, data, false).await;
            }
            let _ = stream.send_data(Bytes::new(), true);
        }),
    )
    .await;
    let (gateway, _dir) = gateway(&origin, "");
    let sender = connect(&gateway, &origin).await;
    let patience = tokio::time::Instant::now() + support::PATIENCE;
    while !sender.is_extended_connect_protocol_enabled() {
        assert!(tokio::time::Instant::now() < patience, "extended CONNECT is not offered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut asked = request(&origin, "CONNECT", "/chat");
    asked.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let mut sender = sender.ready().await.unwrap();
    let (response, mut stream) = sender.send_request(asked, false).unwrap();
    let response = soon("the head", response).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    send(&mut stream, Bytes::from_static(b"frame"), false).await;
    assert_eq!(soon("an echo", body.data()).await.unwrap().unwrap(), "frame");
    send(&mut stream, Bytes::new(), true).await;
    assert_eq!(soon("the end", collect(body)).await.unwrap(), b"");
    let record = &gateway.transactions(1)[0];
    assert_eq!(
        (&record["outcome"], &record["uninspected"][0]),
        (&"upgraded".into(), &"upgrade".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_is_let_go_and_so_is_the_origin() {
    let (told, mut hears) = tokio::sync::mpsc::channel(1);
    let origin = Origin::start(
        1,
        handler(move |_, mut respond| {
            let told = told.clone();
            async move {
                let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                told.send(reason).await.unwrap();
            }
        }),
    )
    .await;
    let (gateway, _dir) = gateway(&origin, "");
    let mut sender = connect(&gateway, &origin).await;
    let (response, mut stream) =
        sender.send_request(request(&origin, "GET", "/slow"), true).unwrap();
    soon("the origin to be asked", async {
        while origin.reached() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    soon("the reset to reach the origin", hears.recv()).await.unwrap().unwrap();
    assert_eq!(gateway.transactions(1)[0]["outcome"], "client-gone");
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
    let origin = Origin::start(1000, numbered()).await;
    let (gateway, _dir) = gateway(&origin, "");
    let host = format!("localhost:{}", origin.address.port());
    let get: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", &host), (":path", "/1")];
    let with = |extra: &[(&'static str, &'static str)]| {
        let mut fields: Vec<(&str, &str)> = get.to_vec();
        fields.extend_from_slice(extra);
        frame(1, 5, 1, &block(&fields))
    };
    let only = |fields: &[(&str, &str)]| frame(1, 5, 1, &block(fields));
    let post = |length: &'static str, data: &[u8]| {
        let mut fields: Vec<(&str, &str)> = get.to_vec();
        fields[0].1 = "POST";
        fields.push(("content-length", length));
        [frame(1, 4, 1, &block(&fields)), frame(0, 1, 1, data)].concat()
    };
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("a name in capitals", with(&[("X-A", "1")])),
        ("an empty name", with(&[("", "1")])),
        ("a space in a name", with(&[("x a", "1")])),
        ("a colon in a name", with(&[("x:a", "1")])),
        ("a line end in a value", with(&[("x-a", "1\r\nx-b: 2")])),
        ("a bare LF in a value", with(&[("x-a", "1\n2")])),
        ("a NUL in a value", with(&[("x-a", "1\0")])),
        ("connection", with(&[("connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "keep-alive")])),
        ("te", with(&[("te", "gzip")])),
        ("another host", with(&[("host", "other")])),
        ("a pseudo-field after a field", with(&[("x-a", "1"), (":path", "/2")])),
        ("an unknown pseudo-field", with(&[(":x", "1")])),
        ("a response's pseudo-field", with(&[(":status", "200")])),
        ("two methods", with(&[(":method", "POST")])),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "1")])),
        ("a length without content", with(&[("content-length", "5")])),
        ("a length that is none", with(&[("content-length", "x")])),
        ("a signed length", with(&[("content-length", "+0")])),
        ("no method", only(&get[1..])),
        ("no path", only(&get[..3])),
        ("no scheme", only(&[get[0], get[2], get[3]])),
        ("no authority", only(&[get[0], get[1], get[3]])),
        ("an empty path", only(&[get[0], get[1], get[2], (":path", "")])),
        ("a relative path", only(&[get[0], get[1], get[2], (":path", "x")])),
        ("a space in the path", only(&[get[0], get[1], get[2], (":path", "/a b")])),
        (
            "a line end in the path",
            only(&[get[0], get[1], get[2], (":path", "/ HTTP/1.1\r\nx: y")]),
        ),
        (
            "a line end in the method",
            only(&[(":method", "GET / HTTP/1.1\r\n"), get[1], get[2], get[3]]),
        ),
        ("a user in the authority", only(&[get[0], get[1], (":authority", "u@localhost"), get[3]])),
        ("another scheme", only(&[get[0], (":scheme", "http"), get[2], get[3]])),
        ("CONNECT", only(&[(":method", "CONNECT"), get[2]])),
        ("less content than announced", post("5", b"1234")),
        ("more content than announced", post("5", b"123456")),
        ("HEADERS on stream 0", frame(1, 5, 0, &block(&get))),
        ("HEADERS on an even stream", frame(1, 5, 2, &block(&get))),
        ("DATA before HEADERS", frame(0, 1, 1, b"x")),
        ("CONTINUATION alone", frame(9, 4, 1, &block(&get))),
        (
            "a frame between HEADERS and CONTINUATION",
            [frame(1, 1, 1, &block(&get)), frame(6, 0, 0, &[0; 8])].concat(),
        ),
        (
            "a stream that depends on itself",
            [frame(1, 0x25, 1, &[&[0, 0, 0, 1, 16][..], &block(&get)].concat())].concat(),
        ),
        ("too much padding", frame(1, 0xd, 1, &[&[255][..], &block(&get)].concat())),
        ("broken HPACK", frame(1, 5, 1, &[0xff; 8])),
        ("PUSH_PROMISE", frame(5, 4, 1, &[&[0, 0, 0, 2][..], &block(&get)].concat())),
        (
            "a window past its limit",
            [frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]
                .concat(),
        ),
        ("a window update of nothing", frame(8, 0, 0, &[0; 4])),
        ("SETTINGS of an odd length", frame(4, 0, 0, &[0; 5])),
        ("SETTINGS with a wrong value", frame(4, 0, 0, &[0, 2, 0, 0, 0, 9])),
        ("a PING of an odd length", frame(6, 0, 0, &[0; 7])),
        ("a frame past the maximum", frame(0, 0, 1, &[0; 20_000])),
        ("GOAWAY of an odd length", frame(7, 0, 0, &[0; 3])),
    ];
    for (what, frames) in &table {
        let mut stream = tls(&gateway, &origin, &[b"h2"]).await;
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(frames).await.unwrap();
        // A PING after it: when it is answered (or the connection ended), all is decided.
        let _ = stream.write_all(&frame(6, 0, 0, b"are done")).await;
        let mut answers = Vec::new();
        let mut piece = [0; 4096];
        let refused = soon(what, async {
            loop {
                match stream.read(&mut piece).await {
                    Ok(0) | Err(_) => return true,
                    Ok(n) => answers.extend_from_slice(&piece[..n]),
                }
                if let Some(refused) = verdict(&answers) {
                    return refused;
                }
            }
        })
        .await;
        assert!(refused, "{what}: {answers:?}");
    }
    assert_eq!(origin.reached(), 0, "something ambiguous reached the origin");
}

/// Whether the frames so far say that stream 1 was refused: a reset, a GOAWAY, or a 4xx answer
/// (whose HEADERS begin with an index or literal that is not `:status 200`).
fn verdict(mut frames: &[u8]) -> Option<bool> {
    while frames.len() >= 9 {
        let length = u32::from_be_bytes([0, frames[0], frames[1], frames[2]]) as usize;
        let payload = frames.get(9..9 + length)?;
        match frames[3] {
            1 => return Some(payload.first() != Some(&0x88)),
            3 | 7 => return Some(true),
            _ => {}
        }
        frames = &frames[9 + length..];
    }
    None
}

/// The nth piece of a flood.
type Flood<'a> = &'a dyn Fn(u32) -> Vec<u8>;

#[tokio::test(flavor = "multi_thread")]
async fn floods_are_bounded() {
    let origin = Origin::start(1000, numbered()).await;
    let (gateway, _dir) = gateway(&origin, "");
    let host = format!("localhost:{}", origin.address.port());
    let get =
        block(&[(":method", "GET"), (":scheme", "https"), (":authority", &host), (":path", "/1")]);
    let rapid_reset =
        |n: u32| [frame(1, 5, 2 * n + 1, &get), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat();
    let empty_data = |n: u32| match n {
        0 => frame(1, 4, 1, &get),
        _ => frame(0, 0, 1, b""),
    };
    let continuation = |n: u32| match n {
        0 => frame(1, 1, 1, &get),
        _ => frame(9, 0, 1, &block(&[("x-a", "0123456789012345678901234567890123456789")])),
    };
    let faulty = |n: u32| frame(1, 5, 2 * n + 1, &block(&[("X", "1")]));
    let floods: [(&str, Flood<'_>); 4] = [
        ("rapid reset", &rapid_reset),
        ("empty DATA", &empty_data),
        ("CONTINUATION", &continuation),
        ("faulty streams", &faulty),
    ];
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
    }
    let sender = connect(&gateway, &origin).await;
    assert_eq!(soon("a fair client", get_one(&sender, &origin)).await, content(1));
}

async fn get_one(sender: &h2::client::SendRequest<Bytes>, origin: &Origin) -> Vec<u8> {
    get(sender, origin, "/1").await.unwrap().1
}
