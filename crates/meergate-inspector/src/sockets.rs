//! Listening sockets, opened once and used by every worker.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use icap_server::{Peer, Stream, Tls};
use rustix::fs::Mode;
use socket2::{Domain, Socket, Type};
use start_error::StartError;

use crate::modes;
use crate::settings::Listen;

/// Connections that may wait to be accepted, as while the engine starts.
const BACKLOG: i32 = 4096;

/// What never changes while the program runs.
pub(crate) struct Sockets {
    /// For ICAP.
    pub(crate) icap: Vec<Listening>,
    /// For metrics.
    pub(crate) metrics: Option<TcpListener>,
}

/// A socket that listens for ICAP.
#[derive(Debug)]
pub(crate) enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// TCP, for connections inside TLS; whoever only keeps the socket needs no certificate.
    Tls(TcpListener, Option<Tls>),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listening {
    /// Opens it.
    ///
    /// # Errors
    /// The address is in use, or not one of this machine.
    pub(crate) fn open(listen: &Listen) -> Result<Self, StartError> {
        let opened = match listen {
            Listen::Tcp(addr) => tcp(*addr).map(Self::Tcp),
            Listen::Tls(addr) => tcp(*addr).map(|listener| Self::Tls(listener, None)),
            Listen::Unix(path) => unix(path).map(Self::Unix),
        };
        opened.map_err(|e| {
            StartError::new(
                format!("cannot listen ({e})"),
                listen.to_string(),
                "choose another address, or end what uses this one",
            )
        })
    }

    /// Where it listens, with the real port.
    ///
    /// # Errors
    /// The operating system does not say.
    pub(crate) fn local(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) => listener.local_addr()?.to_string(),
            Self::Tls(listener, _) => format!("icaps://{}", listener.local_addr()?),
            Self::Unix(listener) => {
                let addr = listener.local_addr()?;
                format!("unix:{}", addr.as_pathname().unwrap_or(Path::new("?")).display())
            }
        })
    }

    /// The same socket for another thread.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Tls(listener, tls) => Self::Tls(listener.try_clone()?, tls.clone()),
            Self::Unix(listener) => Self::Unix(listener.try_clone()?),
        })
    }

    /// What its connections go through, if it listens for TLS.
    pub(crate) fn tls(&self) -> Option<Tls> {
        match self {
            Self::Tls(_, tls) => tls.clone(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Puts it on this thread's runtime.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(crate) fn attach(self) -> io::Result<Acceptor> {
        Ok(match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Acceptor::Tcp(tokio::net::TcpListener::from_std(listener)?)
            }
            Self::Tls(listener, tls) => {
                let tls = tls.ok_or_else(|| io::Error::other("no certificate for TLS"))?;
                listener.set_nonblocking(true)?;
                Acceptor::Tls(tokio::net::TcpListener::from_std(listener)?, tls)
            }
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Acceptor::Unix(tokio::net::UnixListener::from_std(listener)?)
            }
        })
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// A [`Listening`] on a runtime.
#[derive(Debug)]
pub(crate) enum Acceptor {
    /// TCP.
    Tcp(tokio::net::TcpListener),
    /// TCP, for connections inside TLS.
    Tls(tokio::net::TcpListener, Tls),
    /// A Unix socket.
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    /// Waits for a connection.
    ///
    /// # Errors
    /// The operating system refuses, for want of file descriptors for instance.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, addr) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::Inet(addr)))
            }
            Self::Tls(listener, tls) => {
                let (stream, addr) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((tls.accept(stream), Peer::Inet(addr)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

/// Opens a TCP socket that listens.
///
/// # Errors
/// The address is in use, or not one of this machine.
pub(crate) fn tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket file that nobody listens on any more is replaced.
fn unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    // Gateways of another user are in its group.
    modes::bind(path, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP)
}
