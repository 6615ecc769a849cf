//! The engine's limit: `suricata -r` over a capture of the same transactions, on one thread.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::Process;

use crate::load::Sample;
use crate::pcap::Capture;
use crate::peers::{folder, write};
use crate::proc;

/// The largest TCP payload of an IPv4 packet that the engine takes.
const LARGEST: usize = 65_495;
/// Body bytes of a capture, about; those that are small count as 4 KB, which is what they cost.
const TOTAL: u64 = 400 << 20;
const LEAST: u64 = 4 << 10;
/// Transactions on one connection at most.
const A_FLOW: u64 = 800;

/// Its settings, which belong to the measurement as the capture does.
const SETTINGS: &str = include_str!("../suricata.yaml");

/// The engine's program.
#[derive(Clone, Debug)]
pub struct Engine {
    /// `suricata`, of the same build as the library.
    pub program: PathBuf,
}

impl Engine {
    /// Lets it read GETs with bodies of `body` bytes, with `rules`. A second is one of its CPU.
    ///
    /// # Panics
    /// When it fails, or no capture can be written.
    pub fn run(&self, rules: &Path, body: u64) -> Sample {
        let folder = folder();
        let total = TOTAL / body.max(LEAST);
        let flows = total.div_ceil(A_FLOW);
        let capture = Capture {
            flows: u16::try_from(flows).unwrap_or(u16::MAX),
            transactions: (total / flows) as usize,
            body,
            payload: LARGEST,
        };
        let least = Capture { flows: 1, transactions: 1, body: 1, ..capture };
        let seconds = |capture: Capture| {
            let file = folder.path().join("capture.pcap");
            capture.write(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            self.after_start(rules, &file, folder.path())
        };
        let seconds = seconds(capture) - seconds(least);
        let requests = capture.total() as f64;
        Sample {
            seconds,
            requests: capture.total() as u64,
            rate: requests / seconds,
            megabytes: requests * body as f64 / seconds / 1e6,
            cpu_us: seconds * 1e6 / requests,
            ..Sample::default()
        }
    }

    /// CPU seconds that it used after it had loaded its rules. Its files go to `folder`.
    fn after_start(&self, rules: &Path, pcap: &Path, folder: &Path) -> f64 {
        let settings = write(folder, "suricata.yaml", SETTINGS);
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(settings).arg("-S").arg(rules);
        command.arg("-r").arg(pcap).arg("-l").arg(folder);
        command.args(["--runmode", "single", "--simulate-ips", "-k", "none", "-v"]);
        let ended = proc::ended_children_seconds();
        let mut process = Process::start("suricata", &mut command);
        process.wait_for_line("Engine started");
        let started = proc::cpu_seconds(&[process.pid()]);
        let status = process.wait_for_end();
        assert!(status.success(), "suricata: {status}\n{}", process.log());
        proc::ended_children_seconds() - ended - started
    }
}
