//! What a reader that is lazier or more lenient than clients has let pass.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::codings::{
    Framed, assert_refused, brotli_of_eicar, gzip, infected, raw, response, upload, zlib, zstd,
};
use crate::common::{EICAR, Request, Server, chunked, contains, random};

/// A zlib stream that holds `bad`; read as raw DEFLATE, the same bytes are short, whole and harmless.
fn polyglot(bad: &[u8]) -> Vec<u8> {
    // Of raw DEFLATE: a stored block of 0x9c bytes, whose inverted length is that of a stored
    // block of zlib.
    let inverted = !0x009c_u16;
    let [low, high] = inverted.to_le_bytes();
    let length = u16::from_le_bytes([low, high]);
    let mut stored = vec![0; usize::from(length)];
    let begin = [&[0x78, 0x9c, 0x00][..], &[low, high], &(!length).to_le_bytes()].concat();
    let harmless = raw(&b"benign ".repeat(20));
    let at = 5 + 0x9c - begin.len();
    stored[at..at + harmless.len()].copy_from_slice(&harmless);
    let content = [&stored, bad].concat();
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in &content {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    [begin, stored, raw(bad), (b << 16 | a).to_be_bytes().to_vec()].concat()
}

#[test]
fn content_that_is_two_contents_is_refused() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let body = polyglot(&infected());
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&body[..]), &mut content)
        .unwrap();
    assert!(contains(&content, EICAR));
    for framed in [Framed::Length, Framed::Chunked] {
        let field = "Content-Encoding: deflate\r\n";
        let reply = client.ask(&response(field, framed, &body));
        assert!(reply.http.starts_with("HTTP/1.1 403 "), "{reply:?}");
        let reply = client.ask(&upload(field, framed, &body));
        assert!(reply.http.starts_with("HTTP/1.1 403 "), "{reply:?}");
        // curl and others look at the content rather than at the field.
        let reply = client.ask(&response("Content-Encoding: gzip\r\n", framed, &body));
        assert_refused(&reply, "header");
    }
}

#[test]
fn what_follows_the_first_member_is_inspected() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let clean = gzip(b"nothing here");
    for body in [
        [clean.clone(), gzip(EICAR)].concat(),
        [gzip(b""), gzip(b""), gzip(&infected())].concat(),
        [gzip(&EICAR[..30]), gzip(&EICAR[30..])].concat(),
    ] {
        let field = "Content-Encoding: gzip\r\n";
        client.ask(&response(field, Framed::Length, &body)).assert_blocked(1_000_001);
        client.ask(&upload(field, Framed::Length, &body)).assert_blocked(1_000_002);
    }
    let frames = [zstd(b"nothing here"), zstd(&infected())].concat();
    let field = "Content-Encoding: zstd\r\n";
    client.ask(&response(field, Framed::Length, &frames)).assert_blocked(1_000_001);
    let refused = [
        ("gzip", [clean.clone(), EICAR.to_vec()].concat()),
        ("gzip", [clean.clone(), b"\x1f".to_vec()].concat()),
        ("deflate", [zlib(b"nothing here"), zlib(&infected())].concat()),
        ("deflate", [raw(b"nothing here"), EICAR.to_vec()].concat()),
        ("zstd", [zstd(b"nothing here"), EICAR.to_vec()].concat()),
        ("br", [vec![0x06], brotli_of_eicar()].concat()),
    ];
    for (coding, body) in refused {
        let field = format!("Content-Encoding: {coding}\r\n");
        assert_refused(&client.ask(&response(&field, Framed::Length, &body)), "coding asks for");
        assert_refused(&client.ask(&upload(&field, Framed::Chunked, &body)), "coding asks for");
    }
}

#[test]
fn a_signature_after_120_mb_of_zeros_is_found() {
    let server = Server::start(&[]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..120 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.write_all(EICAR).unwrap();
    let body = encoder.finish().unwrap();
    let field = "Content-Encoding: gzip\r\n";
    let mut client = server.connect();
    client.ask(&response(field, Framed::Length, &body)).assert_blocked(1_000_001);
    client.ask(&upload(field, Framed::Length, &body)).assert_blocked(1_000_002);
}

#[test]
fn codings_of_codings_are_undone_to_the_last_byte() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let content = [vec![0; 3_000_000], EICAR.to_vec()].concat();
    for (codings, body) in [
        ("gzip, gzip", gzip(&gzip(&content))),
        ("gzip, gzip, gzip", gzip(&gzip(&gzip(&content)))),
        ("zstd, deflate, gzip", gzip(&zlib(&zstd(&content)))),
    ] {
        let field = format!("Content-Encoding: {codings}\r\n");
        client.ask(&response(&field, Framed::Length, &body)).assert_blocked(1_000_001);
        client.ask(&upload(&field, Framed::Length, &body)).assert_blocked(1_000_002);
    }
    let body = gzip(&gzip(&gzip(&gzip(&content))));
    let field = "Content-Encoding: gzip, gzip, gzip, gzip\r\n";
    assert_refused(&client.ask(&response(field, Framed::Length, &body)), "more than 3");
}

#[test]
fn a_coding_in_the_sixty_fifth_field_counts() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for other in ["", "none", "identity"] {
        let fields = format!("Content-Encoding: {other}\r\n").repeat(64);
        let bad = [
            response(
                &(fields.clone() + "Content-Encoding: gzip\r\n"),
                Framed::Length,
                &gzip(&infected()),
            ),
            upload(&(fields + "CONTENT-ENCODING:br\r\n"), Framed::Length, &brotli_of_eicar()),
        ];
        for bad in bad {
            // Clients read codings beside what is none in more than one way.
            assert_refused(&client.ask(&bad), "the content cannot be decoded");
        }
    }
}

#[test]
fn a_first_byte_that_comes_alone_changes_nothing() {
    let server = Server::with_settings("pause = 0\n", &[]);
    let mut client = server.connect();
    for (coding, body) in [
        ("deflate", zlib(&infected())),
        ("gzip", gzip(&infected())),
        ("zstd", zstd(&infected())),
        ("br", brotli_of_eicar()),
    ] {
        let request = response(&format!("Content-Encoding: {coding}\r\n"), Framed::Length, &body);
        let head = request.head(client.base());
        client.send(&head);
        for piece in [&body[..1], &body[1..2], &body[2..]] {
            std::thread::sleep(std::time::Duration::from_millis(50));
            client.send(&chunked(piece));
        }
        client.send(b"0\r\n\r\n");
        client.reply().assert_blocked(1_000_001);
    }
}

#[test]
fn content_that_is_not_what_it_should_be_never_leaves_whole() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let field = "Content-Encoding: gzip\r\n";
    let body = gzip(b"nothing here");
    for at in body.len() - 8..body.len() {
        let mut wrong = body.clone();
        wrong[at] ^= 1;
        assert_refused(&client.ask(&response(field, Framed::Length, &wrong)), "coding asks for");
        let short = &body[..at];
        assert_refused(&client.ask(&response(field, Framed::Chunked, short)), "coding asks for");
        assert_refused(&client.ask(&upload(field, Framed::Length, short)), "coding asks for");
    }
    // With a signature in it, the signature counts.
    let mut wrong = gzip(&infected());
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    let reply = client.ask(&response(field, Framed::Length, &wrong));
    assert!(reply.http.starts_with("HTTP/1.1 403 "), "{reply:?}");
    for (coding, body) in [("gzip", EICAR), ("deflate", EICAR), ("br", EICAR), ("zstd", EICAR)] {
        let field = format!("Content-Encoding: {coding}\r\n");
        let reply = client.ask(&response(&field, Framed::Length, body));
        assert_refused(&reply, "coding asks for");
    }
    // Past hold, the body is cut before its end.
    let server = Server::start(&["--hold", "1000"]);
    let mut wrong = gzip(&random(300_000));
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    let reply = server.connect().ask(&response(field, Framed::Length, &wrong));
    assert!(reply.broken && reply.body.len() < wrong.len());
    server.wait_metric("transactions_total{outcome=\"refused\"}", 1);
    assert_eq!(server.metric("refused_total{reason=\"malformed\"}"), 1);
}

#[test]
fn lengths_of_coded_bodies_must_be_true() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let body = gzip(b"nothing here");
    for length in [body.len() - 1, body.len() + 1] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
        );
        let request = Request::respmod("GET / HTTP/1.1\r\nHost: www.test\r\n\r\n", head);
        assert_eq!(client.ask(&request.body(&body)).status, 400);
    }
}

#[test]
fn transfer_codings_but_chunked_are_no_way_in() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for coding in ["gzip, chunked", "gzip", "deflate, chunked", "chunked, gzip"] {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
        let request = Request::respmod("GET / HTTP/1.1\r\nHost: www.test\r\n\r\n", head);
        assert_eq!(client.ask(&request.body(&gzip(&infected()))).status, 400, "{coding}");
    }
}
