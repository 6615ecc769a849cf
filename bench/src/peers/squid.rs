//! Squid with ssl-bump, with or without ICAP services.

use std::net::SocketAddr;
use std::process::Command;

use e2e::peers::{give_to, program};
use e2e::{Port, Process};
use tempfile::TempDir;

use super::{folder, write};
use crate::pki::Pki;

const CERTGEN: &str = "/usr/lib/squid/security_file_certgen";

/// A running Squid.
#[derive(Debug)]
pub struct Squid {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Squid {
    /// Starts it; REQMOD and RESPMOD go to `icap` (host, port and path) if there is one.
    pub fn start(pki: &Pki, icap: Option<&str>) -> Self {
        let (folder, port) = (folder(), Port::claim());
        let here = folder.path().display();
        let (ca, key) = pki.proxy_ca();
        // Read as root, before Squid gives its rights up.
        let pem = format!(
            "{}{}",
            std::fs::read_to_string(&ca).expect("the CA"),
            std::fs::read_to_string(&key).expect("its key")
        );
        let bundle = write(folder.path(), "ca.pem", &pem);
        let origin = std::fs::read_to_string(pki.origin_ca()).expect("the origin's CA");
        let origin = write(folder.path(), "origin.pem", &origin);
        let store = folder.path().join("certs");
        let made =
            Command::new(CERTGEN).arg("-c").arg("-s").arg(&store).args(["-M", "16MB"]).status();
        assert!(made.is_ok_and(|status| status.success()), "{CERTGEN} can't make its store");
        let mut conf = format!(
            "http_port {} ssl-bump generate-host-certificates=on \
             dynamic_cert_mem_cache_size=16MB tls-cert={}\n\
             sslcrtd_program {CERTGEN} -s {} -M 16MB\nsslcrtd_children 4\n\
             tls_outgoing_options cafile={}\nacl first at_step SslBump1\nssl_bump stare first\n\
             ssl_bump bump all\nhttp_access allow all\ncache deny all\naccess_log none\n\
             cache_log {here}/cache.log\npid_filename none\ncoredump_dir {here}\n\
             max_filedescriptors 65535\nshutdown_lifetime 0 seconds\nvisible_hostname bench\n\
             client_lifetime 1 day\nclient_idle_pconn_timeout 1 hour\nserver_idle_pconn_timeout 1 hour\n",
            port.addr(),
            bundle.display(),
            store.display(),
            origin.display(),
        );
        if let Some(icap) = icap {
            conf += &format!(
                "icap_enable on\nicap_send_client_ip on\nicap_service_failure_limit -1\n\
                 icap_service req reqmod_precache icap://{icap} bypass=off\n\
                 icap_service resp respmod_precache icap://{icap} bypass=off\n\
                 adaptation_access req allow all\nadaptation_access resp allow all\n"
            );
        }
        let conf = write(folder.path(), "squid.conf", &conf);
        give_to("proxy", folder.path());
        let mut command = Command::new(program("squid"));
        let mut process = Process::start("squid", command.arg("-N").arg("-f").arg(conf));
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
