//! A gateway and an inspector in memory: whatever is shown, however it is cut, only what the
//! inspector passed is cleared, and both ends agree how the stream is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use icap_stream::{
    Answer, Command, Dropped, ErrorKind, Fields, Gateway, Inspector, Mark, Phase, Reason,
    Signature, Way, Window,
};
use proptest::prelude::*;

/// What one of the two does next.
#[derive(Clone, Debug)]
enum Step {
    Data {
        way: Way,
        len: usize,
        mark: Mark,
    },
    Replay {
        way: Way,
        len: usize,
    },
    Phase,
    Note,
    Ping,
    /// The inspector gets so many bytes, and judges what is whole in them.
    Judge {
        bytes: usize,
        bad: bool,
    },
    /// The inspector tells what it passed.
    Report,
    /// The gateway gets so many bytes.
    Hear(usize),
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::ToClient), Just(Way::ToServer)]
}

fn step() -> impl Strategy<Value = Step> {
    let mark = (prop::bool::weighted(0.05), any::<bool>());
    let len = prop_oneof![0usize..40, 0usize..3_000, 60_000usize..140_000];
    let bytes = prop_oneof![Just(1usize), 1usize..30, 1usize..5_000, Just(1 << 20)];
    prop_oneof![
        4 => (way(), len.clone(), mark)
            .prop_map(|(way, len, (end, unit))| Step::Data { way, len, mark: Mark { end, unit } }),
        1 => (way(), len).prop_map(|(way, len)| Step::Replay { way, len }),
        1 => Just(Step::Phase),
        1 => Just(Step::Note),
        1 => Just(Step::Ping),
        6 => (bytes.clone(), prop::bool::weighted(0.03))
            .prop_map(|(bytes, bad)| Step::Judge { bytes, bad }),
        3 => Just(Step::Report),
        4 => bytes.prop_map(Step::Hear),
    ]
}

/// Bytes under way, and how many of them have arrived.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    at: usize,
}

impl Wire {
    fn arrive(&mut self, most: usize) -> &[u8] {
        let from = self.at;
        self.at = self.bytes.len().min(from + most);
        &self.bytes[from..self.at]
    }
}

struct Pair {
    gateway: Gateway,
    inspector: Inspector,
    up: Wire,
    down: Wire,
    /// Bytes that the inspector passed, by direction.
    passed: [u64; 2],
    /// Bytes that the gateway threw away.
    thrown: [u64; 2],
    ended: [bool; 2],
    drops: usize,
    heard: usize,
}

fn dropped() -> Dropped {
    let signature = Signature {
        id: 2_000_001,
        generator: 1,
        revision: 3,
        message: "ein Übel\nmit Umbruch".to_owned(),
        category: "misc".to_owned(),
    };
    Dropped { signature: Some(signature), reason: "rules".to_owned() }
}

impl Pair {
    fn run(&mut self, step: &Step) {
        match *step {
            Step::Data { way, len, mark } => {
                let len = len.min(self.gateway.room(way));
                // What is refused here is what nobody may do; it leaves no trace.
                let before = self.up.bytes.len();
                let sent = self.gateway.data(way, &vec![7; len], mark, &mut self.up.bytes);
                assert!(sent.is_ok() || self.up.bytes.len() == before);
            }
            Step::Replay { way, len } => {
                let _ = self.gateway.replay(way, &vec![9; len], &mut self.up.bytes);
            }
            Step::Phase => {
                let lacks = Way::BOTH.map(|way| self.gateway.sent(way) - self.gateway.cleared(way));
                let phase = Phase::new(Reason::NextMail);
                if self.gateway.phase(&phase, &mut self.up.bytes).is_ok() {
                    for (way, lacks) in Way::BOTH.into_iter().zip(lacks) {
                        self.thrown[way as usize] += lacks;
                    }
                }
            }
            Step::Note => {
                let mut fields = Fields::new();
                fields.push("Client-Username", "mira").unwrap();
                let _ = self.gateway.note(&fields, &mut self.up.bytes);
            }
            Step::Ping => {
                let _ = self.gateway.ping(&mut self.up.bytes);
            }
            Step::Judge { bytes, bad } => self.judge(bytes, bad),
            Step::Report => {
                self.inspector.report(&mut self.down.bytes);
            }
            Step::Hear(bytes) => self.hear(bytes),
        }
        for way in Way::BOTH {
            assert!(self.left(way) <= self.passed[way as usize]);
            assert!(!self.gateway.end_cleared(way) || self.ended[way as usize]);
            assert!(self.gateway.sent(way) >= self.inspector.received(way));
        }
    }

    /// Bytes of a direction that may have left.
    fn left(&self, way: Way) -> u64 {
        self.gateway.cleared(way) - self.thrown[way as usize]
    }

    fn judge(&mut self, bytes: usize, bad: bool) {
        let mut input = self.up.arrive(bytes);
        loop {
            let (way, end, len) = match self.inspector.read(&mut input).unwrap() {
                None => break,
                Some(Command::Data { way, mark, bytes }) => {
                    assert!(bytes.iter().all(|byte| *byte == 7));
                    (way, mark.end, bytes.len())
                }
                Some(Command::Replay { way, bytes }) => {
                    assert!(bytes.iter().all(|byte| *byte == 9));
                    (way, false, 0)
                }
                Some(Command::Phase(phase)) => {
                    assert_eq!(phase, Phase::new(Reason::NextMail));
                    if bad {
                        let to = Way::ToClient;
                        self.inspector.drop_late(to, &dropped(), &mut self.down.bytes).unwrap();
                    }
                    continue;
                }
                Some(Command::Ping) => {
                    self.inspector.pong(&mut self.down.bytes).unwrap();
                    continue;
                }
                Some(Command::Note(fields)) => {
                    assert_eq!(fields.value("client-username"), Some("mira"));
                    continue;
                }
                Some(Command::Discarded(_)) => {
                    assert!(self.inspector.is_condemned());
                    continue;
                }
                Some(Command::Cancel(_)) => unreachable!("nobody does"),
            };
            if bad {
                self.inspector.drop(way, &dropped(), &mut self.down.bytes).unwrap();
                self.drops += 1;
            } else {
                self.inspector.pass(way).unwrap();
                self.passed[way as usize] += len as u64;
                self.ended[way as usize] |= end;
            }
        }
        assert!(input.is_empty());
    }

    fn hear(&mut self, bytes: usize) {
        let mut input = self.down.arrive(bytes);
        while let Some(answer) = self.gateway.read(&mut input).unwrap() {
            match answer {
                Answer::Dropped { late, why, .. } => {
                    let signature = why.signature.unwrap();
                    assert_eq!(signature.message, "ein Übel mit Umbruch");
                    assert_eq!((signature.id, signature.revision), (2_000_001, 3));
                    assert!(late || self.gateway.is_condemned());
                    self.heard += 1;
                }
                Answer::Passed(_) | Answer::Pong => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(input.is_empty());
    }
}

fn pair(window: u64) -> Pair {
    let window = Window::new(window).unwrap();
    Pair {
        gateway: Gateway::new(window),
        inspector: Inspector::new(window),
        up: Wire::default(),
        down: Wire::default(),
        passed: [0; 2],
        thrown: [0; 2],
        ended: [false; 2],
        drops: 0,
        heard: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn only_what_was_passed_is_cleared(
        steps in prop::collection::vec(step(), 1..120),
        window in prop_oneof![Just(1u64), Just(100), Just(70_000), Just(262_144)],
    ) {
        let mut pair = pair(window);
        for step in &steps {
            pair.run(step);
        }
        // All that is under way arrives; then both sides think the same.
        pair.judge(usize::MAX >> 1, false);
        pair.inspector.report(&mut pair.down.bytes);
        pair.hear(usize::MAX >> 1);
        pair.hear(1);
        prop_assert!(pair.heard >= pair.drops);
        prop_assert_eq!(pair.gateway.is_condemned(), pair.inspector.is_condemned());
        prop_assert_eq!(pair.gateway.is_complete(), pair.inspector.is_complete());
        for way in Way::BOTH {
            prop_assert_eq!(pair.gateway.sent(way), pair.inspector.received(way));
            if !pair.gateway.is_condemned() {
                prop_assert_eq!(pair.left(way), pair.passed[way as usize]);
                prop_assert_eq!(pair.gateway.cleared(way), pair.gateway.sent(way));
                prop_assert!(pair.gateway.is_cleared(way));
                prop_assert_eq!(pair.gateway.end_cleared(way), pair.ended[way as usize]);
            }
        }
        let over = pair.gateway.is_complete() || pair.gateway.is_condemned();
        prop_assert_eq!(pair.gateway.finish().is_ok(), over);
        prop_assert_eq!(pair.inspector.end_of_input().is_ok(), over);
        prop_assert_eq!(pair.gateway.end_of_input().is_ok(), over);
    }

    #[test]
    fn arbitrary_bytes_clear_nothing_and_cuts_make_no_difference(
        input in frames(),
        cuts in prop::collection::vec(1usize..40, 1..60),
    ) {
        let whole = [input.len()];
        let (a, b) = (read_inspector(&input, &whole), read_inspector(&input, &cuts));
        prop_assert_eq!(a, b);
        let (a, b) = (read_gateway(&input, &whole), read_gateway(&input, &cuts));
        prop_assert_eq!(a, b);
    }
}

/// Bytes that are nearly frames.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![0u8..9, 60u8..66, 126u8..138, 190u8..194, any::<u8>()];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        Just(0u64.to_be_bytes().to_vec()),
        Just(b"Reason: blocked\n".to_vec()),
        Just([&[0; 12][..], b"Signature-Id: 5\n"].concat()),
    ];
    let frame = (code, prop_oneof![9 => 0u8..8, 1 => any::<u8>()], payload, -1i32..2).prop_map(
        |(code, flags, payload, off)| {
            let off = if off == 0 || flags % 4 != 0 { 0 } else { off };
            let len = (payload.len() as i32 + off).max(0) as u32;
            let mut frame = vec![code, flags, 0, 0];
            frame.extend(len.to_be_bytes());
            frame.extend(payload);
            frame
        },
    );
    prop::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

/// What an inspector makes of input that comes in such pieces.
fn read_inspector(input: &[u8], cuts: &[usize]) -> (Vec<String>, bool) {
    let mut inspector = Inspector::new(Window::new(64).unwrap());
    let (mut seen, mut rest) = (Vec::new(), input);
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (mut piece, more) = rest.split_at(cut.min(rest.len()));
        rest = more;
        loop {
            match inspector.read(&mut piece) {
                Ok(None) => break,
                Ok(Some(command)) => seen.push(format!("{command:?}")),
                Err(error) => {
                    seen.push(error.to_string());
                    return (seen, false);
                }
            }
        }
    }
    (seen, inspector.end_of_input().is_ok())
}

fn read_gateway(input: &[u8], cuts: &[usize]) -> (Vec<String>, bool) {
    let mut gateway = Gateway::new(Window::DEFAULT);
    gateway.data(Way::ToClient, &[0; 3], Mark::END, &mut Vec::new()).unwrap();
    let (mut seen, mut rest) = (Vec::new(), input);
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (mut piece, more) = rest.split_at(cut.min(rest.len()));
        rest = more;
        loop {
            match gateway.read(&mut piece) {
                Ok(None) => break,
                Ok(Some(answer)) => seen.push(format!("{answer:?}")),
                Err(error) => {
                    seen.push(error.to_string());
                    return (seen, false);
                }
            }
            assert!(gateway.cleared(Way::ToClient) <= 3 && gateway.cleared(Way::ToServer) == 0);
        }
    }
    (seen, gateway.end_of_input().is_ok())
}

#[test]
fn a_long_piece_goes_as_several_frames_and_ends_with_the_last() {
    let mut pair = pair(262_144);
    let mark = Mark { end: true, unit: true };
    pair.gateway.data(Way::ToServer, &[7; 200_000], mark, &mut pair.up.bytes).unwrap();
    assert_eq!(pair.up.bytes.len(), 200_000 + 4 * icap_stream::HEADER);
    let mut input = &pair.up.bytes[..];
    let mut marks = Vec::new();
    while let Some(command) = pair.inspector.read(&mut input).unwrap() {
        let Command::Data { mark, .. } = command else { panic!("{command:?}") };
        marks.push(mark);
    }
    assert_eq!(marks, [Mark::NONE, Mark::NONE, Mark::NONE, mark]);
}

#[test]
fn what_overruns_the_window_is_refused_on_both_sides() {
    let mut pair = pair(100);
    let error = pair.gateway.data(Way::ToServer, &[7; 101], Mark::NONE, &mut pair.up.bytes);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Window);
    // One that believes in a larger window.
    let mut other = Gateway::new(Window::new(1_000).unwrap());
    other.data(Way::ToServer, &[7; 100], Mark::NONE, &mut pair.up.bytes).unwrap();
    other.data(Way::ToServer, &[7; 1], Mark::NONE, &mut pair.up.bytes).unwrap();
    let mut input = &pair.up.bytes[..];
    assert!(pair.inspector.read(&mut input).unwrap().is_some());
    let error = pair.inspector.read(&mut input).unwrap_err();
    assert_eq!((error.kind(), error.at()), (ErrorKind::Window, 108));
}
