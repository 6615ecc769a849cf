//! Messages that two parsers could read differently, each sent through a socket: the sender gets
//! an error, and the other side never sees what is ambiguous.
#![allow(clippy::unwrap_used, reason = "helpers fail the test that calls them")]

mod support;

use std::io::Write;
use std::thread;

use support::{Gateway, Origin, connect, read_to_end};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: smuggled\r\n\r\n";

fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
    text.strip_prefix("HTTP/1.1 ").and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// Heads that are refused before anything goes to the origin. `{o}` stands for its authority.
const HEADS: &[(u16, &str)] = &[
    // Line ends.
    (400, "GET http://{o}/ HTTP/1.1\nHost: {o}\n\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA: b\nB: c\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA: b\rB: c\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\rHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA: b\r\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA: \rContent-Length: 5\r\n\r\n"),
    (400, "\r\n\r\nGET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "\nGET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    // Folding and field names.
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA: b\r\n c\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA: b\r\n\tc\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\n Host: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length:\r\n 5\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost : {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length : 5\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding : chunked\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding\t: chunked\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer Encoding: chunked\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n: b\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nno colon\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA\"b: c\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA[]: c\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\u{fffd}A: c\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA/b: c\r\n\r\n"),
    // Control characters.
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA: b\0c\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA\0: b\r\n\r\n"),
    (400, "GET http://{o}/\0 HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA: \u{1}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nA: \u{7f}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\u{c}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: \0chunked\r\n\r\n"),
    // Request lines.
    (400, "GET  http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/  HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1 \r\nHost: {o}\r\n\r\n"),
    (400, " GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET\thttp://{o}/\tHTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/a b HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/a#b HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "G{T http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ http/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1x\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1,1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/ 1.1\r\nHost: {o}\r\n\r\n"),
    (505, "GET http://{o}/ HTTP/2.0\r\nHost: {o}\r\n\r\n"),
    (505, "GET http://{o}/ HTTP/1.2\r\nHost: {o}\r\n\r\n"),
    (505, "GET http://{o}/ HTTP/0.9\r\nHost: {o}\r\n\r\n"),
    (505, "GET http://{o}/\r\n"),
    (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    // Targets and hosts.
    (400, "GET / HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET {o} HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http:/{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET ftp://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://user@{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://a:b@{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http:///x HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}:/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://[::1/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://127.1:80/ HTTP/1.1\r\nHost: 127.1:80\r\n\r\n"),
    (400, "GET http://{o}%2f@a/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}\\@a/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nHost: {o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nhost: other\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}, other\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o} other\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: a@{o}\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}/x\r\n\r\n"),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}#\r\n\r\n"),
    (400, "CONNECT {o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "CONNECT http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n"),
    (400, "CONNECT localhost HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5\r\n\r\nhello"),
    (400, "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    // Lengths.
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
    ),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5, 5\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5,\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: +5\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: -5\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 0x5\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 05\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5.\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5e0\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5 0\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5_0\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: \"5\"\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length:\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: five\r\n\r\nhello"),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 9223372036854775808\r\n\r\nhello",
    ),
    // Transfer codings.
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    ),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked;x\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    ),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: identity\r\n\r\n"),
    (400, "POST http://{o}/ HTTP/1.0\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (
        501,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (501, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: gzip\r\n\r\n"),
    // Names that differ from the real ones by what some parsers overlook.
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length\0: 5\r\n\r\nhello"),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length\u{a0}: 5\r\n\r\nhello"),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding\u{b}: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nX: a\r\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5\r\nTransfer-Encoding:\tCHUNKED\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (400, "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chu\u{0}nked\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked \u{1}\r\n\r\n0\r\n\r\n",
    ),
    // Connection and Expect.
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        400,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (400, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: host\r\n\r\n"),
    (
        417,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        417,
        "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nExpect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    ),
];

/// Contents whose framing breaks after a sound, chunked head.
const CHUNKS: &[&str] = &[
    "x\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\t\r\nhello\r\n0\r\n\r\n",
    "5 ;a=b\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\rhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "5;\0\r\nhello\r\n0\r\n\r\n",
    "\r\nhello\r\n0\r\n\r\n",
    ";a\r\nhello\r\n0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "5,5\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "00000000000000005\r\nhello\r\n0\r\n\r\n",
    "0\r\nContent-Length: 5\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\nHost: other\r\n\r\n",
    "0\r\n folded: a\r\n\r\n",
    "0\r\nA : b\r\n\r\n",
    "0\r\nA: b\nC: d\r\n\r\n",
    "0\r\nno colon\r\n\r\n",
    "0\r\n\n",
];

/// Response heads that are never passed on where they are read strictly; of those that are read leniently see responses.rs.
const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
    "HTTP/1.1 200 OK\r\nA: b\rContent-Length: 9\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 02\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nok",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nok",
    "ok, this is HTTP/0.9",
];

#[test]
fn the_table_is_as_long_as_promised() {
    // And those of HTTP/2, see framing_h2.rs.
    assert!(HEADS.len() >= 125, "{}", HEADS.len());
    let contents = 2 * CHUNKS.len();
    assert!(HEADS.len() + contents + RESPONSES.len() >= 215);
}

#[test]
fn ambiguous_heads_of_requests_go_nowhere() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::start("");
    let authority = origin.address.to_string();
    for (expected, template) in HEADS {
        let request = template.replace("{o}", &authority) + SMUGGLED;
        let answer = gateway.ask(request.as_bytes());
        assert_eq!(
            status(&answer),
            *expected,
            "{template:?}: {}",
            String::from_utf8_lossy(&answer)
        );
        let answers = answer.windows(9).filter(|w| w == b"HTTP/1.1 ").count();
        assert_eq!(answers, 1, "{template:?}: more than one answer");
    }
    assert_eq!(origin.seen(), Vec::<Vec<u8>>::new());
    assert_eq!(gateway.transactions(HEADS.len()).len(), HEADS.len());
}

#[test]
fn ambiguous_heads_are_told_from_sound_ones() {
    // The same requests without their one fault pass: it is the fault that is refused.
    let origin = Origin::answering(OK);
    let gateway = Gateway::start("");
    let o = origin.address;
    for request in [
        format!("GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n"),
        format!("\r\nGET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n"),
        format!(
            "GET http://{o} HTTP/1.1\r\nhOST:{o}\r\nConnection: close\r\nA:\r\nB: \u{e9}\t,\"\r\n\r\n"
        ),
        format!("GET http://{o}/ HTTP/1.0\r\n\r\n"),
        format!(
            "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ),
    ] {
        assert_eq!(status(&gateway.ask(request.as_bytes())), 200, "{request:?}");
    }
    assert_eq!(origin.seen().len(), 5);
}

#[test]
fn ambiguous_heads_behind_a_sound_request_go_nowhere() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::start("");
    let o = origin.address.to_string();
    let sound = format!("POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 5\r\n\r\nhello");
    for (expected, template) in HEADS {
        let request = template.replace("{o}", &o) + SMUGGLED;
        let answer = gateway.ask(format!("{sound}{request}").as_bytes());
        let text = String::from_utf8_lossy(&answer);
        let (first, second) = text.split_once("\r\n\r\nok").unwrap();
        assert!(first.starts_with("HTTP/1.1 200 "), "{template:?}: {text}");
        assert_eq!(status(second.as_bytes()), *expected, "{template:?}: {text}");
    }
    let seen = String::from_utf8(origin.seen().concat()).unwrap();
    assert_eq!(seen.matches("HTTP/1.1").count(), HEADS.len());
    assert_eq!(seen.matches("POST / HTTP/1.1").count(), HEADS.len());
}

#[test]
fn broken_chunks_of_requests_never_look_complete() {
    let origin = Origin::start(|asked| {
        asked.head();
        while asked.read().is_some() {}
    });
    let gateway = Gateway::start("");
    let o = origin.address;
    let head =
        format!("POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunks in CHUNKS {
        let answer = gateway.ask(format!("{head}{chunks}{SMUGGLED}").as_bytes());
        assert_eq!(status(&answer), 400, "{chunks:?}: {}", String::from_utf8_lossy(&answer));
    }
    for seen in origin.seen() {
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(!seen.contains("smuggled"), "{seen}");
        assert!(!seen.ends_with("0\r\n\r\n"), "looks complete: {seen}");
    }
}

#[test]
fn ambiguous_responses_become_errors_where_they_are_read_strictly() {
    let gateway = Gateway::start("[http]\nresponses = \"strict\"\n");
    for response in RESPONSES {
        let origin = Origin::answering(*response);
        let o = origin.address;
        let request = format!("GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n");
        let answer = gateway.ask(request.as_bytes());
        assert_eq!(status(&answer), 502, "{response:?}: {}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn broken_chunks_of_responses_are_cut_where_they_are_read_strictly() {
    let gateway = Gateway::start("[http]\nresponses = \"strict\"\n");
    for chunks in CHUNKS {
        let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let origin = Origin::answering(response);
        let o = origin.address;
        let answer =
            gateway.ask(format!("GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n").as_bytes());
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") || answer.is_empty(),
            "{chunks:?}: {answer}"
        );
        assert!(!answer.ends_with("0\r\n\r\n"), "{chunks:?} looks complete: {answer}");
    }
}

#[test]
fn what_follows_a_response_unasked_is_not_taken_for_the_next_one() {
    let origin = Origin::start(|asked| {
        while let Some(head) = asked.head() {
            let extra = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
            let answer =
                if head.starts_with("GET /1") { format!("{OK}{extra}") } else { OK.into() };
            if asked.stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let gateway = Gateway::start("");
    let o = origin.address;
    let mut stream = connect(gateway.proxy);
    for path in ["/1", "/2"] {
        let close = if path == "/2" { "Connection: close\r\n" } else { "" };
        let request = format!("GET http://{o}{path} HTTP/1.1\r\nHost: {o}\r\n{close}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
    }
    let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
    assert!(!answer.contains("poison"), "{answer}");
    assert_eq!(answer.matches("\r\n\r\nok").count(), 2, "{answer}");
    assert_eq!(origin.seen().len(), 2, "the poisoned connection was used again");
}

#[test]
fn slow_and_endless_heads_are_bounded() {
    let gateway = Gateway::start("[limits]\nbegin_timeout = \"300ms\"\n");
    let mut dripping = connect(gateway.proxy);
    let sender = dripping.try_clone().unwrap();
    let drip = thread::spawn(move || {
        let mut sender = sender;
        for byte in b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX: ".iter().chain([b'x'].iter().cycle())
        {
            if sender.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    read_to_end(&mut dripping);
    drop(dripping);
    drip.join().unwrap();

    let gateway = Gateway::start("");
    let long = format!("GET http://a/ HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(70_000));
    assert_eq!(status(&gateway.ask(long.as_bytes())), 431);
    let many = format!("GET http://a/ HTTP/1.1\r\nHost: a\r\n{}", "A: b\r\n".repeat(501));
    assert_eq!(status(&gateway.ask(many.as_bytes())), 431);
    let line = format!("GET http://a/{}", "x".repeat(70_000));
    assert_eq!(status(&gateway.ask(line.as_bytes())), 414);
}
