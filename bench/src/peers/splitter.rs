//! sslsplit, and SSLproxy in split mode where the user names a path to it: relay what they decrypt, parse no HTTP.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use e2e::peers::program;
use e2e::{Port, Process};

use super::Nginx;
use crate::pki::Pki;

/// A running sslsplit or SSLproxy.
#[derive(Debug)]
pub struct Splitter {
    process: Process,
    ec: Port,
    rsa: Port,
}

impl Splitter {
    /// Starts sslsplit in front of both TLS ports of `origin`.
    pub fn sslsplit(pki: &Pki, origin: &Nginx) -> Self {
        let mut command = Command::new(program("sslsplit"));
        command.arg("-j").arg("/");
        Self::start("sslsplit", command, pki, origin)
    }

    /// Starts `program`, which is SSLproxy, in front of both TLS ports of `origin`.
    pub fn sslproxy(program: &Path, pki: &Pki, origin: &Nginx) -> Self {
        let mut command = Command::new(program);
        // sslsplit can't verify origins either.
        command.args(["-n", "-o", "VerifyPeer=no"]);
        Self::start("SSLproxy", command, pki, origin)
    }

    fn start(name: &str, mut command: Command, pki: &Pki, origin: &Nginx) -> Self {
        let (ec, rsa) = (Port::claim(), Port::claim());
        let (ca, key) = pki.proxy_ca();
        command.arg("-c").arg(ca).arg("-k").arg(key).args(["-u", "root"]);
        for (port, to) in [(&ec, origin.ec()), (&rsa, origin.rsa())] {
            command.args(["ssl", "127.0.0.1", &port.number().to_string(), "127.0.0.1"]);
            command.arg(to.number().to_string());
        }
        let mut process = Process::start(name, &mut command);
        process.wait_for_port(ec.addr());
        Self { process, ec, rsa }
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
