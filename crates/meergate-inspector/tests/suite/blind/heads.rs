//! Places in the heads of requests and responses.

use super::map::{Buffer, Place, answered, asked};
use crate::common::Request;

/// The most field lines that the programs take in a head.
const MOST_FIELDS: usize = 200;

/// Lengths around the limits of Suricata, of packets, and of the programs (64 KiB and 128 KiB).
const LENGTHS: [usize; 26] = [
    40, 100, 255, 1_000, 1_024, 2_000, 4_000, 4_096, 8_000, 8_192, 9_000, 16_000, 16_384, 18_000,
    18_432, 20_000, 32_000, 32_768, 40_000, 50_000, 65_000, 65_300, 65_535, 65_536, 100_000,
    130_000,
];

/// Payload of the longest packet that the engine is fed, in IPv4.
const PACKET: usize = 65_495;

pub(super) fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for keyword in ["http.uri", "http.uri.raw", "http.request_line", "content"] {
        places.extend(target(asked(keyword)));
    }
    places.push(encoded_target());
    places.push(method());
    for (by_client, name) in FIELDS {
        places.extend(known_field(by_client, name.0, name.1));
    }
    for side in [asked, answered] {
        let multi = match side("").by_client {
            true => side("http.request_header"),
            false => side("http.response_header"),
        };
        for buffer in [side("http.header"), side("http.header.raw"), multi, side("content")] {
            places.push(each_value(buffer));
            places.extend(repetitions(buffer, "X-Again", "any field"));
            places.push(shared_repetitions(buffer));
            places.push(value_lengths(buffer, "X-Long", "any field, 40 to 130,000 bytes"));
            places.push(odd_values(buffer));
            places.push(each_name(buffer));
        }
        places.push(each_name(side("http.header_names")));
    }
    places.extend(status_line());
    places.push(uncovered_cookie());
    places
}

/// Fields with a keyword of their own.
const FIELDS: [(bool, (&str, &str)); 16] = [
    (true, ("Cookie", "http.cookie")),
    (true, ("User-Agent", "http.user_agent")),
    (true, ("Referer", "http.referer")),
    (true, ("Accept", "http.accept")),
    (true, ("Accept-Language", "http.accept_lang")),
    (true, ("Accept-Encoding", "http.accept_enc")),
    (true, ("Connection", "http.connection")),
    (true, ("Content-Type", "http.content_type")),
    (true, ("Host", "http.host")),
    (true, ("Host", "http.host.raw")),
    (false, ("Set-Cookie", "http.cookie")),
    (false, ("Server", "http.server")),
    (false, ("Location", "http.location")),
    (false, ("Content-Type", "http.content_type")),
    (false, ("Connection", "http.connection")),
    (false, ("Content-Length", "http.content_len")),
];

/// A message whose head has these fields besides what it needs.
pub(super) fn message(by_client: bool, fields: &str) -> Request {
    if by_client {
        Request::reqmod(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"))
    } else {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\n");
        Request::respmod("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", head).body(b"hi")
    }
}

/// `len` bytes with the marker at a place, or around the end of it if `len` is too short.
pub(super) fn planted(marker: &str, len: usize, at: usize) -> String {
    let at = at.min(len.saturating_sub(marker.len()));
    let mut text = "a".repeat(at);
    text += marker;
    text.extend(std::iter::repeat_n('b', len.saturating_sub(text.len())));
    text
}

/// Beginning, middle and end of a text, and where packets meet if it is long enough.
fn offsets(len: usize) -> Vec<usize> {
    let mut offsets = vec![0, len / 2, len];
    if len > PACKET {
        // The line, or what is before the value in the head, takes some bytes of the packet.
        offsets.extend((PACKET - 130..PACKET).step_by(2));
    }
    offsets
}

fn target(buffer: Buffer) -> Vec<Place> {
    let get =
        |target: String| Request::reqmod(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    let mut path = Place::new("path, 40 to 130,000 bytes", buffer);
    let mut query = Place::new("query, 40 to 130,000 bytes", buffer);
    for len in LENGTHS {
        for at in offsets(len) {
            path.at(format!("{at} of {len}"), move |m| get(format!("/{}", planted(m, len, at))));
            query
                .at(format!("{at} of {len}"), move |m| get(format!("/?q={}", planted(m, len, at))));
        }
    }
    let mut arguments = Place::new("each of 1,000 arguments of a query", buffer);
    for n in (0..1000).step_by(10) {
        arguments.at(format!("{n}"), move |m| {
            let each = (0..1000).map(|i| format!("a{i}={}&", if i == n { m } else { "v" }));
            get(format!("/?{}", each.collect::<String>()))
        });
    }
    let mut segments = Place::new("each of 1,000 segments of a path", buffer);
    for n in (0..1000).step_by(10) {
        segments.at(format!("{n}"), move |m| {
            let each = (0..1000).map(|i| format!("/{}", if i == n { m } else { "v" }));
            get(each.collect::<String>())
        });
    }
    let mut forms = Place::new("forms of a target", buffer);
    for form in [
        "http://a.test/{}",
        "http://a.test?{}",
        "https://a.test:443/x/{}?y",
        "//a.test/{}",
        "/{};type=a",
        "/a;{}",
        "/a;b={};c/d",
        "/?{}",
        "/??{}",
        "/?a=?{}",
        "/a?b?{}",
        "/%00/{}",
        "/a%00{}",
        "/a%23{}",
        "/%3f{}",
        "/a%3Fb/{}",
        "/%/{}",
        "/%u0061{}",
        "/%zz{}",
        "/?a=%00{}",
        "/?a=b%23{}",
        "/a|{}",
        "/a\\{}",
        "/\\..\\{}",
        "/a/../{}",
        "/a/./{}",
        "/../../{}",
        "///{}",
        "/a//{}",
        "/\"{}\"",
        "/\"{}",
        "/<{}>",
        "/{}{{}}",
        "/~{}/",
        "/:80/{}",
        "/@{}",
        "/a@b:80/{}",
        "/\u{fc}{}",
        "/%c0%af{}",
        "/%ff{}",
    ] {
        forms.at(form, move |m| get(form.replace("{}", m)));
    }
    vec![path, query, arguments, segments, forms]
}

/// Characters written in hexadecimal are read in `http.uri`, which is the normalised form.
fn encoded_target() -> Place {
    let mut place = Place::new("path, characters percent-encoded", asked("http.uri"));
    for n in 0..24 {
        for len in [0, 1_000, 20_000] {
            place.at(format!("{n} of {len}"), move |m| {
                let each = m.bytes().enumerate().map(|(i, byte)| match i % 24 == n || n == 0 {
                    true => format!("%{byte:02x}"),
                    false => char::from(byte).to_string(),
                });
                let path = "p".repeat(len) + &each.collect::<String>();
                Request::reqmod(format!("GET /{path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            });
        }
    }
    place
}

fn method() -> Place {
    let mut place = Place::new("method", asked("http.method"));
    for len in [0, 20, 24, 30, 31, 32, 33, 100, 1_000, 30_000] {
        for at in [0, len] {
            place.at(format!("{at} of {len}"), move |m| {
                let method = planted(m, len, at);
                Request::reqmod(format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            });
        }
    }
    place
}

/// A field with a keyword of its own: by length, by how it is written, and each repetition.
fn known_field(by_client: bool, name: &'static str, keyword: &'static str) -> Vec<Place> {
    let buffer = Buffer { keyword, by_client };
    match name {
        "Host" => return vec![host(buffer)],
        "Content-Length" => return Vec::new(),
        _ => {}
    }
    let mut spellings =
        Place::new("field with a keyword of its own, however spelled, first or last", buffer);
    for spelled in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
        for others in [0, 1, 50, 197] {
            for first in [true, false] {
                let spelled = spelled.clone();
                spellings.at(format!("{spelled} {others} {first}"), move |m| {
                    let others = (0..others).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
                    message(
                        by_client,
                        &match first {
                            true => format!("{spelled}: {m}\r\n{others}"),
                            false => format!("{others}{spelled}:{m}\r\n"),
                        },
                    )
                });
            }
        }
    }
    let lengths = "field with a keyword of its own, 40 to 130,000 bytes";
    let mut all = vec![spellings, value_lengths(buffer, name, lengths)];
    all.extend(repetitions(buffer, name, "field with a keyword of its own"));
    all
}

/// The host in its field; it comes once.
fn host(buffer: Buffer) -> Place {
    let mut place = Place::new("`Host`, 40 to 130,000 bytes", buffer);
    for len in LENGTHS {
        for (at, port) in [(0, ""), (len / 2, ":8080"), (len, ":80")] {
            place.at(format!("{at} of {len}"), move |m| {
                let host = planted(m, len, at);
                Request::reqmod(format!("GET / HTTP/1.1\r\nHost: {host}{port}\r\n\r\n"))
            });
        }
    }
    place
}

fn each_value(buffer: Buffer) -> Place {
    let most = MOST_FIELDS - 1;
    let mut place = Place::new(format!("value of each of {MOST_FIELDS} fields"), buffer);
    for n in 0..most {
        place.at(format!("{n}"), move |m| {
            let line = |i| format!("X-{i}: {}\r\n", if i == n { m } else { "v" });
            message(buffer.by_client, &(0..most).map(line).collect::<String>())
        });
    }
    place
}

fn each_name(buffer: Buffer) -> Place {
    let most = MOST_FIELDS - 1;
    let mut place =
        Place::new(format!("name of each of {MOST_FIELDS} fields, and names to 64 KiB"), buffer);
    for n in 0..most {
        place.at(format!("{n}"), move |m| {
            let line = |i| if i == n { format!("{m}: v\r\n") } else { format!("X-{i}: v\r\n") };
            message(buffer.by_client, &(0..most).map(line).collect::<String>())
        });
    }
    for len in LENGTHS {
        for at in [0, len / 2, len] {
            place.at(format!("{at} of {len}"), move |m| {
                message(buffer.by_client, &format!("{}: v\r\n", planted(m, len, at)))
            });
        }
    }
    place
}

/// As many of one name as the engine keeps, and as many as a head takes.
fn repetitions(buffer: Buffer, name: &'static str, what: &str) -> [Place; 3] {
    [
        each_repetition(buffer, name, 66, 0, &format!("{what}, each of 66 of a name")),
        each_repetition(buffer, name, 199, 0, &format!("{what}, each of 199 of a name")),
        each_repetition(
            buffer,
            name,
            139,
            60,
            &format!("{what}, each of 139 behind 60 of another"),
        ),
    ]
}

/// One field so often, behind so many other repeated ones.
fn each_repetition(
    buffer: Buffer,
    name: &'static str,
    most: usize,
    others: usize,
    what: &str,
) -> Place {
    let mut place = Place::new(what, buffer);
    for n in 0..most {
        place.at(format!("{n}"), move |m| {
            let line = |i| format!("{name}: {}\r\n", if i == n { m } else { "v" });
            let fields = "X-Other: o\r\n".repeat(others) + &(0..most).map(line).collect::<String>();
            message(buffer.by_client, &fields)
        });
    }
    place
}

/// Many names, each repeated: libhtp counts the repetitions of a head together.
fn shared_repetitions(buffer: Buffer) -> Place {
    let most = MOST_FIELDS - 1;
    let mut place = Place::new("each of 66 names three times", buffer);
    for n in 0..most {
        place.at(format!("{n}"), move |m| {
            let line = |i| format!("X-{}: {}\r\n", i % 66, if i == n { m } else { "v" });
            message(buffer.by_client, &(0..most).map(line).collect::<String>())
        });
    }
    place
}

fn value_lengths(buffer: Buffer, name: &'static str, what: &str) -> Place {
    let mut place = Place::new(what, buffer);
    for len in LENGTHS {
        for at in offsets(len) {
            place.at(format!("{at} of {len}"), move |m| {
                message(buffer.by_client, &format!("{name}: {}\r\n", planted(m, len, at)))
            });
        }
    }
    place
}

/// What a value may hold besides words.
fn odd_values(buffer: Buffer) -> Place {
    let mut place = Place::new("values with quotes, folds, tabs, NUL, odd bytes", buffer);
    for (n, value) in [
        "{}",
        "  {}",
        "\t{}",
        "{}\t ",
        "\"{}\"",
        "\"{}",
        "\\\"{}",
        "a, {}",
        "a; b=\"{}\"",
        "a;\"b\\\"{}",
        "<{}>",
        "({})",
        "(a) ({}",
        "=?utf-8?q?{}?=",
        ": {}",
        ":{}",
        "\u{fc}{}",
        "{}\u{ff}",
        ",,,{}",
        ";;;{}",
        "a\r\n {}",
        "a\r\n\t{}",
        "{}\r\n ",
        "\r\n {}",
        "a\0{}",
        "\0{}",
        "a\x01{}",
        "a\x7f{}",
        "a\n{}",
        "a\r{}",
        "a\nX: {}",
        "%00{}",
    ]
    .into_iter()
    .enumerate()
    {
        for name in [
            "X-Odd",
            "x-odd",
            "X_Odd",
            "X.Odd",
            "X!#$%&'*+-.^`|~",
            "X-Odd ",
            " X-Odd",
            "X Odd",
            "",
            "X\"Odd",
        ] {
            place.at(format!("{n} {name}"), move |m| {
                message(buffer.by_client, &format!("{name}: {}\r\n", value.replace("{}", m)))
            });
        }
    }
    place
}

fn status_line() -> Vec<Place> {
    let answer = |line: &str| {
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        Request::respmod(request, format!("{line}\r\nContent-Length: 2\r\n\r\n")).body(b"hi")
    };
    let mut all = Vec::new();
    for keyword in ["http.stat_msg", "http.response_line", "content"] {
        let mut place = Place::new("reason phrase, 40 to 130,000 bytes", answered(keyword));
        for len in LENGTHS {
            for at in offsets(len) {
                place.at(format!("{at} of {len}"), move |m| {
                    answer(&format!("HTTP/1.1 200 {}", planted(m, len, at)))
                });
            }
        }
        for line in [
            "HTTP/1.0 200 {}",
            "HTTP/1.1 204 {}",
            "HTTP/1.1 304 {}",
            "HTTP/1.1 999 {}",
            "HTTP/1.1 100 {}",
            "HTTP/1.1 103 {}",
            "HTTP/1.1 101 {}",
            "HTTP/1.1 200  {}",
            "HTTP/1.1 200 \t{}",
            "HTTP/1.1 200 \"{}\"",
            "HTTP/1.1 200 \u{fc} {}",
            "HTTP/1.1 500 {} a",
            "HTTP/1.1 200 a\0{}",
        ] {
            for body in [true, false] {
                place.at(format!("{line} {body}"), move |m| {
                    let line = line.replace("{}", m);
                    match body {
                        true => answer(&line),
                        false => Request::respmod(
                            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
                            line + "\r\n\r\n",
                        ),
                    }
                });
            }
        }
        all.push(place);
    }
    let mut codes = Place::new("status code", answered("http.stat_code"));
    for reason in ["", " ", " OK"] {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            codes.at(format!("{version}{reason}"), move |m| {
                answer(&format!("{version} {m}{reason}"))
            });
        }
    }
    all.push(codes);
    all
}

/// `http.header` leaves cookies to `http.cookie`.
fn uncovered_cookie() -> Place {
    let mut place = Place::uncovered("`Cookie`", asked("http.header"), "that is `http.cookie`");
    for n in 0..10 {
        place.at(format!("{n}"), move |m| message(true, &format!("Cookie: {m}{n}\r\n")));
    }
    place
}
