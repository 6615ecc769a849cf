//! Connections to endpoints: TCP, TLS, Unix sockets.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use crate::uri::Place;
use crate::{ConfigError, TlsConfig};

/// Bytes that a Unix socket is to take before its reader has read any; the system grants at most
/// twice its `net.core.wmem_max`. With the 208 KB that it gives by itself, which count the bookkeeping
/// too, a body's sender and its reader wake each other for every piece.
const UNIX_SEND_BUFFER: usize = 1 << 20;

/// A connected stream. An enum: one branch costs less than a virtual call and keeps writes
/// vectored.
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Makes connections to one place.
pub(crate) struct Connector {
    place: Place,
    #[cfg(feature = "tls")]
    tls: Option<tls::Handshake>,
    /// What the name last resolved to; empty as long as it has not been looked up.
    addresses: Mutex<Vec<SocketAddr>>,
}

impl Connector {
    pub(crate) fn new(place: Place, tls: &TlsConfig) -> Result<Self, ConfigError> {
        #[cfg(not(feature = "tls"))]
        if let Place::Tcp { tls: true, host, .. } = &place {
            let _ = tls;
            return Err(ConfigError::new(format!(
                "icaps://{host}: built without the feature `tls`"
            )));
        }
        Ok(Self {
            #[cfg(feature = "tls")]
            tls: match &place {
                Place::Tcp { tls: true, host, .. } => Some(tls::Handshake::new(host, tls)?),
                _ => None,
            },
            place,
            addresses: Mutex::new(Vec::new()),
        })
    }

    /// Connects, trying each address of the name in turn.
    pub(crate) async fn connect(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        let Place::Tcp { host, port, .. } = &self.place else {
            let Place::Unix(path) = &self.place else { unreachable!() };
            let stream = UnixStream::connect(path).await?;
            SockRef::from(&stream).set_send_buffer_size(UNIX_SEND_BUFFER)?;
            return Ok((Stream::Unix(stream), None));
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.resolve(host, *port).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok((self.secure(stream).await?, Some(address)));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Looks the name up again, so that kept connections to addresses it has lost are closed.
    pub(crate) async fn refresh(&self) {
        if let Place::Tcp { host, port, .. } = &self.place
            && let Err(error) = self.resolve(host, *port).await
        {
            tracing::debug!(host, %error, "name of an ICAP service not resolved; the last addresses stay");
        }
    }

    /// Whether the name still stands for this address.
    pub(crate) fn is_current(&self, peer: Option<SocketAddr>) -> bool {
        let Some(peer) = peer else { return true };
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.is_empty() || addresses.contains(&peer)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
        if !found.is_empty() {
            let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            addresses.clone_from(&found);
        }
        Ok(found)
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        match &self.tls {
            None => Ok(Stream::Tcp(stream)),
            Some(tls) => Ok(Stream::Tls(Box::new(tls.run(stream).await?))),
        }
    }

    #[cfg(not(feature = "tls"))]
    async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        Ok(Stream::Tcp(stream))
    }
}

/// Whether the peer has ended the connection because of our certificate, or for want of one. With
/// TLS 1.3 that is heard of only when an answer is waited for.
pub(crate) fn rejects_our_certificate(error: &io::Error) -> bool {
    #[cfg(feature = "tls")]
    {
        use rustls::AlertDescription as Alert;
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        let Some(rustls::Error::AlertReceived(alert)) = cause else { return false };
        matches!(
            alert,
            Alert::AccessDenied
                | Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRequired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::UnsupportedCertificate
        )
    }
    #[cfg(not(feature = "tls"))]
    {
        let _ = error;
        false
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
        delegate!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}

#[cfg(feature = "tls")]
mod tls {
    use std::fmt::Display;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use crate::{ConfigError, TlsConfig};

    /// A prepared TLS handshake with one host.
    pub(super) struct Handshake {
        connector: TlsConnector,
        name: ServerName<'static>,
    }

    impl Handshake {
        pub(super) fn new(host: &str, config: &TlsConfig) -> Result<Self, ConfigError> {
            let fail = |what: &str, why: &dyn Display| {
                ConfigError::new(format!("icaps://{host}: {what}: {why}"))
            };
            let ca = config.ca.as_deref().ok_or_else(|| {
                fail("no authorities to trust", &"set `tls.ca` to a PEM file of them")
            })?;
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca).map_err(|e| fail("tls.ca", &e))? {
                roots.add(certificate).map_err(|e| fail("tls.ca", &e))?;
            }
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|e| fail("TLS versions", &e))?
                .with_root_certificates(roots);
            let client = match (&config.cert, &config.key) {
                (None, None) => builder.with_no_client_auth(),
                (Some(cert), Some(key)) => {
                    let chain = certificates(cert).map_err(|e| fail("tls.cert", &e))?;
                    let key = PrivateKeyDer::from_pem_file(key)
                        .map_err(|e| fail(&format!("tls.key {}", key.display()), &e))?;
                    builder.with_client_auth_cert(chain, key).map_err(|e| fail("tls.cert", &e))?
                }
                _ => return Err(fail("tls", &"`cert` and `key` go together: set both or none")),
            };
            let name = config.server_name.as_deref().unwrap_or(host).to_owned();
            let name = ServerName::try_from(name).map_err(|e| fail("name to verify", &e))?;
            Ok(Self { connector: TlsConnector::from(Arc::new(client)), name })
        }

        pub(super) async fn run(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
            self.connector.connect(self.name.clone(), stream).await
        }
    }

    fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
        let found = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| io::Error::other(format!("{}: {e}", file.display())))?;
        if found.is_empty() {
            let what = format!("{}: no certificate in it", file.display());
            return Err(io::Error::other(what));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_to_addresses_that_a_name_has_lost_are_not_current() {
        let place = Place::Tcp { host: "127.0.0.1".into(), port: 1344, tls: false };
        let connector = Connector::new(place, &TlsConfig::default()).unwrap();
        let (old, now) = ("127.0.0.9:1344".parse().unwrap(), "127.0.0.1:1344".parse().unwrap());
        assert!(connector.is_current(Some(old)), "nothing is known yet");
        connector.refresh().await;
        assert!(connector.is_current(Some(now)));
        assert!(!connector.is_current(Some(old)));
        assert!(connector.is_current(None), "Unix sockets have no address");
    }
}
