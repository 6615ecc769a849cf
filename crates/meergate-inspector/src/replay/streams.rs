//! Segments to streams: a capture's view, where nothing overlaps on purpose.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::capture::Segment;

/// Both directions of one connection.
pub(super) struct Stream {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    /// Both ends have greeted.
    pub(super) handshake: bool,
}

/// What one end sends.
#[derive(Default)]
struct Half {
    /// The sequence number of the first byte.
    first: Option<u32>,
    /// Bytes by their offset.
    pieces: BTreeMap<u64, Vec<u8>>,
    last: u64,
}

impl Half {
    fn add(&mut self, segment: &Segment) {
        let data_at = segment.sequence.wrapping_add(u32::from(segment.syn));
        let first = *self.first.get_or_insert(data_at);
        if segment.payload.is_empty() {
            return;
        }
        // Offsets are taken near the last one, so that streams over 4 GB and late segments agree.
        let near = (self.last as u32).wrapping_sub(data_at.wrapping_sub(first)).wrapping_neg();
        let offset = self.last.wrapping_add(i64::from(near as i32) as u64);
        if offset > u64::MAX / 2 {
            return;
        }
        self.last = self.last.max(offset);
        let piece = self.pieces.entry(offset).or_default();
        if segment.payload.len() > piece.len() {
            piece.clone_from(&segment.payload);
        }
    }

    /// Up to the first gap.
    fn join(self) -> Vec<u8> {
        let mut out = Vec::new();
        for (offset, piece) in self.pieces {
            let have = out.len() as u64;
            match have.checked_sub(offset) {
                Some(known) if known < piece.len() as u64 => out.extend(&piece[known as usize..]),
                Some(_) => {}
                None => break,
            }
        }
        out
    }
}

#[derive(Default)]
struct Pair {
    client: Option<(SocketAddr, SocketAddr)>,
    halves: HashMap<SocketAddr, Half>,
    greeted: [bool; 2],
    ended: bool,
}

/// Streams in the order in which they began.
pub(super) fn reassemble(segments: Vec<Segment>) -> Vec<Stream> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut open: HashMap<(SocketAddr, SocketAddr), usize> = HashMap::new();
    for segment in segments {
        let ends = (segment.from.min(segment.to), segment.from.max(segment.to));
        let begins = segment.syn && !segment.ack;
        let known = open.get(&ends).copied();
        let index = match known.filter(|&i| !(begins && pairs[i].ended)) {
            Some(index) => index,
            None => {
                pairs.push(Pair::default());
                open.insert(ends, pairs.len() - 1);
                pairs.len() - 1
            }
        };
        let pair = &mut pairs[index];
        if begins || (pair.client.is_none() && !segment.syn && !segment.payload.is_empty()) {
            // Without a handshake in the capture, whoever speaks first is the client.
            pair.client = Some((segment.from, segment.to));
        }
        if segment.syn {
            pair.greeted[usize::from(segment.ack)] = true;
        }
        pair.ended |= segment.end;
        pair.halves.entry(segment.from).or_default().add(&segment);
    }
    pairs.into_iter().filter_map(stream).collect()
}

fn stream(mut pair: Pair) -> Option<Stream> {
    let (client, server) = pair.client?;
    let mut take = |end| pair.halves.remove(&end).map(Half::join).unwrap_or_default();
    let (request, response) = (take(client), take(server));
    Some(Stream { client, server, request, response, handshake: pair.greeted == [true; 2] })
}
