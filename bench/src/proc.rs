//! What processes cost, as the kernel counts it: CPU time and resident memory of whole trees.

use std::collections::BTreeSet;
use std::fs;

/// The kernel's unit of process times on every Linux this runs on (`USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

/// CPU seconds (user and system) that `roots` and their descendants have used so far, all threads,
/// children that ended and were waited for included.
pub fn cpu_seconds(roots: &[u32]) -> f64 {
    tree(roots).iter().filter_map(|pid| Stat::of(*pid)).map(|stat| stat.seconds).sum()
}

/// Peak resident memory in KiB since [`reset_peak`], summed over `roots` and their descendants.
/// Pages that processes share count once for each.
pub fn peak_kib(roots: &[u32]) -> u64 {
    tree(roots).iter().map(|pid| status_kib(*pid, "VmHWM:")).sum()
}

/// Resident memory in KiB now, summed as in [`peak_kib`].
pub fn resident_kib(roots: &[u32]) -> u64 {
    tree(roots).iter().map(|pid| status_kib(*pid, "VmRSS:")).sum()
}

/// Lets the peak of `roots` and their descendants start again at what is resident now.
pub fn reset_peak(roots: &[u32]) {
    for pid in tree(roots) {
        // Refused for another user's process: its peak since start is shown then.
        let _refused = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// Files and sockets that a process has open.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// How many processes `pid` has started that have not been waited for.
pub fn children(pid: u32) -> usize {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.map_or(0, |list| list.split_whitespace().count())
}

/// CPU seconds of this process alone, without its children.
pub fn own_cpu_seconds() -> f64 {
    Stat::of(std::process::id()).map_or(0.0, |stat| stat.seconds - stat.children)
}

/// CPU seconds of children of this process that have ended.
pub fn ended_children_seconds() -> f64 {
    Stat::of(std::process::id()).map_or(0.0, |stat| stat.children)
}

struct Stat {
    parent: u32,
    seconds: f64,
    children: f64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold anything, a parenthesis too.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let children = (ticks(13)? + ticks(14)?) / TICKS_A_SECOND;
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            seconds: (ticks(11)? + ticks(12)?) / TICKS_A_SECOND + children,
            children,
        })
    }
}

/// `roots` and all their descendants.
pub fn tree(roots: &[u32]) -> BTreeSet<u32> {
    let mut found: BTreeSet<u32> = roots.iter().copied().collect();
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Stat::of(pid)?.parent)))
        .collect();
    loop {
        let before = found.len();
        for (pid, parent) in &all {
            if found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn status_kib(pid: u32, name: &str) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        })
        .unwrap_or(0)
}
