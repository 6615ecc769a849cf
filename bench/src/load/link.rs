//! How an HTTP load reaches the origin: directly, or through a proxy; plain or TLS.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::CipherSuite;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The way to the origin.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where the TCP connection goes.
    pub connect: SocketAddr,
    /// Whether that is a proxy that wants a CONNECT first (https).
    pub proxy: bool,
    /// Host of the origin, as in its certificate.
    pub host: String,
    /// Port of the origin.
    pub port: u16,
    /// How TLS is spoken; none for plain HTTP.
    pub tls: Option<Tls>,
}

/// How TLS is spoken.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<rustls::ClientConfig>,
}

impl Tls {
    /// TLS that trusts only the certificates of `ca` (PEM), offers `alpn`, and resumes sessions or not.
    /// AES of 256-bit keys is preferred, as by OpenSSL's clients.
    ///
    /// # Panics
    /// When `ca` can't be read.
    pub fn new(ca: &Path, alpn: &[&str], resume: bool) -> Self {
        Self::with(rustls::crypto::aws_lc_rs::default_provider(), ca, alpn, resume)
    }

    /// As [`Tls::new`], but with AES of 128-bit keys alone: what `meergate` agrees on with origins.
    ///
    /// # Panics
    /// When `ca` can't be read.
    pub fn with_short_keys(ca: &Path, alpn: &[&str], resume: bool) -> Self {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        let short = CipherSuite::TLS13_AES_128_GCM_SHA256;
        provider.cipher_suites.retain(|suite| suite.suite() == short);
        Self::with(provider, ca, alpn, resume)
    }

    fn with(provider: CryptoProvider, ca: &Path, alpn: &[&str], resume: bool) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).expect("a CA file") {
            roots.add(certificate.expect("a certificate")).expect("a CA certificate");
        }
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("the provider's versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        if !resume {
            config.resumption = Resumption::disabled();
        }
        Self { config: Arc::new(config) }
    }
}

impl Route {
    /// Opens a connection over which HTTP can be spoken with the origin.
    ///
    /// # Errors
    /// Which step failed.
    pub async fn open(&self) -> Result<Link, String> {
        let connect =
            tokio::time::timeout(Duration::from_secs(20), TcpStream::connect(self.connect));
        let mut tcp = connect
            .await
            .map_err(|_| "connect: no answer".to_owned())?
            .map_err(|error| format!("connect: {}", error.kind()))?;
        tcp.set_nodelay(true).map_err(|error| format!("nodelay: {}", error.kind()))?;
        let Some(tls) = &self.tls else { return Ok(Link::Plain(tcp)) };
        if self.proxy {
            self.tunnel(&mut tcp).await?;
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(tls.config.clone())
            .connect(name, tcp)
            .await
            .map_err(|error| format!("TLS: {error}"))?;
        Ok(Link::Tls(Box::new(stream)))
    }

    async fn tunnel(&self, tcp: &mut TcpStream) -> Result<(), String> {
        let Self { host, port, .. } = self;
        let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.map_err(|e| format!("CONNECT: {}", e.kind()))?;
        let mut reply = Vec::with_capacity(256);
        while !reply.ends_with(b"\r\n\r\n") {
            let n = tcp.read_buf(&mut reply).await.map_err(|e| format!("CONNECT: {}", e.kind()))?;
            if n == 0 || reply.len() > 16 << 10 {
                return Err("CONNECT: no reply".into());
            }
        }
        if reply.get(8..12) == Some(b" 200") {
            Ok(())
        } else {
            let line = reply.split(|byte| *byte == b'\r').next().unwrap_or_default();
            Err(format!("CONNECT: {}", String::from_utf8_lossy(line)))
        }
    }
}

/// A connection over which HTTP is spoken with the origin.
#[derive(Debug)]
pub enum Link {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Link {
    /// The protocol that ALPN chose.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
