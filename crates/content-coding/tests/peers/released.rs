//! What a client gets of a content where the decoder stands before it: the settled bytes alone.

use content_coding::{Codings, Decoder, Error};
use fastrand::Rng;

pub struct Released {
    pub codings: Codings,
    /// The settled bytes, cut.
    pub pieces: Vec<Vec<u8>>,
    /// What the decoder had written when these were settled.
    pub shown: Vec<u8>,
    pub error: Option<Error>,
    /// The whole content was given, and it ended well.
    pub whole: bool,
}

impl Released {
    /// Gives `coded` to a decoder in pieces of any size; of half of the contents not all.
    pub fn of(codings: Codings, coded: &[u8], random: &mut Rng) -> Released {
        let all = random.bool();
        let end = if all { coded.len() } else { random.usize(0..=coded.len()) };
        let mut decoder = Decoder::new(&codings);
        let mut shown = Vec::new();
        let mut pieces = Vec::new();
        let mut released = 0;
        let mut error = None;
        let mut at = 0;
        let mut room = vec![0; random.usize(1..=5000)];
        while at < end && error.is_none() {
            let piece = &coded[at..end.min(at + random.usize(1..=200))];
            at += piece.len();
            error = feed(&mut decoder, piece, &mut room, &mut shown).err();
            // As the inspector releases.
            let settled = usize::try_from(decoder.settled()).unwrap();
            if settled > released {
                pieces.push(coded[released..settled].to_vec());
                released = settled;
            }
        }
        let mut whole = false;
        while all && error.is_none() && !whole {
            match decoder.finish(&mut room) {
                Ok(finish) => {
                    shown.extend_from_slice(&room[..finish.produced]);
                    whole = finish.done;
                }
                Err(found) => error = Some(found),
            }
        }
        Released { codings, pieces, shown, error, whole }
    }
}

fn feed(
    decoder: &mut Decoder,
    mut piece: &[u8],
    room: &mut [u8],
    shown: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        let progress = decoder.decode(piece, room)?;
        shown.extend_from_slice(&room[..progress.produced]);
        piece = &piece[progress.consumed..];
        if progress.drained {
            return Ok(());
        }
    }
}
