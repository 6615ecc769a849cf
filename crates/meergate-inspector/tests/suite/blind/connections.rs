//! Places in the transactions of a connection.

use super::bodies::{Framing, filler, message};
use super::map::{Place, answered, asked};
use crate::common::Request;

/// Which transaction of a connection holds the marker.
const TURNS: [usize; 18] =
    [2, 3, 4, 5, 10, 32, 63, 64, 65, 100, 128, 255, 256, 257, 511, 512, 513, 1_000];

pub(super) fn places() -> Vec<Place> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let mut requests =
        Place::new("target in each of 1,000 requests of a connection", asked("http.uri"));
    let mut uploads =
        Place::new("body in each of 1,000 requests of a connection", asked("http.request_body"));
    let mut responses =
        Place::new("body in each of 1,000 responses of a connection", answered("file.data"));
    let mut fields =
        Place::new("field in each of 1,000 responses of a connection", answered("http.header"));
    let mut stream =
        Place::new("field in each of 1,000 requests of a connection", asked("content"));
    for turn in TURNS {
        let before = move |id: &str| {
            let pair = [Request::reqmod(get("/x")), Request::respmod(get("/x"), ok).body(b"hi")];
            pair.iter()
                .cycle()
                .take(2 * (turn - 1))
                .map(|r| r.clone().connection(id))
                .collect::<Vec<_>>()
        };
        let then = move |id: String, mut last: Vec<Request>| {
            let mut all = before(&id);
            all.extend(last.drain(..).map(|r| r.connection(&id)));
            all
        };
        requests.after(format!("{turn}"), move |m| {
            then(format!("u{turn}"), vec![Request::reqmod(get(&format!("/{m}")))])
        });
        for size in [0, 50_000] {
            uploads.after(format!("{turn} after {size}"), move |m| {
                let body = [filler(size).as_slice(), m.as_bytes()].concat();
                then(
                    format!("b{turn}-{size}"),
                    vec![message(true, Framing::Chunked, "x/y", &body, 60_000)],
                )
            });
            responses.after(format!("{turn} after {size}"), move |m| {
                let body = [filler(size).as_slice(), m.as_bytes()].concat();
                let ask = Request::reqmod("GET /down HTTP/1.1\r\nHost: a.test\r\n\r\n");
                let answer = message(false, Framing::Chunked, "x/y", &body, 60_000);
                then(format!("r{turn}-{size}"), vec![ask, answer])
            });
        }
        fields.after(format!("{turn}"), move |m| {
            let head = format!("HTTP/1.1 200 OK\r\nX-F: {m}\r\nContent-Length: 2\r\n\r\n");
            let last =
                vec![Request::reqmod(get("/x")), Request::respmod(get("/x"), head).body(b"hi")];
            then(format!("f{turn}"), last)
        });
        stream.after(format!("{turn}"), move |m| {
            let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-F: {m}\r\n\r\n");
            then(format!("s{turn}"), vec![Request::reqmod(head)])
        });
    }
    vec![
        requests,
        uploads,
        responses,
        fields,
        stream,
        pipelined(),
        out_of_step(),
        responses_alone(),
    ]
}

/// Requests that do not wait for responses.
fn pipelined() -> Place {
    let mut place =
        Place::new("target in each of 600 requests before the first response", asked("http.uri"));
    for turn in TURNS.into_iter().filter(|turn| *turn <= 600) {
        place.after(format!("{turn}"), move |m| {
            let get = |target: &str| {
                Request::reqmod(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            };
            let before = std::iter::repeat_n(get("/x"), turn - 1);
            before
                .chain([get(&format!("/{m}"))])
                .map(|r| r.connection(&format!("p{turn}")))
                .collect()
        });
    }
    place
}

/// Responses after which parsers lose their place.
fn out_of_step() -> Place {
    let mut place = Place::new(
        "body after responses to HEAD, with 1xx, 204, 304, and unfinished ones",
        answered("file.data"),
    );
    for (method, status, fields, body) in [
        ("HEAD", "200 OK", "Content-Length: 100\r\n", None),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked\r\n", None),
        ("HEAD", "200 OK", "", None),
        ("GET", "204 No Content", "", None),
        ("GET", "304 Not Modified", "Content-Length: 100\r\n", None),
        ("GET", "304 Not Modified", "", None),
        ("GET", "100 Continue", "", None),
        ("GET", "102 Processing", "", None),
        ("GET", "103 Early Hints", "Link: </a>\r\n", None),
        ("GET", "101 Switching Protocols", "Upgrade: x\r\nConnection: upgrade\r\n", None),
        ("GET", "200 OK", "Content-Length: 0\r\n", None),
        ("GET", "205 Reset Content", "Content-Length: 0\r\n", None),
        ("GET", "200 OK", "Transfer-Encoding: chunked\r\n", Some("x")),
        ("OPTIONS", "200 OK", "Content-Length: 0\r\n", None),
        ("CONNECT", "200 OK", "", None),
        ("CONNECT", "403 No", "Content-Length: 1\r\n", Some("x")),
        ("TRACE", "200 OK", "Content-Length: 1\r\n", Some("x")),
        ("QUERY", "200 OK", "Content-Length: 1\r\n", Some("x")),
    ] {
        for times in [1, 2, 5] {
            let label = format!("{method} {status} {fields:?} {times}");
            place.after(label.clone(), move |m| {
                let target = if method == "CONNECT" { "a.test:443" } else { "/x" };
                let ask = format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
                let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
                let mut answer = Request::respmod(&ask, head);
                if let Some(body) = body {
                    answer = answer.body(body.as_bytes());
                }
                let mut all = Vec::new();
                for _ in 0..times {
                    all.extend([Request::reqmod(&ask), answer.clone()]);
                }
                all.push(Request::reqmod("GET /down HTTP/1.1\r\nHost: a.test\r\n\r\n"));
                all.push(message(false, Framing::Length, "x/y", m.as_bytes(), 60_000));
                all.into_iter().map(|r| r.connection(&label.replace(' ', "_"))).collect()
            });
        }
    }
    place
}

/// Responses of an ICAP client that sends no REQMOD.
fn responses_alone() -> Place {
    let mut place =
        Place::new("body in each of 600 responses, without REQMOD", answered("file.data"));
    for turn in TURNS.into_iter().filter(|turn| *turn <= 600) {
        place.after(format!("{turn}"), move |m| {
            let body = |text: &str| message(false, Framing::Length, "x/y", text.as_bytes(), 60_000);
            let before = std::iter::repeat_n(body("hi"), turn - 1);
            before.chain([body(m)]).map(|r| r.connection(&format!("a{turn}"))).collect()
        });
    }
    place
}
