//! Content that cannot be read as its receiver will: refused, or counted.

use super::codings::{Framed, assert_refused, gzip, infected, response, upload, zstd};
use crate::common::{EICAR, Request, Server, random};

fn uninspected(server: &Server, reason: &str) -> u64 {
    server.metric(&format!("uninspected_bytes_total{{reason=\"{reason}\"}}"))
}

/// Of a resource that is another one for each part, since Suricata puts together what it can.
fn part(status: &str, range: &str, body: &[u8]) -> Request {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Range: {range}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let path = range.replace(' ', "-");
    let request = format!("GET /part/{path} HTTP/1.1\r\nHost: www.test\r\n\r\n");
    Request::respmod(request, head).body(body)
}

#[test]
fn codings_that_are_not_decoded_are_refused() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for coding in [
        "compress",
        "x-compress",
        "dcb",
        "dcz",
        "exi",
        "pack200-gzip",
        "bzip2",
        "gzip2",
        "gzip, utf-8",
    ] {
        let field = format!("Content-Encoding: {coding}\r\n");
        let reply = client.ask(&response(&field, Framed::Length, b"x").allow_204());
        assert_refused(&reply, "unknown content coding");
        assert_refused(
            &client.ask(&upload(&field, Framed::Chunked, b"x")),
            "unknown content coding",
        );
    }
    let field = "Content-Encoding: identity, gzip\r\n";
    assert_refused(&client.ask(&response(field, Framed::Length, &gzip(b"x"))), "identity");
    assert_eq!(server.metric("refused_total{reason=\"coding\"}"), 19);
    assert_eq!(server.metric("transactions_total{outcome=\"refused\"}"), 19);
}

#[test]
fn codings_that_are_not_decoded_pass_and_are_counted_where_that_is_wished() {
    let server = Server::with_settings("[content]\nother_codings = \"pass\"\n", &[]);
    let mut client = server.connect();
    let field = "Content-Encoding: compress\r\n";
    let body = random(1_000);
    client.ask(&response(field, Framed::Length, &body)).assert_passed(&body);
    assert_eq!(uninspected(&server, "coding"), 1_000);
    client.ask(&upload(field, Framed::Chunked, &body).allow_204()).assert_unmodified();
    assert_eq!(uninspected(&server, "coding"), 2_000);
    // As it is, it is inspected all the same.
    client.ask(&response(field, Framed::Length, EICAR)).assert_blocked(1_000_001);
}

#[test]
fn what_is_no_coding_is_read_as_it_is() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for token in ["", "none", "UTF-8", "binary", "8bit", "iso-8859-1", "none, identity", "amz-1.0"]
    {
        let field = format!("Content-Encoding: {token}\r\n");
        client.ask(&response(&field, Framed::Length, EICAR)).assert_blocked(1_000_001);
        client.ask(&upload(&field, Framed::Chunked, EICAR)).assert_blocked(1_000_002);
        client.ask(&response(&field, Framed::Length, b"x").allow_204()).assert_unmodified();
    }
    assert_eq!(uninspected(&server, "coding"), 0);
}

/// Signed chunks of uploads to S3: what is in one is seen, what lies across two is not.
#[test]
fn what_is_framed_once_more_is_inspected_as_it_is_and_counted() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let chunk = |content: &[u8]| {
        let line = format!("{:x};chunk-signature=00\r\n", content.len());
        [line.as_bytes(), content, b"\r\n"].concat()
    };
    let (first, second) = EICAR.split_at(30);
    for token in ["aws-chunked", "AWS-Chunked, utf-8"] {
        let field = format!("Content-Encoding: {token}\r\n");
        client.ask(&upload(&field, Framed::Length, &chunk(EICAR))).assert_blocked(1_000_002);
        let before = uninspected(&server, "coding");
        let torn = [chunk(first), chunk(second), chunk(b"")].concat();
        client.ask(&upload(&field, Framed::Length, &torn).allow_204()).assert_unmodified();
        assert_eq!(uninspected(&server, "coding") - before, torn.len() as u64);
    }
    let field = "Content-Encoding: gzip, aws-chunked\r\n";
    assert_refused(&client.ask(&upload(field, Framed::Length, b"x")), "unknown content coding");
}

/// Where it is certain that a server takes the chunks apart, so does the inspector.
#[test]
fn what_comes_in_chunks_of_aws_is_inspected_without_them() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let chunks = |content: &[u8]| {
        let mut framed = Vec::new();
        for chunk in content.chunks(30) {
            let line = format!("{:x};chunk-signature=00\r\n", chunk.len());
            framed.extend([line.as_bytes(), chunk, b"\r\n"].concat());
        }
        [&framed[..], b"0;chunk-signature=00\r\n\r\n"].concat()
    };
    let streaming = "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n";
    for (coding, content) in [
        ("Content-Encoding: aws-chunked\r\n", EICAR.to_vec()),
        ("", infected()),
        ("Content-Encoding: aws-chunked,gzip\r\n", gzip(&infected())),
        ("Content-Encoding: gzip, aws-chunked\r\n", gzip(&infected())),
        ("Content-Encoding: gzip\r\n", gzip(&infected())),
    ] {
        let fields = format!("{coding}{streaming}");
        let body = chunks(&content);
        client.ask(&upload(&fields, Framed::Length, &body)).assert_blocked(1_000_002);
        client.ask(&upload(&fields, Framed::Chunked, &body)).assert_blocked(1_000_002);
    }
    let fine = chunks(&random(200_000));
    client.ask(&upload(streaming, Framed::Length, &fine)).assert_passed(&fine);
    // A server that knows no such chunks takes their signatures and trailers for content.
    let before = uninspected(&server, "beside-content");
    let hidden = b"5;chunk-signature=cafe\r\nhello\r\n0\r\nx-amz:decoy-marker\r\n\r\n";
    client.ask(&upload(streaming, Framed::Length, hidden).allow_204()).assert_unmodified();
    let beside = "cafe".len() + "x-amz:decoy-marker".len();
    assert_eq!(uninspected(&server, "beside-content") - before, beside as u64);
    for bad in [&b"hello"[..], &chunks(b"hello")[..20], b"5;x=y\r\nhello\r\n0\r\n\r\n"] {
        assert_refused(&client.ask(&upload(streaming, Framed::Length, bad)), "aws-chunked");
    }
    assert_eq!(uninspected(&server, "coding"), 0);
    // What may be in chunks, or in chunks twice, counts.
    let twice = format!("Content-Encoding: aws-chunked, aws-chunked\r\n{streaming}");
    for fields in [
        &twice[..],
        "x-amz-decoded-content-length: 5\r\n",
        "x-goog-content-sha256: STREAMING-X\r\n",
        "x-amz-content-sha256: abc, STREAMING-X\r\n",
    ] {
        let (before, body) = (uninspected(&server, "coding"), chunks(b"hello"));
        client.ask(&upload(fields, Framed::Length, &body).allow_204()).assert_unmodified();
        assert_eq!(uninspected(&server, "coding") - before, body.len() as u64, "{fields}");
    }
}

/// Every byte is inspected, and some receiver reads something else out of it.
#[test]
fn what_is_read_otherwise_by_its_receiver_is_counted() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let utf_16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(EICAR.iter().flat_map(|b| [*b, 0])).collect();
    for (reason, fields, body) in [
        ("coding", "grpc-encoding: gzip\r\n", &b"message"[..]),
        ("coding", "Connect-Content-Encoding: br\r\n", b"message"),
        ("coding", "Content-Type: application/grpc-web-text\r\n", b"bWVzc2FnZQ=="),
        ("charset", "Content-Type: text/html; charset=utf-16\r\n", &utf_16),
        ("charset", "Content-Type: text/html; charset=utf-7\r\n", b"+AFg-"),
        ("charset", "Content-Type: text/html\r\n", &utf_16),
    ] {
        for message in [
            response(fields, Framed::Length, body).allow_204(),
            upload(fields, Framed::Chunked, body).allow_204(),
        ] {
            let before = uninspected(&server, reason);
            client.ask(&message).assert_unmodified();
            assert_eq!(uninspected(&server, reason) - before, body.len() as u64, "{fields}");
        }
    }
    let before = uninspected(&server, "charset");
    let picture = "Content-Type: image/x\r\n";
    client.ask(&upload(picture, Framed::Length, &utf_16).allow_204()).assert_unmodified();
    assert_eq!(uninspected(&server, "charset"), before);
}

/// Who asks for no coding may keep the bytes as they came, and Huffman codes can spell anything.
#[test]
fn what_is_coded_for_a_client_that_asked_for_no_coding_is_counted() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let body = gzip(b"harmless");
    for (accepted, counts) in [
        ("", true),
        ("Accept-Encoding: br\r\n", true),
        ("Accept-Encoding: gzip;q=0\r\n", true),
        ("Accept-Encoding: br, GZIP;q=0.1\r\n", false),
        ("Accept-Encoding: *\r\n", false),
    ] {
        let before = uninspected(&server, "not-accepted");
        let request = format!("GET /coded HTTP/1.1\r\nHost: www.test\r\n{accepted}\r\n");
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let message = Request::respmod(request, head).body(&body);
        client.ask(&message.allow_204()).assert_unmodified();
        let counted = uninspected(&server, "not-accepted") - before;
        assert_eq!(counted > 0, counts, "{accepted}");
    }
}

#[test]
fn malformed_content_passes_and_is_counted_where_that_is_wished() {
    let server = Server::with_settings("[content]\nmalformed = \"pass\"\n", &[]);
    let mut client = server.connect();
    let field = "Content-Encoding: gzip\r\n";
    let body = random(1_000);
    client.ask(&response(field, Framed::Length, &body)).assert_passed(&body);
    assert_eq!(uninspected(&server, "malformed"), 1_000);
    client.ask(&response(field, Framed::Length, EICAR)).assert_blocked(1_000_001);
    client.ask(&upload(field, Framed::Length, EICAR)).assert_blocked(1_000_002);
    // What can be decoded is inspected, and so is what comes behind it. All of it counts: in the
    // end it is not what it was inspected as.
    let long = [gzip(&random(200_000)), random(200_000)].concat();
    client.ask(&response(field, Framed::Chunked, &long)).assert_passed(&long);
    // Around the fault some bytes are shown twice.
    let counted = uninspected(&server, "malformed");
    assert!((401_000..603_000).contains(&counted), "{counted}");
    for body in [
        [gzip(b"nothing here"), EICAR.to_vec()].concat(),
        [gzip(&infected()), random(100)].concat(),
    ] {
        client.ask(&response(field, Framed::Length, &body)).assert_blocked(1_000_001);
    }
    let whole = gzip(&random(100));
    let short = &whole[..whole.len() - 1];
    client.ask(&response(field, Framed::Length, short)).assert_passed(short);
}

#[test]
fn parts_are_inspected_as_they_are_and_counted() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let (first, second) = EICAR.split_at(30);
    client.ask(&part("206 Partial Content", "bytes 0-29/68", first)).assert_passed(first);
    client.ask(&part("206 Partial Content", "bytes 30-67/68", second)).assert_passed(second);
    assert_eq!(uninspected(&server, "range"), 68);
    // Some clients join parts whatever the status.
    client.ask(&part("200 OK", "bytes 0-29/*", first)).assert_passed(first);
    assert_eq!(uninspected(&server, "range"), 98);
    let head = "HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=b\r\n\
                Content-Length: 30\r\n\r\n";
    let request = Request::respmod("GET /part HTTP/1.1\r\nHost: www.test\r\n\r\n", head);
    client.ask(&request.body(first)).assert_passed(first);
    assert_eq!(uninspected(&server, "range"), 128);
    let field = "Content-Range: bytes 30-67/68\r\n";
    client.ask(&upload(field, Framed::Length, second)).assert_passed(second);
    assert_eq!(uninspected(&server, "range"), 166);
    // Uploads that go on behind others without saying it so.
    let mut counted = 166;
    for (target, fields) in [
        ("/", "Upload-Offset: 30\r\nContent-Type: application/offset+octet-stream\r\n"),
        ("/", "Upload-Offset: 0\r\n"),
        ("/", "Upload-Complete: ?0\r\n"),
        ("/", "Upload-Incomplete: ?1\r\n"),
        ("/", "Content-Type: Application/Partial-Upload\r\n"),
        ("/o?partNumber=1&uploadId=a", ""),
        ("/o?uploadId=a&PartNumber=2", ""),
    ] {
        let head =
            format!("PUT {target} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 38\r\n\r\n");
        client.ask(&Request::reqmod(head).body(second)).assert_passed(second);
        counted += 38;
        assert_eq!(uninspected(&server, "range"), counted, "{target} {fields}");
    }
    let field = "Upload-Offset: 0\r\nUpload-Complete: ?1\r\n";
    client.ask(&upload(field, Framed::Length, second)).assert_passed(second);
    assert_eq!(uninspected(&server, "range"), counted);
    // A signature within a part is found.
    client.ask(&part("206 Partial Content", "bytes 5-72/1000", EICAR)).assert_blocked(1_000_001);
    let counted = uninspected(&server, "range");
    // Nothing is torn: all of it, no part at all, or a client that sees to it that parts overlap.
    client.ask(&part("206 Partial Content", "bytes 0-29/30", first)).assert_passed(first);
    client.ask(&part("416 Range Not Satisfiable", "bytes */68", first)).assert_passed(first);
    let wide = part("206 Partial Content", "bytes 30-67/68", second);
    client.ask(&wide.field("X-Range-Overlap", "65536")).assert_passed(second);
    assert_eq!(uninspected(&server, "range"), counted);
    // Nobody can decode from the midst of something.
    let field = "Content-Encoding: gzip\r\nContent-Range: bytes 30-67/68\r\n";
    let coded = |fields: &str| response(fields, Framed::Length, second);
    assert_refused(&client.ask(&coded(field)), "part");
    assert_refused(&client.ask(&coded(field).field("X-Range-Overlap", "65536")), "part");
    let whole = gzip(&infected());
    let all = format!(
        "Content-Encoding: gzip\r\nContent-Range: bytes 0-{}/{}\r\n",
        whole.len() - 1,
        whole.len()
    );
    client.ask(&response(&all, Framed::Length, &whole)).assert_blocked(1_000_001);
    assert_eq!(server.metric("refused_total{reason=\"part\"}"), 2);
}

#[test]
fn parts_are_refused_where_that_is_wished() {
    let server = Server::with_settings("[content]\nparts = \"block\"\n", &[]);
    let mut client = server.connect();
    let (first, second) = EICAR.split_at(30);
    let reply = client.ask(&part("206 Partial Content", "bytes 0-29/68", first).allow_204());
    assert_refused(&reply, "part");
    let field = "Content-Range: bytes 30-67/68\r\n";
    assert_refused(&client.ask(&upload(field, Framed::Length, second)), "part");
    client.ask(&Request::get("/whole", first)).assert_passed(first);
}

#[test]
fn clients_are_told_what_is_decoded() {
    let server = Server::start(&[]);
    let reply = server.connect().options();
    let said = reply.field("X-Meergate").unwrap();
    assert!(said.contains("decodes=aws-chunked+br+deflate+gzip+x-gzip+zstd"), "{said}");
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    for settings in ["[content]\nmalformed = \"ignore\"\n", "[content]\nmax_decoded = \"many\"\n"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        std::fs::write(&file, settings).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_meergate-inspector"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("settings.toml:2"), "{said}");
    }
}

/// Who does not decode has these too, and the engine has not.
#[test]
fn what_codings_have_beside_the_content_is_counted() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let mut counted = 0;
    for length in [0, 68, 40_000] {
        let mut body = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03".to_vec();
        body.extend(EICAR.iter().cycle().take(length));
        body.push(0);
        body.extend_from_slice(&gzip(b"harmless")[10..]);
        let field = "Content-Encoding: gzip\r\n";
        client.ask(&response(field, Framed::Length, &body)).assert_passed(&body);
        counted += length as u64;
        assert_eq!(uninspected(&server, "beside-content"), counted);
    }
    // Behind the content, and with nothing else.
    let skipped = [b"\x50\x2a\x4d\x18\x44\0\0\0", EICAR].concat();
    for body in [[&zstd(b"harmless")[..], &skipped].concat(), skipped.clone()] {
        let field = "Content-Encoding: zstd\r\n";
        client.ask(&upload(field, Framed::Chunked, &body).allow_204()).assert_unmodified();
        counted += EICAR.len() as u64;
        assert_eq!(uninspected(&server, "beside-content"), counted);
    }
    // A content that has none of it.
    client.ask(&response("Content-Encoding: gzip\r\n", Framed::Length, &gzip(b"harmless")));
    assert_eq!(uninspected(&server, "beside-content"), counted);
}

fn form(body: &[u8]) -> Request {
    let length = body.len();
    let kind = "Content-Type: multipart/form-data; boundary=b";
    let head =
        format!("POST / HTTP/1.1\r\nHost: a.test\r\n{kind}\r\nContent-Length: {length}\r\n\r\n");
    Request::reqmod(head).body(body)
}

#[test]
fn forms_that_servers_read_in_different_ways_are_refused_or_counted() {
    let field = "Content-Disposition: form-data; name=\"n\"; filename=\"f\"";
    let crlf = format!("--b\r\n{field}\r\n\r\ncontent\r\n--b--\r\n");
    let lf = crlf.replace('\r', "");
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.ask(&form(crlf.as_bytes()).allow_204()).assert_unmodified();
    assert_refused(&client.ask(&form(lf.as_bytes())), "does not end in CRLF");
    assert_eq!(server.metric("refused_total{reason=\"form\"}"), 1);
    assert_eq!(uninspected(&server, "form"), 0);

    let server = Server::with_settings("[content]\nmalformed = \"pass\"\n", &[]);
    let mut client = server.connect();
    client.ask(&form(lf.as_bytes()).allow_204()).assert_unmodified();
    assert_eq!(uninspected(&server, "form"), lf.len() as u64);
    // As it is, it is inspected all the same.
    let infected = [lf.as_bytes(), EICAR].concat();
    client.ask(&form(&infected)).assert_blocked(1_000_002);
}
