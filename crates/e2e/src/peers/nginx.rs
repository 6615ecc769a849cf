//! nginx as a plain, fast HTTPS origin for files.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::pki::Identity;
use crate::{Port, Process, peers};

/// A running nginx that serves one folder over TLS.
pub struct Nginx {
    /// The process, for its log and its end.
    pub process: Process,
    port: Port,
    folder: TempDir,
}

impl Nginx {
    /// Starts it with this certificate and an empty document folder, for HTTP/1.1 alone.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn start(identity: &Identity) -> Self {
        Self::start_with(identity, "", "")
    }

    /// As [`Nginx::start`], with HTTP/2 as well.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn http2(identity: &Identity) -> Self {
        Self::start_with(identity, "http2", "")
    }

    /// HTTP/2 in front of an origin without TLS, which gets all requests.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn before(origin: SocketAddr, identity: &Identity) -> Self {
        let pass = format!(
            "location / {{ proxy_pass http://{origin}; proxy_http_version 1.1; \
             proxy_set_header Host $http_host; proxy_set_header Connection \"\"; \
             proxy_redirect off; client_max_body_size 0; proxy_request_buffering off; }}"
        );
        Self::start_with(identity, "http2", &pass)
    }

    fn start_with(identity: &Identity, protocol: &str, locations: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let port = Port::claim();
        let (certificates, key) = identity.write(folder.path());
        let documents = folder.path().join("documents");
        fs::create_dir(&documents).expect("a document folder");
        let at = folder.path().display();
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let config = format!(
            "daemon off; {user} worker_processes 1; pid {at}/pid; error_log stderr warn;
             events {{ worker_connections 1024; }}
             http {{
               access_log off; sendfile on; tcp_nodelay on; default_type application/octet-stream;
               types {{ text/html html; text/javascript js; text/css css; image/svg+xml svg; }}
               client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
               fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
               server {{
                 listen 127.0.0.1:{} ssl {protocol};
                 ssl_certificate {}; ssl_certificate_key {};
                 root {};
                 {locations}
               }}
             }}",
            port.number(),
            certificates.display(),
            key.display(),
            documents.display(),
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("a configuration file");
        let mut command = Command::new(peers::program("nginx"));
        command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c"]).arg(file);
        let mut process = Process::start("nginx", &mut command);
        process.wait_for_port(port.addr());
        Self { process, port, folder }
    }

    /// The folder it serves.
    pub fn documents(&self) -> PathBuf {
        self.folder.path().join("documents")
    }

    /// Puts a file into the folder it serves.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn put(&self, name: impl AsRef<Path>, content: &[u8]) {
        let path = self.documents().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for a document");
        fs::write(path, content).expect("a document");
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The URL of `path` (with its leading slash) on `localhost`.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port.number())
    }
}
