//! TCP/IP packets made up for what was said on a connection: handshake, data, end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Capture, pcapng};

/// Bytes of one segment: few packets, and none larger than readers take.
const SEGMENT: usize = 16 * 1024;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PUSH: u8 = 0x08;
const ACK: u8 = 0x10;
/// Options of both SYNs: MSS 65,495, and a window that is scaled so far that all fits (RFC 7323).
const OPTIONS: [u8; 8] = [2, 4, 0xff, 0xd7, 1, 3, 3, 14];

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The client, to the server.
    Client,
    /// The server, to the client.
    Server,
}

/// One connection in a capture.
#[derive(Debug)]
pub(crate) struct Flow {
    capture: Arc<Capture>,
    /// Client and server, of one family.
    ends: [SocketAddr; 2],
    /// The next sequence number of each.
    next: [u32; 2],
    ended: [bool; 2],
}

impl Flow {
    pub(super) fn begin(
        capture: Arc<Capture>,
        client: SocketAddr,
        server: SocketAddr,
        name: &str,
    ) -> Self {
        let ends = of_one_family(client, server);
        let mut flow = Self { capture, ends, next: [1, 1], ended: [false; 2] };
        let comment = format!("connection {name}");
        flow.packet(Side::Client, SYN, &[], Some(&comment));
        flow.packet(Side::Server, SYN | ACK, &[], None);
        flow.next = [2, 2];
        flow.packet(Side::Client, ACK, &[], None);
        flow
    }

    /// `side` has sent `data`.
    pub(super) fn data(&mut self, side: Side, data: &[u8]) {
        if self.ended[side as usize] {
            return;
        }
        for piece in data.chunks(SEGMENT) {
            self.packet(side, PUSH | ACK, piece, None);
            let next = &mut self.next[side as usize];
            *next = next.wrapping_add(piece.len() as u32);
        }
    }

    /// `side` sends nothing more.
    pub(super) fn end(&mut self, side: Side) {
        if !std::mem::replace(&mut self.ended[side as usize], true) {
            self.packet(side, FIN | ACK, &[], None);
            let next = &mut self.next[side as usize];
            *next = next.wrapping_add(1);
        }
    }

    fn packet(&self, from: Side, flags: u8, payload: &[u8], comment: Option<&str>) {
        let head = head(self.ends, self.next, from, flags, payload);
        self.capture.send(pcapng::packet(SystemTime::now(), [&head, payload], comment));
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.end(Side::Client);
        self.end(Side::Server);
        self.packet(Side::Client, ACK, &[], None);
    }
}

/// IPv4 addresses beside an IPv6 one are written as IPv6 ones (RFC 4291 section 2.5.5.2).
fn of_one_family(client: SocketAddr, server: SocketAddr) -> [SocketAddr; 2] {
    let ends = [client, server].map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
    if ends[0].is_ipv4() == ends[1].is_ipv4() {
        return ends;
    }
    ends.map(|end| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    })
}

/// The IP and TCP headers of a packet.
fn head(ends: [SocketAddr; 2], next: [u32; 2], from: Side, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (from as usize, 1 - from as usize);
    let options: &[u8] = if flags & SYN != 0 { &OPTIONS } else { &[] };
    let mut tcp = Vec::with_capacity(28);
    tcp.extend_from_slice(&ends[source].port().to_be_bytes());
    tcp.extend_from_slice(&ends[destination].port().to_be_bytes());
    tcp.extend_from_slice(&next[source].to_be_bytes());
    let acknowledged = if flags & ACK == 0 {
        0
    } else if flags & SYN != 0 {
        next[destination].wrapping_add(1)
    } else {
        next[destination]
    };
    tcp.extend_from_slice(&acknowledged.to_be_bytes());
    tcp.extend_from_slice(&[((20 + options.len()) as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend_from_slice(options);

    let length = tcp.len() + payload.len();
    let (mut ip, addresses) = match (ends[source].ip(), ends[destination].ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut ip = vec![0x45, 0];
            ip.extend_from_slice(&(length as u16 + 20).to_be_bytes());
            // Not to be fragmented, 64 hops, TCP.
            ip.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
            ip.extend_from_slice(&source.octets());
            ip.extend_from_slice(&destination.octets());
            let sum = checksum([&ip, &[], &[]], 0);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            (ip, [source.octets(), destination.octets()].concat())
        }
        (source, destination) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            let mut ip = vec![0x60, 0, 0, 0];
            ip.extend_from_slice(&(length as u16).to_be_bytes());
            ip.extend_from_slice(&[6, 64]);
            let addresses = [octets(source), octets(destination)].concat();
            ip.extend_from_slice(&addresses);
            (ip, addresses)
        }
    };
    let sum = checksum([&addresses, &tcp, payload], 6 + length as u32);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    ip.append(&mut tcp);
    ip
}

/// RFC 1071, of parts of which all but the last have an even length.
fn checksum(parts: [&[u8]; 3], start: u32) -> u16 {
    let mut sum = u64::from(start);
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_right_for_both_families() {
        for (client, server, ip_head) in [
            ("192.0.2.1:1000", "198.51.100.7:443", 20),
            ("[2001:db8::1]:1000", "[2001:db8::2]:443", 40),
            ("192.0.2.1:1000", "[2001:db8::2]:443", 40),
        ] {
            let ends = of_one_family(client.parse().unwrap(), server.parse().unwrap());
            for (flags, payload) in [(SYN, &b""[..]), (PUSH | ACK, b"odd"), (FIN | ACK, b"")] {
                let head = head(ends, [7, 9], Side::Server, flags, payload);
                let (ip, tcp) = head.split_at(ip_head);
                let addresses = if ip_head == 20 { &ip[12..] } else { &ip[8..] };
                let length = (tcp.len() + payload.len()) as u32;
                // With the sum in its place, the whole sums up to nothing.
                assert_eq!(checksum([addresses, tcp, payload], 6 + length), 0);
                assert_eq!(tcp[..2], 443u16.to_be_bytes());
                if ip_head == 20 {
                    assert_eq!(checksum([ip, &[], &[]], 0), 0);
                }
            }
        }
    }
}
