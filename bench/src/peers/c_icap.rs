//! c-icap with `echo`, `ex206` and, given a clamd, `virus_scan`.

use std::net::SocketAddr;
use std::process::Command;

use e2e::peers::program;
use e2e::{Port, Process};
use tempfile::TempDir;

use super::{Clamd, folder, write};

const MODULES: &str = "/usr/lib/x86_64-linux-gnu/c_icap";

/// The preview that `echo` asks for, bytes. vey-proxy waits without end for the rest of a body that is just as
/// long as the preview, and its default, 1,024, is the load's small body.
const PREVIEW: usize = 1025;

/// A running c-icap.
#[derive(Debug)]
pub struct CIcap {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl CIcap {
    /// Starts it and waits until it listens.
    pub fn start(clamd: Option<&Clamd>) -> Self {
        let (folder, port) = (folder(), Port::claim());
        let here = folder.path().display();
        // A connection costs it a thread, so there are enough for the largest case; the default of
        // 100 requests a connection would be measured as connects.
        let mut conf = format!(
            "PidFile {here}/pid\nCommandsSocket {here}/ctl\nPort {}\nTimeout 300\n\
             MaxKeepAliveRequests -1\nKeepAliveTimeout 600\nStartServers 2\nMaxServers 2\n\
             MinSpareThreads 0\nMaxSpareThreads 1200\nThreadsPerChild 600\n\
             MaxRequestsPerChild 0\nUser root\nGroup root\nTmpDir {here}\nMaxMemObject 131072\n\
             DebugLevel 0\nModulesDir {MODULES}\nServicesDir {MODULES}\n\
             TemplateDir /usr/share/c_icap/templates/\nLoadMagicFile /etc/c-icap/c-icap.magic\n\
             ServerLog {here}/server.log\nService echo srv_echo.so\n\
             echo.PreviewSize {PREVIEW}\nService ex206 srv_ex206.so\n",
            port.addr()
        );
        if let Some(clamd) = clamd {
            conf += &format!(
                "Service antivirus_module virus_scan.so\n\
                 virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE\n\
                 virus_scan.MaxObjectSize 100M\nModule common clamd_mod.so\n\
                 clamd_mod.ClamdSocket {}\nvirus_scan.DefaultEngine clamd\n",
                clamd.socket().display()
            );
        }
        let conf = write(folder.path(), "c-icap.conf", &conf);
        let mut process =
            Process::start("c-icap", Command::new(program("c-icap")).arg("-N").arg("-f").arg(conf));
        process.wait_for_port(port.addr());
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
