//! The server's state machine, driven by hand and cut at every position.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use bytes::{Buf, BytesMut};
use icap::server::{After, Connection, Http, ReplyHead, RequestEvent};
use icap::{ErrorKind, Headers, IsTag, Limits, Method, RequestHead};

const REQ: &str = "POST http://o/f HTTP/1.1\r\nHost: o\r\n\r\n";
const RES: &str = "HTTP/1.1 200 OK\r\nServer: o\r\n\r\n";

/// A service that sends everything back, and previews by 100 Continue, run over input that comes
/// in pieces.
struct Echo {
    core: Connection,
    head: RequestHead,
    buf: BytesMut,
    out: Vec<u8>,
    at: At,
    kept: Vec<u8>,
}

enum At {
    Head,
    Heads,
    Body,
    Drain,
    Closed,
}

impl Echo {
    fn new() -> Self {
        Self {
            core: Connection::new(Limits::default()),
            head: RequestHead::empty(),
            buf: BytesMut::new(),
            out: Vec::new(),
            at: At::Head,
            kept: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        while !matches!(self.at, At::Closed) {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.core.fail(&error, &mut self.out);
                    self.at = At::Closed;
                }
            }
        }
    }

    fn step(&mut self) -> Result<bool, icap::Error> {
        match self.at {
            At::Head => {
                if !self.core.head(&mut self.buf, &mut self.head)? {
                    return Ok(false);
                }
                self.core.set_istag(IsTag::from_state("t", 1));
                self.at = At::Heads;
            }
            At::Heads => {
                let Some(heads) = self.core.heads(&mut self.buf)? else { return Ok(false) };
                self.answer(heads)?;
            }
            At::Body => {
                let Some(event) = self.core.body(&mut self.buf)? else { return Ok(false) };
                match event {
                    RequestEvent::Data(len) => {
                        let data = self.buf.split_to(len);
                        self.kept.extend_from_slice(&data);
                    }
                    RequestEvent::PreviewEnd => self.core.continue_(&mut self.out)?,
                    RequestEvent::End { trailers } => {
                        icap::encode_chunk(&mut self.out, &self.kept);
                        self.kept.clear();
                        let trailers = Headers::parse_lines(&trailers, &Limits::default())?;
                        self.core.finish(&trailers, &mut self.out)?;
                        self.follow();
                    }
                }
            }
            At::Drain => {
                let Some(event) = self.core.body(&mut self.buf)? else { return Ok(false) };
                match event {
                    RequestEvent::Data(len) => self.buf.advance(len),
                    RequestEvent::PreviewEnd | RequestEvent::End { .. } => self.follow(),
                }
            }
            At::Closed => return Ok(false),
        }
        Ok(true)
    }

    fn answer(&mut self, heads: icap::server::Heads) -> Result<(), icap::Error> {
        let none = Headers::new();
        if self.head.method() == Method::Options {
            self.core.options(&none, &mut self.out)?;
        } else if self.head.path() == "/none" {
            self.core.refuse(404, "none", &none, &mut self.out)?;
        } else if self.head.allows_204() {
            self.core.no_content(&none, &mut self.out)?;
        } else if self.head.preview().is_some() && self.head.encapsulated().body.follows() {
            // Held back until the preview is over, in `kept`; the head is made up then.
            self.at = At::Body;
            let (req, res) = (heads.req_hdr, heads.res_hdr);
            return self.preview(req.as_deref(), res.as_deref());
        } else {
            self.start(heads.req_hdr.as_deref(), heads.res_hdr.as_deref())?;
            if self.head.encapsulated().body.follows() {
                self.at = At::Body;
                return Ok(());
            }
        }
        self.follow();
        Ok(())
    }

    /// For simplicity a preview is answered by the head before it is read: legal, for the rest
    /// then does not come.
    fn preview(&mut self, req: Option<&[u8]>, res: Option<&[u8]>) -> Result<(), icap::Error> {
        self.start(req, res)?;
        self.core.finish(&Headers::new(), &mut self.out)?;
        self.follow();
        Ok(())
    }

    fn start(&mut self, req: Option<&[u8]>, res: Option<&[u8]>) -> Result<(), icap::Error> {
        let http = match (self.head.method(), req, res) {
            (Method::Reqmod, Some(head), _) => Http::Request(head),
            (Method::Respmod, _, Some(head)) => Http::Response(head),
            _ => Http::Headless,
        };
        let has_body = self.head.encapsulated().body.follows();
        let reply = ReplyHead { status: 200, headers: &Headers::new(), http, has_body };
        self.core.start(&reply, &mut self.out)
    }

    fn follow(&mut self) {
        self.at = match self.core.after() {
            After::Next => At::Head,
            After::Drain => At::Drain,
            After::Close => At::Closed,
        };
    }
}

fn conversation() -> String {
    let reqmod = |path: &str, fields: &str, body: &str| {
        format!(
            "REQMOD icap://h{path} ICAP/1.0\r\n{fields}Encapsulated: req-hdr=0, {body}={}\r\n\r\n{REQ}",
            REQ.len()
        )
    };
    let respmod = |fields: &str| {
        format!(
            "RESPMOD icap://h/ ICAP/1.0\r\n{fields}Encapsulated: req-hdr=0, res-hdr={}, \
             res-body={}\r\n\r\n{REQ}{RES}",
            REQ.len(),
            REQ.len() + RES.len()
        )
    };
    [
        "OPTIONS icap://h/ ICAP/1.0\r\nHost: h\r\n\r\n".to_owned(),
        reqmod("/", "", "null-body"),
        reqmod("/", "X-A: 1,\r\n 2\r\n", "req-body") + "3\r\nabc\r\n0\r\n\r\n",
        "\r\n".to_owned() + &respmod("") + "5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX-T: 1\r\n\r\n",
        respmod("Allow: trailers\r\n") + "1\r\n?\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n",
        reqmod("/none", "", "req-body") + "3\r\nabc\r\n0\r\n\r\n",
        respmod("Allow: 204\r\n") + "4\r\nleft\r\n0\r\n\r\n",
        respmod("Preview: 4\r\n") + "4\r\nleft\r\n0\r\n\r\n",
        respmod("Preview: 4\r\n") + "2\r\nle\r\n0; ieof\r\n\r\n",
        "RESPMOD icap://h/ ICAP/1.0\r\nEncapsulated: res-body=0\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            .to_owned(),
        respmod("Connection: close\r\n") + "1\r\nz\r\n0\r\n\r\n",
    ]
    .concat()
}

#[test]
fn the_same_is_answered_wherever_the_input_is_cut() {
    let wire = conversation();
    let wire = wire.as_bytes();
    let mut whole = Echo::new();
    whole.feed(wire);
    let text = String::from_utf8(whole.out.clone()).unwrap();
    assert!(matches!(whole.at, At::Closed));
    let statuses: Vec<_> = text.split("ICAP/1.0 ").skip(1).map(|reply| &reply[..3]).collect();
    let expected = ["200", "200", "200", "200", "200", "404", "204", "200", "200", "200", "200"];
    assert_eq!(statuses, expected, "{text}");
    assert!(text.contains("6\r\nhello!\r\n0\r\n\r\n"), "trailers without leave: {text}");
    assert!(text.contains("1\r\n?\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n"), "{text}");
    assert_eq!(text.matches("ISTag: \"t-0000000000000001\"\r\n").count(), expected.len());
    assert_eq!(text.matches("Connection: close\r\n").count(), 1);
    assert!(text.ends_with("1\r\nz\r\n0\r\n\r\n"));

    for cut in 0..wire.len() {
        let mut echo = Echo::new();
        echo.feed(&wire[..cut]);
        echo.feed(&wire[cut..]);
        assert!(echo.out == whole.out, "cut at {cut}");
    }
    for size in 1..20 {
        let mut echo = Echo::new();
        wire.chunks(size).for_each(|piece| echo.feed(piece));
        assert!(echo.out == whole.out, "in pieces of {size}");
    }
}

/// A connection that has read one head and its encapsulated heads.
fn begun(text: &str) -> (Connection, BytesMut) {
    let mut core = Connection::new(Limits::default());
    let mut buf = BytesMut::from(text);
    let mut head = RequestHead::empty();
    assert!(core.head(&mut buf, &mut head).unwrap());
    core.heads(&mut buf).unwrap().unwrap();
    (core, buf)
}

fn respmod(fields: &str, body: &str) -> (Connection, BytesMut) {
    begun(&format!("RESPMOD icap://h/ ICAP/1.0\r\n{fields}Encapsulated: res-body=0\r\n\r\n{body}"))
}

fn body(status: u16, headers: &Headers) -> ReplyHead<'_> {
    ReplyHead { status, headers, http: Http::Headless, has_body: true }
}

fn refused<T: std::fmt::Debug>(result: Result<T, icap::Error>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Sequence);
}

#[test]
fn continue_comes_once_and_only_at_the_end_of_a_preview() {
    let none = Headers::new();
    let mut out = Vec::new();
    let (mut core, mut buf) = respmod("Preview: 1\r\n", "1\r\na\r\n0\r\n\r\n");
    refused(core.continue_(&mut out));
    assert_eq!(core.body(&mut buf).unwrap(), Some(RequestEvent::Data(1)));
    buf.advance(1);
    refused(core.continue_(&mut out));
    assert_eq!(core.body(&mut buf).unwrap(), Some(RequestEvent::PreviewEnd));
    assert!(core.allows_204());
    core.continue_(&mut out).unwrap();
    assert!(!core.allows_204(), "the preview is over, and Allow: 204 was not said");
    refused(core.no_content(&none, &mut out));
    refused(core.continue_(&mut out));
    buf.extend_from_slice(b"0\r\n\r\n");
    assert!(matches!(core.body(&mut buf).unwrap(), Some(RequestEvent::End { .. })));
    refused(core.continue_(&mut out));
    assert_eq!(out, b"ICAP/1.0 100 Continue\r\n\r\n");

    let (mut core, mut buf) = respmod("Preview: 1\r\n", "0; ieof\r\n\r\n");
    assert!(matches!(core.body(&mut buf).unwrap(), Some(RequestEvent::End { .. })));
    refused(core.continue_(&mut out));
    core.no_content(&none, &mut out).unwrap();
    assert_eq!(core.after(), After::Next);

    let (mut core, mut buf) = respmod("Preview: 0\r\n", "0\r\n\r\n");
    core.start(&body(200, &none), &mut out).unwrap();
    assert_eq!(core.body(&mut buf).unwrap(), Some(RequestEvent::PreviewEnd));
    refused(core.continue_(&mut out));
}

#[test]
fn replies_that_the_client_did_not_allow_are_not_sent() {
    let none = Headers::new();
    let mut out = Vec::new();
    let (mut core, _) = respmod("", "");
    refused(core.no_content(&none, &mut out));
    refused(core.start(&body(206, &none), &mut out));
    refused(core.start(&body(204, &none), &mut out));
    refused(core.start(&body(302, &none), &mut out));
    let request = ReplyHead { http: Http::Request(b"GET"), ..body(200, &none) };
    refused(core.start(&request, &mut out));
    let empty = ReplyHead { http: Http::Response(b""), ..body(200, &none) };
    refused(core.start(&empty, &mut out));
    refused(core.options(&none, &mut out));
    refused(core.refuse(200, "fine", &none, &mut out));
    refused(core.finish(&none, &mut out));
    refused(core.chunk(5, &mut [0; icap::CHUNK_HEADER_MAX]));
    assert!(out.is_empty());
    core.start(&body(200, &none), &mut out).unwrap();
    let started = out.clone();
    refused(core.start(&body(200, &none), &mut out));
    refused(core.refuse(500, "late", &none, &mut out));
    refused(core.finish_with_original(0, &mut out));
    refused(core.chunk(0, &mut [0; icap::CHUNK_HEADER_MAX]));
    assert_eq!(core.after(), After::Close, "a reply that is not whole ends the connection");
    assert_eq!(out, started);

    let (mut core, _) = respmod("Allow: 206\r\n", "");
    let null = ReplyHead { has_body: false, ..body(206, &none) };
    refused(core.start(&null, &mut out));
    core.start(&body(206, &none), &mut out).unwrap();
    core.finish_with_original(7, &mut out).unwrap();
    assert!(out.ends_with(b"\r\n\r\n0; use-original-body=7\r\n\r\n"));
    assert_eq!(core.after(), After::Drain, "without a preview the body is on its way");
}

#[test]
fn a_reason_can_not_break_out_of_its_line() {
    let (mut core, _) = respmod("", "");
    let mut out = Vec::new();
    core.refuse(500, "a\r\nX-Evil: 1\0", &Headers::new(), &mut out).unwrap();
    assert!(out.starts_with(b"ICAP/1.0 500 a  X-Evil: 1 \r\nISTag: "));
}

#[test]
fn a_preview_holds_no_more_than_it_promised() {
    for (body, fine) in
        [("2\r\nab\r\n0\r\n\r\n", true), ("1\r\na\r\n2\r\nbc\r\n", false), ("4\r\nabcd", false)]
    {
        let (mut core, mut buf) = respmod("Preview: 2\r\n", body);
        let end = loop {
            match core.body(&mut buf) {
                Ok(Some(RequestEvent::Data(len))) => buf.advance(len),
                other => break other,
            }
        };
        match end {
            Ok(event) => assert!(fine && event == Some(RequestEvent::PreviewEnd), "{body}"),
            Err(error) => {
                assert!(!fine && error.kind() == ErrorKind::Preview, "{body}");
                let mut out = Vec::new();
                assert!(core.fail(&error, &mut out));
                assert!(out.starts_with(b"ICAP/1.0 400 Bad Request: more body than"));
                assert_eq!(core.after(), After::Close);
            }
        }
    }
}

#[test]
fn a_request_does_not_say_use_original_body() {
    let (mut core, mut buf) = respmod("Preview: 2\r\n", "0; use-original-body=0\r\n\r\n");
    assert_eq!(core.body(&mut buf).unwrap_err().kind(), ErrorKind::Chunk);
}

#[test]
fn calls_out_of_turn_are_errors_and_do_no_harm() {
    let mut core = Connection::new(Limits::default());
    let mut buf = BytesMut::from("OPTIONS * ICAP/1.0\r\n\r\n");
    refused(core.heads(&mut buf));
    refused(core.body(&mut buf));
    assert!(core.head(&mut buf, &mut RequestHead::empty()).unwrap());
    refused(core.head(&mut buf, &mut RequestHead::empty()));
    refused(core.body(&mut buf));
    core.heads(&mut buf).unwrap().unwrap();
    assert!(matches!(core.body(&mut buf).unwrap(), Some(RequestEvent::End { .. })));
    core.options(&Headers::new(), &mut Vec::new()).unwrap();
    assert_eq!(core.after(), After::Next);
}
