//! A connection that was accepted, whatever it runs over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

#[cfg(feature = "tls")]
use crate::TlsConnection;

/// An accepted connection.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, with delays for small writes switched off.
    Tcp(TcpStream),
    /// Over TCP inside TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsConnection>),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// An accepted connection between two runtimes.
#[derive(Debug)]
pub enum DetachedStream {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over TCP inside TLS, whose state goes along.
    #[cfg(feature = "tls")]
    Tls(Box<TlsConnection>, std::net::TcpStream),
    /// Over a Unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// Takes the connection off this thread's runtime.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn detach(self) -> io::Result<DetachedStream> {
        Ok(match self {
            Self::Tcp(stream) => DetachedStream::Tcp(stream.into_std()?),
            #[cfg(feature = "tls")]
            Self::Tls(mut stream) => {
                let socket = stream.detach()?;
                DetachedStream::Tls(stream, socket)
            }
            Self::Unix(stream) => DetachedStream::Unix(stream.into_std()?),
        })
    }
}

impl DetachedStream {
    /// Puts the connection on this thread's runtime.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn attach(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            #[cfg(feature = "tls")]
            Self::Tls(mut stream, socket) => {
                stream.attach(socket)?;
                Stream::Tls(stream)
            }
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
