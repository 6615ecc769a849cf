//! Tunnels through upstream proxies: HTTP CONNECT and SOCKS5.

use std::io;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use http_wire::{Limits, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::{Credentials, ProxyKind, UpstreamProxy};
use crate::words::Target;

/// Has `proxy`, at the other end of `stream`, connect to `to`. Returns what came of the far end
/// already.
///
/// # Errors
/// The proxy refuses, cannot reach the target, or does not speak as it should.
pub(super) async fn open_tunnel(
    proxy: &UpstreamProxy,
    stream: &mut TcpStream,
    to: &Target,
) -> io::Result<BytesMut> {
    match proxy.kind {
        ProxyKind::Http => connect(proxy.credentials.as_ref(), stream, to).await,
        ProxyKind::Socks5 => {
            socks(proxy.credentials.as_ref(), stream, to).await.map(|()| BytesMut::new())
        }
    }
}

/// What the proxy shall be asked for: the address where that is known already, so that it goes
/// where the client wanted to go, and else the name, which it resolves.
pub(super) fn destination(target: &Target, address: Option<SocketAddr>) -> Target {
    address.map_or_else(|| target.clone(), Target::from_address)
}

/// The value of Proxy-Authorization (RFC 7617).
pub(crate) fn basic(credentials: &Credentials) -> String {
    let Credentials { user, password } = credentials;
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// RFC 9110 section 9.3.6.
async fn connect(
    credentials: Option<&Credentials>,
    stream: &mut TcpStream,
    to: &Target,
) -> io::Result<BytesMut> {
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(credentials) = credentials {
        request.push_str(&format!("Proxy-Authorization: {}\r\n", basic(credentials)));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut input = BytesMut::new();
    loop {
        let head = ResponseHead::parse(&mut input, &Limits::default()).map_err(io::Error::other)?;
        match head {
            Some(head) if head.status() < 200 => {}
            Some(head) if head.status() < 300 => return Ok(input),
            Some(head) => {
                let reason = String::from_utf8_lossy(head.reason()).into_owned();
                return Err(io::Error::other(format!("it answers {} {reason}", head.status())));
            }
            None if stream.read_buf(&mut input).await? == 0 => return Err(ended()),
            None => {}
        }
    }
}

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;

/// RFC 1928, RFC 1929.
async fn socks(
    credentials: Option<&Credentials>,
    stream: &mut TcpStream,
    to: &Target,
) -> io::Result<()> {
    let greeting: &[u8] = match credentials {
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, PASSWORD],
        None => &[VERSION, 1, NO_AUTHENTICATION],
    };
    stream.write_all(greeting).await?;
    match (exactly::<2>(stream).await?, credentials) {
        ([VERSION, NO_AUTHENTICATION], _) => {}
        ([VERSION, PASSWORD], Some(Credentials { user, password })) => {
            let mut request = vec![1];
            for text in [user, password] {
                request.push(text.len().min(255) as u8);
                request.extend_from_slice(text.as_bytes());
            }
            stream.write_all(&request).await?;
            if exactly::<2>(stream).await?[1] != 0 {
                return Err(io::Error::other("it refuses the user or the password"));
            }
        }
        ([VERSION, _], None) => return Err(io::Error::other("it asks for a user")),
        ([VERSION, _], _) => return Err(io::Error::other("it takes no password")),
        _ => return Err(io::Error::other("it does not speak SOCKS5")),
    }

    let mut request = vec![VERSION, 1, 0];
    match to.ip() {
        Some(IpAddr::V4(ip)) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
        None => {
            // A host name has at most 253 bytes.
            request.extend_from_slice(&[3, to.host.len().min(255) as u8]);
            request.extend_from_slice(to.host.as_bytes());
        }
    }
    request.extend_from_slice(&to.port.to_be_bytes());
    stream.write_all(&request).await?;

    let [version, code, _, kind] = exactly::<4>(stream).await?;
    if version != VERSION {
        return Err(io::Error::other("it does not speak SOCKS5"));
    }
    if code != 0 {
        let why = match code {
            2 => "its rules do not allow it",
            3 => "it finds the network unreachable",
            4 => "it finds the host unreachable",
            5 => "the connection was refused",
            6 => "the connection took too long",
            _ => "it has failed",
        };
        return Err(io::Error::other(why));
    }
    // The bound address, which tells nothing of the origin.
    let length = match kind {
        1 => 4,
        3 => usize::from(exactly::<1>(stream).await?[0]),
        4 => 16,
        _ => return Err(io::Error::other("it does not speak SOCKS5")),
    };
    stream.read_exact(&mut vec![0; length + 2]).await?;
    Ok(())
}

async fn exactly<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ended the connection")
}
