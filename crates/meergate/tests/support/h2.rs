//! An HTTP/2 origin over TLS, and a client that reaches it through the proxy.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Gateway, PATIENCE};

type Handled = Pin<Box<dyn Future<Output = ()> + Send>>;
/// What an origin does with a stream.
pub type Handler =
    Arc<dyn Fn(http::Request<RecvStream>, SendResponse<Bytes>) -> Handled + Send + Sync>;

/// A handler from an async function.
pub fn handler<F: Future<Output = ()> + Send + 'static>(
    f: impl Fn(http::Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
) -> Handler {
    Arc::new(move |request, respond| Box::pin(f(request, respond)))
}

/// An origin at `localhost`.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its CA, as PEM.
    pub ca: String,
    /// Streams, and requests of HTTP/1.1, that reached it.
    pub streams: Arc<AtomicUsize>,
    /// The certificate of connections after the first, if it is another one.
    pub later: Option<CertificateDer<'static>>,
}

impl Origin {
    /// Starts one in the present runtime. The first `http2` connections agree on HTTP/2, later ones
    /// on HTTP/1.1 and answer `http1` to everything; to `/slow` when they are asked something else; to
    /// `/ends` and `/short` without a close_notify at the end, the latter with too little.
    pub async fn start(http2: usize, handler: Handler) -> Self {
        Self::run(http2, handler, false).await
    }

    /// One that shows another certificate on each connection after the first.
    pub async fn start_changing(handler: Handler) -> Self {
        Self::run(usize::MAX, handler, true).await
    }

    async fn run(http2: usize, handler: Handler, changes: bool) -> Self {
        let (ca, shown) = certificates();
        let later = changes.then(|| shown[1].0.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Arc::new(AtomicUsize::new(0));
        let counter = streams.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let (certificate, key) = &shown[usize::from(changes && number > 0)];
                let mut config = ServerConfig::builder()
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate.clone()], key.clone_key())
                    .unwrap();
                let alpn: &[u8] = if number < http2 { b"h2" } else { b"http/1.1" };
                config.alpn_protocols = vec![alpn.to_vec()];
                let acceptor = TlsAcceptor::from(Arc::new(config));
                let (handler, counter) = (handler.clone(), counter.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    match alpn {
                        b"h2" => serve(tls, handler, counter).await,
                        _ => serve_http1(tls, &counter).await,
                    }
                });
            }
        });
        Self { address, ca, streams, later }
    }

    /// Settings that trust it.
    pub fn settings(&self, dir: &Path) -> String {
        let file = dir.join("origin-ca.pem");
        std::fs::write(&file, &self.ca).unwrap();
        format!("[upstream]\nca = [{file:?}]\n")
    }

    pub fn reached(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}

/// What a [`RawOrigin`] sends on a stream, given its number.
pub type Frames = Box<dyn Fn(u32) -> Vec<u8> + Send>;

/// An HTTP/2 origin at `localhost` that answers with whatever frames a test wants.
pub struct RawOrigin {
    /// As an origin, for settings and requests.
    pub origin: Origin,
    frames: Arc<Mutex<Frames>>,
}

impl RawOrigin {
    /// Starts one in the present runtime.
    pub async fn start() -> Self {
        let (ca, [(certificate, key), _]) = certificates();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let frames = Arc::new(Mutex::new(Box::new(|_| Vec::new()) as Frames));
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let answers = frames.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, answers) = (acceptor.clone(), answers.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    // How it ends is what the test looks at from the other side.
                    let _ = serve_raw(tls, &answers).await;
                });
            }
        });
        let streams = Arc::new(AtomicUsize::new(0));
        Self { origin: Origin { address, ca, streams, later: None }, frames }
    }

    /// Answers requests with these from now on.
    pub fn answer(&self, frames: Frames) {
        *self.frames.lock().unwrap() = frames;
    }
}

async fn serve_raw(
    mut tls: tokio_rustls::server::TlsStream<TcpStream>,
    answers: &Mutex<Frames>,
) -> std::io::Result<()> {
    const SETTINGS: u8 = 4;
    tls.read_exact(&mut [0; 24]).await?;
    tls.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await?;
    loop {
        let mut head = [0; 9];
        tls.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        tls.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if kind == SETTINGS && flags == 0 {
            tls.write_all(&[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0]).await?;
        }
        if kind == 1 {
            let frames = (answers.lock().unwrap())(stream);
            tls.write_all(&frames).await?;
        }
    }
}

async fn serve(
    tls: tokio_rustls::server::TlsStream<TcpStream>,
    handler: Handler,
    counter: Arc<AtomicUsize>,
) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1000).enable_connect_protocol();
    let Ok(mut connection) = builder.handshake::<_, Bytes>(tls).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        counter.fetch_add(1, Ordering::SeqCst);
        if request.uri().path() == "/goaway" {
            let mut respond = respond;
            let _ = respond.send_response(http::Response::new(()), true);
            connection.graceful_shutdown();
            continue;
        }
        tokio::spawn(handler(request, respond));
    }
}

async fn serve_http1(mut tls: tokio_rustls::server::TlsStream<TcpStream>, counter: &AtomicUsize) {
    let mut head = Vec::new();
    let mut byte = [0];
    let mut owing = false;
    while let Ok(1) = tls.read(&mut byte).await {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            counter.fetch_add(1, Ordering::SeqCst);
            let slow = head.starts_with(b"GET /slow ");
            let ends = head.starts_with(b"GET /ends ");
            if ends || head.starts_with(b"GET /short ") {
                let length = if ends { "" } else { "Content-Length: 9\r\n" };
                let answer = format!("HTTP/1.1 200 OK\r\n{length}\r\ncontent");
                // Whoever asked may be gone.
                let _ = tls.write_all(answer.as_bytes()).await;
                let _ = tls.flush().await;
                return;
            }
            head.clear();
            if std::mem::replace(&mut owing, slow) {
                let late = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow";
                if tls.write_all(late).await.is_err() {
                    return;
                }
            }
            if slow {
                continue;
            }
            let answer =
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhttp1\r\n0\r\n\r\n";
            if tls.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn certificates() -> (String, [Shown; 2]) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "a test's CA");
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    let shown = || {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        (leaf.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    };
    (ca, [shown(), shown()])
}

/// TLS through the proxy to `origin`, with these protocols offered.
pub async fn tls(gateway: &Gateway, origin: &Origin, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(gateway.proxy).await.unwrap();
    tls_over(tcp, gateway, origin, alpn).await
}

async fn tls_over(
    mut tcp: TcpStream,
    gateway: &Gateway,
    origin: &Origin,
    alpn: &[&[u8]],
) -> TlsStream<TcpStream> {
    tcp.set_nodelay(true).unwrap();
    let port = origin.address.port();
    let request = format!("CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tcp.read_u8().await.unwrap());
    }
    let ca = CertificateDer::from_pem_file(gateway.dir.path().join("state/ca.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|a| a.to_vec()).collect();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
}

/// A gateway in front of `origin`, and the directory that its settings live in.
pub fn gateway(origin: &Origin, settings: &str) -> (Gateway, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&format!("{}{settings}", origin.settings(dir.path())));
    (gateway, dir)
}

/// An HTTP/2 connection through the proxy.
pub async fn connect(gateway: &Gateway, origin: &Origin) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(gateway.proxy).await.unwrap();
    connect_over(tcp, gateway, origin).await
}

/// The same, of another client: all of 127.0.0.0/8 is this machine.
pub async fn connect_as(last: u8, gateway: &Gateway, origin: &Origin) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    connect_over(socket.connect(gateway.proxy).await.unwrap(), gateway, origin).await
}

async fn connect_over(tcp: TcpStream, gateway: &Gateway, origin: &Origin) -> SendRequest<Bytes> {
    let tls = tls_over(tcp, gateway, origin, &[b"h2", b"http/1.1"]).await;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(64 << 20);
    let (sender, connection) = builder.handshake::<_, Bytes>(tls).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

/// A request to `origin`.
pub fn request(origin: &Origin, method: &str, path: &str) -> http::Request<()> {
    let uri = format!("https://localhost:{}{path}", origin.address.port());
    http::Request::builder().method(method).uri(uri).body(()).unwrap()
}

/// All content of a stream.
pub async fn collect(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// A GET; status and content.
pub async fn get(
    sender: &SendRequest<Bytes>,
    origin: &Origin,
    path: &str,
) -> Result<(u16, Vec<u8>), h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let (response, _) = sender.send_request(request(origin, "GET", path), true)?;
    let response = response.await?;
    let status = response.status().as_u16();
    Ok((status, collect(response.into_body()).await?))
}

/// Sends content as the receiver's window allows.
pub async fn send(stream: &mut h2::SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => room,
            _ => return,
        };
        let piece = data.split_to(room.min(data.len()));
        if stream.send_data(piece, false).is_err() {
            return;
        }
    }
    if end {
        let _ = stream.send_data(Bytes::new(), true);
    }
}

/// `future` within the patience of the tests.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit: Duration = PATIENCE;
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
