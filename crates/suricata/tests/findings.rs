//! The findings that Suricata's own program shows (`docs/findings/`): each is still there, or it is
//! time to look at what we do about it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::process::Command;

use suricata::SURICATA_PROGRAM;

#[test]
fn suricata_alone_shows_the_findings_or_has_mended_them() {
    if !Path::new(SURICATA_PROGRAM).exists() {
        eprintln!("skipped: {SURICATA_PROGRAM} is not there");
        return;
    }
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/findings/run");
    let ran = Command::new("python3")
        .arg("-B")
        .arg(run)
        .args(["--suricata", SURICATA_PROGRAM])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    eprintln!("{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "a control is not seen: the finding shows nothing");
    let known = ["a3", "a5", "a9", "a12", "a13", "a14", "a16", "a17"];
    let expected: Vec<_> = known.iter().map(|name| format!("{name} still-there")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "mended upstream: can ours go?");
}
