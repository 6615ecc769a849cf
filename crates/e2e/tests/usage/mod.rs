//! What running programs take of the machine, by `/proc`.

use std::fs;
use std::path::PathBuf;

/// The folders of a process and its children in `/proc`.
pub(crate) fn processes(of: u32) -> impl Iterator<Item = PathBuf> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(move |entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let fields = stat.rsplit(')').next()?.split_whitespace().collect::<Vec<_>>();
        let own = entry.file_name().to_str() == Some(&of.to_string());
        (own || fields.get(1)?.parse() == Ok(of)).then_some(entry.path())
    })
}

/// Memory of a process and its children in KiB.
pub(crate) fn memory(of: u32) -> usize {
    let kib = processes(of).filter_map(|process| {
        let status = fs::read_to_string(process.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim_end_matches("kB").trim().parse::<usize>().ok()
    });
    kib.sum()
}
