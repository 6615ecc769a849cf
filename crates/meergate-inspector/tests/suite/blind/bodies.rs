//! Places in bodies and behind them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::map::{Buffer, Place, answered, asked};
use crate::common::Request;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    Length,
    UntilClose,
}

/// A message with a body, which comes in chunks of ICAP of so many bytes.
pub(super) fn message(
    by_client: bool,
    framing: Framing,
    kind: &str,
    body: &[u8],
    chunk: usize,
) -> Request {
    let length = match framing {
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Framing::Length => format!("Content-Length: {}\r\n", body.len()),
        Framing::UntilClose => String::new(),
    };
    let fields = format!("Content-Type: {kind}\r\n{length}\r\n");
    let message = match by_client {
        true => Request::reqmod(format!("POST /up HTTP/1.1\r\nHost: a.test\r\n{fields}")),
        false => Request::respmod(
            "GET /down HTTP/1.1\r\nHost: a.test\r\n\r\n",
            format!("HTTP/1.1 200 OK\r\n{fields}"),
        ),
    };
    message.chunks(body.chunks(chunk.max(1)))
}

/// What is in front of a border and behind it: where Suricata's windows, our packets, the held part and the ring end.
const BORDERS: [usize; 13] = [
    0,
    2_560,
    4_096,
    16_384,
    32_768,
    40_960,
    49_152,
    57_344,
    65_000,
    65_536,
    131_072,
    1 << 20,
    (1 << 20) + (256 << 10),
];

pub(super) fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for buffer in
        [asked("http.request_body"), asked("content"), answered("file.data"), answered("content")]
    {
        for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
            if !(buffer.by_client && framing == Framing::UntilClose) {
                places.push(borders(buffer, framing));
            }
        }
        places.push(chunked_by_icap(buffer));
        places.push(kinds(buffer));
        places.push(beside_content(buffer));
        places.push(trailers_as_body(buffer));
        if buffer.keyword == "content" {
            places.push(between_chunks(buffer));
        }
    }
    for side in [asked, answered] {
        let multi = match side("").by_client {
            true => side("http.request_header"),
            false => side("http.response_header"),
        };
        for buffer in [
            side("http.header"),
            side("http.header.raw"),
            multi,
            side("http.header_names"),
            side("content"),
        ] {
            places.push(trailers(buffer));
        }
        for buffer in [side("http.header"), multi] {
            places.push(repeated_trailers(buffer));
        }
    }
    places
}

/// Filler without a period that windows could have.
pub(super) fn filler(len: usize) -> Vec<u8> {
    let mut state = 7u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'A' + (state >> 24) as u8 % 26
    })
    .take(len)
    .collect()
}

fn planted(marker: &str, at: usize, tail: usize) -> Vec<u8> {
    let mut body = filler(at);
    body.extend(marker.bytes());
    body.extend(filler(tail));
    body
}

/// The marker across each border, in bodies that end there or go on.
fn borders(buffer: Buffer, framing: Framing) -> Place {
    let mut place = Place::new(format!("body at every border, {framing:?}"), buffer);
    let len = buffer.marker().len();
    for border in BORDERS {
        for tail in [0, 1, 3_000, 100_000] {
            for before in [len + 1, len, len - 1, len / 2, 1, 0] {
                let Some(at) = border.checked_sub(before) else { continue };
                place.at(format!("{at}+{tail}"), move |m| {
                    let body = planted(m, at, tail);
                    message(buffer.by_client, framing, "application/octet-stream", &body, 60_000)
                });
            }
        }
    }
    place
}

/// The most content that the engine gets in one chunk.
const CHUNK: usize = 65_000;

/// ICAP tells nobody where the chunks of HTTP ended, so the engine gets others, with lines between them. What is decoded
/// comes in such chunks whatever its framing was.
fn between_chunks(buffer: Buffer) -> Place {
    let mut place = Place::new("body, where two chunks meet, also of gzip", buffer);
    for (n, junction) in [1, 2, 3, 10].map(|n| n * CHUNK).into_iter().enumerate() {
        for before in 1..buffer.marker().len() {
            for (framing, coded) in
                [(Framing::Chunked, false), (Framing::Length, true), (Framing::UntilClose, true)]
            {
                if buffer.by_client && framing == Framing::UntilClose {
                    continue;
                }
                place.at(format!("{before} before {n}, {framing:?}"), move |m| {
                    let body = planted(m, junction - before, 3_000);
                    match coded {
                        true => in_gzip(buffer.by_client, framing, &body),
                        false => message(buffer.by_client, framing, "text/plain", &body, 60_000),
                    }
                });
            }
        }
    }
    place
}

/// A message whose body is coded.
fn in_gzip(by_client: bool, framing: Framing, body: &[u8]) -> Request {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    let kind = "text/plain\r\nContent-Encoding: gzip";
    message(by_client, framing, kind, &encoder.finish().unwrap(), 60_000)
}

/// What who does not decode has, and the engine has not.
fn beside_content(buffer: Buffer) -> Place {
    let mut place = Place::new("names of gzip and skippable frames of zstd", buffer);
    for (at, tail) in [(0, 0), (50, 10), (5_000, 5_000), (70_000, 0)] {
        place.at(format!("name {at}+{tail}"), move |m| {
            let mut body = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03".to_vec();
            body.extend(planted(m, at, tail));
            // The end of the name; a last block, empty; checksum and length of nothing.
            body.extend([0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            let kind = "text/plain\r\nContent-Encoding: gzip";
            message(buffer.by_client, Framing::Length, kind, &body, 60_000)
        });
        place.at(format!("skippable {at}+{tail}"), move |m| {
            let skipped = planted(m, at, tail);
            let length = u32::try_from(skipped.len()).unwrap().to_le_bytes();
            let body = [b"\x50\x2a\x4d\x18", &length[..], &skipped].concat();
            let kind = "text/plain\r\nContent-Encoding: zstd";
            message(buffer.by_client, Framing::Length, kind, &body, 60_000)
        });
    }
    place
}

/// How the ICAP client cuts the body is nothing to the engine.
fn chunked_by_icap(buffer: Buffer) -> Place {
    let mut place = Place::new("body in ICAP chunks of 1 byte to all", buffer);
    for chunk in [1, 2, 3, 7, 100, 1_000, 4_095, 4_096, 16_384, 65_535, usize::MAX] {
        for (at, tail) in
            [(0, 0), (1, 0), (500, 20), (5_000, 1), (9_000, 9_000), (42_000, 0), (70_000, 10)]
        {
            place.at(format!("{at}+{tail} by {chunk}"), move |m| {
                let body = planted(m, at, tail);
                message(buffer.by_client, Framing::Chunked, "text/plain", &body, chunk)
            });
        }
    }
    place
}

/// Types whose contents Suricata, or the inspector, treats in a way of their own.
fn kinds(buffer: Buffer) -> Place {
    let mut place = Place::new("body of each content type", buffer);
    for kind in [
        "text/html",
        "text/plain; charset=utf-16",
        "application/json",
        "image/png",
        "application/pdf",
        "application/x-shockwave-flash",
        "application/x-www-form-urlencoded",
        "application/grpc",
        "text/event-stream",
        "multipart/x-mixed-replace; boundary=b",
        "multipart/mixed; boundary=b",
        "multipart/byteranges; boundary=b",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=b",
        "message/rfc822",
        "",
        "*",
        "x/y; a=\"",
        "application/octet-stream",
    ] {
        for (at, tail) in [(0, 0), (300, 0), (5_000, 5_000), (50_000, 10)] {
            place.at(format!("{kind} {at}+{tail}"), move |m| {
                message(buffer.by_client, Framing::Length, kind, &planted(m, at, tail), 8_000)
            });
        }
    }
    place
}

/// Fields behind a chunked body.
fn trailers(buffer: Buffer) -> Place {
    let mut place = Place::new("trailers, each of 1 to 190, names and values", buffer);
    let named = buffer.keyword == "http.header_names";
    for count in [1, 2, 20, 190] {
        for n in (0..count).step_by(1 + count / 40) {
            for body in [1, 50_000] {
                place.at(format!("{n} of {count} after {body}"), move |m| {
                    let fields = (0..count).map(|i| match (i == n, named) {
                        (false, _) => (format!("X-{i}"), "v".to_owned()),
                        (true, true) => (m.to_owned(), "v".to_owned()),
                        (true, false) => (format!("X-{i}"), m.to_owned()),
                    });
                    message(buffer.by_client, Framing::Chunked, "text/plain", &filler(body), 60_000)
                        .trailers(fields)
                });
            }
        }
    }
    place
}

/// Fields of the head and behind the body, with one name.
fn repeated_trailers(buffer: Buffer) -> Place {
    let mut place =
        Place::new("trailers, each of 160 of one name, 0 to 66 of it in the head", buffer);
    for before in [0, 1, 60, 66] {
        for n in (0..160).step_by(3) {
            place.at(format!("{n} behind {before}"), move |m| {
                let head = "X-T: v\r\n".repeat(before) + "Transfer-Encoding: chunked\r\n\r\n";
                let message = match buffer.by_client {
                    true => Request::reqmod(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{head}")),
                    false => Request::respmod(
                        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
                        format!("HTTP/1.1 200 OK\r\n{head}"),
                    ),
                };
                let value = |i| if i == n { m.to_owned() } else { "v".to_owned() };
                message.body(b"x").trailers((0..160).map(|i| ("X-T".to_owned(), value(i))))
            });
        }
    }
    place
}

/// A trailer is no content.
fn trailers_as_body(buffer: Buffer) -> Place {
    let what = "trailers, as content";
    let mut place = match buffer.keyword {
        "content" => Place::new(what, buffer),
        _ => Place::uncovered(what, buffer, "they are fields, see `http.header`"),
    };
    for body in [1, 100, 50_000] {
        place.at(format!("{body}"), move |m| {
            let fields = [("X-T".to_owned(), m.to_owned())];
            message(buffer.by_client, Framing::Chunked, "text/plain", &filler(body), 60_000)
                .trailers(fields)
        });
    }
    place
}
