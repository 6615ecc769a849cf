//! How far content may grow.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::codings::{Framed, assert_refused, gzip, response, upload, zstd};
use crate::common::{Request, Server};

fn zeros(mb: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..mb {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn content_longer_than_max_decoded_is_refused() {
    let server = Server::with_settings("[content]\nmax_decoded = \"10MiB\"\n", &[]);
    let mut client = server.connect();
    let field = "Content-Encoding: gzip\r\n";
    let fits = zeros(10);
    client.ask(&response(field, Framed::Length, &fits)).assert_passed(&fits);
    let long = zeros(11);
    assert_refused(&client.ask(&response(field, Framed::Length, &long)), "too long");
    assert_refused(&client.ask(&upload(field, Framed::Chunked, &long)), "too long");
    assert_eq!(server.metric("refused_total{reason=\"size\"}"), 2);
}

#[test]
fn growth_between_two_codings_counts() {
    let server = Server::with_settings("[content]\nmax_decoded = \"10MiB\"\n", &[]);
    // Empty frames: much to decode, and no content.
    let body = gzip(&zstd(b"").repeat(2_000_000));
    let reply =
        server.connect().ask(&response("Content-Encoding: zstd, gzip\r\n", Framed::Length, &body));
    assert_refused(&reply, "too long");
}

#[test]
fn a_run_of_zeros_passes_and_a_bomb_of_two_layers_does_not() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let one = zeros(300);
    client.ask(&response("Content-Encoding: gzip\r\n", Framed::Length, &one)).assert_passed(&one);
    let two = gzip(&one);
    let reply = client.ask(&response("Content-Encoding: gzip, gzip\r\n", Framed::Length, &two));
    assert_refused(&reply, "grows too much");
    assert_eq!(server.metric("refused_total{reason=\"ratio\"}"), 1);
}

#[test]
fn other_connections_are_served_while_a_bomb_is_decoded() {
    let server = Server::start(&["--workers", "1"]);
    let body = zeros(250);
    let bomb = response("Content-Encoding: gzip\r\n", Framed::Length, &body);
    let (mut slow, mut quick) = (server.connect(), server.connect());
    let bytes = bomb.bytes(slow.base());
    slow.send(&bytes);
    // All of the bomb is with the inspector once some of it has been decoded.
    server.wait_until("decoded bytes", || server.metric("decoded_bytes_total") > 0);
    quick.ask(&Request::get("/quick", b"quick")).assert_passed(b"quick");
    let before = server.metric("decoded_bytes_total");
    slow.reply().assert_passed(&body);
    assert!(before < 250 << 20, "it had been decoded before");
}
