//! Whatever a server answers and however that is cut, the client makes the same of it: a pass only
//! with the whole original at hand, and no connection kept after a fault.
#![no_main]

use bytes::{Bytes, BytesMut};
use icap::client::{Demand, Event, Exchange, Terms};
use icap::{Limits, Method};
use icap_fuzz::{Cuts, split};
use libfuzzer_sys::fuzz_target;

const BODY: &[u8] = b"The body that goes to the server, long enough for a preview of it.";

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    let whole = run(seed, bytes, None);
    let cut = run(seed, bytes, Some(Cuts::new(seed.rotate_left(32))));
    assert_eq!(whole, cut);
});

#[derive(Debug, Default, PartialEq)]
struct Made {
    statuses: Vec<u16>,
    heads: Vec<Option<Bytes>>,
    data: Vec<u8>,
    trailers: Bytes,
    original: Option<u64>,
    over: bool,
    fault: bool,
    reusable: bool,
}

fn run(seed: u64, bytes: &[u8], mut cuts: Option<Cuts>) -> Made {
    let flag = |bit: u32| seed >> bit & 1 == 1;
    let terms = Terms {
        method: if flag(0) { Method::Reqmod } else { Method::Respmod },
        has_body: flag(1),
        preview: (flag(1) && flag(2)).then_some(seed >> 8 & 127),
        allow_204: flag(3),
        allow_206: flag(4),
        send_trailers: flag(5),
        keep: if flag(6) { 20 } else { 1000 },
        wait_at_keep: flag(7),
    };
    let limits = Limits { max_head: 2048, max_encapsulated: 2048, ..Limits::default() };
    let mut exchange = Exchange::new(terms, [Bytes::from_static(b"head")], &limits);
    let mut source = BODY.chunks(9).map(Bytes::from_static);
    let mut pushed = 0;
    let mut ended = !terms.has_body;
    let mut left = BytesMut::from(bytes);
    let mut input = BytesMut::new();
    let mut made = Made::default();
    loop {
        while exchange.demand() != Demand::Nothing {
            match source.next() {
                Some(piece) => {
                    pushed += piece.len() as u64;
                    exchange.push_data(piece);
                }
                None => {
                    ended = true;
                    exchange.push_end(Some(Bytes::from_static(b"X: 1\r\n")));
                }
            }
        }
        let written = exchange.output().len();
        exchange.output().advance(written);
        match exchange.poll(&mut input) {
            Err(_) => {
                made.fault = true;
                assert!(!exchange.reusable());
                return made;
            }
            Ok(Some(event)) => match event {
                Event::Continue => made.statuses.push(100),
                Event::Data(data) => {
                    assert!(!data.is_empty());
                    made.data.extend_from_slice(&data);
                }
                Event::Pass(head) => {
                    made.statuses.push(head.status());
                    let original = exchange.take_original().expect("a pass needs the original");
                    assert_eq!((original.len, original.ended), (pushed, ended));
                    made.over = true;
                }
                Event::Refused(head) => {
                    made.statuses.push(head.status());
                    made.over = true;
                }
                Event::Reply(reply) => {
                    made.statuses.push(reply.head.status());
                    made.heads.extend([reply.req_hdr, reply.res_hdr]);
                }
                Event::End { trailers, use_original } => {
                    made.trailers = trailers;
                    made.original = use_original;
                    assert!(use_original.is_none() || exchange.is_intact());
                    made.over = true;
                }
            },
            Ok(None) if made.over || left.is_empty() => {
                assert_eq!(made.over, exchange.end_of_input().is_ok());
                made.reusable = made.over && exchange.reusable();
                assert!(made.data.len() <= bytes.len());
                return made;
            }
            Ok(None) => {
                let piece = cuts.as_mut().and_then(Iterator::next).unwrap_or(usize::MAX);
                input.unsplit(left.split_to(piece.min(left.len())));
            }
        }
    }
}
