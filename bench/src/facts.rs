//! When, where and with what versions a run was made.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// The facts that results carry.
pub fn gather() -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut note = |name: &str, value: Option<String>| {
        facts.insert(name.to_owned(), value.unwrap_or_else(|| "unknown".into()));
    };
    note("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]));
    note("kernel", said("uname", &["-sr"]));
    note("processor", processor());
    note("cores", std::thread::available_parallelism().ok().map(|n| n.to_string()));
    note("meergate", said("git", &["rev-parse", "--short", "HEAD"]));
    for package in [
        "c-icap",
        "clamav-daemon",
        "e2guardian",
        "libc-icap-mod-virus-scan",
        "mitmproxy",
        "nginx-light",
        "squid-openssl",
        "sslsplit",
    ] {
        note(package, said("dpkg-query", &["-W", "-f", "${Version}", package]));
    }
    facts
}

fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
