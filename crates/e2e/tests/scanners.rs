//! Other people's TLS scanners against a listener that intercepts: they may find no weakness that
//! is the listener's own.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use e2e::origin::{After, Request, Wire};
use e2e::{Inspected, Origin, peers};
use serde_json::Value;
use tempfile::TempDir;

fn hello(_: &Request, wire: &mut Wire<'_>) -> std::io::Result<After> {
    wire.ok("text/plain", b"hello")
}

/// Runs a scanner against a listener; what it wrote into the file that `words` name as `FILE`.
fn scan(name: &str, words: impl Fn(SocketAddr, &str, &str) -> Vec<String>) -> String {
    let inspected = Inspected::start();
    let origin = Origin::https(&inspected.identity(), hello);
    let gateway = inspected.target(origin.addr().port());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("found").display().to_string();
    let authority = gateway.authority().display().to_string();
    let output = Command::new(peers::program(name))
        .args(words(gateway.proxy(), &file, &authority))
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    fs::read_to_string(&file).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        panic!("{name} found nothing at all: {error}\n{said}")
    })
}

#[test]
fn sslscan_finds_nothing_weak() {
    let found = scan("sslscan", |address, file, _| {
        vec![format!("--xml={file}"), format!("localhost:{}", address.port())]
    });
    for (version, enabled) in [("1.0", 0), ("1.1", 0), ("1.2", 1), ("1.3", 1)] {
        let line = format!("type=\"tls\" version=\"{version}\" enabled=\"{enabled}\"");
        assert!(found.contains(&line), "{line}: {found}");
    }
    for version in ["2", "3"] {
        let line = format!("type=\"ssl\" version=\"{version}\" enabled=\"0\"");
        assert!(found.contains(&line), "{line}: {found}");
    }
    assert!(!found.contains("vulnerable=\"1\""), "{found}");
    let ciphers: Vec<&str> = found.lines().filter(|line| line.contains("<cipher ")).collect();
    assert!(ciphers.len() >= 6, "{found}");
    for cipher in ciphers {
        let is_modern = ["_GCM_", "-GCM-", "CHACHA20"].iter().any(|mode| cipher.contains(mode));
        let is_forward = cipher.contains("TLSv1.3") || cipher.contains("\"ECDHE-");
        assert!(is_modern && is_forward, "{cipher}");
    }
}

#[test]
fn testssl_finds_nothing_weak() {
    // Of a CA of one's own, without CRL and CAA record; the origin's time of validity, as it is there.
    const NOT_OURS: [&str; 5] = [
        "DNS_CAArecord",
        "cert_expirationStatus",
        "cert_notAfter",
        "cert_revocation",
        "cert_validityPeriod",
    ];
    let found = scan("testssl", |address, file, authority| {
        let words = ["--quiet", "--warnings", "off", "--color", "0", "--fast"];
        let what = ["-p", "-s", "-f", "-U", "-S"];
        let mut all: Vec<String> = words.iter().chain(&what).map(|&w| w.to_owned()).collect();
        all.extend(
            ["--add-ca", authority, "--ip", "127.0.0.1", "--jsonfile", file].map(str::to_owned),
        );
        all.push(format!("localhost:{}", address.port()));
        all
    });
    let findings: Vec<Value> = serde_json::from_str(&found).unwrap();
    assert!(findings.len() >= 60, "it has looked at little: {found}");
    // There are two certificates, one of them for clients without ECDSA: `cert_trust <cert#1>`.
    let is = |finding: &Value, id: &str| {
        finding["id"].as_str().and_then(|found| found.split(" <cert#").next()) == Some(id)
    };
    for id in ["TLS1_2", "TLS1_3", "heartbleed", "ROBOT", "cert_trust", "PFS"] {
        let mut of_it = findings.iter().filter(|finding| is(finding, id)).peekable();
        assert!(of_it.peek().is_some(), "{id}: {found}");
        assert!(of_it.all(|finding| finding["severity"] == "OK"), "{id}: {found}");
    }
    let weak = findings.iter().filter(|finding| {
        let severity = finding["severity"].as_str().unwrap_or_default();
        // A warning is what the scanner itself could not try.
        !["OK", "INFO", "WARN"].contains(&severity) && !NOT_OURS.iter().any(|id| is(finding, id))
    });
    assert_eq!(weak.collect::<Vec<_>>(), Vec::<&Value>::new());
}
