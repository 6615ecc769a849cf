//! Squid as an ICAP client: a proxy that decrypts (ssl-bump) and asks an ICAP service.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::pki::Authority;
use crate::{Port, Process, peers};

/// The user that Squid becomes when root starts it.
const USER: &str = "proxy";
/// Debian's place for the program that forges certificates.
const FORGER: &str = "/usr/lib/squid/security_file_certgen";

/// A running Squid.
pub struct Squid {
    /// The process, for its log and its end.
    pub process: Process,
    port: Port,
    folder: TempDir,
}

/// What Squid is told about its ICAP service.
#[derive(Clone, Debug)]
pub struct IcapService<'a> {
    /// The URL for both REQMOD and RESPMOD.
    pub url: &'a str,
    /// Whether it may send previews.
    pub preview: bool,
}

impl Squid {
    /// Starts it as a decrypting proxy that trusts `upstream` and sends all through `service`,
    /// closed on failure.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn start(service: &IcapService<'_>, upstream: &Path) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("squid")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        let authority = Authority::new("Squid");
        authority.write(folder.path());
        fs::write(folder.path().join("authority.key"), authority.key_pem()).expect("a key file");
        fs::copy(upstream, folder.path().join("upstream.pem")).expect("the upstream's CA");
        // Most hosts files name ::1 as well, and a bumped connection goes to the first address only.
        fs::write(folder.path().join("hosts"), "127.0.0.1 localhost\n").expect("a hosts file");
        let made = Command::new(FORGER)
            .args(["-c", "-s"])
            .arg(folder.path().join("leaves"))
            .args(["-M", "8MB"])
            .output()
            .expect("security_file_certgen runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

        let port = Port::claim();
        let file = folder.path().join("squid.conf");
        fs::write(&file, config(folder.path(), &port, service)).expect("a configuration file");
        peers::give_to(USER, folder.path());
        let mut command = Command::new(peers::program("squid"));
        command.args(["-N", "-d", "1", "-f"]).arg(file);
        let mut process = Process::start("squid", &mut command);
        process.wait_for_port(port.addr());
        Self { process, port, folder }
    }

    /// Where clients connect.
    pub fn proxy(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The certificate that clients must trust.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }
}

fn config(folder: &Path, port: &Port, service: &IcapService<'_>) -> String {
    let at = folder.display();
    let number = port.number();
    let url = service.url;
    let preview = if service.preview { "on" } else { "off" };
    format!(
        "http_port 127.0.0.1:{number} ssl-bump generate-host-certificates=on \
           dynamic_cert_mem_cache_size=4MB tls-cert={at}/authority.pem tls-key={at}/authority.key
         sslcrtd_program {FORGER} -s {at}/leaves -M 8MB
         sslcrtd_children 2 startup=1 idle=1
         ssl_bump bump all
         tls_outgoing_options cafile={at}/upstream.pem
         http_access allow all
         cache deny all
         icap_enable on
         icap_send_client_ip on
         icap_preview_enable {preview}
         icap_persistent_connections on
         icap_service_failure_limit -1
         icap_service requests reqmod_precache {url} bypass=off
         icap_service responses respmod_precache {url} bypass=off
         adaptation_access requests allow all
         adaptation_access responses allow all
         visible_hostname localhost
         shutdown_lifetime 1 seconds
         pid_filename {at}/squid.pid
         coredump_dir {at}
         access_log stdio:{at}/access.log
         cache_log {at}/cache.log
         pinger_enable off
         netdb_filename none
         hosts_file {at}/hosts
        "
    )
    .lines()
    .map(|line| line.trim_start().to_owned() + "\n")
    .collect()
}
