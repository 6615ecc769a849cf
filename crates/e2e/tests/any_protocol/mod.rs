//! A gateway that takes any protocol, with an inspector behind it, and servers that say what a test wants.

mod cuts;
mod peers;
mod starttls;
mod ways;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use e2e::pki::{Authority, Identity};
use e2e::process::DEADLINE;
use e2e::{Curl, Gateway, Inspector};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use serde_json::Value;
use tempfile::TempDir;

/// What the rules below drop.
pub(crate) const BAD: &[u8] = b"x-planted-signature-x";
/// The signature that drops it.
pub(crate) const SID: &str = "4711001";

const RULES: &str = "\
drop tcp any any -> any any (msg:\"planted\"; content:\"x-planted-signature-x\"; sid:4711001; rev:1;)
alert ssh any any -> any any (msg:\"ssh\"; flow:to_server; ssh.software; content:\"OpenSSH\"; sid:4711002; rev:1;)
";

/// Both programs.
pub(crate) struct Setup {
    pub(crate) gateway: Gateway,
    pub(crate) inspector: Inspector,
    pub(crate) folder: TempDir,
}

impl Setup {
    /// A gateway whose one listener has `listener` in it, and what else `more` says.
    pub(crate) fn start(listener: &str, more: &str) -> Self {
        Self::with(listener, more, "")
    }

    /// The same with servers that are certified by `authority`.
    pub(crate) fn trusting(listener: &str, authority: &Authority) -> Self {
        Self::trusting_with(listener, "", authority)
    }

    /// The same with more settings.
    pub(crate) fn trusting_with(listener: &str, more: &str, authority: &Authority) -> Self {
        Self::build(listener, more, "", authority)
    }

    /// As [`start`](Self::start), with settings for the inspector.
    pub(crate) fn with(listener: &str, more: &str, inspector: &str) -> Self {
        Self::build(listener, more, inspector, &Authority::new("Servers"))
    }

    fn build(listener: &str, more: &str, inspector: &str, authority: &Authority) -> Self {
        let folder = TempDir::new().unwrap();
        let at = folder.path();
        fs::write(at.join("my.rules"), RULES).unwrap();
        fs::write(at.join("inspector.toml"), inspector).unwrap();
        let [config, rules] =
            ["inspector.toml", "my.rules"].map(|name| at.join(name).display().to_string());
        let inspector = Inspector::start(["--config", &config, "--rules", &rules]);
        let icap = format!("[icap]\nurls = [\"{}\"]\n", inspector.url());
        let more = if more.contains("[icap") { more.to_owned() } else { format!("{icap}{more}") };
        let more = more.replace("INSPECTOR", &inspector.url());
        let more = more.replace("ECHO", &inspector.echo_url());
        authority.write(at);
        let settings = format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\n{listener}\n\
             [log]\nconnections = {:?}\n[upstream]\nca = [{:?}]\n{more}",
            at.join("connections.json"),
            at.join("authority.pem"),
        );
        let nothing: [&str; 0] = [];
        let gateway = Gateway::with_settings(&settings, nothing);
        Self { gateway, inspector, folder }
    }

    /// All connections go to this port, and anything may be spoken.
    pub(crate) fn target(port: u16) -> Self {
        Self::start(&to(port), "")
    }

    /// A connection to the gateway.
    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.gateway.proxy()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// The first record of a connection that `wanted` accepts.
    pub(crate) fn record(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = self.folder.path().join("connections.json");
        let mut found = None;
        self.gateway.process.wait_until("a record", || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let mut all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            found = all.find(|record| wanted(record));
            found.is_some()
        });
        found.unwrap()
    }

    /// The record of a connection that ended so.
    pub(crate) fn ended(&mut self, end: &str) -> Value {
        self.record(|record| record["end"] == end)
    }

    /// As [`Setup::ended`], in one of these ways.
    pub(crate) fn ended_by(&mut self, ends: &[&str]) -> Value {
        self.record(|record| ends.iter().any(|end| record["end"] == *end))
    }

    /// A value of the gateway's metrics; 0 where there is none.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.gateway.console());
        let text = String::from_utf8(Curl::direct().run(&url).body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse::<f64>().unwrap() as u64)
    }
}

/// A listener of which all connections go to this port.
pub(crate) fn to(port: u16) -> String {
    format!("kind = \"target\"\ntarget = \"127.0.0.1:{port}\"\nprotocol = \"any\"")
}

/// Serves every connection to a port of its own with `serve`, on a thread for each.
pub(crate) fn serve(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let serve = serve.clone();
            thread::spawn(move || serve(socket));
        }
    });
    addr
}

/// Gives back what comes, and its end.
pub(crate) fn echo(mut socket: TcpStream) {
    let mut buffer = [0; 65_536];
    while let Ok(read @ 1..) = socket.read(&mut buffer) {
        if socket.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

/// All that comes until the end, and whether that was in order.
pub(crate) fn read_all(socket: &mut impl Read) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let in_order = socket.read_to_end(&mut all).is_ok();
    (all, in_order)
}

/// A client's side of TLS that trusts the authority in this file, and offers these protocols.
pub(crate) fn tls_client(
    socket: TcpStream,
    authority: &Path,
    alpn: &[&str],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

/// A server's side of TLS that knows these protocols.
pub(crate) fn tls_server(identity: &Identity, alpn: &[&str]) -> Arc<ServerConfig> {
    let certificates = CertificateDer::pem_slice_iter(identity.certificates.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates.map(Result::unwrap).collect(), key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A connection of such a server.
pub(crate) fn accept(
    config: &Arc<ServerConfig>,
    socket: TcpStream,
) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
