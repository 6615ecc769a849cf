//! E2Guardian as an ICAP server, with Debian's lists.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use e2e::peers::program;
use e2e::{Port, Process};
use tempfile::TempDir;

use super::{folder, write};

/// A running E2Guardian.
#[derive(Debug)]
pub struct E2guardian {
    process: Process,
    icap: Port,
    _proxy: Port,
    _folder: TempDir,
}

impl E2guardian {
    /// Starts it and waits until its ICAP port listens.
    pub fn start() -> Self {
        let (folder, icap, proxy) = (folder(), Port::claim(), Port::claim());
        let here = folder.path().display();
        let ours = [
            "filterip",
            "filterports",
            "icapport",
            "loglocation",
            "loglevel",
            "nodaemon",
            "transparenthttpsport",
            "daemonuser",
            "daemongroup",
            "pidfilename",
            "nologger",
        ];
        let debian = fs::read_to_string("/etc/e2guardian/e2guardian.conf").expect("its settings");
        let kept: String = debian
            .lines()
            .filter(|line| !ours.contains(&line.split('=').next().unwrap_or_default().trim()))
            .map(|line| format!("{line}\n"))
            .collect();
        let conf = format!(
            "{kept}\nfilterip = 127.0.0.1\nfilterports = {}\nicapport = {}\nloglevel = 0\n\
             nologger = on\nnodaemon = on\npidfilename = '{here}/pid'\nloglocation = '{here}/log'\n\
             daemonuser = 'root'\ndaemongroup = 'root'\n",
            proxy.number(),
            icap.number()
        );
        let conf = write(folder.path(), "e2guardian.conf", &conf);
        let mut command = Command::new(program("e2guardian"));
        let mut process = Process::start("e2guardian", command.arg("-N").arg("-c").arg(conf));
        process.wait_for_port(icap.addr());
        Self { process, icap, _proxy: proxy, _folder: folder }
    }

    /// Where its ICAP server listens.
    pub fn addr(&self) -> SocketAddr {
        self.icap.addr()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
