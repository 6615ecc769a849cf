//! The transactions of a work as a capture, so that `suricata -r` can tell what the engine alone
//! costs for them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::load::icap::{http_request, http_response};
use crate::pattern;

/// What a capture holds.
#[derive(Clone, Copy, Debug)]
pub struct Capture {
    /// TCP connections, one after the other.
    pub flows: u16,
    /// GETs on each.
    pub transactions: usize,
    /// Body bytes of each response.
    pub body: u64,
    /// TCP payload bytes of a packet at most, up to 65,495.
    pub payload: usize,
}

const CLIENT: [u8; 4] = [10, 1, 0, 2];
const SERVER: [u8; 4] = [192, 0, 2, 80];
const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN: u8 = 1;
/// Packets of data between two acknowledgements: as many as the crate `suricata` leaves between them.
const ACK_EVERY: usize = 2;

impl Capture {
    /// Writes it to `path`: raw IP, no link layer, no checksums.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        // Magic, version 2.4, zone, accuracy, longest packet, LINKTYPE_RAW.
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 101] {
            out.write_all(&word.to_ne_bytes())?;
        }
        for flow in 0..self.flows {
            let mut flow = Flow { out: &mut out, port: 10_000 + flow, sent: [1, 1], clock: 0 };
            flow.packet(0, SYN, &[])?;
            flow.packet(1, SYN | ACK, &[])?;
            flow.packet(0, ACK, &[])?;
            for _ in 0..self.transactions {
                flow.packet(0, ACK, http_request().as_bytes())?;
                let mut next = http_response(self.body).into_bytes();
                let mut packets = 0;
                for piece in pattern::pieces(self.body, 32 << 10) {
                    next.extend_from_slice(&piece);
                    while next.len() >= self.payload {
                        let rest = next.split_off(self.payload);
                        flow.packet(1, ACK, &next)?;
                        next = rest;
                        packets += 1;
                        if packets % ACK_EVERY == 0 {
                            flow.packet(0, ACK, &[])?;
                        }
                    }
                }
                if !next.is_empty() {
                    flow.packet(1, ACK, &next)?;
                }
            }
            flow.packet(0, FIN | ACK, &[])?;
            flow.packet(1, FIN | ACK, &[])?;
            flow.packet(0, ACK, &[])?;
        }
        out.flush()
    }

    /// GETs in all.
    pub fn total(&self) -> usize {
        usize::from(self.flows) * self.transactions
    }
}

struct Flow<'a, W> {
    out: &'a mut W,
    port: u16,
    /// Next sequence number of client and server.
    sent: [u32; 2],
    /// Microseconds.
    clock: u32,
}

impl<W: Write> Flow<'_, W> {
    fn packet(&mut self, side: usize, flags: u8, payload: &[u8]) -> io::Result<()> {
        let options: &[u8] = if flags & SYN != 0 { &[3, 3, 14, 0] } else { &[] };
        let tcp = 20 + options.len();
        let length = 20 + tcp + payload.len();
        let (sequence, acknowledged) = match flags & SYN {
            0 => (self.sent[side], self.sent[1 - side]),
            _ => (0, if flags & ACK == 0 { 0 } else { 1 }),
        };
        self.clock += 1;
        let (seconds, micros) = (1_700_000_000 + self.clock / 1_000_000, self.clock % 1_000_000);
        let length_32 = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        for word in [seconds, micros, length_32, length_32] {
            self.out.write_all(&word.to_ne_bytes())?;
        }
        let total = u16::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes();
        let ends = if side == 0 { [CLIENT, SERVER] } else { [SERVER, CLIENT] };
        let ports = if side == 0 { [self.port, 80] } else { [80, self.port] };
        let mut head = Vec::with_capacity(64);
        head.extend_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0]);
        head.extend_from_slice(&ends.concat());
        head.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        head.extend_from_slice(&sequence.to_be_bytes());
        head.extend_from_slice(&acknowledged.to_be_bytes());
        let words = u8::try_from(tcp / 4).map_err(|_| io::ErrorKind::InvalidInput)?;
        head.extend_from_slice(&[words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        head.extend_from_slice(options);
        self.out.write_all(&head)?;
        self.out.write_all(payload)?;
        let used = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        if flags & SYN == 0 {
            let step = used + u32::from(flags & FIN);
            self.sent[side] = self.sent[side].wrapping_add(step);
        }
        Ok(())
    }
}
