//! The PROXY protocol, versions 1 and 2, as HAProxy defines it: a balancer says whose connection
//! it hands on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, line end included.
const MAX_TEXT: usize = 107;
/// The longest header of version 2 that is taken: addresses and a few extensions.
const MAX_BINARY: usize = 4096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// The balancer speaks for itself (a health check), or does not know.
    Local,
    /// It speaks for a client.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
}

/// Reads the header that `stream` must begin with; what follows it stays in `read_ahead`.
pub(super) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    read_ahead: &mut BytesMut,
) -> io::Result<Header> {
    loop {
        if let Some((header, length)) = parse(read_ahead)? {
            read_ahead.advance(length);
            return Ok(header);
        }
        if stream.read_buf(read_ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The header at the start of `bytes` and its length; `None` while it is not complete.
fn parse(bytes: &[u8]) -> io::Result<Option<(Header, usize)>> {
    let probe = bytes.len().min(SIGNATURE.len());
    if bytes[..probe] == SIGNATURE[..probe] {
        return if bytes.len() < 16 { Ok(None) } else { parse_binary(bytes) };
    }
    let probe = bytes.len().min(6);
    if bytes[..probe] != b"PROXY "[..probe] {
        return Err(bad("no PROXY protocol header"));
    }
    match bytes.iter().take(MAX_TEXT).position(|b| *b == b'\n') {
        Some(end) => parse_text(&bytes[..end]).map(|header| Some((header, end + 1))),
        None if bytes.len() >= MAX_TEXT => Err(bad("PROXY line too long")),
        None => Ok(None),
    }
}

fn parse_text(line: &[u8]) -> io::Result<Header> {
    let line = line.strip_suffix(b"\r").ok_or_else(|| bad("PROXY line end"))?;
    let line = str::from_utf8(line).map_err(|_| bad("PROXY line"))?;
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(Header::Local),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let address = |ip: &str, port: &str| {
                let ip: IpAddr = ip.parse().map_err(|_| bad("address in PROXY line"))?;
                if ip.is_ipv4() != (family == "TCP4") || !port.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(bad("address in PROXY line"));
                }
                let port = port.parse().map_err(|_| bad("port in PROXY line"))?;
                Ok(SocketAddr::new(ip, port))
            };
            Ok(Header::Proxied {
                source: address(source, from)?,
                destination: address(destination, to)?,
            })
        }
        _ => Err(bad("PROXY line")),
    }
}

fn parse_binary(bytes: &[u8]) -> io::Result<Option<(Header, usize)>> {
    let (command, family) = (bytes[12], bytes[13]);
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if 16 + length > MAX_BINARY {
        return Err(bad("PROXY header too long"));
    }
    let Some(body) = bytes.get(16..16 + length) else { return Ok(None) };
    let header = match (command, family) {
        (0x20, _) => Header::Local,
        (0x21, 0x11) => {
            let b: &[u8; 12] = body.first_chunk().ok_or_else(|| bad("PROXY addresses"))?;
            let ip = |at: usize| Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3]);
            let port = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
            Header::Proxied {
                source: (ip(0), port(8)).into(),
                destination: (ip(4), port(10)).into(),
            }
        }
        (0x21, 0x21) => {
            let b: &[u8; 36] = body.first_chunk().ok_or_else(|| bad("PROXY addresses"))?;
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&b[at..at + 16]);
                Ipv6Addr::from(octets)
            };
            let port = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
            Header::Proxied {
                source: (ip(0), port(32)).into(),
                destination: (ip(16), port(34)).into(),
            }
        }
        _ => return Err(bad("PROXY command or family")),
    };
    Ok(Some((header, 16 + length)))
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend_from_slice(&[command, family]);
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[tokio::test]
    async fn all_forms_are_read_and_the_rest_is_left() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0x10, 0, 1, 0xbb, 4, 0, 0];
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 80, 90);
        for (bytes, header) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 4096 443\r\n".to_vec(),
                proxied("192.0.2.1:4096", "198.51.100.2:443"),
            ),
            (b"PROXY TCP6 ::1 ::2 80 90\r\n".to_vec(), proxied("[::1]:80", "[::2]:90")),
            (b"PROXY UNKNOWN whatever\r\n".to_vec(), Header::Local),
            (binary(0x21, 0x11, &v4), proxied("192.0.2.1:4096", "198.51.100.2:443")),
            (binary(0x21, 0x21, &v6), proxied("[::1]:80", "[::2]:90")),
            (binary(0x20, 0, b""), Header::Local),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]).unwrap(), None, "cut at {cut}");
            }
            let mut rest = BytesMut::new();
            let mut stream = [&bytes[..], b"rest"].concat();
            let read = read(&mut &stream.split_off(0)[..], &mut rest).await.unwrap();
            assert_eq!(read, header);
            assert_eq!(rest, &b"rest"[..]);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 4096 443\n",
            b"PROXY TCP4 ::1 ::2 80 90\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
            b"PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            &[b"PROXY UNKNOWN "[..].to_vec(), vec![b'x'; 100]].concat(),
            &binary(0x21, 0x11, &[0; 11]),
            &binary(0x21, 0x12, &[0; 12]),
            &binary(0x31, 0x11, &[0; 12]),
            &binary(0x21, 0x11, &[0; 5000]),
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
