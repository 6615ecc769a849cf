//! Captures made by hand.

/// Bytes that one end sends.
#[derive(Clone)]
pub(crate) struct Talk {
    by_client: bool,
    bytes: Vec<u8>,
}

impl Talk {
    pub(crate) fn ask(bytes: &[u8]) -> Self {
        Self { by_client: true, bytes: bytes.to_vec() }
    }

    pub(crate) fn answer(bytes: &[u8]) -> Self {
        Self { by_client: false, bytes: bytes.to_vec() }
    }
}

/// Whole TCP connections as raw IP packets.
#[derive(Default)]
pub(crate) struct Capture {
    packets: Vec<Vec<u8>>,
    connections: usize,
}

const MSS: usize = 1400;
const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;

impl Capture {
    /// Adds a connection of its own.
    pub(crate) fn talk(&mut self, v6: bool, talks: &[Talk]) {
        self.connections += 1;
        let port = 40_000 + self.connections as u16;
        let mut next = [1_000u32, 2_000];
        let mut send = |by_client: bool, flags: u8, data: &[u8]| {
            let (own, other) = if by_client { (0, 1) } else { (1, 0) };
            let ack = if flags == SYN { 0 } else { next[other] };
            self.packets.push(packet(v6, by_client, port, (next[own], ack), flags, data));
            let step = data.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
            next[own] = next[own].wrapping_add(step);
        };
        send(true, SYN, b"");
        send(false, SYN | ACK, b"");
        send(true, ACK, b"");
        for talk in talks {
            for piece in talk.bytes.chunks(MSS) {
                send(talk.by_client, ACK, piece);
                send(!talk.by_client, ACK, b"");
            }
        }
        send(false, FIN | ACK, b"");
        send(true, FIN | ACK, b"");
        send(false, ACK, b"");
    }

    /// How many connections it holds.
    pub(crate) fn len(&self) -> usize {
        self.connections
    }

    /// As a PCAP file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(0xa1b2_c3d4u32.to_le_bytes());
        out.extend([2, 0, 4, 0]);
        out.extend([0; 8]);
        out.extend(65_535u32.to_le_bytes());
        out.extend(101u32.to_le_bytes()); // raw IP
        for (n, packet) in self.packets.iter().enumerate() {
            let len = (packet.len() as u32).to_le_bytes();
            out.extend((1_700_000_000 + n as u32 / 1_000).to_le_bytes());
            out.extend((n as u32 % 1_000 * 1_000).to_le_bytes());
            out.extend(len);
            out.extend(len);
            out.extend(packet);
        }
        out
    }
}

fn packet(
    v6: bool,
    by_client: bool,
    port: u16,
    numbers: (u32, u32),
    flags: u8,
    data: &[u8],
) -> Vec<u8> {
    let ports = if by_client { (port, 80) } else { (80, port) };
    let mut tcp = Vec::new();
    tcp.extend(ports.0.to_be_bytes());
    tcp.extend(ports.1.to_be_bytes());
    tcp.extend(numbers.0.to_be_bytes());
    tcp.extend(numbers.1.to_be_bytes());
    tcp.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(data);
    let ends = if by_client { (1, 2) } else { (2, 1) };
    let mut ip = Vec::new();
    if v6 {
        ip.extend([0x60, 0, 0, 0]);
        ip.extend((tcp.len() as u16).to_be_bytes());
        ip.extend([6, 64]);
        for end in [ends.0, ends.1] {
            ip.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
        }
    } else {
        ip.extend([0x45, 0]);
        ip.extend((20 + tcp.len() as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        for end in [ends.0, ends.1] {
            ip.extend([10, 0, 0, end]);
        }
        // The IP header's checksum is looked at even where TCP's is not.
        let sum: u32 = ip.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        ip[10..12].copy_from_slice(&(!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes());
    }
    [ip, tcp].concat()
}
