//! What a peer says: no input panics, cuts make no difference, and what is told was said.
#![no_main]

use libfuzzer_sys::fuzz_target;
use websocket_wire::{Event, Limits, MAX_CONTROL, Offers, Reader, Role, Side};

const LIMIT: usize = 100_000;

fuzz_target!(|input: &[u8]| {
    let Some((&[how, cut], bytes)) = input.split_first_chunk() else { return };
    let at_once = read(how, bytes, usize::MAX);
    assert_eq!(at_once, read(how, bytes, usize::from(cut) + 1));
    // The same bytes as extensions of either side.
    let offers = Offers::read([bytes].into_iter());
    let value = offers.value().unwrap_or_default();
    assert_eq!(Offers::read([value.as_bytes()].into_iter()), offers);
    let _ = offers.agreed([bytes].into_iter());
});

/// What is told, and the error.
fn read(how: u8, bytes: &[u8], cut: usize) -> (Vec<String>, Option<String>) {
    let role = if how & 1 == 0 { Role::Client } else { Role::Server };
    let side = Side { keeps_context: how & 4 == 0, window_bits: 8 + (how >> 3) % 8 };
    let side = (how & 2 == 0).then_some(side);
    let mut reader = Reader::new(role, side, Limits::new(LIMIT));
    let mut told = Vec::new();
    for mut piece in bytes.chunks(cut.min(bytes.len().max(1))) {
        loop {
            match reader.read(&mut piece) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    match event {
                        Event::Message { payload, .. } => assert!(payload.len() <= LIMIT),
                        Event::Control { payload, .. } => assert!(payload.len() <= MAX_CONTROL),
                    }
                    told.push(format!("{event:?}"));
                }
                Err(error) => return (told, Some(error.to_string())),
            }
        }
        assert!(piece.is_empty());
    }
    (told, None)
}
