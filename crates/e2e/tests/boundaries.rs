//! What may know what: checked on the source and on the built programs.

mod folders;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::programs::{binary, root};
use folders::{Files, circles, folders};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "c" || kind == "h") {
            found.push(path);
        }
    }
}

/// The crates, and of each the sources it is built from.
fn crates() -> Vec<(String, Vec<PathBuf>)> {
    let mut crates: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| {
            let folder = entry.unwrap().path();
            let mut files = Vec::new();
            sources(&folder, &mut files);
            (folder.file_name().unwrap().to_str().unwrap().to_owned(), files)
        })
        .collect();
    crates.sort();
    assert!(crates.len() >= 10 && crates.iter().all(|(_, files)| !files.is_empty()));
    crates
}

/// A source's lines without comments; so that words about a thing are not taken for the thing.
fn code(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

fn is_unsafe(line: &str) -> bool {
    ["{", "(", "extern", "fn", "impl", "trait"].iter().any(|next| {
        line.contains(&format!("unsafe {next}")) || line.contains(&format!("unsafe{next}"))
    })
}

/// The crates on the floors of ARCHITECTURE.md, the ground first.
const FLOORS: [&[&str]; 4] = [
    &[
        "alarm",
        "confine",
        "content-coding",
        "dual-ring",
        "http-wire",
        "icap",
        "icap-stream",
        "shares",
        "start-error",
        "suricata-sys",
        "toml-faults",
        "units",
        "websocket-wire",
        "whole-file",
    ],
    &["icap-client", "icap-server", "suricata"],
    &["meergate", "meergate-inspector"],
    // They start the programs, and look at them from outside.
    &["e2e", "meergate-bench"],
];

/// Of each crate of the workspace, those of the workspace that it names as dependencies of any kind.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |of: &serde_json::Value| of["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<_> = packages.iter().map(name).collect();
    let depends_on = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap().iter().map(name);
        all.filter(|dependency| ours.contains(dependency)).collect()
    };
    packages.iter().map(|package| (name(package), depends_on(package))).collect()
}

/// The same as ARCHITECTURE.md has it: of each row of its table the crate, and whom it may know.
fn drawn() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let row = |line: &str| {
        let cells: Vec<_> = line.strip_prefix("| [`")?.split(" | ").collect();
        let name = cells[0].split('`').next()?;
        let name = if name == "bench" { "meergate-bench" } else { name };
        Some((name.to_owned(), quoted(cells[2])))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn arrows_between_crates_run_down_and_are_drawn() {
    let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
    let arrows = arrows();
    assert_eq!(arrows, drawn());
    for (from, all) in &arrows {
        let above = floor(from).unwrap_or_else(|| panic!("{from} is on no floor"));
        for to in all {
            // The bench uses the harness of the end-to-end tests.
            let down = floor(to).unwrap() < above || (from == "meergate-bench" && to == "e2e");
            assert!(down, "{from} knows {to}");
        }
    }
    // The programs meet over ICAP alone, and whoever tests them knows their command lines.
    for outside in FLOORS[3] {
        assert!(FLOORS[2].iter().all(|program| !arrows[*outside].contains(*program)), "{outside}");
    }
    assert!(arrows["suricata"].contains("suricata-sys"), "what is known to be there is found");
}

/// The folders of a program as ARCHITECTURE.md has them, in the table that comes after its name's
/// heading: of each row the folders, and which others these may know.
fn drawn_folders(program: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let heading = format!("## The folders of `{program}`\n");
    let (_, section) = text.split_once(&heading).unwrap_or_else(|| panic!("no {heading}"));
    let quoted = |cell: &str| -> Vec<String> {
        let names = cell.split('`').skip(1).step_by(2);
        names.map(|name| name.trim_end_matches('/').to_owned()).collect()
    };
    let rows = section.lines().take_while(|line| !line.starts_with("## "));
    let mut drawn = BTreeMap::new();
    for line in rows.filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").collect();
        let known: BTreeSet<_> = quoted(cells[2]).into_iter().collect();
        drawn.extend(quoted(cells[0]).into_iter().map(|folder| (folder, known.clone())));
    }
    drawn
}

#[test]
fn arrows_and_circles_are_found_however_they_are_spelled() {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("lib.rs", "mod a; mod b; mod e;"),
        ("a.rs", "mod c; mod d; pub use c::C; pub use d::D; pub struct A;"),
        ("a/c.rs", "use super::{A, D}; pub struct C(A, D);"),
        ("a/d.rs", "use crate::a as first; pub struct D; fn f(_: &first::C) {}"),
        (
            "b.rs",
            "fn f() { println!(\"{}\", crate::a::D); } #[cfg(test)] mod t { use crate::e::E; }",
        ),
        ("e.rs", "use crate::b; fn f() { b::f() }"),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let arrows = Files::read(folder.path()).arrows();
    let module = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let set = |names: &[&str]| names.iter().map(|name| module(name)).collect::<BTreeSet<_>>();
    assert_eq!(circles(&arrows), [set(&["a/c", "a/d"])]);
    assert_eq!(arrows[&module("b")], set(&["a/d"]));
    let folders = folders(&arrows);
    let knows = |folder: &str| folders[folder].iter().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(["a", "b", "e"].map(knows), ["", "a", "b"]);
}

#[test]
fn arrows_between_folders_are_drawn_and_files_know_each_other_in_no_circle() {
    for (program, known) in
        [("meergate", ("exchange", "session")), ("meergate-inspector", ("engine", "inspection"))]
    {
        let files = Files::read(&root().join("crates").join(program).join("src"));
        let arrows = files.arrows();
        let circles = circles(&arrows);
        assert!(circles.is_empty(), "{program}: {circles:#?}");
        let (folders, drawn) = (folders(&arrows), drawn_folders(program));
        assert!(folders[known.0].contains(known.1), "what is known to be there is found");
        let names = |all: &BTreeMap<String, _>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&folders), names(&drawn), "{program}");
        for (folder, knows) in &folders {
            assert_eq!(knows, &drawn[folder], "what {folder} of {program} knows");
        }
        let as_files: BTreeMap<_, BTreeSet<_>> = folders
            .iter()
            .map(|(from, all)| {
                (vec![from.clone()], all.iter().map(|to| vec![to.clone()]).collect())
            })
            .collect();
        let round = self::circles(&as_files);
        assert!(round.is_empty(), "{program}: folders in a circle: {round:?}");
    }
}

#[test]
fn unsafe_code_is_where_the_design_has_it() {
    let users: BTreeSet<_> = crates()
        .into_iter()
        .filter(|(_, files)| {
            files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "rs")).any(
                |file| {
                    // This file speaks of it.
                    !file.ends_with("boundaries.rs")
                        && code(file).iter().any(|line| is_unsafe(line))
                },
            )
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(users, BTreeSet::from(["suricata-sys".to_owned()]));
}

#[test]
fn foreign_functions_and_their_names_stay_in_one_crate() {
    for (name, files) in crates() {
        if name == "suricata-sys" {
            continue;
        }
        for file in files.iter().filter(|file| !file.ends_with("boundaries.rs")) {
            assert!(file.extension().is_some_and(|kind| kind == "rs"), "C in {}", file.display());
            for line in code(file) {
                for word in ["extern \"C\"", "ThreadVars", "SCPacketSet", "TmThreadsSlotProcessPkt"]
                {
                    assert!(!line.contains(word), "{}: {line}", file.display());
                }
            }
        }
    }
}

/// The undefined symbols of an object file or archive.
fn needed_symbols(object: &Path) -> BTreeSet<String> {
    let output = Command::new("nm").args(["-u", "--no-demangle"]).arg(object).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("U "))
        .map(str::to_owned)
        .collect()
}

/// The names of all packages that are linked into a package that is built by itself.
fn dependencies(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none"])
        .args(["--format", "{p}", "--package", package])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    String::from_utf8_lossy(&output.stdout).lines().map(name).collect()
}

#[test]
fn programs_link_what_their_licence_allows() {
    let symbols = |name: &str| {
        let output = Command::new("nm").arg(binary(name)).output().unwrap();
        assert!(output.status.success(), "nm {name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let inspector = symbols("meergate-inspector");
    assert!(inspector.contains("mgs_"), "the inspector has the engine in it");
    assert!(!inspector.contains("SSL_CTX_new"), "the inspector links OpenSSL");
    // As it is built for use, by itself: built along with the others, as for tests, it has their
    // cryptography in it too, since cargo unites the features of rustls.
    let linked = dependencies("meergate-inspector");
    for foreign in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "ring"] {
        assert!(!linked.contains(foreign), "the inspector links {foreign}");
    }
    assert!(linked.contains("suricata-sys"), "the list holds what is known to be there");
    assert!(dependencies("meergate").contains("aws-lc-rs"), "and the other one's, too");

    let gateway = symbols("meergate");
    assert!(gateway.contains("aws_lc"), "the scan finds what is known to be there");
    for foreign in ["mgs_", "Suricata", "DetectEngine"] {
        assert!(!gateway.contains(foreign), "the gateway links {foreign}");
    }
    let libraries = Command::new("ldd").arg(binary("meergate")).output().unwrap();
    assert!(!String::from_utf8_lossy(&libraries.stdout).contains("suricata"));
    assert!(needed_symbols(&binary("meergate")).iter().all(|name| !name.starts_with("SC")));
}
