//! What the fuzz targets share: the same content decoded at once and in pieces.

use content_coding::{Codings, Decoder, Error, Fault};

/// Of a content that grows, no more is decoded.
pub const ENOUGH: usize = 1 << 20;

/// How a content came out.
#[derive(Debug)]
pub struct Outcome {
    /// At most [`ENOUGH`] bytes, and a piece.
    pub plain: Vec<u8>,
    /// What ended it, if it did not come to its end or was long enough.
    pub fault: Option<Fault>,
    /// It was decoded to its end.
    pub whole: bool,
}

/// Splits fuzz input into a seed for cuts and the bytes to be cut.
pub fn split(input: &[u8]) -> Option<(u64, &[u8])> {
    let (seed, bytes) = input.split_first_chunk()?;
    Some((u64::from_le_bytes(*seed), bytes))
}

/// Decodes with one cut and with many. What comes of it must be the same.
pub fn decode(codings: &str, seed: u64, coded: &[u8]) -> Outcome {
    let codings = Codings::parse([codings.as_bytes()]).unwrap();
    let at_once = run(&codings, coded, &mut Sizes { seed: None });
    let in_pieces = run(&codings, coded, &mut Sizes { seed: Some(seed | 1) });
    let enough = at_once.plain.len().min(in_pieces.plain.len());
    assert!(at_once.plain[..enough] == in_pieces.plain[..enough]);
    let long = |outcome: &Outcome| outcome.plain.len() >= ENOUGH;
    // Of a growing content the one run may see a fault that the other one stopped before.
    if !long(&at_once) && !long(&in_pieces) {
        assert_eq!(at_once.whole, in_pieces.whole);
        // In a row two layers may be wrong at once, and the cuts say which of them is met first.
        match codings.applied() {
            [_] => assert_eq!(at_once.fault, in_pieces.fault),
            _ => assert_eq!(at_once.fault.is_some(), in_pieces.fault.is_some()),
        }
        if at_once.whole {
            assert_eq!(at_once.plain.len(), in_pieces.plain.len());
        }
    }
    at_once
}

fn run(codings: &Codings, coded: &[u8], sizes: &mut Sizes) -> Outcome {
    let mut decoder = Decoder::new(codings);
    let mut plain = Vec::new();
    let result = feed(&mut decoder, coded, sizes, &mut plain);
    assert_eq!(decoder.produced(), plain.len() as u64);
    assert!(decoder.settled() <= decoder.consumed() && decoder.consumed() <= coded.len() as u64);
    if let Err(error) = result {
        assert!(error.layer > 0 || error.offset <= decoder.consumed());
        assert_eq!(decoder.finish(&mut [0; 8]), Err(error));
    }
    let whole = result == Ok(true);
    Outcome { plain, fault: result.err().map(|error| error.fault), whole }
}

/// Whether it came to the end, before there was enough.
fn feed(
    decoder: &mut Decoder,
    mut coded: &[u8],
    sizes: &mut Sizes,
    plain: &mut Vec<u8>,
) -> Result<bool, Error> {
    let mut output = vec![0; 1 << 16];
    let (mut inflated, mut idle) = (0, 0);
    while plain.len() < ENOUGH && inflated < 16 * ENOUGH as u64 {
        let room = sizes.next().min(output.len());
        if coded.is_empty() {
            let finish = decoder.finish(&mut output[..room])?;
            plain.extend_from_slice(&output[..finish.produced]);
            if finish.done {
                return Ok(true);
            }
        } else {
            let piece = &coded[..sizes.next().min(coded.len())];
            let progress = decoder.decode(piece, &mut output[..room])?;
            coded = &coded[progress.consumed..];
            plain.extend_from_slice(&output[..progress.produced]);
            assert!(!progress.drained || progress.consumed == piece.len());
            idle = if progress.consumed > 0 { 0 } else { idle };
        }
        // Something happens in all calls but a few.
        let before = std::mem::replace(&mut inflated, decoder.inflated());
        idle = if inflated > before { 0 } else { idle + 1 };
        assert!(idle < 5);
    }
    Ok(false)
}

/// Sizes of pieces and rooms: as large as can be, or from a seed mostly small ones.
struct Sizes {
    seed: Option<u64>,
}

impl Sizes {
    fn next(&mut self) -> usize {
        let Some(seed) = &mut self.seed else { return usize::MAX };
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        1 + (*seed >> 32) as usize % (1 << (*seed % 13))
    }
}
