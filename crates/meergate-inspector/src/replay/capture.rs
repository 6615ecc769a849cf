//! TCP segments out of a capture file.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

/// One segment.
pub(super) struct Segment {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) end: bool,
    pub(super) payload: Vec<u8>,
}

/// Largest packet that is read, in bytes.
const MAX_PACKET: usize = 1 << 20;

/// Reads PCAP and PCAPNG. Packets that are no TCP, or broken, are left out.
///
/// # Errors
/// It is none of both.
pub(super) fn read(file: &[u8]) -> Result<Vec<Segment>, BadCapture> {
    let mut reader = create_reader(MAX_PACKET, file).map_err(|e| BadCapture::new(&e))?;
    let mut links = Vec::new();
    let mut segments = Vec::new();
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => links.push(header.network),
                    PcapBlockOwned::Legacy(packet) => {
                        segments.extend(links.first().and_then(|l| segment(*l, packet.data)));
                    }
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => links.clear(),
                    PcapBlockOwned::NG(Block::InterfaceDescription(i)) => links.push(i.linktype),
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                        let len = (packet.caplen as usize).min(packet.data.len());
                        let link = links.get(packet.if_id as usize);
                        segments.extend(link.and_then(|l| segment(*l, &packet.data[..len])));
                    }
                    PcapBlockOwned::NG(_) => {}
                }
                reader.consume(offset);
            }
            Err(PcapError::Eof) => return Ok(segments),
            Err(PcapError::Incomplete(_)) => {
                // A capture that was cut off is good up to there.
                if reader.reader_exhausted() || reader.refill().is_err() {
                    return Ok(segments);
                }
            }
            Err(error) if segments.is_empty() => return Err(BadCapture::new(&error)),
            Err(_) => return Ok(segments),
        }
    }
}

/// Why a file is no capture, in words.
#[derive(Debug)]
pub(super) struct BadCapture(String);

impl BadCapture {
    fn new<I: fmt::Debug>(error: &PcapError<I>) -> Self {
        Self(match error {
            PcapError::HeaderNotRecognized => "unknown format".to_owned(),
            other => format!("{other:?}"),
        })
    }
}

impl fmt::Display for BadCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn segment(link: Linktype, data: &[u8]) -> Option<Segment> {
    let packet = match link {
        Linktype::ETHERNET => SlicedPacket::from_ethernet(data),
        Linktype::LINUX_SLL => SlicedPacket::from_linux_sll(data),
        Linktype::NULL | Linktype::LOOP => SlicedPacket::from_ip(data.get(4..)?),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12) => {
            SlicedPacket::from_ip(data)
        }
        _ => return None,
    }
    .ok()?;
    let (from, to): (IpAddr, IpAddr) = match packet.net? {
        NetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        NetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        NetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
    Some(Segment {
        from: SocketAddr::new(from, tcp.source_port()),
        to: SocketAddr::new(to, tcp.destination_port()),
        sequence: tcp.sequence_number(),
        syn: tcp.syn(),
        ack: tcp.ack(),
        end: tcp.fin() || tcp.rst(),
        payload: tcp.payload().to_vec(),
    })
}
