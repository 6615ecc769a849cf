//! What an inspector sends: no input panics, cuts make no difference, and nothing is cleared that
//! was not sent, or lies behind a drop or a failure.
#![no_main]

use icap_stream::{Answer, Gateway, Mark, Way, Window};
use icap_stream_fuzz::{Cuts, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    assert_eq!(
        hear(seed, bytes, std::iter::repeat(usize::MAX)),
        hear(seed, bytes, Cuts::new(seed))
    );
});

/// The answers, what was cleared of each direction, and whether the end may be here.
fn hear(
    seed: u64,
    bytes: &[u8],
    cuts: impl Iterator<Item = usize>,
) -> (Vec<String>, [u64; 2], bool) {
    let mut gateway = Gateway::new(Window::DEFAULT);
    let mut up = Vec::new();
    for (way, shift) in [(Way::ToClient, 8), (Way::ToServer, 16)] {
        let len = (seed >> shift) as usize % 300;
        let mark = Mark { end: seed >> shift & 1 == 1, unit: false };
        assert!(gateway.data(way, &vec![0; len], mark, &mut up).is_ok());
    }
    assert!(gateway.ping(&mut up).is_ok());
    let mut seen = Vec::new();
    let mut rest = bytes;
    let mut bound = None;
    let cleared =
        |gateway: &Gateway| [Way::ToClient, Way::ToServer].map(|way| gateway.cleared(way));
    for len in cuts {
        let (mut piece, more) = rest.split_at(len.min(rest.len()));
        rest = more;
        loop {
            let is_over = match gateway.read(&mut piece) {
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.to_string());
                    return (seen, cleared(&gateway), false);
                }
                Ok(Some(answer)) => {
                    seen.push(format!("{answer:?}"));
                    matches!(answer, Answer::Dropped { .. } | Answer::Failed(_))
                }
            };
            let now = cleared(&gateway);
            assert!(bound.is_none_or(|bound| bound == now || is_over), "cleared behind the end");
            if is_over {
                bound = Some(now);
            }
            for way in Way::BOTH {
                assert!(gateway.cleared(way) <= gateway.sent(way));
            }
        }
        assert!(piece.is_empty());
        if rest.is_empty() {
            break;
        }
    }
    (seen, cleared(&gateway), gateway.end_of_input().is_ok())
}
