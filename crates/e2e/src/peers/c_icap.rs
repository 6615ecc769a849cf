//! c-icap as an ICAP server: `echo`, `ex206`, and `virus_scan` with a clamd.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::peers::clamd::Clamd;
use crate::pki::Identity;
use crate::{Port, Process, peers};

const MODULES: &str = "/usr/lib/x86_64-linux-gnu/c_icap";

/// A running c-icap.
pub struct CIcap {
    /// The process, for its log and its end.
    pub process: Process,
    port: Port,
    tls: Option<Port>,
    _folder: TempDir,
    _clamd: Option<Clamd>,
}

impl CIcap {
    /// Starts it with `echo` and `ex206`.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn start() -> Self {
        Self::launch(None, None)
    }

    /// Starts it with `virus_scan` too, and a clamd for that.
    ///
    /// # Panics
    /// When one of the two doesn't come up; with its log.
    pub fn with_virus_scan() -> Self {
        // Before c-icap, or virus_scan finds no engine.
        Self::launch(Some(Clamd::start()), None)
    }

    /// Starts it with `echo` and `ex206`, and a second port that speaks TLS as `identity`.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn with_tls(identity: &Identity) -> Self {
        Self::launch(None, Some(identity))
    }

    fn launch(clamd: Option<Clamd>, identity: Option<&Identity>) -> Self {
        let folder =
            tempfile::Builder::new().prefix("c-icap").tempdir().expect("a temporary folder");
        let port = Port::claim();
        let file = folder.path().join("c-icap.conf");
        let mut text = config(folder.path(), &port, clamd.as_ref());
        let tls = identity.map(|identity| {
            let tls = Port::claim();
            let (cert, key) = identity.write(folder.path());
            let (cert, key) = (cert.display(), key.display());
            text += &format!("TlsPort 127.0.0.1:{} cert={cert} key={key}\n", tls.number());
            tls
        });
        fs::write(&file, text).expect("a configuration file");
        let mut command = Command::new(peers::program("c-icap"));
        command.args(["-N", "-D", "-d", "1", "-f"]).arg(file);
        let mut process = Process::start("c-icap", &mut command);
        process.wait_for_port(port.addr());
        if let Some(tls) = &tls {
            process.wait_for_port(tls.addr());
        }
        Self { process, port, tls, _folder: folder, _clamd: clamd }
    }

    /// Where ICAP clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The URL of one of its services: `echo`, `ex206`, `virus_scan`.
    pub fn url(&self, service: &str) -> String {
        format!("icap://{}/{service}", self.addr())
    }

    /// The URL of one of its services inside TLS.
    ///
    /// # Panics
    /// When it was started without.
    pub fn tls_url(&self, service: &str) -> String {
        let tls = self.tls.as_ref().expect("started with TLS");
        format!("icaps://localhost:{}/{service}", tls.number())
    }
}

fn config(folder: &Path, port: &Port, clamd: Option<&Clamd>) -> String {
    let at = folder.display();
    let number = port.number();
    let mut text = format!(
        "PidFile {at}/c-icap.pid
         CommandsSocket {at}/c-icap.ctl
         Port 127.0.0.1:{number}
         Timeout 300
         MaxKeepAliveRequests 100
         KeepAliveTimeout 600
         StartServers 1
         MaxServers 2
         MinSpareThreads 8
         MaxSpareThreads 32
         ThreadsPerChild 32
         MaxRequestsPerChild 0
         ServerAdmin nobody@c-icap.test
         ServerName c-icap.test
         TmpDir {at}
         MaxMemObject 131072
         Pipelining on
         SupportBuggyClients off
         ModulesDir {MODULES}
         ServicesDir {MODULES}
         TemplateDir /usr/share/c_icap/templates/
         TemplateDefaultLanguage en
         LoadMagicFile /etc/c-icap/c-icap.magic
         RemoteProxyUsers off
         ServerLog {at}/server.log
         AccessLog {at}/access.log
         Service echo srv_echo.so
         Service ex206 srv_ex206.so
        "
    );
    if let Some(clamd) = clamd {
        text += &format!(
            "Service antivirus_module virus_scan.so
             virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE
             virus_scan.SendPercentData 5
             virus_scan.StartSendPercentDataAfter 200M
             virus_scan.MaxObjectSize 200M
             Module common clamd_mod.so
             clamd_mod.ClamdSocket {}
            ",
            clamd.socket().display()
        );
    }
    text.lines().map(|line| line.trim_start().to_owned() + "\n").collect()
}
