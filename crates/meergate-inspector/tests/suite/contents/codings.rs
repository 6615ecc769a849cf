//! Content in every coding, direction and framing; and how it is made.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use crate::common::{EICAR, Reply, Request, Server, contains, random};

/// EICAR within a text, in a brotli stream made by Google's encoder at its best.
const BROTLI: &str = "1bff01209c0776837387b85cc220be0da106e7a53ab1a9ee50a2527ba689853508998bdb2aa3d3c9\
    01fbd7560bcb228a5a0e41a09a70ba43faf24fd311d913cb3268177ae6dd102fd018c6ab1aca72f81e0e3465c3ed9ee102\
    9213c327635144f949d515d964ad148b4d5f3a6fcf6add26ab35843c42d2ea5681eca9378957f7000cc3c40f47e72a01";

pub(super) fn brotli_of_eicar() -> Vec<u8> {
    let hex: Vec<u8> = BROTLI.bytes().collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.chunks(2).map(byte).collect()
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn raw(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(content: &[u8]) -> Vec<u8> {
    let mut coded = vec![0; zstd_safe::compress_bound(content.len())];
    let length = zstd_safe::compress(&mut coded[..], content, 9).unwrap();
    coded.truncate(length);
    coded
}

/// What is coded so that the signature cannot be seen from outside.
pub(super) fn infected() -> Vec<u8> {
    let text = b"A text in front of it, long enough to be coded. ".repeat(6);
    [&text, EICAR, &b" And a text behind it, which ends here.".repeat(4)].concat()
}

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    Chunked,
    Close,
    Length,
}

impl Framed {
    pub(super) fn field(self, length: usize) -> String {
        match self {
            Self::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Self::Close => String::new(),
            Self::Length => format!("Content-Length: {length}\r\n"),
        }
    }
}

/// A response with these further fields.
pub(super) fn response(fields: &str, framed: Framed, body: &[u8]) -> Request {
    let framing = framed.field(body.len());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{fields}{framing}\r\n");
    Request::respmod("GET /coded HTTP/1.1\r\nHost: www.test\r\n\r\n", head).body(body)
}

/// An upload with these further fields.
pub(super) fn upload(fields: &str, framed: Framed, body: &[u8]) -> Request {
    let framing = framed.field(body.len());
    Request::reqmod(format!("POST /coded HTTP/1.1\r\nHost: www.test\r\n{fields}{framing}\r\n"))
        .body(body)
}

/// Panics unless this is a page that says why content was refused.
pub(super) fn assert_refused(reply: &Reply, why: &str) {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(!reply.broken && reply.http.starts_with("HTTP/1.1 403 "), "{reply:?}");
    assert_eq!(reply.field("X-Response-Info"), Some("blocked"), "{reply:?}");
    assert_eq!(reply.field("X-Signature-Id"), None, "{reply:?}");
    let page = String::from_utf8_lossy(&reply.body);
    assert!(page.contains(why), "{page}");
}

/// Content-Encoding fields, and content in these codings.
type Coded = (&'static str, fn(&[u8]) -> Vec<u8>);

const CODED: [Coded; 10] = [
    ("Content-Encoding: gzip\r\n", gzip),
    ("content-encoding:X-GZIP\r\n", gzip),
    ("Content-Encoding: deflate\r\n", zlib),
    ("Content-Encoding: deflate\r\n", raw),
    ("Content-Encoding: zstd\r\n", zstd),
    ("Content-Encoding: gzip, gzip\r\n", |c| gzip(&gzip(c))),
    ("Content-Encoding: zstd ,\tgzip\r\n", |c| gzip(&zstd(c))),
    ("Content-Encoding: deflate\r\nX: y\r\nContent-Encoding: zstd\r\n", |c| zstd(&zlib(c))),
    ("Content-Encoding: gzip,zstd\r\nContent-Encoding: deflate\r\n", |c| zlib(&zstd(&gzip(c)))),
    ("Content-Encoding: identity\r\n", <[u8]>::to_vec),
];

#[test]
fn a_signature_is_found_in_every_coding() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let mut check = |fields: &str, bad: &[u8], good: &[u8]| {
        for framed in [Framed::Chunked, Framed::Close, Framed::Length] {
            client.ask(&response(fields, framed, bad)).assert_blocked(1_000_001);
            client.ask(&response(fields, framed, good)).assert_passed(good);
            client.ask(&response(fields, framed, good).allow_204()).assert_unmodified();
            if framed != Framed::Close {
                client.ask(&upload(fields, framed, bad)).assert_blocked(1_000_002);
                client.ask(&upload(fields, framed, good)).assert_passed(good);
            }
        }
    };
    let clean = [random(1_000), b"tail ".repeat(50_000)].concat();
    for (fields, code) in CODED {
        let bad = code(&infected());
        assert!(fields.contains("identity") || !contains(&bad, EICAR), "{fields}");
        check(fields, &bad, &code(&clean));
    }
    let brotli = brotli_of_eicar();
    assert!(!contains(&brotli, EICAR));
    // An empty last metablock is no content.
    check("Content-Encoding: br\r\n", &brotli, &[0x06]);
    assert_eq!(server.metric("transactions_total{outcome=\"failed\"}"), 0);
    assert_eq!(server.metric("transactions_total{outcome=\"refused\"}"), 0);
}

#[test]
fn content_without_a_body_or_of_no_bytes_is_none_in_any_coding() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for coding in ["gzip", "br", "zstd", "deflate", "gzip, gzip"] {
        let field = format!("Content-Encoding: {coding}\r\n");
        for framed in [Framed::Chunked, Framed::Close, Framed::Length] {
            client.ask(&response(&field, framed, b"").allow_204()).assert_unmodified();
        }
        client.ask(&upload(&field, Framed::Chunked, b"").allow_204()).assert_unmodified();
    }
    // No body is decoded where none comes.
    for coding in ["gzip", "compress"] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: 1000\r\n\r\n"
        );
        let request = Request::respmod("HEAD /x HTTP/1.1\r\nHost: www.test\r\n\r\n", head);
        client.ask(&request.allow_204()).assert_unmodified();
    }
}

#[test]
fn coded_messages_leave_a_kept_flow_in_order() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let fields = "Content-Encoding: gzip\r\n";
    for n in 0..20 {
        let body = gzip(&random(3_000 * n));
        for framed in [Framed::Length, Framed::Chunked] {
            let request = upload(fields, framed, &body).connection("c").allow_204();
            client.ask(&request).assert_unmodified();
            let request = response(fields, framed, &body).connection("c").allow_204();
            let request = match n % 2 {
                0 => request,
                _ => Request::respmod(
                    "POST /coded HTTP/1.1\r\nHost: www.test\r\n\r\n",
                    format!("HTTP/1.1 200 OK\r\n{fields}{}\r\n", framed.field(body.len())),
                )
                .body(&body)
                .connection("c")
                .allow_204(),
            };
            client.ask(&request).assert_unmodified();
        }
        client.ask(&Request::get("/plain", b"plain").connection("c")).assert_passed(b"plain");
    }
    let eicar = response(fields, Framed::Length, &gzip(&infected())).connection("c");
    client.ask(&eicar).assert_blocked(1_000_001);
}
