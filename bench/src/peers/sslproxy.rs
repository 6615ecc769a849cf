//! SSLproxy in split mode: relays what it decrypts, where the user names a path to it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use e2e::{Port, Process};
use tempfile::TempDir;

use super::{Nginx, folder};
use crate::pki::Pki;

/// A running SSLproxy.
#[derive(Debug)]
pub struct Sslproxy {
    process: Process,
    ec: Port,
    rsa: Port,
    _folder: TempDir,
}

impl Sslproxy {
    /// Starts `program` in front of both TLS ports of `origin`.
    pub fn start(program: &Path, pki: &Pki, origin: &Nginx) -> Self {
        let (folder, ec, rsa) = (folder(), Port::claim(), Port::claim());
        let (ca, key) = pki.proxy_ca();
        let mut command = Command::new(program);
        command.arg("-n").arg("-c").arg(ca).arg("-k").arg(key);
        // As sslsplit, which can't verify origins; and neither rights nor root to give up here.
        command.args(["-o", "VerifyPeer=no", "-u", "root"]);
        for (port, to) in [(&ec, origin.ec()), (&rsa, origin.rsa())] {
            command.args(["ssl", "127.0.0.1", &port.number().to_string(), "127.0.0.1"]);
            command.arg(to.number().to_string());
        }
        let mut process = Process::start("SSLproxy", &mut command);
        process.wait_for_port(ec.addr());
        Self { process, ec, rsa, _folder: folder }
    }

    /// Where it listens for the origin with the P-256 certificate.
    pub fn ec(&self) -> SocketAddr {
        self.ec.addr()
    }

    /// Where it listens for the origin with the RSA certificate.
    pub fn rsa(&self) -> SocketAddr {
        self.rsa.addr()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
