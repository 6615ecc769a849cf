//! WebSocket in a stream, in the form in which the engine sees all of it (`docs/stream-carrier.md`, section 8).

use icap_stream::Way;
use websocket_wire::{Frame, Opcode};

use crate::inspection::refusal::FrameFault;

/// The longest message that the engine sees whole (`app-layer.protocols.websocket.max-payload-size` is forced to more).
const LONGEST: u64 = 16 << 20;
/// The longest head of a frame.
const MAX_HEAD: usize = 14;

/// Follows the frames of both directions.
#[derive(Debug, Default)]
pub(super) struct Frames([Direction; 2]);

#[derive(Debug, Default)]
struct Direction {
    head: [u8; MAX_HEAD],
    length: usize,
    /// Bytes of payload that are still to come.
    left: u64,
    /// Bytes of the message so far, if one is under way.
    message: Option<u64>,
}

impl Frames {
    /// Takes in what is shown, before the engine is fed with it.
    pub(super) fn look(&mut self, way: Way, bytes: &[u8]) -> Result<(), FrameFault> {
        self.0[way as usize].look(bytes)
    }
}

impl Direction {
    fn look(&mut self, mut bytes: &[u8]) -> Result<(), FrameFault> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                // Not more than the length of a slice.
                let taken = self.left.min(bytes.len() as u64);
                self.left -= taken;
                bytes = &bytes[taken as usize..];
                continue;
            }
            self.head[self.length] = byte;
            self.length += 1;
            bytes = rest;
            let read = Frame::parse(&self.head[..self.length]);
            if let Some((frame, _)) = read.map_err(|_| FrameFault::Malformed)? {
                self.length = 0;
                self.left = frame.length;
                self.begin(&frame)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, frame: &Frame) -> Result<(), FrameFault> {
        if frame.mask.is_some() || frame.is_compressed {
            return Err(FrameFault::Form);
        }
        let before = match (frame.opcode, self.message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
            (Opcode::Continuation, Some(before)) => before,
            (Opcode::Binary | Opcode::Text, None) => 0,
            (Opcode::Continuation | Opcode::Binary | Opcode::Text, _) => {
                return Err(FrameFault::Malformed);
            }
        };
        let message = before.saturating_add(frame.length);
        if message > LONGEST {
            return Err(FrameFault::Long);
        }
        self.message = (!frame.is_final).then_some(message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_engine_sees_whole_is_shown_to_it() {
        let table: &[(&[u8], Result<(), FrameFault>)] = &[
            (&[0x81, 2, b'H', b'i', 0x89, 0, 0x01, 1, b'a', 0x89, 0, 0x80, 1, b'b'], Ok(())),
            (&[0x82, 127, 0, 0, 0, 0, 1, 0, 0, 0], Ok(())),
            (&[0x82, 127, 0, 0, 0, 0, 1, 0, 0, 1], Err(FrameFault::Long)),
            (&[0x01, 1, b'a', 0x80, 127, 0, 0, 0, 0, 1, 0, 0, 0], Err(FrameFault::Long)),
            (&[0x81, 0x81, 0, 0, 0, 0, b'a'], Err(FrameFault::Form)),
            (&[0xc1, 1, 0], Err(FrameFault::Form)),
            (&[0x80, 1, 0], Err(FrameFault::Malformed)),
            (&[0x01, 0, 0x01, 0], Err(FrameFault::Malformed)),
            (&[0x83, 0], Err(FrameFault::Malformed)),
            (&[0x89, 126, 0, 126], Err(FrameFault::Malformed)),
        ];
        for (bytes, expected) in table {
            for cut in [1, 3, 99] {
                let mut frames = Frames::default();
                let seen = bytes.chunks(cut).try_for_each(|cut| frames.look(Way::ToClient, cut));
                assert_eq!(seen, *expected, "{bytes:x?}");
            }
        }
    }
}
