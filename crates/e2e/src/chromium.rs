//! Chromium without a window.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{Process, peers};

/// What Chromium made of a page.
#[derive(Clone, Debug)]
pub struct Page {
    /// The document after its `load` event, as HTML.
    pub dom: String,
    /// What it logged.
    pub log: String,
}

/// Opens `url` through the proxy with a fresh profile that trusts `authority` (PEM), and returns
/// the document as it stands once all its parts are loaded.
///
/// # Panics
/// When Chromium fails or takes too long; with its log.
pub fn open(url: &str, proxy: SocketAddr, authority: &Path) -> Page {
    run(url, &format!("http://{proxy}"), authority)
}

/// As [`open`], without a proxy.
///
/// # Panics
/// As [`open`].
pub fn open_directly(url: &str, authority: &Path) -> Page {
    run(url, "direct://", authority)
}

fn run(url: &str, proxy: &str, authority: &Path) -> Page {
    let home = TempDir::new().expect("a temporary folder");
    trust(home.path(), authority);
    let mut command = Command::new(peers::program("chromium"));
    command
        .env("HOME", home.path())
        .env_remove("XDG_DATA_HOME")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
            "--no-first-run",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", home.path().join("profile").display()))
        .arg(format!("--proxy-server={proxy}"))
        // By itself it goes to loopback addresses directly.
        .arg("--proxy-bypass-list=<-loopback>")
        .arg(url);
    let mut process = Process::start("chromium", &mut command);
    let status = process.wait_for_end();
    assert!(status.success(), "chromium: {status}\n{}", process.log());
    Page { dom: process.stdout(), log: process.stderr() }
}

/// Enters `authority` into the certificate store of a user whose home is `home`; newer versions
/// keep it below `.local/share`.
fn trust(home: &Path, authority: &Path) {
    for store in [".pki/nssdb", ".local/share/pki/nssdb"].map(|store| home.join(store)) {
        fs::create_dir_all(&store).expect("a folder for the certificate store");
        let store = format!("sql:{}", store.display());
        for args in [
            &["-N", "--empty-password"][..],
            &["-A", "-t", "C,,", "-n", "test", "-i", &authority.display().to_string()][..],
        ] {
            let output = Command::new(peers::program("certutil"))
                .args(["-d", &store])
                .args(args)
                .output()
                .expect("certutil runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
