//! Sockets that accept connections.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use crate::{Peer, Stream};

/// Accepts ICAP connections on TCP, plain or inside TLS, or on a Unix socket.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    #[cfg(feature = "tls")]
    Tls(TcpListener, crate::Tls),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on `address`: `host:port`, `[v6]:port`, or `unix:/path`. A socket file that nobody
    /// listens on any more is replaced; it is removed when the listener is dropped.
    ///
    /// # Errors
    /// If the address can't be resolved or is in use, or the path is not a socket.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let kind = match address.strip_prefix("unix:") {
            Some(path) => {
                let path = PathBuf::from(path);
                remove_stale(&path)?;
                Kind::Unix(UnixListener::bind(&path)?, path)
            }
            None => Kind::Tcp(TcpListener::bind(address).await?),
        };
        Ok(Self { kind })
    }

    /// Listens on `host:port` or `[v6]:port` for connections inside TLS.
    ///
    /// # Errors
    /// If the address can't be resolved or is in use.
    #[cfg(feature = "tls")]
    pub async fn bind_tls(address: &str, tls: crate::Tls) -> io::Result<Self> {
        Ok(Self { kind: Kind::Tls(TcpListener::bind(address).await?, tls) })
    }

    /// Waits for a connection. Cancel safe.
    ///
    /// # Errors
    /// If the operating system refuses, for want of file descriptors for instance: try again after
    /// a pause.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::Inet(address)))
            }
            #[cfg(feature = "tls")]
            Kind::Tls(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((tls.accept(stream), Peer::Inet(address)))
            }
            Kind::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }

    /// Where it listens, with the real port, as [`bind`](Self::bind) (or `bind_tls`) takes it.
    ///
    /// # Errors
    /// If the operating system does not tell.
    pub fn local(&self) -> io::Result<String> {
        Ok(match &self.kind {
            Kind::Tcp(listener) => listener.local_addr()?.to_string(),
            #[cfg(feature = "tls")]
            Kind::Tls(listener, _) => listener.local_addr()?.to_string(),
            Kind::Unix(_, path) => format!("unix:{}", path.display()),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Kind::Unix(_, path) = &self.kind {
            // Gone already, or not ours to remove: nothing to be done about either.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path exists and is not a socket: choose another path",
        )),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process listens on this socket",
            )),
            Err(_) => std::fs::remove_file(path),
        },
    }
}
