//! Where a connection was going before netfilter brought it here.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination of a redirected connection (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`).
///
/// # Errors
/// The connection was not redirected: it was made to the listener itself, where it would lead back
/// to, again and again.
pub(super) fn destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    let socket = SockRef::from(stream);
    // A socket for both families holds IPv4 connections too; netfilter knows them as IPv4.
    let found = if local.ip().to_canonical().is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    let address = found
        .map_err(|e| match e.raw_os_error() {
            // Netfilter has never seen the connection.
            Some(nix::libc::ENOENT | nix::libc::ENOPROTOOPT) => not_redirected(),
            _ => e,
        })?
        .as_socket()
        .ok_or_else(not_redirected)?;
    if address.port() == local.port() && address.ip() == local.ip().to_canonical() {
        return Err(not_redirected());
    }
    Ok(address)
}

/// Refuses connections to the listener itself. One on all addresses is told by its port alone.
pub(super) fn refuse_own(destination: SocketAddr, own: SocketAddr) -> io::Result<()> {
    let same_ip = own.ip().to_canonical() == destination.ip().to_canonical();
    if destination.port() == own.port() && (same_ip || own.ip().is_unspecified()) {
        return Err(not_redirected());
    }
    Ok(())
}

fn not_redirected() -> io::Error {
    io::Error::other("it was made to this listener itself, not redirected to it")
}
