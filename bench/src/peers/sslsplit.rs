//! sslsplit: relays what it decrypts, parses no HTTP.

use std::net::SocketAddr;
use std::process::Command;

use e2e::peers::program;
use e2e::{Port, Process};
use tempfile::TempDir;

use super::{Nginx, folder};
use crate::pki::Pki;

/// A running sslsplit.
#[derive(Debug)]
pub struct Sslsplit {
    process: Process,
    ec: Port,
    rsa: Port,
    _folder: TempDir,
}

impl Sslsplit {
    /// Starts it in front of both TLS ports of `origin`.
    pub fn start(pki: &Pki, origin: &Nginx) -> Self {
        let (folder, ec, rsa) = (folder(), Port::claim(), Port::claim());
        let (ca, key) = pki.proxy_ca();
        let mut command = Command::new(program("sslsplit"));
        command.arg("-c").arg(ca).arg("-k").arg(key).arg("-j").arg("/").args(["-u", "root"]);
        for (port, to) in [(&ec, origin.ec()), (&rsa, origin.rsa())] {
            command.args(["ssl", "127.0.0.1", &port.number().to_string(), "127.0.0.1"]);
            command.arg(to.number().to_string());
        }
        let mut process = Process::start("sslsplit", &mut command);
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
