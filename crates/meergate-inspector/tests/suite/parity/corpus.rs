//! A capture of made-up connections, and rules over every part of their messages.
//!
//! Each method meets each framing and status; the rest is dice, the same in each run: encodings,
//! interim responses, kept and pipelined connections, upgrades, IPv6, and where the needles lie.
//!
//! Left out is what a gateway makes another order of, or keeps from the other end, which is a difference that is
//! meant: nothing follows what is dropped (on a wire, the rest of its packet is looked at, too), and nothing is dropped
//! where requests are pipelined (they wait there until the one before is answered).

use std::io::Write;

use crate::common::pcap::{Capture, Talk};
use crate::common::{Dice, random};

/// Rules over every part of a message; some of them drop. Those over files of uploads look at POST and PUT: of other
/// methods `suricata -r` makes none, and the engine here does.
pub(super) const RULES: &str = r#"
alert http any any -> any any (msg:"uri"; http.uri; content:"/find"; sid:1;)
alert http any any -> any any (msg:"method"; http.method; content:"PUT"; sid:2;)
alert http any any -> any any (msg:"request header"; http.request_header; content:"X-Needle"; sid:3;)
alert http any any -> any any (msg:"request body"; http.request_body; content:"needle-up"; sid:4;)
alert http any any -> any any (msg:"status"; http.stat_code; content:"404"; sid:5;)
alert http any any -> any any (msg:"response header"; http.response_header; content:"X-Thread"; sid:6;)
alert http any any -> any any (msg:"response body"; http.response_body; content:"needle-down"; sid:7;)
alert http any any -> any any (msg:"file data"; flow:to_client; file.data; content:"inside"; sid:8;)
drop http any any -> any any (msg:"dropped"; file.data; content:"drop-me"; sid:9;)
drop http any any -> any any (msg:"dropped request"; http.uri; content:"/drop"; sid:10;)
alert http any any -> any any (msg:"raw uri"; http.uri.raw; content:"%2e"; sid:11;)
alert http any any -> any any (msg:"header names"; http.header_names; content:"|0d 0a|Host|0d 0a|Zebra"; sid:12;)
alert http any any -> any any (msg:"cookie"; http.cookie; content:"crumb"; sid:13;)
alert http any any -> any any (msg:"host"; http.host; content:"www.test"; sid:14;)
alert http any any -> any any (msg:"agent"; http.user_agent; content:"corpus"; startswith; sid:15;)
alert http any any -> any any (msg:"request line"; http.request_line; content:"PATCH /"; startswith; sid:16;)
alert http any any -> any any (msg:"response line"; http.response_line; content:"206 Part"; sid:17;)
alert http any any -> any any (msg:"reason"; http.stat_msg; content:"Moved"; sid:18;)
alert http any any -> any any (msg:"protocol"; http.protocol; content:"HTTP/1.0"; sid:19;)
alert http any any -> any any (msg:"type"; http.content_type; content:"multipart/form-data"; sid:20;)
alert http any any -> any any (msg:"length"; http.content_len; content:"1"; startswith; sid:21;)
alert http any any -> any any (msg:"start"; http.start; content:"POST /"; startswith; sid:22;)
alert http any any -> any any (msg:"referer"; http.referer; content:"/before"; sid:23;)
alert http any any -> any any (msg:"location"; http.location; content:"/elsewhere"; sid:24;)
alert http any any -> any any (msg:"server"; http.server; content:"corpus"; sid:25;)
alert http any any -> any any (msg:"file name"; file.name; content:"parcel"; sid:26;)
alert http any any -> any any (msg:"long uri"; urilen:>200; sid:27;)
alert http any any -> any any (msg:"end of a body"; flow:to_client; file.data; content:"the-end"; endswith; sid:28;)
alert http any any -> any any (msg:"asked first"; http.uri; content:"/first"; flowbits:set,first; noalert; sid:29;)
alert http any any -> any any (msg:"then answered"; flow:to_client; flowbits:isset,first; http.stat_code; content:"200"; sid:30;)
drop http any any -> any any (msg:"dropped field"; http.response_header; content:"X-Drop"; sid:31;)
drop http any any -> any any (msg:"dropped upload"; http.request_body; content:"drop-up"; sid:32;)
alert http any any -> any any (msg:"both ends of it"; http.request_body; content:"begin"; content:"needle-up"; distance:0; sid:33;)
alert tcp any any -> any any (msg:"the stream"; flow:established; app-layer-protocol:http; content:"needle-raw"; sid:34;)
alert http any any -> any any (msg:"file of an upload"; flow:to_server; http.method; pcre:"/^(POST|PUT)$/"; file.data; content:"inside"; sid:35;)
"#;

const METHODS: [&str; 9] =
    ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "TRACE", "REPORT"];

/// Responses after which Suricata reads a wire wrongly: it takes another interim response than 100 for the final one, so
/// that what answers a HEAD seems to have content, and it waits for content of a 304 that names a length. Either way it
/// takes the next response for content. Over ICAP no interim response comes, and the inspector begins another flow after
/// such a 304. They are left out of [`corpus`], which compares.
pub(super) fn out_of_step() -> Capture {
    let mut capture = Capture::default();
    let needle = Talk::answer(b"HTTP/1.1 404 No\r\nContent-Length: 11\r\n\r\nneedle-down");
    let hints = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n";
    let cached = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n";
    for (method, odd) in [("HEAD", hints.as_slice()), ("GET", cached)] {
        let ask = |method| Talk::ask(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        capture.talk(false, &[ask(method), Talk::answer(odd), ask("GET"), needle.clone()]);
    }
    capture
}

/// How long a message says it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    /// Without a body.
    None,
    Length,
    Chunked,
    /// Until the connection ends, which a response alone can be.
    Close,
}

/// Where an exchange is on its connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// Others follow when it is done.
    Kept,
    /// Others follow at once.
    Pipelined,
    Last,
}

const STATUS: [(u16, &str); 10] = [
    (200, "OK"),
    (201, "Created"),
    (204, "No Content"),
    (206, "Partial Content"),
    (301, "Moved Permanently"),
    (304, "Not Modified"),
    (401, "Unauthorized"),
    (404, "Not Found"),
    (500, "Internal Server Error"),
    (599, ""),
];

pub(super) fn corpus() -> Capture {
    let mut capture = Capture::default();
    let mut dice = Dice::new(7);
    every_pair(&mut capture, &mut dice);
    for _ in 0..400 {
        kept(&mut capture, &mut dice);
    }
    for _ in 0..60 {
        pipelined(&mut capture, &mut dice);
    }
    for _ in 0..20 {
        upgraded(&mut capture, &mut dice);
    }
    capture
}

/// Each method and framing of a request with each status and framing of a response.
fn every_pair(capture: &mut Capture, dice: &mut Dice) {
    for method in METHODS {
        for up in [Framing::None, Framing::Length, Framing::Chunked] {
            for status in STATUS {
                for down in [Framing::None, Framing::Length, Framing::Chunked, Framing::Close] {
                    let request = request(dice, method, up, Place::Last);
                    let response = response(dice, method, status, down, Place::Last);
                    let v6 = dice.below(2) == 1;
                    capture.talk(v6, &[Talk::ask(&request), Talk::answer(&response)]);
                }
            }
        }
    }
}

/// Some exchanges in turn.
fn kept(capture: &mut Capture, dice: &mut Dice) {
    let mut talks = Vec::new();
    let exchanges = 1 + dice.below(6);
    for turn in 0..exchanges {
        let method = METHODS[dice.below(METHODS.len())];
        let (up, mut down) = (upload(dice), framing(dice));
        if down == Framing::Close && turn + 1 < exchanges {
            down = Framing::Length;
        }
        let place = if turn + 1 == exchanges { Place::Last } else { Place::Kept };
        talks.push(Talk::ask(&request(dice, method, up, place)));
        if dice.below(3) == 0 {
            talks.push(Talk::answer(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
        let status = STATUS[dice.below(STATUS.len())];
        talks.push(Talk::answer(&response(dice, method, status, down, place)));
    }
    capture.talk(dice.below(2) == 1, &talks);
}

/// Some requests at once, and all their responses.
fn pipelined(capture: &mut Capture, dice: &mut Dice) {
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..2 + dice.below(4) {
        let method = METHODS[dice.below(METHODS.len())];
        let up = upload(dice);
        asked.extend(request(dice, method, up, Place::Pipelined));
        let status = STATUS[dice.below(STATUS.len())];
        let down = [Framing::Length, Framing::Chunked][dice.below(2)];
        answered.extend(response(dice, method, status, down, Place::Pipelined));
    }
    capture.talk(dice.below(2) == 1, &[Talk::ask(&asked), Talk::answer(&answered)]);
}

/// An exchange, then another protocol by the leave of both ends.
fn upgraded(capture: &mut Capture, dice: &mut Dice) {
    let first = request(dice, "GET", Framing::None, Place::Kept);
    let status = STATUS[0];
    let answer = response(dice, "GET", status, Framing::Length, Place::Kept);
    let switch = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\nX-Needle: 1\r\n\r\n";
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\nX-Thread: 1\r\n\r\n";
    let talks =
        [Talk::ask(&first), Talk::answer(&answer), Talk::ask(switch), Talk::answer(switched)];
    capture.talk(dice.below(2) == 1, &talks);
}

fn upload(dice: &mut Dice) -> Framing {
    [Framing::None, Framing::None, Framing::Length, Framing::Chunked][dice.below(4)]
}

fn framing(dice: &mut Dice) -> Framing {
    [Framing::None, Framing::Length, Framing::Length, Framing::Chunked, Framing::Close]
        [dice.below(5)]
}

fn request(dice: &mut Dice, method: &str, framing: Framing, place: Place) -> Vec<u8> {
    let long = format!("/long/{}", "x".repeat(220));
    let paths = [
        "/",
        "/find",
        "/a%2e%2e/find",
        "/q?a=1&b=%20find&c=needle-raw",
        &long,
        "//double//find",
        "http://www.test/find",
        "/%66ind",
        "/first",
        "/drop",
    ];
    let path = match (method, dice.below(4)) {
        ("OPTIONS", 0) => "*",
        _ => {
            let without = match (place, framing) {
                (Place::Pipelined, _) => 2,
                (_, Framing::None) => 0,
                _ => 1,
            };
            paths[dice.below(paths.len() - without)]
        }
    };
    // Kept connections and chunks came with HTTP/1.1.
    let is_old = place == Place::Last && framing != Framing::Chunked && dice.below(3) == 0;
    let version = if is_old { "1.0" } else { "1.1" };
    let mut head = format!("{method} {path} HTTP/{version}\r\nHost: www.test\r\n");
    for field in [
        "Zebra: 1",
        "X-Needle: 1",
        "Cookie: a=b; crumb=1",
        "User-Agent: corpus/1.0",
        "Referer: http://a/before",
        "Accept: */*",
        "X-Empty:",
        "X-Space:   \t needle-raw  \t",
        "Cookie: second=2",
        "Connection: keep-alive",
    ] {
        if dice.below(4) == 0 {
            head += field;
            head += "\r\n";
        }
    }
    let body = match (framing, dice.below(4)) {
        (Framing::None, _) => Vec::new(),
        (_, 0) => {
            head += "Content-Type: multipart/form-data; boundary=cut\r\n";
            form(dice, place)
        }
        _ => body(dice, &["needle-up", "begin needle-up"], "drop-up", place),
    };
    message(dice, head, framing, &body, true)
}

fn response(
    dice: &mut Dice,
    method: &str,
    (status, reason): (u16, &str),
    framing: Framing,
    place: Place,
) -> Vec<u8> {
    let version = if framing == Framing::Close { ["1.0", "1.1"][dice.below(2)] } else { "1.1" };
    let mut head = format!("HTTP/{version} {status} {reason}\r\n");
    for field in [
        "X-Thread: 1",
        "Server: corpus",
        "Location: /elsewhere",
        "Set-Cookie: crumb=2",
        "Content-Type: text/html",
        "Content-Disposition: attachment; filename=\"parcel.bin\"",
        "X-Empty:",
    ] {
        if dice.below(4) == 0 {
            head += field;
            head += "\r\n";
        }
    }
    let empty = method == "HEAD" || matches!(status, 204 | 304);
    if empty || framing == Framing::None {
        if place != Place::Pipelined && dice.below(24) == 0 {
            head += "X-Drop: 1\r\n";
        }
        // What such a message says of its length is not its own.
        let said = match (empty, framing) {
            (true, Framing::Length) if status != 204 && (place == Place::Last || status != 304) => {
                "Content-Length: 99\r\n\r\n"
            }
            (true, _) => "\r\n",
            (false, _) => "Content-Length: 0\r\n\r\n",
        };
        return (head + said).into_bytes();
    }
    let plain = body(dice, &["needle-down", "inside"], "drop-me", place);
    let (coding, body) = match dice.below(8) {
        // A part of coded content is refused, or read as it is.
        0..3 if status == 206 => ("", plain),
        0 | 1 => ("gzip", compressed(&plain, true)),
        2 => ("deflate", compressed(&plain, false)),
        3 => ("identity", plain),
        // Unknown to both: as it is.
        4 => ("compress", plain),
        _ => ("", plain),
    };
    if !coding.is_empty() {
        head += &format!("Content-Encoding: {coding}\r\n");
    }
    message(dice, head, framing, &body, false)
}

/// The head's end and the body, framed.
fn message(
    dice: &mut Dice,
    mut head: String,
    framing: Framing,
    body: &[u8],
    is_request: bool,
) -> Vec<u8> {
    match framing {
        Framing::None => return (head + "\r\n").into_bytes(),
        Framing::Length => head += &format!("Content-Length: {}\r\n\r\n", body.len()),
        Framing::Close if is_request || dice.below(2) == 0 => head += "Connection: close\r\n\r\n",
        Framing::Close => head += "\r\n",
        Framing::Chunked => head += "Transfer-Encoding: chunked\r\n\r\n",
    }
    let mut bytes = head.into_bytes();
    if framing != Framing::Chunked {
        bytes.extend_from_slice(body);
        return bytes;
    }
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, next) = rest.split_at((1 + dice.below(900)).min(rest.len()));
        let extension = ["", "", ";a=b", ";q=\"x;y\""][dice.below(4)];
        bytes.extend(format!("{:x}{extension}\r\n", piece.len()).into_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
        rest = next;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Text or noise with some of the words in it, and seldom what drops, at its end. Most are short, a few longer than
/// what is inspected at once.
fn body(dice: &mut Dice, words: &[&str], drop: &str, place: Place) -> Vec<u8> {
    let mut out = Vec::new();
    let size = [20, 300, 3_000, 3_000, 20_000][dice.below(5)];
    for _ in 0..1 + dice.below(3) {
        let filler = dice.below(size);
        match dice.below(3) {
            0 => out.extend(random(filler)),
            _ => out.extend(std::iter::repeat_n(b'.', filler)),
        }
        if dice.below(2) == 0 {
            out.extend_from_slice(words[dice.below(words.len())].as_bytes());
        }
    }
    match dice.below(32) {
        0 if place != Place::Pipelined => out.extend_from_slice(drop.as_bytes()),
        1..8 => out.extend_from_slice(b"the-end"),
        _ => {}
    }
    out
}

fn form(dice: &mut Dice, place: Place) -> Vec<u8> {
    let content = body(dice, &["inside", "needle-up"], "drop-up", place);
    [
        b"--cut\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nfirst\r\n".as_slice(),
        b"--cut\r\nContent-Disposition: form-data; name=\"f\"; filename=\"parcel.txt\"\r\n",
        b"Content-Type: text/plain\r\n\r\n",
        &content,
        b"\r\n--cut--\r\n",
    ]
    .concat()
}

fn compressed(body: &[u8], gzip: bool) -> Vec<u8> {
    let level = flate2::Compression::default();
    let done = if gzip {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(body).and_then(|()| encoder.finish())
    } else {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(body).and_then(|()| encoder.finish())
    };
    done.unwrap()
}
