//! What a gateway sends: no input panics, cuts make no difference, and no more is judged than came.
#![no_main]

use icap_stream::{Command, Dropped, Inspector, Way, Window};
use icap_stream_fuzz::{Cuts, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    assert_eq!(
        judge(seed, bytes, std::iter::repeat(usize::MAX)),
        judge(seed, bytes, Cuts::new(seed))
    );
});

/// The commands, the bytes of each direction that were judged, and whether the end may be here.
fn judge(
    seed: u64,
    bytes: &[u8],
    cuts: impl Iterator<Item = usize>,
) -> (Vec<String>, [u64; 2], bool) {
    let window = Window::new(1 + seed % 5_000).unwrap_or(Window::DEFAULT);
    let mut inspector = Inspector::new(window);
    let (mut seen, mut judged, mut told) = (Vec::new(), [0u64; 2], Vec::new());
    let mut rest = bytes;
    for len in cuts {
        let (mut piece, more) = rest.split_at(len.min(rest.len()));
        rest = more;
        loop {
            let (way, len) = match inspector.read(&mut piece) {
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.to_string());
                    return (seen, judged, false);
                }
                Ok(Some(command)) => {
                    seen.push(format!("{command:?}"));
                    match command {
                        Command::Data { way, bytes, .. } => (way, bytes.len()),
                        Command::Replay { way, .. } => (way, 0),
                        Command::Ping => {
                            assert!(inspector.pong(&mut told).is_ok());
                            continue;
                        }
                        _ => continue,
                    }
                }
            };
            if len as u64 % 7 == seed % 7 {
                assert!(inspector.drop(way, &Dropped::default(), &mut told).is_ok());
            } else {
                judged[way as usize] += len as u64;
                assert!(inspector.pass(way).is_ok());
                inspector.report(&mut told);
            }
        }
        assert!(piece.is_empty());
        if rest.is_empty() {
            break;
        }
    }
    for way in Way::BOTH {
        assert!(judged[way as usize] <= inspector.received(way));
        assert!(inspector.received(way) <= bytes.len() as u64);
    }
    (seen, judged, inspector.end_of_input().is_ok())
}
