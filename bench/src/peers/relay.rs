//! A relay that ends TLS on both sides and reads nothing: the least that any proxy costs that is to look
//! inside small messages, with the libraries that ours is built on. For large bodies it is no limit: what it
//! reads at once, a record, it writes by itself, where `meergate` gathers four.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use e2e::Process;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::load::link::{Route, Tls};
use crate::pki::Pki;

/// Room for what was read in one direction and not written yet, bytes.
const BUFFER: usize = 64 << 10;

/// A running relay, as a process of its own, so that its cost can be counted.
#[derive(Debug)]
pub struct Relay {
    process: Process,
    addr: SocketAddr,
}

impl Relay {
    /// Starts it in front of the origin's `port`, with the origin's own certificate.
    pub fn start(pki: &Pki, port: u16) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program's path"));
        let (certificate, key) = pki.leaf("ec");
        command.arg("relay").arg(port.to_string()).arg(pki.origin_ca()).arg(certificate).arg(key);
        let mut process = Process::start("relay", &mut command);
        let addr = process.wait_for("its port", |line| line.parse().ok());
        Self { process, addr }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// What a relay needs to know.
#[derive(clap::Args, Clone, Debug)]
pub struct Relaying {
    /// The origin's port.
    port: u16,
    /// Whom it trusts.
    ca: PathBuf,
    /// What it shows to clients.
    certificate: PathBuf,
    /// The key to it.
    key: PathBuf,
}

/// The relay itself.
///
/// # Errors
/// When no port can be had or the certificate not be used.
pub fn serve(relaying: &Relaying) -> io::Result<()> {
    let acceptor = acceptor(&relaying.certificate, &relaying.key).map_err(io::Error::other)?;
    let route = Route {
        connect: SocketAddr::from((Ipv4Addr::LOCALHOST, relaying.port)),
        proxy: false,
        host: "localhost".into(),
        port: relaying.port,
        tls: Some(Tls::with_short_keys(&relaying.ca, &["http/1.1"], true)),
    };
    // Two accept loops on one port, each with what it accepts, as `meergate` has on two cores.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let second = listener.try_clone()?;
    println!("{}", listener.local_addr()?);
    let (other_acceptor, other_route) = (acceptor.clone(), route.clone());
    thread::spawn(move || accept(second, &other_acceptor, &other_route));
    accept(listener, &acceptor, &route)
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|e| e.to_string())?;
    let chain = chain.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| e.to_string())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn accept(
    listener: std::net::TcpListener,
    acceptor: &TlsAcceptor,
    route: &Route,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (acceptor, route) = (acceptor.clone(), route.clone());
            tokio::spawn(async move {
                // A client that goes is the usual end.
                let _gone = relay(stream, &acceptor, &route).await;
            });
        }
    })
}

async fn relay(client: TcpStream, acceptor: &TlsAcceptor, route: &Route) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let mut origin = route.open().await.map_err(io::Error::other)?;
    copy_bidirectional_with_sizes(&mut client, &mut origin, BUFFER, BUFFER).await?;
    Ok(())
}
