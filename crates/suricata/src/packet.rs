//! TCP segments made up for the engine.
//!
//! No checksums (the engine is told to ignore them) and no options after the handshake, so a packet is a header
//! template with sequence numbers and length filled in, and the payload.

use std::net::{IpAddr, SocketAddr};

use suricata_sys::Seam;

use crate::flow::{Direction, Tuple};

/// The largest packet: an IPv6 header and 65,535 bytes.
pub(crate) const MAX_PACKET: usize = 40 + 65_535;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const MAX_HEADERS: usize = IPV6_HEADER + TCP_HEADER;
/// MSS, window scale and padding; on SYN only.
const SYN_OPTIONS: [u8; 8] = [2, 4, 0xff, 0xd7, 1, 3, 3, WINDOW_SCALE];
/// The largest shift (RFC 7323): with it 1 GiB may be in flight. Without it the engine takes what goes beyond 64 KiB
/// for out of window and does not inspect it.
const WINDOW_SCALE: u8 = 14;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;
const ACK: u8 = 0x10;

/// What a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    Acknowledge,
    Data,
    Finish,
    Reset,
    Syn,
    SynAck,
}

/// Both directions of one made-up TCP connection.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    /// IP and TCP header of each direction, indexed by `Direction`.
    templates: [[u8; MAX_HEADERS]; 2],
    ip_header: usize,
    /// The sequence number that each sender uses next.
    next: [u32; 2],
}

impl Stream {
    pub(crate) fn new(tuple: Tuple, isn: [u32; 2]) -> Self {
        let Tuple { client, server } = tuple;
        Self {
            templates: [template(server, client), template(client, server)],
            ip_header: if client.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER },
            next: isn,
        }
    }

    /// The most data that fits into one packet: 65,495 bytes with IPv4, 65,515 with IPv6.
    pub(crate) fn capacity(&self) -> usize {
        match self.ip_header {
            IPV4_HEADER => 65_535 - IPV4_HEADER - TCP_HEADER,
            _ => 65_535 - TCP_HEADER,
        }
    }

    /// Writes the next segment of that direction into `buffer` and counts its sequence space as sent. Returns the
    /// packet's length. Of `data` it takes as much as fits, which must be nothing unless the segment is `Data`.
    pub(crate) fn write(
        &mut self,
        buffer: &mut [u8; MAX_PACKET],
        direction: Direction,
        segment: Segment,
        data: &mut Gather<'_>,
    ) -> usize {
        let ip = self.ip_header;
        let options: &[u8] = match segment {
            Segment::Syn | Segment::SynAck => &SYN_OPTIONS,
            _ => &[],
        };
        let flags = match segment {
            Segment::Acknowledge => ACK,
            Segment::Data => PSH | ACK,
            Segment::Finish => FIN | ACK,
            Segment::Reset => RST | ACK,
            Segment::Syn => SYN,
            Segment::SynAck => SYN | ACK,
        };
        let sent = direction as usize;
        let received = direction.opposite() as usize;

        let headers = ip + TCP_HEADER;
        buffer[..headers].copy_from_slice(&self.templates[sent][..headers]);
        buffer[headers..headers + options.len()].copy_from_slice(options);
        let payload = headers + options.len();
        let most = payload + self.capacity();
        let taken = data.take(&mut buffer[payload..most.min(MAX_PACKET)]);
        let len = payload + taken;

        match ip {
            IPV4_HEADER => buffer[2..4].copy_from_slice(&(len as u16).to_be_bytes()),
            _ => buffer[4..6].copy_from_slice(&((len - IPV6_HEADER) as u16).to_be_bytes()),
        }
        let tcp = &mut buffer[ip..headers];
        tcp[4..8].copy_from_slice(&self.next[sent].to_be_bytes());
        if flags & ACK != 0 {
            tcp[8..12].copy_from_slice(&self.next[received].to_be_bytes());
        }
        tcp[12] = (((TCP_HEADER + options.len()) / 4) as u8) << 4;
        tcp[13] = flags;

        let space = taken as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.next[sent] = self.next[sent].wrapping_add(space);
        len
    }
}

/// Bytes to be fed, in parts that are read as one.
pub(crate) struct Gather<'a> {
    parts: &'a [&'a [u8]],
    /// Bytes of the first part that were taken.
    taken: usize,
    left: usize,
    /// Where the first part begins, until that was taken.
    seam: Option<Seam<'a>>,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(parts: &'a [&'a [u8]]) -> Self {
        Self { parts, taken: 0, left: parts.iter().map(|part| part.len()).sum(), seam: None }
    }

    /// Of data that begin at a seam.
    pub(crate) fn behind(seam: Option<Seam<'a>>, parts: &'a [&'a [u8]]) -> Self {
        Self { seam, ..Self::new(parts) }
    }

    /// The seam at which the next bytes begin; once.
    pub(crate) fn seam(&mut self) -> Option<Seam<'a>> {
        self.seam.take()
    }

    /// Bytes not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.left
    }

    /// Leaves out the next `len` bytes, or as many as there are.
    pub(crate) fn skip(&mut self, mut len: usize) {
        while len > 0 && self.left > 0 {
            len -= self.next(len).len();
        }
    }

    /// Moves as much as fits into `room`; returns how many bytes that was.
    fn take(&mut self, room: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < room.len() && self.left > 0 {
            let piece = self.next(room.len() - filled);
            room[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        filled
    }

    /// Up to `most` bytes of one part; maybe none, but not for ever.
    fn next(&mut self, most: usize) -> &'a [u8] {
        let Some((first, rest)) = self.parts.split_first() else { return &[] };
        let end = first.len().min(self.taken + most);
        let piece = &first[self.taken..end];
        self.left -= piece.len();
        self.taken = end;
        if end == first.len() {
            (self.parts, self.taken) = (rest, 0);
        }
        piece
    }
}

fn template(from: SocketAddr, to: SocketAddr) -> [u8; MAX_HEADERS] {
    let mut header = [0; MAX_HEADERS];
    let tcp = match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header[0] = 0x45;
            header[6] = 0x40; // don't fragment
            header[8] = 64; // time to live
            header[9] = 6; // TCP
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            &mut header[IPV4_HEADER..]
        }
        (source, destination) => {
            header[0] = 0x60;
            header[6] = 6; // TCP
            header[7] = 64; // hop limit
            header[8..24].copy_from_slice(&octets(source));
            header[24..40].copy_from_slice(&octets(destination));
            &mut header[IPV6_HEADER..]
        }
    };
    tcp[0..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes()); // window
    header
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(client: &str, server: &str) -> Tuple {
        Tuple::new(client.parse().unwrap(), server.parse().unwrap()).unwrap()
    }

    #[test]
    fn sequence_numbers_follow_what_was_sent() {
        let mut buffer = Box::new([0; MAX_PACKET]);
        let mut stream = Stream::new(tuple("10.0.0.1:1000", "10.0.0.2:80"), [u32::MAX, 5]);
        let mut send = |direction, segment, data: &[u8]| {
            let len = stream.write(&mut buffer, direction, segment, &mut Gather::new(&[data]));
            let number = |at: usize| u32::from_be_bytes(buffer[at..at + 4].try_into().unwrap());
            (len, number(24), number(28), buffer[33])
        };
        assert_eq!(send(Direction::ToServer, Segment::Syn, b""), (48, 5, 0, SYN));
        assert_eq!(send(Direction::ToClient, Segment::SynAck, b""), (48, u32::MAX, 6, SYN | ACK));
        assert_eq!(send(Direction::ToServer, Segment::Acknowledge, b""), (40, 6, 0, ACK));
        assert_eq!(send(Direction::ToClient, Segment::Data, b"abc"), (43, 0, 6, PSH | ACK));
        assert_eq!(send(Direction::ToServer, Segment::Finish, b""), (40, 6, 3, FIN | ACK));
        assert_eq!(send(Direction::ToClient, Segment::Finish, b""), (40, 3, 7, FIN | ACK));
    }

    #[test]
    fn the_largest_packets_fill_the_length_field() {
        let mut buffer = Box::new([0; MAX_PACKET]);
        for (client, server, length_at) in
            [("10.0.0.1:1", "10.0.0.2:2", 2), ("[2001:db8::1]:1", "[2001:db8::2]:2", 4)]
        {
            let mut stream = Stream::new(tuple(client, server), [0, 0]);
            let data = vec![7; stream.capacity() + 1];
            let parts = [&data[..9], &[], &data[9..]];
            let mut gather = Gather::new(&parts);
            let len = stream.write(&mut buffer, Direction::ToServer, Segment::Data, &mut gather);
            assert_eq!(&buffer[length_at..length_at + 2], [0xff, 0xff]);
            assert_eq!(buffer[len - 1], 7);
            assert_eq!(gather.len(), 1);
        }
    }

    #[test]
    fn parts_are_read_as_one() {
        let parts: [&[u8]; 5] = [b"", b"ab", b"", b"cdef", b"g"];
        for room in 1..9 {
            let (mut gather, mut all) = (Gather::new(&parts), Vec::new());
            while gather.len() > 0 {
                let mut some = vec![0; room];
                let taken = gather.take(&mut some);
                all.extend_from_slice(&some[..taken]);
            }
            assert_eq!(all, b"abcdefg");
            let mut gather = Gather::new(&parts);
            gather.skip(room);
            assert_eq!(gather.len(), 7usize.saturating_sub(room));
            let mut rest = [0; 9];
            let taken = gather.take(&mut rest);
            assert_eq!(&rest[..taken], &b"abcdefg"[room.min(7)..]);
        }
    }
}
