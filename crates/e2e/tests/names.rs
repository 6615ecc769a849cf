//! Services that are named move: what their name stands for is looked up again while the gateway
//! runs, and kept connections to the old address are given up.
//!
//! Needs a mount namespace of its own, for a hosts file of its own; without the right to one the
//! test says so and checks nothing.

mod own_server;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use e2e::pki::Authority;
use e2e::process::DEADLINE;
use e2e::programs::{LOOPBACK, binary};
use e2e::{Curl, Origin, Port, Process, origin};
use own_server::OwnServer;
use tempfile::TempDir;

/// Runs a command with `hosts` in the place of the machine's own.
fn with_hosts(hosts: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""])
        .arg(hosts);
    command
}

#[test]
fn a_name_that_stands_for_another_address_is_followed() {
    let folder = TempDir::new().unwrap();
    let hosts = folder.path().join("hosts");
    let name = |address: &str| fs::write(&hosts, format!("{address} icap.test\n")).unwrap();
    name("127.0.0.1");
    let tried = with_hosts(&hosts).args(["grep", "-q", "icap.test", "/etc/hosts"]).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("SKIPPED: no mount namespace can be made");
        return;
    }

    let port = Port::claim();
    let old = OwnServer::start_at(&format!("127.0.0.1:{}", port.number()));
    let new = OwnServer::start_at(&format!("127.0.0.2:{}", port.number()));
    let authority = Authority::new("Origin");
    let trusted = authority.write(folder.path());
    let served = Origin::https(&authority.leaf(&origin::NAMES), |_, wire| {
        wire.ok("application/octet-stream", b"as it was")
    });
    let settings = folder.path().join("meergate.toml");
    let text = format!(
        "state_dir = {:?}\nconsole.address = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [upstream]\nca = [{trusted:?}]\n[[icap.service]]\nname = \"named\"\n\
         url = \"icap://icap.test:{}/echo\"\nhealth.interval = \"100ms\"\n",
        folder.path().join("state"),
        port.number(),
    );
    fs::write(&settings, text).unwrap();
    let mut command = with_hosts(&hosts);
    command.arg(binary("meergate")).arg("run").arg("--config").arg(&settings).args(LOOPBACK);
    let mut gateway = Process::start("meergate", &mut command);
    gateway.wait_for_line("ready");
    let proxy: SocketAddr = gateway.wait_for("the proxy's address", |line| {
        line.strip_prefix("listening on ")?.strip_suffix(" (proxy)")?.parse().ok()
    });
    let curl = Curl::through(proxy).trust(&folder.path().join("state/ca.pem"));
    let fetch = || curl.run(&served.url("/file")).expect_body(b"as it was");

    for _ in 0..5 {
        fetch();
    }
    assert!(old.answered_all() >= 10 && new.answered_all() == 0);
    name("127.0.0.2");
    let end = Instant::now() + DEADLINE;
    while new.answered_all() == 0 {
        assert!(Instant::now() < end, "the new address is never asked");
        fetch();
    }
    let before = old.answered_all();
    for _ in 0..5 {
        fetch();
    }
    assert_eq!(old.answered_all(), before, "the old address is still asked");
}
