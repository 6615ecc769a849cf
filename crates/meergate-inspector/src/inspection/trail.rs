//! The end of what the engine has seen of a chunked message, for rules that look at the bytes of the stream: ICAP tells
//! nobody where the chunks of HTTP ended, so the lines between those that the engine gets are ours, and must hide
//! nothing.

use dual_ring::Slices;
use suricata::{SEAM_BEFORE, Seam};

/// What stands in front of the next chunk, without the framing of earlier ones.
#[derive(Default)]
pub(crate) struct Trail {
    bytes: Vec<u8>,
    /// Content is among it.
    begun: bool,
}

impl Trail {
    /// A chunk was fed, or only what leads to the first one.
    pub(crate) fn follow(&mut self, lead: [&[u8]; 2], line: &[u8], content: Slices<'_>) {
        let line = if self.begun { b"" } else { line };
        let [a, b] = lead;
        for part in [a, b, line, content.first, content.second] {
            let kept = &part[part.len().saturating_sub(SEAM_BEFORE)..];
            let room = SEAM_BEFORE - kept.len();
            self.bytes.drain(..self.bytes.len().saturating_sub(room));
            self.bytes.extend_from_slice(kept);
        }
        self.begun |= !content.is_empty();
    }

    /// Where the next bytes to be fed begin, of which so many at the start are framing.
    pub(crate) fn seam(&self, framing: usize) -> Option<Seam<'_>> {
        (self.begun && framing > 0).then_some(Seam { before: &self.bytes, framing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_between_chunks_there_is_a_seam() {
        let mut trail = Trail::default();
        let follow = |trail: &mut Trail, lead: &[u8], line: &[u8], first| {
            trail.follow([lead, b""], line, Slices { first, second: b"" });
        };
        follow(&mut trail, b"head\r\n\r\n", b"", b"");
        assert!(trail.seam(3).is_none());
        follow(&mut trail, b"", b"3\r\n", b"abc");
        assert!(trail.seam(0).is_none());
        follow(&mut trail, b"", b"2\r\n", b"de");
        assert_eq!(trail.seam(3).unwrap().before, b"head\r\n\r\n3\r\nabcde");
    }

    #[test]
    fn the_last_bytes_are_kept() {
        let bytes: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
        for size in [1, 7, 1_000, 4_096, 5_000, 20_000] {
            let mut trail = Trail::default();
            for piece in bytes.chunks(size) {
                let (first, second) = piece.split_at(piece.len().div_ceil(2));
                trail.follow([b"", b""], b"", Slices { first, second });
            }
            assert_eq!(trail.seam(1).unwrap().before, &bytes[20_000 - SEAM_BEFORE..]);
        }
    }
}
