//! Coded bodies that come in pieces, and leave in pieces.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::GzEncoder;

use super::codings::{Framed, brotli_of_eicar, gzip, infected, raw, response, upload, zlib, zstd};
use crate::common::{Client, EICAR, Request, Server, chunked, contains, random};

#[test]
fn bodies_cut_at_every_byte_are_blocked() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for (coding, body) in [
        ("gzip", gzip(&infected())),
        ("deflate", zlib(&infected())),
        ("deflate", raw(&infected())),
        ("br", brotli_of_eicar()),
        ("zstd", zstd(&infected())),
        ("gzip, zstd", zstd(&gzip(&infected()))),
    ] {
        let field = format!("Content-Encoding: {coding}\r\n");
        for at in 0..=body.len() {
            let request = response(&field, Framed::Length, &body);
            client.ask(&request.chunks([&body[..at], &body[at..]])).assert_blocked(1_000_001);
        }
        let bytes = body.chunks(1);
        let request = upload(&field, Framed::Chunked, &body).chunks(bytes);
        client.ask(&request).assert_blocked(1_000_002);
    }
}

/// Sends a body byte by byte to an inspector that releases what it can at once.
fn drip(client: &mut Client, field: &str, body: &[u8]) -> Vec<u8> {
    let request = response(field, Framed::Length, body);
    let head = request.head(client.base());
    client.send(&head);
    let (first, rest) = body.split_at(10);
    client.send(&chunked(first));
    // The reply has begun: no page can come any more.
    let mut got = client.body_so_far(1);
    for byte in rest.chunks(1) {
        // The server may have cut the connection by then.
        if client.writer().write_all(&chunked(byte)).is_err() {
            break;
        }
    }
    let _ = client.writer().write_all(b"0\r\n\r\n");
    got.extend(client.rest_of_body());
    got
}

/// What can be decoded of a body that was cut.
fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    // It ends where it was cut.
    let _ = match coding {
        "gzip" => MultiGzDecoder::new(body).read_to_end(&mut content).map(drop),
        "deflate" => ZlibDecoder::new(body).read_to_end(&mut content).map(drop),
        "zstd" => {
            content = vec![0; 8 << 20];
            let mut context = zstd_safe::DCtx::create();
            let mut output = zstd_safe::OutBuffer::around(&mut content[..]);
            let mut input = zstd_safe::InBuffer::around(body);
            while input.pos() < body.len() {
                if context.decompress_stream(&mut output, &mut input).is_err() {
                    break;
                }
            }
            let length = output.pos();
            content.truncate(length);
            Ok(())
        }
        _ => unreachable!(),
    };
    content
}

#[test]
fn no_byte_leaves_before_what_it_decodes_to_was_judged() {
    let server = Server::start(&["--hold", "0"]);
    for (coding, body) in
        [("gzip", gzip(&infected())), ("deflate", zlib(&infected())), ("zstd", zstd(&infected()))]
    {
        let got = drip(&mut server.connect(), &format!("Content-Encoding: {coding}\r\n"), &body);
        assert!(got.len() < body.len() && body.starts_with(&got));
        assert!(!contains(&decoded(coding, &got), EICAR), "{coding}: {} bytes", got.len());
    }
}

#[test]
fn past_hold_a_hit_cuts_the_body_before_it_can_be_decoded() {
    let server = Server::start(&["--hold", "100000"]);
    let mut content = random(5_000_000);
    content[4_000_000..][..EICAR.len()].copy_from_slice(EICAR);
    for (coding, body) in
        [("gzip", gzip(&content)), ("deflate", zlib(&content)), ("zstd", zstd(&content))]
    {
        let field = format!("Content-Encoding: {coding}\r\n");
        for framed in [Framed::Length, Framed::Chunked, Framed::Close] {
            let reply = server.connect().ask(&response(&field, framed, &body));
            assert_eq!(reply.status, 200);
            assert!(reply.broken, "a whole reply although EICAR is in it");
            assert!(body.starts_with(&reply.body));
            let got = decoded(coding, &reply.body);
            assert!(got.len() >= 100_000 && content.starts_with(&got), "{coding} {}", got.len());
            assert!(!contains(&got, EICAR));
        }
    }
    server.wait_metric("transactions_total{outcome=\"cut\"}", 9);
}

#[test]
fn large_coded_bodies_come_back_as_they_were() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let text: Vec<u8> =
        random(3_000_000).iter().map(|b| b"0123456789abcdef"[usize::from(b % 16)]).collect();
    for (coding, body) in [
        ("gzip", gzip(&random(3_000_000))),
        ("gzip", gzip(&text.repeat(3))),
        ("zstd", zstd(&text.repeat(3))),
        ("zstd, gzip", gzip(&zstd(&random(3_000_000)))),
    ] {
        let field = format!("Content-Encoding: {coding}\r\n");
        let request = response(&field, Framed::Length, &body).allow_204();
        client.ask(&request.clone().chunks(body.chunks(7_777))).assert_passed(&body);
        client.ask(&upload(&field, Framed::Chunked, &body)).assert_passed(&body);
    }
    let all = Server::start(&["--hold", "all"]);
    let body = gzip(&random(3_000_000));
    let request = response("Content-Encoding: gzip\r\n", Framed::Length, &body);
    all.connect().ask(&request.clone().allow_204()).assert_unmodified();
    all.connect().ask(&request).assert_passed(&body);
}

#[test]
fn events_of_a_coded_stream_do_not_wait_for_those_that_follow() {
    let server = Server::with_settings("pause = 0\n", &[]);
    let mut client = server.connect();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = Request::respmod("GET /events HTTP/1.1\r\nHost: www.test\r\n\r\n", head);
    let head = request.body(b"").head(client.base());
    client.send(&head);
    assert_eq!(client.body_so_far(0), b"");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let mut event = |content: &[u8]| {
        encoder.write_all(content).unwrap();
        encoder.flush().unwrap();
        std::mem::take(encoder.get_mut())
    };
    for n in 0..5 {
        let coded = event(format!("data: {n} {n}\n\n").as_bytes());
        client.send(&chunked(&coded));
        assert_eq!(client.more_body(coded.len()), coded);
    }
    let coded = event(EICAR);
    client.send(&chunked(&coded));
    assert!(client.rest_of_body().len() < coded.len() && client.is_closed());
    server.wait_metric("transactions_total{outcome=\"cut\"}", 1);
}

#[test]
fn a_preview_of_coded_content_is_judged_with_what_follows() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for (content, blocked) in [(infected(), true), (random(5_000), false)] {
        let body = gzip(&content);
        for preview in [0, 1, 10, 11, 100, body.len() - 1] {
            let field = "Content-Encoding: gzip\r\n";
            let request = response(field, Framed::Length, &body);
            let request = request.field("Preview", &preview.to_string());
            client.send(&request.head(client.base()));
            client.send(&chunked(&body[..preview]));
            client.send(b"0\r\n\r\n");
            let mut reply = client.reply();
            if reply.status == 100 {
                client.send(&chunked(&body[preview..]));
                client.send(b"0\r\n\r\n");
                reply = client.reply();
            }
            match blocked {
                true => reply.assert_blocked(1_000_001),
                false => reply.assert_passed(&body),
            }
        }
    }
}
