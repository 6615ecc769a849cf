//! The worked example of `docs/stream-carrier.md`, frame by frame, against both sides.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use icap_stream::{
    Answer, Command, Dropped, Gateway, Inspector, Mark, Phase, Reason, Signature, Way, Window,
};

const TEXT: &str = include_str!("../../../docs/stream-carrier.md");

/// All bytes of the example in one direction, which its lines begin with.
fn example(mark: char) -> Vec<u8> {
    let block = TEXT.split("```hex\n").nth(1).unwrap().split("```").next().unwrap();
    let lines = block.lines().filter_map(|line| line.strip_prefix(mark));
    let bytes = lines.flat_map(|line| line.split('#').next().unwrap().split_whitespace());
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn both_sides_write_and_read_the_example() {
    let (expected_up, expected_down) = (example('>'), example('<'));
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (mut heard, mut judged) = (0, 0);
    let mut gateway = Gateway::new(Window::DEFAULT);
    let mut inspector = Inspector::new(Window::DEFAULT);
    let (client, server) = (Way::ToClient, Way::ToServer);
    let unit = Mark { end: false, unit: true };
    let quiet = Mark::NONE;

    macro_rules! next_is {
        ($side:ident, $bytes:ident, $at:ident, $expected:expr) => {{
            let mut input = &$bytes[$at..];
            assert_eq!($side.read(&mut input).unwrap(), Some($expected));
            $at = $bytes.len() - input.len();
        }};
    }

    gateway.data(client, b"220 mx hi\n", quiet, &mut up).unwrap();
    gateway.data(server, b"HELO c\n", unit, &mut up).unwrap();
    let banner = Command::Data { way: client, bytes: b"220 mx hi\n", mark: quiet };
    next_is!(inspector, up, judged, banner);
    inspector.pass(client).unwrap();
    next_is!(inspector, up, judged, Command::Data { way: server, bytes: b"HELO c\n", mark: unit });
    inspector.pass(server).unwrap();
    assert!(inspector.report(&mut down));
    assert!(!inspector.report(&mut down));
    next_is!(gateway, down, heard, Answer::Passed(client));
    next_is!(gateway, down, heard, Answer::Passed(server));
    assert_eq!((gateway.cleared(client), gateway.cleared(server)), (10, 7));

    gateway.data(server, b"EVIL", quiet, &mut up).unwrap();
    next_is!(inspector, up, judged, Command::Data { way: server, bytes: b"EVIL", mark: quiet });
    let signature = Signature {
        id: 7,
        generator: 1,
        revision: 2,
        message: "bad word".to_owned(),
        category: "misc".to_owned(),
    };
    let why = Dropped { signature: Some(signature), reason: "rules".to_owned() };
    inspector.drop(server, &why, &mut down).unwrap();
    gateway.data(server, b"!", quiet, &mut up).unwrap();
    next_is!(inspector, up, judged, Command::Discarded(1));
    next_is!(gateway, down, heard, Answer::Dropped { way: server, late: false, why });
    assert_eq!((gateway.cleared(server), gateway.sent(server)), (7, 12));

    let phase = Phase::new(Reason::Blocked);
    gateway.phase(&phase, &mut up).unwrap();
    next_is!(inspector, up, judged, Command::Phase(phase));
    gateway.replay(client, b"220 mx hi\n", &mut up).unwrap();
    next_is!(inspector, up, judged, Command::Replay { way: client, bytes: b"220 mx hi\n" });
    assert!(gateway.ping(&mut up).unwrap());
    next_is!(inspector, up, judged, Command::Ping);
    inspector.pong(&mut down).unwrap();
    next_is!(gateway, down, heard, Answer::Pong);

    gateway.data(server, b"QUIT\n", Mark::END, &mut up).unwrap();
    gateway.data(client, b"", Mark::END, &mut up).unwrap();
    let quit = Command::Data { way: server, bytes: b"QUIT\n", mark: Mark::END };
    next_is!(inspector, up, judged, quit);
    inspector.pass(server).unwrap();
    next_is!(inspector, up, judged, Command::Data { way: client, bytes: b"", mark: Mark::END });
    inspector.pass(client).unwrap();
    inspector.report(&mut down);
    next_is!(gateway, down, heard, Answer::Passed(client));
    next_is!(gateway, down, heard, Answer::Passed(server));
    assert!(gateway.is_complete() && inspector.is_complete());
    gateway.finish().unwrap();
    inspector.end_of_input().unwrap();
    gateway.end_of_input().unwrap();

    assert_eq!((judged, heard), (up.len(), down.len()));
    assert_eq!(up, expected_up);
    assert_eq!(down, expected_down);
}
