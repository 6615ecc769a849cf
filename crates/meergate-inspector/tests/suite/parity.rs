//! The engine behind ICAP finds what `suricata -r` finds on the wire, however bodies are cut.
//!
//! The generated corpus always runs. The cases of Suricata's own verification suite run where
//! `MEERGATE_SHARED` (default `../shared`) has them: a part of them, or all with
//! `MEERGATE_PARITY=full` (or `whole`, `random`, `bytes`, for one way to cut them). Each of those
//! that differ, or that Suricata itself does not load, is explained in `parity/explained.txt`.

mod corpus;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const SPLITS: [&str; 3] = ["whole", "random", "bytes"];

fn compare(
    capture: &Path,
    rules: &Path,
    yaml: Option<&Path>,
    split: &str,
) -> Result<Value, String> {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.toml");
    fs::write(&settings, "tolerate_bad_rules = true\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meergate-inspector"));
    command.arg("replay").arg(capture).args(["--compare", "--split", split]);
    command.arg("--config").arg(&settings).arg("--rules").arg(rules);
    // Rules may save what they have gathered.
    command.env("TMPDIR", folder.path()).current_dir(folder.path());
    if let Some(yaml) = yaml {
        command.arg("--suricata-yaml").arg(yaml);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = said.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let last = lines.last().filter(|l| l["event_type"] == "comparison").cloned();
    let mut result = last.ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    for (key, kind) in [("differences", "difference"), ("refused", "left-out")] {
        result[key] = lines.iter().filter(|l| l["event_type"] == kind).cloned().collect();
    }
    Ok(result)
}

#[test]
fn a_generated_corpus_gives_the_same_findings() {
    let folder = tempfile::tempdir().unwrap();
    let (pcap, rules) = (folder.path().join("corpus.pcap"), folder.path().join("corpus.rules"));
    let corpus = corpus::corpus();
    fs::write(&pcap, corpus.bytes()).unwrap();
    fs::write(&rules, corpus::RULES).unwrap();
    for split in SPLITS {
        let result = compare(&pcap, &rules, None, split).unwrap();
        assert_eq!(result["equal"], true, "{split}: {result:#}");
        assert_eq!(
            (&result["left_out"], &result["connections"]),
            (&0.into(), &corpus.len().into())
        );
        assert!(result["replay"].as_u64().unwrap() > 10_000, "{result}");
    }
}

#[test]
fn what_puts_suricata_out_of_step_does_not_hide_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let (pcap, rules) = (folder.path().join("odd.pcap"), folder.path().join("odd.rules"));
    fs::write(&pcap, corpus::out_of_step().bytes()).unwrap();
    fs::write(&rules, corpus::RULES).unwrap();
    let result = compare(&pcap, &rules, None, "whole").unwrap();
    let found: BTreeSet<_> = result["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["ends"][0].to_string(), d["only"].to_string(), d["signature_id"].as_u64()))
        .collect();
    // Status and length of the response that follows, on each connection.
    let missed = [("40001", 5), ("40001", 21), ("40002", 5), ("40002", 21)];
    let missed = missed
        .map(|(port, sid)| (format!("\"10.0.0.1:{port}\""), "\"replay\"".to_owned(), Some(sid)));
    let missed = BTreeSet::from(missed);
    assert_eq!(found, missed, "{result:#}");
}

/// Folders with a capture and rules.
fn cases(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        let entries: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        let has = |extension| entries.iter().any(|p| p.extension().is_some_and(|e| e == extension));
        if has("pcap") && has("rules") {
            found.push(folder);
        }
        open.extend(entries.into_iter().filter(|p| p.is_dir()));
    }
    found.sort();
    found
}

fn file(folder: &Path, extension: &str) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files.swap_remove(0)
}

/// Whether Suricata's own run finds nothing either, since it refuses the rules or settings or writes no events.
fn loads_nowhere(capture: &Path, rules: &Path, yaml: Option<&Path>) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let built_in = suricata::EngineConfig::new()
        .eve(suricata::EveOutput::File("eve.json".into()))
        .write_built_in_yaml(folder.path(), &logs)
        .unwrap();
    let mut command = Command::new(suricata::SURICATA_PROGRAM);
    command.args(["-k", "none", "--simulate-ips", "--init-errors-fatal", "-r"]).arg(capture);
    command.arg("-S").arg(rules).arg("-c").arg(yaml.unwrap_or(&built_in)).arg("-l").arg(&logs);
    let output = command.env("TMPDIR", folder.path()).current_dir(folder.path()).output().unwrap();
    !output.status.success() || !logs.join("eve.json").is_file()
}

#[test]
fn the_verification_suite_gives_the_same_findings() {
    let shared = std::env::var("MEERGATE_SHARED").unwrap_or_else(|_| "../../../shared".to_owned());
    let root = Path::new(&shared).join("data/suricata-verify");
    if !root.is_dir() {
        println!("skipped: {} is not there", root.display());
        return;
    }
    let root = root.canonicalize().unwrap();
    // All cases: split in every way, or in the one that is named. Else some of the cases, in turn.
    let wanted = std::env::var("MEERGATE_PARITY").ok();
    let all = wanted.as_deref().map(|wanted| match SPLITS.iter().position(|s| *s == wanted) {
        Some(one) => &SPLITS[one..=one],
        None => &SPLITS[..],
    });
    let explained = include_str!("parity/explained.txt");
    let explanation =
        |name| explained.lines().filter_map(|l| l.split_once(": ")).find(|(case, _)| *case == name);
    let mut count = BTreeMap::<&str, usize>::new();
    let mut unexplained = Vec::new();
    for (n, case) in cases(&root).iter().enumerate() {
        if all.is_none() && n % 12 != 0 {
            continue;
        }
        let name = case.strip_prefix(&root).unwrap().to_str().unwrap();
        let yaml = case.join("suricata.yaml");
        let yaml = yaml.is_file().then_some(yaml.as_path());
        for split in all.unwrap_or(&SPLITS[n / 12 % 3..][..1]) {
            let (capture, rules) = (file(case, "pcap"), file(case, "rules"));
            let result = compare(&capture, &rules, yaml, split);
            let kind = match (&result, explanation(name)) {
                (Ok(r), _) if r["equal"] == true && r["connections"] != 0 => "equal",
                // What a live gateway refuses, or suricata does not look at either.
                (Ok(r), _) if r["equal"] == true && r["left_out"] != 0 => {
                    println!("{name} ({split}): refused: {}", r["refused"][0]["reason"]);
                    "refused"
                }
                (Ok(r), _) if r["equal"] == true => "without HTTP/1",
                (Ok(_), Some((_, why))) => {
                    println!("{name} ({split}): {why}");
                    "explained"
                }
                (Err(_), Some((_, why))) if loads_nowhere(&capture, &rules, yaml) => {
                    println!("{name} ({split}): {why}");
                    "loads nowhere"
                }
                (Ok(r), None) => {
                    unexplained.push(format!("{name} ({split}): {}", r["differences"]));
                    "different"
                }
                (Err(reason), _) => {
                    unexplained.push(format!("{name}: {}", reason.lines().last().unwrap_or("")));
                    "not loaded"
                }
            };
            *count.entry(kind).or_default() += 1;
        }
    }
    println!("{count:?}");
    assert!(count["equal"] > 0);
    assert!(unexplained.is_empty(), "{unexplained:#?}");
}
