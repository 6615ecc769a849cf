//! The engine's limit: `suricata -r` over captures of the same transactions.

use std::path::Path;
use std::process::Command;

use e2e::Process;

use crate::pcap::Capture;
use crate::peers::folder;
use crate::proc;
use crate::results::EngineLimit;

/// The largest TCP payload of an IPv4 packet that the engine takes.
const LARGEST: usize = 65_495;

/// What is put to the engine.
const CAPTURES: &[(&str, Capture)] = &[
    ("1 KB", Capture { flows: 128, transactions: 800, body: 1 << 10, payload: LARGEST }),
    ("1 MB", Capture { flows: 8, transactions: 40, body: 1 << 20, payload: LARGEST }),
    ("100 MB", Capture { flows: 1, transactions: 4, body: 100 << 20, payload: LARGEST }),
];

/// Measures each capture with each set of `rules`, `rounds` times.
///
/// # Errors
/// When a capture can't be written.
pub fn limits(
    suricata: &Path,
    yaml: &Path,
    rules: &[(&str, &Path)],
    rounds: usize,
) -> std::io::Result<Vec<EngineLimit>> {
    let folder = folder();
    let mut limits = Vec::new();
    let small = folder.path().join("small.pcap");
    Capture { flows: 1, transactions: 1, body: 1, payload: LARGEST }.write(&small)?;
    for (what, capture) in CAPTURES {
        let file = folder.path().join("capture.pcap");
        capture.write(&file)?;
        for (set, path) in rules {
            let mut limit = EngineLimit {
                name: format!("{what}, {set}"),
                cpu_us: Vec::new(),
                megabytes: Vec::new(),
            };
            for _ in 0..rounds {
                let one = |pcap| after_start(suricata, yaml, path, pcap, folder.path());
                let seconds = one(&file) - one(&small);
                let total = capture.total() as f64;
                limit.cpu_us.push(seconds * 1e6 / total);
                limit.megabytes.push(total * capture.body as f64 / seconds / 1e6);
            }
            eprintln!("engine {}: {:?} us, {:?} MB/s", limit.name, limit.cpu_us, limit.megabytes);
            limits.push(limit);
        }
        std::fs::remove_file(&file)?;
    }
    Ok(limits)
}

/// CPU seconds that the engine used after it had loaded its rules.
fn after_start(suricata: &Path, yaml: &Path, rules: &Path, pcap: &Path, logs: &Path) -> f64 {
    let mut command = Command::new(suricata);
    command.arg("-c").arg(yaml).arg("-S").arg(rules).arg("-r").arg(pcap).arg("-l").arg(logs);
    command.args(["--runmode", "single", "--simulate-ips", "-k", "none", "-v"]);
    let ended = proc::ended_children_seconds();
    let mut process = Process::start("suricata", &mut command);
    process.wait_for_line("Engine started");
    let started = proc::cpu_seconds(&[process.pid()]);
    let status = process.wait_for_end();
    assert!(status.success(), "suricata: {status}\n{}", process.log());
    proc::ended_children_seconds() - ended - started
}
