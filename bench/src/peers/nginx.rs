//! nginx: the origin, and the limit of what a proxy could reach.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::Command;
use std::time::Duration;

use e2e::peers::program;
use e2e::{Port, Process};
use tempfile::TempDir;

use super::{folder, write};
use crate::pattern;
use crate::pki::Pki;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    ec: Port,
    rsa: Port,
    plain: Port,
    _folder: TempDir,
}

impl Nginx {
    /// Starts it with a file of [`pattern`] for each length in `bodies`, served as `/<length>`.
    pub fn start(pki: &Pki, bodies: &[u64]) -> Self {
        Self::start_keeping(pki, bodies, Duration::from_secs(3600))
    }

    /// As [`Nginx::start`]; ends connections that have been idle for `keep`.
    pub fn start_keeping(pki: &Pki, bodies: &[u64], keep: Duration) -> Self {
        let folder = folder();
        let here = folder.path().display();
        for length in bodies {
            let path = folder.path().join(length.to_string());
            let mut file = BufWriter::new(File::create(path).expect("a body file"));
            for piece in pattern::pieces(*length, 64 << 10) {
                file.write_all(&piece).expect("room for the body");
            }
            file.flush().expect("room for the body");
        }
        let (ec, rsa, plain) = (Port::claim(), Port::claim(), Port::claim());
        let server = |port: &Port, name: &str| {
            let (certificate, key) = pki.leaf(name);
            format!(
                "server {{ listen 127.0.0.1:{0} ssl http2 backlog=8192; \
                 listen [::1]:{0} ssl http2 backlog=8192; ssl_certificate {1}; \
                 ssl_certificate_key {2}; }}\n",
                port.number(),
                certificate.display(),
                key.display()
            )
        };
        let conf = format!(
            "daemon off; user root; worker_processes 2; worker_rlimit_nofile 65536;\n\
             pid {here}/pid; error_log {here}/error.log;\n\
             events {{ worker_connections 16384; }}\n\
             http {{ access_log off; default_type application/octet-stream; root {here};\n\
             sendfile on; tcp_nopush on; tcp_nodelay on; open_file_cache max=100 inactive=1h;\n\
             keepalive_requests 1000000000; keepalive_timeout {keep}s; client_header_timeout 1h;\n\
             ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:16m;\n\
             client_body_temp_path {here}/t1; proxy_temp_path {here}/t2;\n\
             fastcgi_temp_path {here}/t3; uwsgi_temp_path {here}/t4; scgi_temp_path {here}/t5;\n\
             {}{}server {{ listen 127.0.0.1:{plain} backlog=8192; \
             listen [::1]:{plain} backlog=8192; }} }}\n",
            server(&ec, "ec"),
            server(&rsa, "rsa"),
            plain = plain.number(),
            keep = keep.as_secs(),
        );
        let conf = write(folder.path(), "nginx.conf", &conf);
        let mut command = Command::new(program("nginx"));
        let mut process = Process::start("nginx", command.arg("-c").arg(conf));
        process.wait_for_port(ec.addr());
        Self { process, ec, rsa, plain, _folder: folder }
    }

    /// Port with a P-256 certificate for `localhost`.
    pub fn ec(&self) -> &Port {
        &self.ec
    }

    /// Port with an RSA-2048 certificate for `localhost`.
    pub fn rsa(&self) -> &Port {
        &self.rsa
    }

    /// Port without TLS.
    pub fn plain(&self) -> &Port {
        &self.plain
    }

    /// Its master process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
