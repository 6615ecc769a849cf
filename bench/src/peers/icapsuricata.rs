//! icapsuricata, a module of c-icap, where the user names a path to it.
//!
//! It reads the `suricata.yaml` of the libsuricata that it was built with, so the rules are those that
//! are written there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::peers::program;
use e2e::{Port, Process};
use tempfile::TempDir;

use super::{folder, write};

/// A running c-icap with that module.
#[derive(Debug)]
pub struct Icapsuricata {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Icapsuricata {
    /// Starts it with `module` and waits until its engine answers.
    pub fn start(module: &Path) -> Self {
        let (folder, port) = (folder(), Port::claim());
        let here = folder.path().display();
        // One process, since each has an engine of its own. The buffer that it ships with, 4 KB, corrupts
        // bodies from 10 KB up.
        let conf = format!(
            "PidFile {here}/pid\nCommandsSocket {here}/ctl\nPort {}\nTimeout 300\n\
             MaxKeepAliveRequests -1\nKeepAliveTimeout 600\nStartServers 1\nMaxServers 1\n\
             MinSpareThreads 0\nMaxSpareThreads 1200\nThreadsPerChild 16\n\
             MaxRequestsPerChild 0\nUser root\nGroup root\nTmpDir {here}\nMaxMemObject 131072\n\
             DebugLevel 0\nServerLog {here}/server.log\nService suricata {}\n\
             suricata.Preview 1024\nsuricata.BufSize 65536\n",
            port.addr(),
            module.display(),
        );
        let conf = write(folder.path(), "c-icap.conf", &conf);
        let mut command = Command::new(program("c-icap"));
        // Where its engine writes its logs.
        command.current_dir(folder.path()).arg("-N").arg("-f").arg(conf);
        let mut process = Process::start("icapsuricata", &mut command);
        process.wait_until("an answer of its engine", || answers(port.addr()));
        Self { process, port, _folder: folder }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Its parent process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Whether OPTIONS are answered: it listens before the engine has its rules.
fn answers(addr: SocketAddr) -> bool {
    let ask = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "OPTIONS icap://{addr}/suricata ICAP/1.0\r\nHost: {addr}\r\n\r\n")?;
        stream.read(&mut [0; 1024])
    };
    ask().is_ok_and(|bytes| bytes > 0)
}
