//! The client's core and the server's core against each other, without sockets: the streams cut
//! at every position, and reads, writes and early replies in random order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use icap::client::{Demand, Event, Exchange, Original, Reply, Terms};
use icap::server::{After, Connection, Http, ReplyHead, RequestEvent};
use icap::{
    BodyKind, CHUNK_HEADER_MAX, Encapsulated, Headers, Limits, Method, RequestHead, encode_chunk,
};

const HTTP: &[u8] = b"POST /a HTTP/1.1\r\nHost: o.test\r\n\r\n";
const CHANGED: &[u8] = b"POST /b HTTP/1.1\r\nHost: o.test\r\n\r\n";
const PAGE: &[u8] = b"HTTP/1.1 403 Forbidden\r\n\r\n";
const TRAILERS: &[u8] = b"X-Sum: 1\r\nX-More: 2\r\n";

/// What the server does with the request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Plan {
    /// 200 with a page of its own, before anything of the body is read.
    BlockAtOnce,
    /// 200 with the message, piece by piece as it comes.
    EchoAsItComes,
    /// 200 with the message, once all of it is there.
    EchoAtTheEnd,
    /// 206 with a prefix, then the original from this byte on; all is read first.
    PartialAtTheEnd(u64),
    /// 206 as an answer to the preview.
    PartialInPreview(u64),
    /// 204 once all is there.
    PassAtTheEnd,
    /// 204 as soon as the preview is there.
    PassInPreview,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    plan: Plan,
    body: usize,
    preview: Option<u64>,
    trailers: bool,
}

/// What the client made of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u16,
    http: Bytes,
    body: Vec<u8>,
    trailers: Bytes,
    reusable: bool,
}

struct Server {
    connection: Connection,
    head: RequestHead,
    plan: Plan,
    got_head: bool,
    got_heads: bool,
    held: Vec<u8>,
    trailers: Bytes,
    ended: bool,
    out: BytesMut,
}

impl Server {
    fn new(plan: Plan) -> Self {
        Self {
            connection: Connection::new(Limits::default()),
            head: RequestHead::empty(),
            plan,
            got_head: false,
            got_heads: false,
            held: Vec::new(),
            trailers: Bytes::new(),
            ended: false,
            out: BytesMut::new(),
        }
    }

    /// Does what it can with what has come.
    fn run(&mut self, input: &mut BytesMut) {
        if !self.got_head {
            self.got_head = self.connection.head(input, &mut self.head).unwrap();
        }
        if self.got_head && !self.got_heads {
            let Some(heads) = self.connection.heads(input).unwrap() else { return };
            assert_eq!(heads.req_hdr.unwrap(), HTTP);
            self.got_heads = true;
            match self.plan {
                Plan::BlockAtOnce => {
                    self.start(200, Http::Response(PAGE));
                    self.chunk(b"no");
                    self.finish();
                }
                Plan::EchoAsItComes => self.start(200, Http::Request(CHANGED)),
                _ => {}
            }
        }
        while self.got_heads && !self.ended {
            match self.connection.body(input).unwrap() {
                None => return,
                Some(RequestEvent::Data(len)) => {
                    let data = input.split_to(len);
                    self.held.extend_from_slice(&data);
                    if self.plan == Plan::EchoAsItComes {
                        self.chunk(&data);
                    }
                }
                Some(RequestEvent::PreviewEnd) => {
                    match self.plan {
                        Plan::PassInPreview => self.pass(),
                        Plan::PartialInPreview(offset) => self.partial(offset),
                        Plan::BlockAtOnce => {}
                        // A reply has started: the rest of the body will not come.
                        Plan::EchoAsItComes => self.finish(),
                        _ => {
                            self.connection.continue_(&mut self.out).unwrap();
                            continue;
                        }
                    }
                    self.ended = true;
                }
                Some(RequestEvent::End { trailers }) => {
                    self.trailers = trailers;
                    self.ended = true;
                    match self.plan {
                        Plan::BlockAtOnce => {}
                        Plan::EchoAsItComes => self.finish(),
                        Plan::EchoAtTheEnd => {
                            self.start(200, Http::Request(CHANGED));
                            let held = std::mem::take(&mut self.held);
                            held.chunks(7).for_each(|piece| self.chunk(piece));
                            self.finish();
                        }
                        Plan::PartialAtTheEnd(offset) | Plan::PartialInPreview(offset) => {
                            self.partial(offset);
                        }
                        Plan::PassAtTheEnd | Plan::PassInPreview => self.pass(),
                    }
                }
            }
        }
    }

    fn pass(&mut self) {
        self.connection.no_content(&Headers::new(), &mut self.out).unwrap();
    }

    fn partial(&mut self, offset: u64) {
        self.start(206, Http::Request(CHANGED));
        self.chunk(b"prefix");
        self.connection.finish_with_original(offset, &mut self.out).unwrap();
    }

    fn start(&mut self, status: u16, http: Http<'_>) {
        let headers = Headers::new();
        let head = ReplyHead { status, headers: &headers, http, has_body: true };
        self.connection.start(&head, &mut self.out).unwrap();
    }

    fn chunk(&mut self, data: &[u8]) {
        let mut line = [0; CHUNK_HEADER_MAX];
        let line = self.connection.chunk(data.len(), &mut line).unwrap();
        self.out.put_slice(line);
        self.out.put_slice(data);
        self.out.put_slice(b"\r\n");
    }

    fn finish(&mut self) {
        let trailers = Headers::parse_lines(&self.trailers, &Limits::default()).unwrap();
        self.connection.finish(&trailers, &mut self.out).unwrap();
    }
}

struct Client {
    exchange: Exchange,
    source: VecDeque<Bytes>,
    trailers: Option<Bytes>,
    reply: Option<Reply>,
    status: u16,
    body: Vec<u8>,
    end: Option<Outcome>,
}

impl Client {
    fn new(case: Case, pieces: usize) -> Self {
        let terms = Terms {
            method: Method::Reqmod,
            has_body: true,
            preview: case.preview,
            allow_204: true,
            allow_206: true,
            send_trailers: true,
            keep: 1 << 20,
            wait_at_keep: false,
        };
        let mut head = BytesMut::new();
        let parts = Encapsulated { req_hdr: Some(HTTP.len()), res_hdr: None, body: BodyKind::Req };
        let mut request = RequestHead::new(Method::Reqmod, "icap://h/s", Some(parts)).unwrap();
        request.headers_mut().push("Host", "h").unwrap();
        request.headers_mut().push("Allow", "204, 206, trailers").unwrap();
        if let Some(preview) = case.preview {
            request.headers_mut().push("Preview", preview.to_string()).unwrap();
        }
        request.encode(&mut head);
        let segments = [head.freeze(), Bytes::from_static(HTTP)];
        Self {
            exchange: Exchange::new(terms, segments, &Limits::default()),
            source: body(case.body).chunks(pieces).map(Bytes::copy_from_slice).collect(),
            trailers: case.trailers.then(|| Bytes::from_static(TRAILERS)),
            reply: None,
            status: 0,
            body: Vec::new(),
            end: None,
        }
    }

    /// Hands one piece over, if it can be used.
    fn pull(&mut self) {
        if self.exchange.demand() == Demand::Nothing {
            return;
        }
        match self.source.pop_front() {
            Some(piece) => self.exchange.push_data(piece),
            None => self.exchange.push_end(self.trailers.take()),
        }
    }

    /// Takes up to `most` bytes that wait to be written.
    fn write(&mut self, most: usize, to: &mut BytesMut) {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let output = self.exchange.output();
        let count = output.fill(&mut slices);
        let mut taken = 0;
        for slice in &slices[..count] {
            let part = &slice[..slice.len().min(most - taken)];
            to.put_slice(part);
            taken += part.len();
        }
        output.advance(taken);
    }

    fn read(&mut self, input: &mut BytesMut) {
        while self.end.is_none() {
            let Some(event) = self.exchange.poll(input).unwrap() else { return };
            match event {
                Event::Continue => {}
                Event::Reply(reply) => {
                    self.status = reply.head.status();
                    self.reply = Some(reply);
                }
                Event::Data(data) => self.body.extend_from_slice(&data),
                Event::Pass(head) => {
                    self.status = head.status();
                    self.finish(Bytes::new(), Some(0));
                }
                Event::End { trailers, use_original } => self.finish(trailers, use_original),
                Event::Refused(head) => panic!("refused: {}", head.status()),
            }
        }
    }

    fn finish(&mut self, mut trailers: Bytes, original: Option<u64>) {
        let reusable = self.exchange.reusable();
        if let Some(offset) = original {
            let mut kept = self.exchange.take_original().expect("the original is kept");
            let sourced = !kept.ended;
            let missing = kept.skip(offset);
            let Original { chunks, trailers: kept_trailers, .. } = kept;
            chunks.iter().for_each(|c| self.body.extend_from_slice(c));
            trailers = kept_trailers.unwrap_or_default();
            if sourced {
                let rest: Vec<u8> = self.source.drain(..).flatten().collect();
                self.body.extend_from_slice(&rest[missing as usize..]);
                trailers = self.trailers.take().unwrap_or_default();
            }
        }
        let http = match self.reply.take() {
            Some(reply) => reply.req_hdr.or(reply.res_hdr).unwrap(),
            None => Bytes::from_static(HTTP),
        };
        self.end = Some(Outcome {
            status: self.status,
            http,
            body: std::mem::take(&mut self.body),
            trailers,
            reusable,
        });
    }
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

/// What must come out, whatever the order of events. Whether the connection may be used again
/// depends on that order for early replies; `None` then.
fn expected(case: Case) -> (u16, Bytes, Vec<u8>, Bytes, Option<bool>) {
    let all = body(case.body);
    let trailers = if case.trailers { Bytes::from_static(TRAILERS) } else { Bytes::new() };
    let changed = Bytes::from_static(CHANGED);
    let previewed = case.preview.map_or(all.len(), |p| all.len().min(p as usize));
    // Outside a preview a server may take what is unread for the next request.
    let in_preview = case.preview.is_some();
    let whole_in_preview = in_preview && case.body as u64 <= case.preview.unwrap_or(0);
    match case.plan {
        Plan::BlockAtOnce => (200, Bytes::from_static(PAGE), b"no".to_vec(), Bytes::new(), None),
        Plan::EchoAsItComes => {
            let cut = all[..previewed].to_vec();
            let ended = previewed == all.len() && (!in_preview || whole_in_preview);
            (200, changed, cut, if ended { trailers } else { Bytes::new() }, None)
        }
        Plan::EchoAtTheEnd => (200, changed, all, trailers, Some(true)),
        Plan::PassAtTheEnd | Plan::PassInPreview => {
            (204, Bytes::from_static(HTTP), all, trailers, Some(true))
        }
        Plan::PartialAtTheEnd(offset) | Plan::PartialInPreview(offset) => {
            let reusable = match case.plan {
                Plan::PartialInPreview(_) => in_preview,
                _ => whole_in_preview,
            };
            let body = [b"prefix", &all[offset as usize..]].concat();
            (206, changed, body, trailers, Some(reusable))
        }
    }
}

fn check(case: Case, what: &str, server: &mut Server, outcome: Outcome) {
    let (status, http, body, trailers, reusable) = expected(case);
    assert_eq!(outcome.status, status, "{case:?} {what}");
    assert_eq!(outcome.http, http, "{case:?} {what}");
    assert!(outcome.body == body, "{case:?} {what}: {} bytes", outcome.body.len());
    assert_eq!(outcome.trailers, trailers, "{case:?} {what}");
    if let Some(reusable) = reusable {
        assert_eq!(outcome.reusable, reusable, "{case:?} {what}");
    }
    if outcome.reusable && server.ended {
        assert_eq!(server.connection.after(), After::Next, "{case:?} {what}");
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (body, preview) in [
        (0, None),
        (40, None),
        (0, Some(0)),
        (40, Some(0)),
        (0, Some(16)),
        (1, Some(16)),
        (15, Some(16)),
        (16, Some(16)),
        (17, Some(16)),
        (60, Some(16)),
    ] {
        let plans = [
            Plan::BlockAtOnce,
            Plan::EchoAsItComes,
            Plan::EchoAtTheEnd,
            Plan::PartialAtTheEnd(body as u64 / 2),
            Plan::PartialInPreview(body as u64 / 2),
            Plan::PartialInPreview(body as u64),
            Plan::PassAtTheEnd,
            Plan::PassInPreview,
        ];
        for plan in plans {
            // Outside a preview these are the same as at the end.
            let in_preview = matches!(plan, Plan::PassInPreview | Plan::PartialInPreview(_));
            if in_preview && preview.is_none() {
                continue;
            }
            for trailers in [false, true] {
                cases.push(Case { plan, body, preview, trailers });
            }
        }
    }
    cases
}

/// Runs a case; `to_server` and `to_client` say how many bytes each delivery brings.
fn run(
    case: Case,
    what: &str,
    mut to_server: impl FnMut() -> usize,
    mut to_client: impl FnMut() -> usize,
) -> (usize, usize) {
    let mut client = Client::new(case, 5);
    let mut server = Server::new(case.plan);
    let (mut wire_up, mut wire_down) = (BytesMut::new(), BytesMut::new());
    let (mut at_server, mut at_client) = (BytesMut::new(), BytesMut::new());
    let (mut up, mut down) = (0, 0);
    for _ in 0..100_000 {
        client.pull();
        client.write(usize::MAX, &mut wire_up);
        let count = to_server().min(wire_up.len());
        up += count;
        at_server.unsplit(wire_up.split_to(count));
        server.run(&mut at_server);
        wire_down.unsplit(server.out.split());
        let count = to_client().min(wire_down.len());
        down += count;
        at_client.unsplit(wire_down.split_to(count));
        client.read(&mut at_client);
        if let Some(outcome) = client.end.take() {
            assert!(at_client.is_empty() && wire_down.is_empty(), "{case:?} {what}: bytes left");
            check(case, what, &mut server, outcome);
            return (up, down);
        }
    }
    panic!("{case:?} {what}: it hangs");
}

#[test]
fn whole() {
    for case in cases() {
        run(case, "whole", || usize::MAX, || usize::MAX);
    }
}

#[test]
fn byte_by_byte() {
    for case in cases() {
        run(case, "byte by byte", || 1, || 1);
    }
}

#[test]
fn cut_at_every_position() {
    for case in cases() {
        let (up, down) = run(case, "whole", || usize::MAX, || usize::MAX);
        for cut in 0..=up {
            let what = format!("to the server cut at {cut}");
            run(case, &what, in_two(cut), || usize::MAX);
        }
        for cut in 0..=down {
            let what = format!("to the client cut at {cut}");
            run(case, &what, || usize::MAX, in_two(cut));
        }
    }
}

/// `cut` bytes, then nothing for a while, then the rest.
fn in_two(cut: usize) -> impl FnMut() -> usize {
    let mut left = cut;
    let mut calls = 0;
    move || {
        calls += 1;
        if calls < 40 {
            return std::mem::take(&mut left);
        }
        usize::MAX
    }
}

#[test]
fn in_random_order() {
    let cases = cases();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..20_000 {
        let case = cases[random.below(cases.len())];
        let mut client = Client::new(case, 1 + random.below(20));
        let mut server = Server::new(case.plan);
        let (mut wire_up, mut wire_down) = (BytesMut::new(), BytesMut::new());
        let (mut at_server, mut at_client) = (BytesMut::new(), BytesMut::new());
        let what = format!("round {round}");
        let mut steps = 0;
        let outcome = loop {
            steps += 1;
            assert!(steps < 1_000_000, "{case:?} {what}: it hangs");
            match random.below(6) {
                0 => client.pull(),
                1 => client.write(1 + random.below(60), &mut wire_up),
                2 => {
                    let count = random.below(1 + wire_up.len());
                    at_server.unsplit(wire_up.split_to(count));
                }
                3 => {
                    server.run(&mut at_server);
                    wire_down.unsplit(server.out.split());
                }
                4 => {
                    let count = random.below(1 + wire_down.len());
                    at_client.unsplit(wire_down.split_to(count));
                }
                _ => client.read(&mut at_client),
            }
            if let Some(outcome) = client.end.take() {
                break outcome;
            }
        };
        check(case, &what, &mut server, outcome);
    }
}

/// A sender that has filled its preview and has nothing more at hand must not wait for ever.
#[test]
fn a_full_preview_ends_without_the_next_piece() {
    let case = Case { plan: Plan::EchoAtTheEnd, body: 16, preview: Some(16), trailers: false };
    let mut client = Client::new(case, 16);
    let mut server = Server::new(case.plan);
    client.pull();
    assert_eq!(client.exchange.demand(), Demand::Edge);
    client.exchange.end_preview();
    let mut wire = BytesMut::new();
    client.write(usize::MAX, &mut wire);
    server.run(&mut wire);
    client.read(&mut server.out.split());
    // 100 has come: the empty rest follows.
    client.pull();
    client.write(usize::MAX, &mut wire);
    server.run(&mut wire);
    client.read(&mut server.out.split());
    assert_eq!(client.end.unwrap().body, body(16));
}

/// Replies that no state allows are faults, never a pass.
#[test]
fn what_may_not_be_said_is_a_fault() {
    let terms = |preview, allow_204, allow_206| Terms {
        method: Method::Reqmod,
        has_body: true,
        preview,
        allow_204,
        allow_206,
        send_trailers: false,
        keep: 100,
        wait_at_keep: false,
    };
    let partial = "ICAP/1.0 206 Partial\r\nEncapsulated: req-hdr=0, req-body=18\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    for (name, terms, length, replies) in [
        ("100 without a preview", terms(None, true, true), 10, "ICAP/1.0 100 Continue\r\n\r\n"),
        ("100 after ieof", terms(Some(50), true, true), 10, "ICAP/1.0 100 Continue\r\n\r\n"),
        (
            "two 100",
            terms(Some(5), true, true),
            10,
            "ICAP/1.0 100 Continue\r\n\r\nICAP/1.0 100 Continue\r\n\r\n",
        ),
        ("204 unasked", terms(None, false, false), 10, "ICAP/1.0 204 No\r\n\r\n"),
        (
            "204 unasked after 100",
            terms(Some(5), false, false),
            10,
            "ICAP/1.0 100 Continue\r\n\r\nICAP/1.0 204 No\r\n\r\n",
        ),
        ("204 for more than is kept", terms(None, true, false), 101, "ICAP/1.0 204 No\r\n\r\n"),
        ("206 unasked", terms(None, true, false), 10, partial),
        ("200 without Encapsulated", terms(None, true, true), 10, "ICAP/1.0 200 OK\r\n\r\n"),
        (
            "200 without a head",
            terms(None, true, true),
            10,
            "ICAP/1.0 200 OK\r\nEncapsulated: req-body=0\r\n\r\n",
        ),
        (
            "a response body for a request",
            terms(None, true, true),
            10,
            "ICAP/1.0 200 OK\r\nEncapsulated: req-hdr=0, res-body=18\r\n\r\n",
        ),
        (
            "offsets beyond all bounds",
            terms(None, true, true),
            10,
            "ICAP/1.0 200 OK\r\nEncapsulated: req-hdr=0, req-body=4294967295\r\n\r\n",
        ),
        (
            "use-original-body in a 200",
            terms(None, true, true),
            10,
            "ICAP/1.0 200 OK\r\nEncapsulated: req-hdr=0, req-body=18\r\n\r\nGET / HTTP/1.1\r\n\r\n0; use-original-body=0\r\n\r\n",
        ),
    ] {
        let mut exchange = Exchange::new(terms, [], &Limits::default());
        let mut left = Some(Bytes::from(vec![1; length]));
        let mut input = BytesMut::from(replies);
        let mut fault = false;
        for _ in 0..10 {
            while exchange.demand() != Demand::Nothing {
                match left.take() {
                    Some(data) => exchange.push_data(data),
                    None => exchange.push_end(None),
                }
            }
            match exchange.poll(&mut input) {
                Ok(Some(Event::Pass(_))) => panic!("{name}: passed"),
                Ok(_) => {}
                Err(_) => {
                    fault = true;
                    break;
                }
            }
        }
        assert!(fault, "{name}");
        assert!(!exchange.reusable(), "{name}");
    }
}

/// The wire bytes of a body with its preview: lower-case `ieof` first, no extension elsewhere.
#[test]
fn framing_is_what_the_strictest_servers_take() {
    let case = Case { plan: Plan::PassAtTheEnd, body: 3, preview: Some(16), trailers: false };
    let mut client = Client::new(case, 5);
    client.pull();
    client.pull();
    let mut wire = BytesMut::new();
    client.write(usize::MAX, &mut wire);
    let mut end = BytesMut::new();
    encode_chunk(&mut end, &body(3));
    end.put_slice(b"0; ieof\r\n\r\n");
    assert!(wire.ends_with(&end));
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
