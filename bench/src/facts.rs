//! When, where and with what versions a run was made.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::stage::Named;

/// The facts that results carry.
pub fn gather(named: &Named) -> BTreeMap<String, String> {
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
    for program in [&named.vey_proxy, &named.sslproxy].into_iter().flatten() {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        note(&name, said(&program.to_string_lossy(), &["-V"]));
    }
    facts
}

/// The first line that `program` says.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&said).lines().next()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
