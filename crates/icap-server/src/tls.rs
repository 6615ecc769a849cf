//! ICAP inside TLS (`icaps`): what a listener's connections go through before they are served.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::Stream;

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Who this server is to clients that come by TLS, and which of them it lets in.
///
/// Clones share one set of resumable sessions.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    failures: Arc<AtomicU64>,
}

/// What a [`Tls`] is made of, in PEM.
#[derive(Clone, Copy)]
pub struct TlsIdentity<'a> {
    /// The certificate, and those between it and its authority.
    pub certificates: &'a [u8],
    /// The certificate's private key.
    pub key: &'a [u8],
    /// Authorities of clients' certificates. With them, only clients that show a certificate of
    /// one of these are served; without, all are.
    pub client_authorities: Option<&'a [u8]>,
}

/// Why an identity can't be used, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

impl Tls {
    /// TLS 1.2 and 1.3 with this cryptography.
    ///
    /// # Errors
    /// No certificate, no key, or one that does not fit the other; authorities that are none.
    pub fn new(
        provider: Arc<CryptoProvider>,
        identity: &TlsIdentity<'_>,
    ) -> Result<Self, TlsError> {
        let chain = certificates(identity.certificates, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(identity.key)
            .map_err(|e| TlsError(format!("the key: {e}")))?;
        let clients = identity
            .client_authorities
            .map(|authorities| clients(&provider, authorities))
            .transpose()?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError(format!("TLS versions: {e}")))?;
        let config = match clients {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        }
        .with_single_cert(chain, key)
        .map_err(|e| TlsError(format!("the certificate and its key: {e}")))?;
        Ok(Self { acceptor: Arc::new(config).into(), failures: Arc::default() })
    }

    /// What `stream` carries, once a handshake is done. That takes place when the stream is first
    /// read from, on whatever thread, so that a slow client keeps nobody waiting; a client that
    /// takes more than 10 s for it, or is not let in, ends as a failed read.
    pub fn accept(&self, stream: TcpStream) -> Stream {
        let handshake = self.acceptor.accept(Socket(Some(stream)));
        let state = State::Handshake(Box::new(handshake), None);
        Stream::Tls(Box::new(TlsConnection { state, failures: self.failures.clone() }))
    }

    /// Handshakes that failed so far, of this and all its clones: of clients that were not let in,
    /// spoke no TLS, went away or took too long.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError(format!("the {what}: {e}")))?;
    match found.is_empty() {
        true => Err(TlsError(format!("the {what}: there is none in the file"))),
        false => Ok(found),
    }
}

fn clients(
    provider: &Arc<CryptoProvider>,
    authorities: &[u8],
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let bad = |e: &dyn fmt::Display| TlsError(format!("the clients' authorities: {e}"));
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities, "clients' authority")? {
        roots.add(certificate).map_err(|e| bad(&e))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| bad(&e))
}

/// A connection inside TLS. It can be taken off one runtime and put on another at any time: the
/// state of TLS goes along.
pub struct TlsConnection {
    state: State,
    failures: Arc<AtomicU64>,
}

enum State {
    /// The time limit runs from the first look on.
    Handshake(Box<Accept<Socket>>, Option<Pin<Box<Sleep>>>),
    Open(Box<TlsStream<Socket>>),
    Failed,
}

impl TlsConnection {
    /// Ready once data can flow.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<Socket>>>> {
        if let State::Handshake(handshake, timer) = &mut self.state {
            let done = match Pin::new(&mut **handshake).poll(cx) {
                Poll::Ready(done) => done,
                Poll::Pending => {
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep(HANDSHAKE)));
                    ready!(timer.as_mut().poll(cx));
                    Err(io::ErrorKind::TimedOut.into())
                }
            };
            self.state = match done {
                Ok(stream) => State::Open(Box::new(stream)),
                Err(error) => {
                    self.state = State::Failed;
                    self.note(&error);
                    return Poll::Ready(Err(error));
                }
            };
        }
        Poll::Ready(match &mut self.state {
            State::Open(stream) => Ok(Pin::new(&mut **stream)),
            State::Handshake(..) | State::Failed => Err(io::ErrorKind::NotConnected.into()),
        })
    }

    /// Tells the operator, but not as often as somebody outside likes: the 1st, the 2nd, the 4th,
    /// the 8th time, and so on.
    fn note(&self, error: &io::Error) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures.is_power_of_two() {
            tracing::warn!(%error, failures, "a client's TLS handshake failed: it is not served");
        } else {
            tracing::debug!(%error, failures, "a client's TLS handshake failed: it is not served");
        }
    }

    /// Takes the socket out.
    pub(crate) fn detach(&mut self) -> io::Result<std::net::TcpStream> {
        let socket = match &mut self.state {
            State::Handshake(handshake, timer) => {
                *timer = None;
                handshake.get_mut()
            }
            State::Open(stream) => Some(stream.get_mut().0),
            State::Failed => None,
        };
        socket.and_then(|socket| socket.0.take()).ok_or_else(gone)?.into_std()
    }

    /// Puts the socket back.
    pub(crate) fn attach(&mut self, socket: std::net::TcpStream) -> io::Result<()> {
        let place = match &mut self.state {
            State::Handshake(handshake, _) => handshake.get_mut(),
            State::Open(stream) => Some(stream.get_mut().0),
            State::Failed => None,
        };
        place.ok_or_else(gone)?.0 = Some(TcpStream::from_std(socket)?);
        Ok(())
    }
}

impl fmt::Debug for TlsConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnection")
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            // Nothing was said inside TLS, so nothing needs an end there.
            State::Handshake(..) | State::Failed => Poll::Ready(Ok(())),
        }
    }
}

/// The TCP connection below a TLS one.
#[derive(Debug)]
struct Socket(Option<TcpStream>);

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection is on no thread")
}

impl Socket {
    fn there(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        self.get_mut().0.as_mut().map(Pin::new).ok_or_else(gone)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.there()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.there()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.there()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.there()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.there()?.poll_shutdown(cx)
    }
}
