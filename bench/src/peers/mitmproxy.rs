//! mitmproxy's `mitmdump`, streaming, without logs.

use std::net::SocketAddr;
use std::process::Command;

use e2e::peers::program;
use e2e::{Port, Process};
use tempfile::TempDir;

use super::{folder, write};
use crate::pki::Pki;

/// A running mitmdump.
#[derive(Debug)]
pub struct Mitmproxy {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Mitmproxy {
    /// Starts it and waits until it listens.
    pub fn start(pki: &Pki) -> Self {
        let (folder, port) = (folder(), Port::claim());
        let (ca, key) = pki.proxy_ca();
        let pem = format!(
            "{}{}",
            std::fs::read_to_string(key).expect("the CA's key"),
            std::fs::read_to_string(ca).expect("the CA")
        );
        write(folder.path(), "mitmproxy-ca.pem", &pem);
        let mut command = Command::new(program("mitmdump"));
        command.args(["-q", "--listen-host", "127.0.0.1", "--listen-port"]);
        command.arg(port.number().to_string());
        command.args(["--set", "flow_detail=0", "--set", "stream_large_bodies=64k"]);
        command.args(["--set", "connection_strategy=lazy"]);
        command.arg("--set").arg(format!("confdir={}", folder.path().display()));
        command.arg("--set");
        command.arg(format!("ssl_verify_upstream_trusted_ca={}", pki.origin_ca().display()));
        let mut process = Process::start("mitmdump", &mut command);
        process.wait_for_port(port.addr());
        Self { process, port, _folder: folder }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
