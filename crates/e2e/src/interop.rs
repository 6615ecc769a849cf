//! What the tests against other people's programs have really run: each writes a record, and the
//! table in docs/interop.md is made of the records.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::peers;

/// Which side of ICAP is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ours {
    /// `meergate`'s ICAP client asked their service.
    Client,
    /// Their client asked our server.
    Server,
}

/// What one test has seen go through, and compared.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    methods: BTreeSet<String>,
    sizes: BTreeSet<u64>,
    bodies: u64,
    notes: BTreeSet<String>,
}

impl Seen {
    /// A body of this size came back, byte for byte as it had to be.
    pub fn body(&mut self, method: &str, size: usize) {
        self.methods.insert(method.to_owned());
        self.sizes.insert(size as u64);
        self.bodies += 1;
    }

    /// Something else that was seen to work, in a few words.
    pub fn note(&mut self, what: &str) {
        self.notes.insert(what.to_owned());
    }

    /// Adds what was seen elsewhere.
    pub fn merge(&mut self, other: Self) {
        self.methods.extend(other.methods);
        self.sizes.extend(other.sizes);
        self.notes.extend(other.notes);
        self.bodies += other.bodies;
    }

    /// Writes it down. `peer` names the program or the chain of programs.
    ///
    /// # Panics
    /// When the record can't be written.
    pub fn record(&self, ours: Ours, peer: &str) {
        let side = match ours {
            Ours::Client => "client",
            Ours::Server => "server",
        };
        let record = json!({
            "ours": side, "peer": peer, "methods": self.methods, "sizes": self.sizes,
            "bodies": self.bodies, "notes": self.notes,
        });
        let test = std::thread::current().name().unwrap_or("main").replace("::", "-");
        let program = std::env::current_exe().expect("the test's path");
        let program = program.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into());
        // Without the hash that tells builds apart.
        let program = program.rsplit_once('-').map_or(program.as_str(), |(name, _)| name);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let peer: String = peer.chars().map(plain).collect();
        let file = folder().join(format!("{program}-{test}-{side}-{peer}.json"));
        fs::create_dir_all(folder()).expect("a folder for records");
        fs::write(&file, record.to_string()).expect("a record");
    }
}

/// The first two numbers of a peer's version, as it tells it itself.
///
/// # Panics
/// When it doesn't.
pub fn version(program: &str, flag: &str) -> String {
    let output = Command::new(peers::program(program)).arg(flag).output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let number = said
        .split(|c: char| c.is_whitespace() || c == '/')
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or_else(|| panic!("{program} {flag}: no version in {said}"));
    number.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// The table, in Markdown, of all records there are.
///
/// # Panics
/// When there is none, or one is not a record.
pub fn table() -> String {
    let mut rows: Vec<((Ours, String), Seen)> = Vec::new();
    let mut files: Vec<_> = fs::read_dir(folder())
        .unwrap_or_else(|e| panic!("{}: {e}: run the tests first", folder().display()))
        .map(|entry| entry.expect("a record").path())
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("a record");
        let record: Value = serde_json::from_str(&text).expect("a record");
        let words = |key: &str| -> BTreeSet<String> {
            let all = record[key].as_array().expect("a list").iter();
            all.map(|word| word.as_str().expect("a word").to_owned()).collect()
        };
        let seen = Seen {
            methods: words("methods"),
            sizes: record["sizes"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(Value::as_u64)
                .collect(),
            bodies: record["bodies"].as_u64().expect("a number"),
            notes: words("notes"),
        };
        let ours = if record["ours"] == "client" { Ours::Client } else { Ours::Server };
        let key = (ours, record["peer"].as_str().expect("a name").to_owned());
        match rows.iter_mut().find(|(k, _)| *k == key) {
            Some((_, all)) => all.merge(seen),
            None => rows.push((key, seen)),
        }
    }
    rows.sort_by(|(a, _), (b, _)| (a.0, links(&a.1), &a.1).cmp(&(b.0, links(&b.1), &b.1)));
    let mut table = String::from(
        "| ours | with | messages | bodies, each compared byte for byte | seen to work |\n|---|---|---|---|---|\n",
    );
    for ((ours, peer), seen) in rows {
        let ours = match ours {
            Ours::Client => "client",
            Ours::Server => "server",
        };
        let methods: Vec<_> = seen.methods.into_iter().collect();
        let notes: Vec<_> = seen.notes.into_iter().collect();
        let bodies = match (seen.sizes.first(), seen.sizes.last()) {
            (Some(&least), Some(&most)) => {
                format!("{}, {} to {}", seen.bodies, size(least), size(most))
            }
            _ => "–".to_owned(),
        };
        let (methods, notes) = (methods.join(", "), notes.join(", "));
        writeln!(table, "| {ours} | {peer} | {methods} | {bodies} | {notes} |")
            .expect("memory takes every write");
    }
    table
}

/// How many programs a chain has.
fn links(peer: &str) -> usize {
    peer.matches('→').count()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KB", bytes >> 10),
        _ => format!("{} MB", bytes >> 20),
    }
}

/// In the target folder, whichever test asks, and of whatever profile.
fn folder() -> PathBuf {
    let own = std::env::current_exe().expect("the running program's path");
    // Tests are in `deps/` below the programs.
    let deps = |folder: &&std::path::Path| folder.ends_with("deps");
    let folder = own.parent().expect("a folder");
    let profile = Some(folder).filter(deps).and_then(std::path::Path::parent).unwrap_or(folder);
    profile.parent().expect("a target folder").join("interop")
}
