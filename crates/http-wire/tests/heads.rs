//! Heads: what is accepted comes back byte for byte, what two parsers could read differently does not.

use bytes::{Bytes, BytesMut};
use http_wire::{
    Authority, ErrorKind, Framing, Limits, RequestHead, ResponseHead, TargetForm, Version,
};

fn request(text: &str) -> Result<RequestHead, ErrorKind> {
    RequestHead::from_bytes(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
        .map_err(|e| e.kind())
}

fn response(text: &str) -> Result<ResponseHead, ErrorKind> {
    ResponseHead::from_bytes(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
        .map_err(|e| e.kind())
}

#[test]
fn a_head_is_kept_byte_for_byte_and_the_rest_is_left() {
    let head = "GET /a?b=%20|x HTTP/1.1\r\nhOsT:  a.test:81 \t\r\nX-E:\r\nx-o: caf\u{e9}\r\n\r\n";
    let mut buf = BytesMut::from(format!("{head}body").as_bytes());
    let parsed = RequestHead::parse(&mut buf, &Limits::default()).unwrap().unwrap();
    assert_eq!(parsed.bytes(), head.as_bytes());
    assert_eq!(&buf[..], b"body");
    assert_eq!(parsed.method(), b"GET");
    assert_eq!(parsed.target(), b"/a?b=%20|x");
    assert_eq!(parsed.version(), Version::Http11);
    let fields: Vec<_> = parsed.fields().map(|f| (f.name, f.value)).collect();
    assert_eq!(fields[0], (&b"hOsT"[..], &b"a.test:81"[..]));
    assert_eq!(fields[1], (&b"X-E"[..], &b""[..]));
    assert_eq!(parsed.fields().map(|f| f.line.len()).sum::<usize>(), head.len() - 25 - 2);
    assert_eq!(parsed.host().unwrap(), Some(Authority { host: "a.test", port: Some(81) }));
}

#[test]
fn a_head_cut_at_every_byte_is_incomplete_and_then_whole() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    for cut in 0..head.len() {
        let mut buf = BytesMut::from(&head[..cut]);
        assert!(
            RequestHead::parse(&mut buf, &Limits::default()).unwrap().is_none(),
            "cut at {cut}"
        );
        assert_eq!(buf, head[..cut]);
        buf.extend_from_slice(&head[cut..]);
        assert!(RequestHead::parse(&mut buf, &Limits::default()).unwrap().is_some());
        assert!(buf.is_empty());
    }
}

#[test]
fn limits_hold_before_the_head_is_complete() {
    let limits = Limits { max_head: 64, max_fields: 2 };
    let parse = |text: &str| {
        RequestHead::parse(&mut BytesMut::from(text.as_bytes()), &limits).map_err(|e| e.kind())
    };
    assert_eq!(parse(&format!("GET /{}", "a".repeat(80))).unwrap_err(), ErrorKind::TargetTooLong);
    let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(80));
    assert_eq!(parse(&long).unwrap_err(), ErrorKind::HeadTooLong);
    let many = "GET / HTTP/1.1\r\nA:1\r\nB:2\r\nC:3\r\n";
    assert_eq!(parse(many).unwrap_err(), ErrorKind::TooManyFields);
    assert!(parse("GET / HTTP/1.1\r\nA:1\r\nB:2\r\n\r\n").unwrap().is_some());
}

#[test]
fn malformed_requests() {
    use ErrorKind::*;
    let table = [
        ("GET / HTTP/1.1\nHost: a\n\n", BareLineEnd),
        ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", BareLineEnd),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", BareLineEnd),
        ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", BareLineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", Fold),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Fold),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", Fold),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nHost a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nHo st: a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nX(y): a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nX\0: a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nX\u{e9}: a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", ControlCharacter),
        ("GET / HTTP/1.1\r\nX: a\u{7f}b\r\n\r\n", ControlCharacter),
        ("GET / HTTP/1.1\r\nX: \u{b}chunked\r\n\r\n", ControlCharacter),
        ("GET  / HTTP/1.1\r\n\r\n", Target),
        ("GET /  HTTP/1.1\r\n\r\n", StatusLine),
        ("GET / HTTP/1.1 \r\n\r\n", StatusLine),
        ("GET /a b HTTP/1.1\r\n\r\n", StatusLine),
        ("GET\t/ HTTP/1.1\r\n\r\n", Method),
        (" GET / HTTP/1.1\r\n\r\n", Method),
        ("G(T / HTTP/1.1\r\n\r\n", Method),
        ("GET /\r\n\r\n", Version),
        ("GET / HTTP/2.0\r\n\r\n", Version),
        ("GET / HTTP/1.2\r\n\r\n", Version),
        ("GET / HTTP/0.9\r\n\r\n", Version),
        ("GET / http/1.1\r\n\r\n", StatusLine),
        ("GET / HTTP/1.10\r\n\r\n", StatusLine),
        ("GET / HTTP/01.1\r\n\r\n", StatusLine),
        ("GET /a#b HTTP/1.1\r\n\r\n", Target),
        ("GET /\u{1} HTTP/1.1\r\n\r\n", Target),
        ("GET / HTTP/1.1\r\n\r\nX", NotOneHead),
        ("GET / HTTP/1.1\r\nA: b\r\n", NotOneHead),
    ];
    for (text, kind) in table {
        assert_eq!(request(text).map(|_| ()).unwrap_err(), kind, "{text:?}");
    }
    assert!(request(&format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(33))).is_err());
}

#[test]
fn malformed_responses() {
    use ErrorKind::*;
    let table = [
        ("HTTP/1.1 20 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 +20 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1  200 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1\t200 OK\r\n\r\n", StatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n", Version),
        ("ICY 200 OK\r\n\r\n", StatusLine),
        ("HTTP/1.1 200 O\0K\r\n\r\n", ControlCharacter),
        ("HTTP/1.1 200 OK\n\n", BareLineEnd),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", StatusLine),
    ];
    for (text, kind) in table {
        assert_eq!(response(text).map(|_| ()).unwrap_err(), kind, "{text:?}");
    }
    let mut endless = BytesMut::from("HTML without a line end");
    assert!(ResponseHead::parse(&mut endless, &Limits::default()).is_err());
    assert_eq!(response("HTTP/1.1 200\r\n\r\n").unwrap().reason(), b"");
    assert_eq!(response("HTTP/1.1 200 \r\n\r\n").unwrap().reason(), b"");
    assert_eq!(response("HTTP/1.0 404 Not there\r\n\r\n").unwrap().reason(), b"Not there");
}

#[test]
fn framing_of_requests() {
    use ErrorKind::*;
    let framing = |fields: &str| {
        request(&format!("POST / HTTP/1.1\r\n{fields}\r\n"))
            .unwrap()
            .framing()
            .map_err(|e| e.kind())
    };
    assert_eq!(framing(""), Ok(Framing::None));
    assert_eq!(framing("content-length: 0\r\n"), Ok(Framing::Length(0)));
    assert_eq!(
        framing("Content-Length: 9223372036854775807\r\n"),
        Ok(Framing::Length(i64::MAX as u64))
    );
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    let table = [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", ContentLength),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", ContentLength),
        ("Content-Length: 5, 5\r\n", ContentLength),
        ("Content-Length: +5\r\n", ContentLength),
        ("Content-Length: -5\r\n", ContentLength),
        ("Content-Length: 0x5\r\n", ContentLength),
        ("Content-Length: 5 5\r\n", ContentLength),
        ("Content-Length: 05\r\n", ContentLength),
        ("Content-Length: 5.0\r\n", ContentLength),
        ("Content-Length: \r\n", ContentLength),
        ("Content-Length: \"5\"\r\n", ContentLength),
        ("Content-Length: 9223372036854775808\r\n", ContentLength),
        ("Content-Length: 18446744073709551621\r\n", ContentLength),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding),
        ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked, identity\r\n", TransferEncoding),
        ("Transfer-Encoding: xchunked\r\n", TransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked;q=1\r\n", TransferEncoding),
        ("Transfer-Encoding: identity\r\n", TransferEncoding),
        ("Transfer-Encoding:\r\n", TransferEncoding),
        ("Transfer-Encoding: ,chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", UnknownCoding),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("Connection: close, Content-Length\r\nContent-Length: 5\r\n", Connection),
        ("Connection: transfer-encoding\r\n", Connection),
        ("Connection: Host\r\n", Connection),
    ];
    for (fields, kind) in table {
        assert_eq!(framing(fields), Err(kind), "{fields:?}");
    }
    let old = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(old.framing().unwrap_err().kind(), TransferEncoding);
    let tunnel = request("CONNECT a:1 HTTP/1.1\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert_eq!(tunnel.framing().unwrap_err().kind(), ContentNotAllowed);
}

#[test]
fn framing_of_responses() {
    let framing = |method: &str, text: &str| {
        response(&format!("HTTP/1.1 {text}\r\n"))
            .unwrap()
            .framing(method.as_bytes())
            .map_err(|e| e.kind())
    };
    assert_eq!(framing("GET", "200 OK\r\n"), Ok(Framing::UntilClose));
    assert_eq!(framing("GET", "200 OK\r\nContent-Length: 7\r\n"), Ok(Framing::Length(7)));
    assert_eq!(framing("HEAD", "200 OK\r\nContent-Length: 7\r\n"), Ok(Framing::None));
    assert_eq!(framing("HEAD", "200 OK\r\nTransfer-Encoding: chunked\r\n"), Ok(Framing::None));
    assert_eq!(framing("GET", "304 N\r\nContent-Length: 7\r\n"), Ok(Framing::None));
    assert_eq!(framing("GET", "204 N\r\nContent-Length: 0\r\n"), Ok(Framing::None));
    assert_eq!(framing("GET", "103 E\r\nLink: x\r\n"), Ok(Framing::None));
    assert_eq!(framing("CONNECT", "200 OK\r\n"), Ok(Framing::None));
    assert_eq!(framing("head", "200 OK\r\n"), Ok(Framing::UntilClose));
    let refused = ErrorKind::ContentNotAllowed;
    assert_eq!(framing("GET", "204 N\r\nContent-Length: 7\r\n"), Err(refused));
    assert_eq!(framing("GET", "204 N\r\nTransfer-Encoding: chunked\r\n"), Err(refused));
    assert_eq!(framing("GET", "100 C\r\nContent-Length: 7\r\n"), Err(refused));
    let both = "304 N\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(framing("GET", both), Err(ErrorKind::LengthAndCoding));
}

#[test]
fn connection_management() {
    let keep = |text: &str| request(text).unwrap().keep_alive();
    assert!(keep("GET / HTTP/1.1\r\n\r\n"));
    assert!(!keep("GET / HTTP/1.1\r\nConnection: foo, CLOSE\r\n\r\n"));
    assert!(!keep("GET / HTTP/1.1\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"));
    assert!(!keep("GET / HTTP/1.0\r\n\r\n"));
    assert!(keep("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    let head = request(
        "GET / HTTP/1.1\r\nConnection: upgrade, X-Mine\r\nx-mine: 1\r\nTE: trailers\r\n\r\n",
    );
    let head = head.unwrap();
    assert!(head.connection_upgrade());
    assert!(
        head.is_hop_by_hop(b"X-MINE") && head.is_hop_by_hop(b"te") && !head.is_hop_by_hop(b"Host")
    );
    let expects = |value: &str| {
        request(&format!("PUT / HTTP/1.1\r\nExpect: {value}\r\n\r\n")).unwrap().expects_continue()
    };
    assert!(expects("100-Continue").unwrap());
    assert_eq!(expects("200-ok").unwrap_err().status(), 417);
}

#[test]
fn hosts_and_targets() {
    let host = |value: &str| {
        let head = request(&format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n")).unwrap();
        head.host().map(|h| h.map(|h| (h.host.to_owned(), h.port)))
    };
    assert_eq!(host("[::1]:8080").unwrap(), Some(("::1".into(), Some(8080))));
    assert_eq!(host("a_b.test").unwrap(), Some(("a_b.test".into(), None)));
    for bad in [
        "", "a b", "a,b", "u@a", "a:", "a:0", "a:65536", "a:+1", "a/b", "[::1", "::1", "[a]", "%61",
    ] {
        assert!(host(bad).is_err(), "{bad}");
    }
    assert!(request("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").unwrap().host().is_err());
    assert!(request("GET / HTTP/1.1\r\n\r\n").unwrap().host().is_err());
    assert!(request("GET / HTTP/1.0\r\n\r\n").unwrap().host().unwrap().is_none());

    let form = |line: &str| {
        let head = request(&format!("{line} HTTP/1.1\r\n\r\n")).unwrap();
        head.target_form().map(|f| format!("{f:?}"))
    };
    assert_eq!(form("GET /x").unwrap(), format!("{:?}", TargetForm::Origin));
    assert!(form("GET http://a.test:81?q").unwrap().contains("port: Some(81)"));
    assert!(form("CONNECT a.test:443").unwrap().starts_with("Authority"));
    assert_eq!(form("OPTIONS *").unwrap(), format!("{:?}", TargetForm::Asterisk));
    for bad in [
        "GET *",
        "GET a.test",
        "CONNECT a.test",
        "CONNECT /",
        "GET http://",
        "GET http://u@a/",
        "GET http:/a",
    ] {
        assert!(form(bad).is_err(), "{bad}");
    }
}

#[test]
fn edits_leave_other_lines_alone() {
    let head =
        request("GET http://a/x HTTP/1.1\r\nhost:a\r\nB:  1 \r\nC: 2\r\nb: 3\r\n\r\n").unwrap();
    let mut edit = head.edit();
    edit.target("/x").set("b", "9").remove("c").append("D", "4");
    let edited = edit.build().unwrap();
    assert_eq!(edited.bytes(), "GET /x HTTP/1.1\r\nhost:a\r\nb: 9\r\nD: 4\r\n\r\n".as_bytes());
    assert_eq!(edited.target(), b"/x");
    let same = head.edit().build().unwrap();
    assert_eq!(same.bytes(), head.bytes());
    for value in ["a\r\nInjected: b", "a\nb", "a\0"] {
        let mut edit = head.edit();
        edit.append("X", value);
        assert!(edit.build().is_err());
        let mut edit = head.edit();
        edit.target(value);
        assert!(edit.build().is_err());
    }
    let mut edit = ResponseHead::start(403, "Forbidden");
    edit.append("Content-Length", "0");
    assert_eq!(
        edit.build().unwrap().bytes(),
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".as_bytes()
    );
    assert_eq!(
        RequestHead::start("GET", "/").build().unwrap().bytes(),
        "GET / HTTP/1.1\r\n\r\n".as_bytes()
    );
}
