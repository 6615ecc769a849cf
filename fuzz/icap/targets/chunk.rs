//! Chunks: no input panics, no byte is invented or lost, and cuts make no difference.
#![no_main]

use icap::{ChunkDecoder, ChunkEvent, Error, Limits, Step};
use icap_fuzz::{Cuts, split};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_head: 2048,
    max_fields: 20,
    max_uri: 200,
    max_encapsulated: 4096,
    max_chunk_line: 100,
    max_trailers: 200,
};

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    let preview = seed & 2 == 0;
    assert_eq!(
        decode(bytes, preview, std::iter::repeat(usize::MAX)),
        decode(bytes, preview, Cuts::new(seed))
    );
});

/// The data, the trailers, the events that are not data, and how much input was used.
type Seen = (Vec<u8>, Vec<u8>, Vec<String>, Result<usize, Error>);

fn decode(bytes: &[u8], preview: bool, cuts: impl Iterator<Item = usize>) -> Seen {
    let mut decoder = ChunkDecoder::new(preview, &LIMITS);
    let (mut data, mut lines, mut events) = (Vec::new(), Vec::new(), Vec::new());
    let (mut from, mut to) = (0, 0usize);
    for len in cuts {
        to = bytes.len().min(to.saturating_add(len));
        loop {
            let Step { skip, event } = match decoder.decode(&bytes[from..to]) {
                Ok(step) => step,
                Err(error) => return (data, lines, events, Err(error)),
            };
            let framing = &bytes[from..from + skip];
            from += skip;
            match event {
                ChunkEvent::Data(len) => {
                    assert!(len > 0);
                    data.extend_from_slice(&bytes[from..from + len]);
                    from += len;
                }
                ChunkEvent::NeedMore => break,
                ChunkEvent::PreviewEnd => {
                    assert!(preview && decoder.at_preview_end());
                    events.push("preview".to_owned());
                    decoder.resume();
                }
                ChunkEvent::End { ieof, use_original_body, trailers } => {
                    assert!(decoder.is_done());
                    lines.extend_from_slice(&framing[trailers]);
                    events.push(format!("{ieof} {use_original_body:?}"));
                    return (data, lines, events, Ok(from));
                }
            }
        }
        let bound = 2 + LIMITS.max_chunk_line.max(LIMITS.max_trailers);
        assert!(to - from <= len.saturating_add(bound));
        if to == bytes.len() {
            break;
        }
    }
    // Framing may be taken off in fewer steps; what is left is what no event has used.
    (data, lines, events, Ok(usize::MAX))
}
