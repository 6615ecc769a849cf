//! ICAP inside TLS: the inspector's listener, with and without certificates of clients, asked by
//! our client, by our command line and by c-icap's client.

mod icap_client;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use e2e::interop::{Ours, Seen, version};
use e2e::pki::{Authority, Identity};
use e2e::programs::{run_to_end, test_rules};
use e2e::{Inspector, content, peers};
use icap_client::*;
use tempfile::TempDir;

use ::icap_client::{Adapted, Chain, ServiceConfig, TransactionInfo};

struct Secure {
    inspector: Inspector,
    url: String,
    ca: PathBuf,
    folder: TempDir,
}

impl Secure {
    fn start(authority: &Authority, more: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let ca = authority.write(folder.path());
        let (cert, key) = authority.leaf(&["localhost"]).write(folder.path());
        let (cert, key) = (cert.display().to_string(), key.display().to_string());
        let rules = test_rules().display().to_string();
        let args = ["--rules", &rules, "--listen", "icaps://127.0.0.1:0"];
        let args = [&args[..], &["--tls-cert", &cert, "--tls-key", &key], more].concat();
        let mut inspector = Inspector::start(args);
        let url = inspector.tls_url();
        Self { inspector, url, ca, folder }
    }

    fn metrics(&mut self) -> SocketAddr {
        self.inspector.process.wait_for("the metrics' address", |line| {
            line.strip_prefix("listening on ")?.strip_suffix(" (metrics)")?.parse().ok()
        })
    }

    fn config(&self) -> ServiceConfig {
        let mut config = ServiceConfig::new("inspector", &self.url);
        config.tls.ca = Some(self.ca.clone());
        config
    }

    /// With this certificate of our own.
    fn config_as(&self, name: &str, identity: &Identity) -> ServiceConfig {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let (cert, key) = identity.write(&folder);
        let mut config = self.config();
        config.tls.cert = Some(cert);
        config.tls.key = Some(key);
        config
    }
}

fn chain(config: ServiceConfig) -> Chain {
    Chain::from_services(&[config]).expect("a chain")
}

fn metric(metrics: SocketAddr, name: &str) -> u64 {
    let mut stream = TcpStream::connect(metrics).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let prefix = format!("meergate_inspector_{name} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_stay_as_they_are_and_eicar_is_blocked() {
    let secure = Secure::start(&Authority::new("ICAP services"), &[]);
    let chain = chain(secure.config());
    let mut seen = bodies_stay_as_they_are(&chain, "o.test").await;
    seen.merge(a_hundred_megabytes_stay_as_they_are(&chain, "o.test").await);
    seen.note("TLS");
    seen.record(Ours::Client, "our inspector");

    let eicar = content::eicar();
    let sent = body(&eicar, 10, true);
    match reqmod(&chain, &info(1), post("o.test", Some(eicar.len())), sent).await {
        Ok(Adapted::Respond { head, .. }) => assert_eq!(head.status(), 403),
        Ok(Adapted::Forward { .. }) => panic!("let through"),
        Err(failure) => panic!("{failure}"),
    }
}

/// A transaction whose flow is another worker's takes its connection there, with its TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_move_between_workers() {
    let authority = Authority::new("ICAP services");
    let more = ["--workers", "3", "--metrics", "127.0.0.1:0"];
    let mut secure = Secure::start(&authority, &more);
    let config = secure.config();
    let one = || {
        let mut config = config.clone();
        config.max_connections = Some(1);
        chain(config)
    };
    // New connections go to the workers in turn, and each asks OPTIONS on one of its own: so of
    // three workers these two are at different ones.
    let (first, second) = (one(), one());
    let body_of = |id: usize| content::noise(id as u64, 1 + id * 997);
    let transact = async |chain: &Chain, connection: &str, id: usize| {
        let info = TransactionInfo::new("http", connection, format!("t{id}"));
        let sent = body_of(id);
        let head = post("o.test", Some(sent.len()));
        match reqmod(chain, &info, head, body(&sent, 1000, true)).await {
            Ok(Adapted::Forward { body, .. }) => {
                assert!(collect(body).await.expect("a whole body") == sent, "{connection} {id}");
            }
            Ok(Adapted::Respond { head, .. }) => panic!("{:?}", head.bytes()),
            Err(failure) => panic!("{connection} {id}: {failure}"),
        }
        let (request, sent) = (get("o.test"), body(b"abc", 1, true));
        let adapted = respmod(chain, &info, &request, ok(Some(3)), sent).await;
        let adapted = adapted.unwrap_or_else(|e| panic!("{connection} {id}: {e}"));
        assert_eq!(collect(adapted.body).await.expect("a whole body"), b"abc");
    };
    transact(&first, "one", 0).await;
    transact(&second, "two", 1).await;
    for id in 0..40 {
        transact(&second, if id % 2 == 0 { "one" } else { "two" }, id).await;
    }
    let moves = metric(secure.metrics(), "migrated_total");
    assert!(moves >= 20, "{moves} moves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_let_in_by_their_certificates() {
    let (authority, clients) = (Authority::new("ICAP services"), Authority::new("ICAP clients"));
    let files = TempDir::new().unwrap();
    let client_ca = clients.write(files.path()).display().to_string();
    let more = ["--tls-client-ca", &client_ca, "--metrics", "127.0.0.1:0"];
    let mut secure = Secure::start(&authority, &more);
    let metrics = secure.metrics();

    let known = secure.config_as("known", &clients.client("gateway"));
    let chain_of_known = chain(known.clone());
    for id in 0..10 {
        let sent = body(b"abc", 1, true);
        let adapted = reqmod(&chain_of_known, &info(id), post("o.test", Some(3)), sent).await;
        assert!(matches!(adapted, Ok(Adapted::Forward { .. })));
    }
    assert_eq!(metric(metrics, "tls_handshakes_failed_total"), 0);

    let stranger = Authority::new("Somebody else").client("gateway");
    for (who, config) in [
        ("without a certificate", secure.config()),
        ("of another authority", secure.config_as("stranger", &stranger)),
        ("for servers", secure.config_as("server", &clients.leaf(&["gateway"]))),
    ] {
        let chain = chain(config);
        for _ in 0..3 {
            let sent = body(b"abc", 1, true);
            let adapted = reqmod(&chain, &info(1), post("o.test", Some(3)), sent).await;
            let failure = adapted.err().unwrap_or_else(|| panic!("{who}: let in"));
            let said = failure.to_string().to_lowercase();
            assert!(said.contains("certificate"), "{who}: {failure}");
        }
    }
    // The server has not suffered from them.
    let sent = body(b"abc", 1, true);
    let adapted = reqmod(&chain_of_known, &info(1), post("o.test", Some(3)), sent).await;
    assert!(matches!(adapted, Ok(Adapted::Forward { .. })));
    assert!(secure.inspector.process.stderr().contains("TLS handshake failed"));
    // Each of them has tried at least once, and was told so before it was counted.
    let end = std::time::Instant::now() + e2e::process::DEADLINE;
    while metric(metrics, "tls_handshakes_failed_total") < 3 {
        assert!(std::time::Instant::now() < end, "failed handshakes are not counted");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    // The same by hand.
    let path = |path: &Option<PathBuf>| path.as_ref().unwrap().display().to_string();
    let (ca, cert, key) = (path(&known.tls.ca), path(&known.tls.cert), path(&known.tls.key));
    let asked = ["icap", "options", &secure.url, "--ca", &ca];
    let output = run_to_end("meergate", [&asked[..], &["--cert", &cert, "--key", &key]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run_to_end("meergate", asked);
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(!output.status.success() && said.contains("certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_taken_over_by_a_reload() {
    let (before, after) = (Authority::new("ICAP services"), Authority::new("Its successor"));
    let mut secure = Secure::start(&before, &[]);
    let old = secure.config();
    let mut new = old.clone();
    let folder = TempDir::new().unwrap();
    new.tls.ca = Some(after.write(folder.path()));
    let is_let_through = async |config: &ServiceConfig| {
        let adapted = reqmod(&chain(config.clone()), &info(1), get("o.test"), None).await;
        matches!(adapted, Ok(Adapted::Forward { .. }))
    };
    assert!(is_let_through(&old).await && !is_let_through(&new).await);
    after.leaf(&["localhost"]).write(secure.folder.path());
    secure.inspector.process.signal(rustix::process::Signal::HUP);
    secure.inspector.process.wait_for_line("\"message\":\"reloaded\"");
    // The engine before is about to stop, and may still take a connection.
    let taken_over = async {
        while !is_let_through(&new).await || is_let_through(&old).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(e2e::process::DEADLINE, taken_over).await.expect("the new certificate");
}

#[test]
fn c_icap_s_client_speaks_to_it_inside_tls() {
    let authority = Authority::new("ICAP services");
    let secure = Secure::start(&authority, &[]);
    let port = secure.url.rsplit_once(':').unwrap().1.split('/').next().unwrap();
    let file = secure.folder.path().join("file");
    let mut seen = Seen::default();
    for size in [1, 1024, 100_000, 1 << 20] {
        let body = content::noise(3, size);
        fs::write(&file, &body).unwrap();
        let saved = secure.folder.path().join(format!("saved-{size}"));
        let output = Command::new("timeout")
            .arg("120")
            .arg(peers::program("c-icap-client"))
            .args(["-tls", "-tls-no-verify", "-i", "127.0.0.1", "-p", port, "-s", "suricata", "-v"])
            .args(["-no204", "-nopreview", "-resp", "http://files.test/file", "-f"])
            .arg(&file)
            .arg("-o")
            .arg(&saved)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{said}");
        assert!(fs::read(&saved).unwrap_or_default() == body, "{size}: {said}");
        seen.body("RESPMOD", size);
    }
    seen.note("TLS");
    seen.record(Ours::Server, &format!("c-icap-client {}", version("c-icap", "-V")));
}

#[test]
fn settings_that_leave_it_open_or_dumb_are_refused() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("ICAP services");
    let (cert, key) = authority.leaf(&["localhost"]).write(folder.path());
    let other = TempDir::new().unwrap();
    let (_, other_key) = authority.leaf(&["localhost"]).write(other.path());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let (rules, other_key) = (test_rules(), other_key.to_str().unwrap().to_owned());
    let rules = rules.to_str().unwrap();
    let (plain, secure) = ("127.0.0.1:0", "icaps://127.0.0.1:0");
    for (args, word) in [
        (&["--listen", secure][..], "no certificate for icaps"),
        (&["--listen", plain, "--tls-cert", cert, "--tls-key", key], "nothing listens with TLS"),
        (
            &["--listen", secure, "--tls-cert", "/absent", "--tls-key", key],
            ": /absent: name a PEM file",
        ),
        (&["--listen", secure, "--tls-cert", cert, "--tls-key", &other_key], "bad TLS files"),
        (
            &["--listen", secure, "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", key],
            "clients' authorit",
        ),
    ] {
        let output = run_to_end("meergate-inspector", [&["run", "--rules", rules], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(word), "{args:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}
