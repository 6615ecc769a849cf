//! A scripted web server: says exactly what a test wants said, over TLS or in the clear.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::pki::Identity;

/// The names that [`Origin`]s are reached by, for the certificate.
pub const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A running server on a loopback port; it stops accepting on drop.
pub struct Origin {
    addr: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

/// One request as the server read it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target, as it stood in the request line.
    pub target: String,
    /// The whole head as it came, up to and including the empty line.
    pub head: Vec<u8>,
    /// Header fields by lower-case name; the last one wins.
    pub fields: HashMap<String, String>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

/// What the server does once a handler has written its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// Closes without TLS close_notify, as a crashed server would.
    Abort,
    /// Closes properly.
    Close,
    /// Waits for the next request.
    KeepAlive,
}

/// The way back to the client.
pub struct Wire<'a> {
    out: &'a mut dyn Write,
}

type Handler = dyn Fn(&Request, &mut Wire<'_>) -> io::Result<After> + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    tls: Option<Arc<ServerConfig>>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    stopped: AtomicBool,
}

impl Origin {
    /// An HTTPS server with this certificate. `handler` runs once a request, on the connection's
    /// own thread.
    ///
    /// # Panics
    /// When the identity is not a valid one, or no port can be bound.
    pub fn https(
        identity: &Identity,
        handler: impl Fn(&Request, &mut Wire<'_>) -> io::Result<After> + Send + Sync + 'static,
    ) -> Self {
        let certificates = CertificateDer::pem_slice_iter(identity.certificates.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .expect("a PEM certificate chain");
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a PEM key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's versions")
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .expect("a certificate that fits its key");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self::start(Ipv4Addr::LOCALHOST.into(), Some(Arc::new(config)), Box::new(handler))
    }

    /// As [`Origin::https`], with TLS of this kind.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn with_tls(
        config: ServerConfig,
        handler: impl Fn(&Request, &mut Wire<'_>) -> io::Result<After> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), Some(Arc::new(config)), Box::new(handler))
    }

    /// A server without TLS; otherwise as [`Origin::https`].
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn http(
        handler: impl Fn(&Request, &mut Wire<'_>) -> io::Result<After> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), None, Box::new(handler))
    }

    /// A server without TLS that is reached by IPv6 only.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn http_ipv6(
        handler: impl Fn(&Request, &mut Wire<'_>) -> io::Result<After> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Ipv6Addr::LOCALHOST.into(), None, Box::new(handler))
    }

    fn start(ip: IpAddr, tls: Option<Arc<ServerConfig>>, handler: Box<Handler>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind((ip, 0)).expect("a loopback port");
        let addr = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            handler,
            tls,
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &of_thread));
        Self { addr, scheme, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of `path` (with its leading slash) on `localhost`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.addr.port())
    }

    /// The requests so far, in the order in which they were complete.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _wakes_accept = TcpStream::connect(self.addr);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(socket) = socket else { continue };
        let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        // How a connection ends is the client's business, and what a test looks at.
        thread::spawn(move || serve(socket, &shared, connection));
    }
}

fn serve(socket: TcpStream, shared: &Shared, connection: usize) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let transport = match &shared.tls {
        None => Transport::Clear(socket),
        Some(tls) => {
            let session = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
            Transport::Tls(Box::new(StreamOwned::new(session, socket)))
        }
    };
    let mut stream = BufReader::new(transport);
    let mut after = After::KeepAlive;
    while after == After::KeepAlive {
        let Some(request) = read_request(&mut stream, connection)? else { break };
        shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        after = (shared.handler)(&request, &mut Wire { out: stream.get_mut() })?;
    }
    if after == After::Abort { Ok(()) } else { stream.get_mut().close() }
}

/// `None` when the client closed between requests.
fn read_request(
    stream: &mut BufReader<Transport>,
    connection: usize,
) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(cut()) };
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let fields: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();

    if fields.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.get_mut().flush()?;
    }
    let mut body = Vec::new();
    if fields.get("transfer-encoding").is_some_and(|value| value.ends_with("chunked")) {
        read_chunked(stream, &mut body)?;
    } else if let Some(length) = fields.get("content-length") {
        body.resize(length.parse().map_err(io::Error::other)?, 0);
        stream.read_exact(&mut body)?;
    }
    Ok(Some(Request { method, target, head, fields, body, connection }))
}

fn read_chunked(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(stream)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            while !read_line(stream)?.is_empty() {}
            return Ok(());
        }
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..])?;
        read_line(stream)?;
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(cut()),
        _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

enum Transport {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Transport {
    fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.shutdown(Shutdown::Write),
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock.shutdown(Shutdown::Write)
            }
        }
    }
}

impl Read for Transport {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Wire<'_> {
    /// `200` with this body and its length.
    ///
    /// # Errors
    /// When the client is gone; so for all methods here.
    pub fn ok(&mut self, content_type: &str, body: &[u8]) -> io::Result<After> {
        self.with_length("200 OK", &[("Content-Type", content_type)], body)
    }

    /// `404` with a short body.
    ///
    /// # Errors
    /// As [`Wire::ok`].
    pub fn not_found(&mut self) -> io::Result<After> {
        self.with_length("404 Not Found", &[("Content-Type", "text/plain")], b"not found\n")
    }

    /// An answer with `Content-Length` and the given fields.
    ///
    /// # Errors
    /// As [`Wire::ok`].
    pub fn with_length(
        &mut self,
        status: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<After> {
        self.head(status, fields, &format!("Content-Length: {}", body.len()))?;
        self.raw(body)?;
        Ok(After::KeepAlive)
    }

    /// `200` with `Transfer-Encoding: chunked`, each piece a chunk, written one by one.
    ///
    /// # Errors
    /// As [`Wire::ok`].
    pub fn chunked<'b>(
        &mut self,
        content_type: &str,
        pieces: impl IntoIterator<Item = &'b [u8]>,
    ) -> io::Result<After> {
        self.head("200 OK", &[("Content-Type", content_type)], "Transfer-Encoding: chunked")?;
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            self.raw(format!("{:x}\r\n", piece.len()).as_bytes())?;
            self.raw(piece)?;
            self.raw(b"\r\n")?;
        }
        self.raw(b"0\r\n\r\n")?;
        Ok(After::KeepAlive)
    }

    /// `200` with neither length nor chunks: the end of the connection ends the body.
    ///
    /// # Errors
    /// As [`Wire::ok`].
    pub fn until_close(&mut self, content_type: &str, body: &[u8]) -> io::Result<After> {
        self.head("200 OK", &[("Content-Type", content_type)], "Connection: close")?;
        self.raw(body)?;
        Ok(After::Close)
    }

    /// These very bytes, at once.
    ///
    /// # Errors
    /// As [`Wire::ok`].
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    fn head(&mut self, status: &str, fields: &[(&str, &str)], framing: &str) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status}\r\nServer: origin\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("{framing}\r\n\r\n"));
        self.raw(head.as_bytes())
    }
}
