//! vey-proxy, or g3proxy, which it succeeds, with its certificate agent: where the user names a path to it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Port, Process};
use tempfile::TempDir;

use super::{folder, write};
use crate::pki::Pki;

/// A running vey-proxy.
#[derive(Debug)]
pub struct VeyProxy {
    process: Process,
    agent: Process,
    port: Port,
    _agents_port: Port,
    _folder: TempDir,
}

impl VeyProxy {
    /// Starts `program` and the agent beside it, which has the same name with `fcgen` instead of `proxy`;
    /// REQMOD and RESPMOD go to `icap` (host, port and path) if there is one.
    pub fn start(program: &Path, pki: &Pki, icap: Option<&str>) -> Self {
        let (folder, port, agents_port) = (folder(), Port::claim(), Port::claim());
        let (ca, key) = pki.proxy_ca();
        let conf = format!(
            "runtime:\n  thread_number: 1\nbackend:\n  ca_certificate: {}\n  ca_private_key: {}\n",
            ca.display(),
            key.display()
        );
        let conf = write(folder.path(), "agent.yaml", &conf);
        // It takes the UDP port from the group's name.
        let group = format!("port{}", agents_port.number());
        let mut agent = Command::new(agent_of(program));
        agent.arg("-c").arg(conf).arg("-G").arg(&group);
        let mut agent = Process::start("vey-proxy's agent", &mut agent);
        agent.wait_until("a UDP socket of its own", || is_bound(agents_port.number()));

        let mut conf = format!(
            "runtime:\n  thread_number: 2\nlog: discard\nresolver:\n  - name: default\n    type: c-ares\n\
             escaper:\n  - name: default\n    type: direct_fixed\n    resolver: default\n    \
             egress_network_filter:\n      default: forbid\n      allow: 127.0.0.0/8\n    \
             resolve_redirection:\n      - exact: localhost\n        to: [127.0.0.1]\n\
             server:\n  - name: http\n    type: http_proxy\n    escaper: default\n    auditor: default\n    \
             listen:\n      address: {}\nauditor:\n  - name: default\n    protocol_inspection: {{}}\n    \
             tls_cert_agent:\n      query_peer_addr: 127.0.0.1:{}\n    tls_interception_client:\n      \
             ca_certificate: {}\n",
            port.addr(),
            agents_port.number(),
            pki.origin_ca().display(),
        );
        if let Some(icap) = icap {
            for key in ["reqmod", "respmod"] {
                conf += &format!("    icap_{key}_service:\n      url: icap://{icap}\n");
            }
        }
        let conf = write(folder.path(), "proxy.yaml", &conf);
        let mut command = Command::new(program);
        command.arg("-c").arg(conf).arg("-C").arg(folder.path().join("p"));
        let mut process = Process::start("vey-proxy", &mut command);
        process.wait_for_port(port.addr());
        Self { process, agent, port, _agents_port: agents_port, _folder: folder }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The proxy's process, and that of its agent.
    pub fn pids(&self) -> [u32; 2] {
        [self.process.pid(), self.agent.pid()]
    }
}

fn agent_of(program: &Path) -> PathBuf {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    program.with_file_name(name.replace("proxy", "fcgen"))
}

/// Whether some UDP socket has `port`; it would answer nothing that shows it.
fn is_bound(port: u16) -> bool {
    let local = format!(":{port:04X} ");
    let sockets = |file| fs::read_to_string(file).unwrap_or_default();
    ["/proc/net/udp", "/proc/net/udp6"].into_iter().map(sockets).any(|text| text.contains(&local))
}
