//! The engine behind ICAP finds what `suricata -r` finds on the wire, however bodies are cut.
//!
//! The generated corpus always runs. The cases of Suricata's own verification suite run where
//! `MEERGATE_SHARED` (default `../shared`) has them: a part of them, or all with
//! `MEERGATE_PARITY=full` (or `whole`, `random`, `bytes`, for one way to cut them). Each of those that differ, or do not load, is explained in `parity.txt`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::pcap::{Capture, Talk};

const SPLITS: [&str; 3] = ["whole", "random", "bytes"];

/// Rules over every part of a message; some of them drop.
const RULES: &str = r#"
alert http any any -> any any (msg:"uri"; http.uri; content:"/find"; sid:1;)
alert http any any -> any any (msg:"method"; http.method; content:"PUT"; sid:2;)
alert http any any -> any any (msg:"request header"; http.request_header; content:"X-Needle"; sid:3;)
alert http any any -> any any (msg:"request body"; http.request_body; content:"needle-up"; sid:4;)
alert http any any -> any any (msg:"status"; http.stat_code; content:"404"; sid:5;)
alert http any any -> any any (msg:"response header"; http.response_header; content:"X-Thread"; sid:6;)
alert http any any -> any any (msg:"response body"; http.response_body; content:"needle-down"; sid:7;)
alert http any any -> any any (msg:"file data"; file.data; content:"inside"; sid:8;)
drop http any any -> any any (msg:"dropped"; file.data; content:"drop-me"; sid:9;)
drop http any any -> any any (msg:"dropped request"; http.uri; content:"/drop"; sid:10;)
alert http any any -> any any (msg:"raw uri"; http.uri.raw; content:"%2e"; sid:11;)
alert http any any -> any any (msg:"header names"; http.header_names; content:"|0d 0a|Host|0d 0a|Zebra"; sid:12;)
alert http any any -> any any (msg:"cookie"; http.cookie; content:"crumb"; sid:13;)
"#;

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

fn corpus() -> Capture {
    let mut capture = Capture::default();
    let length = |body: &[u8]| format!("Content-Length: {}\r\n", body.len());
    let ok = |fields: &str, body: &[u8]| {
        [format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), body].concat()
    };
    let chunks = |body: &[u8], n: usize| {
        let mut out = Vec::new();
        for piece in body.chunks(n) {
            out.extend(crate::common::chunked(piece));
        }
        [out.as_slice(), b"0\r\n\r\n"].concat()
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: www.test\r\n\r\n").into_bytes();
    let long = [vec![b'a'; 50_000].as_slice(), b"needle-down inside", &[b'b'; 90_000]].concat();
    let down = b"a needle-down inside".as_slice();
    let gzip = crate::rivals::GZIPPED;
    for (request, response) in [
        (get("/find"), ok(&length(down), down)),
        (get("/chunks"), ok("Transfer-Encoding: chunked\r\n", &chunks(down, 3))),
        (get("/close"), ok("Connection: close\r\n", down)),
        (get("/long"), ok(&length(&long), &long)),
        (get("/long"), ok("Transfer-Encoding: chunked\r\n", &chunks(&long, 7_000))),
        (get("/gzip"), ok(&format!("Content-Encoding: gzip\r\n{}", length(gzip)), gzip)),
        (get("/gzip"), ok("Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", &chunks(gzip, 5))),
        (get("/x"), ok(&length(b"please drop-me"), b"please drop-me")),
        (get("/drop"), ok(&length(down), down)),
        (get("/a%2e%2e/find"), ok(&length(b"x"), b"x")),
        (get("/none"), b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
        (get("/cached"), b"HTTP/1.1 304 Not Modified\r\nX-Thread: 1\r\nContent-Length: 20\r\n\r\n".to_vec()),
        (get("/empty"), b"HTTP/1.1 204 No Content\r\nX-Thread: 1\r\n\r\n".to_vec()),
        (b"HEAD /find HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-Thread: 1\r\n\r\n".to_vec()),
        (b"GET /find HTTP/1.0\r\n\r\n".to_vec(), b"HTTP/1.0 200 OK\r\n\r\nneedle-down".to_vec()),
        (b"PUT /p HTTP/1.1\r\nHost: a\r\nZebra: 1\r\nX-Needle: 1\r\nContent-Length: 9\r\n\r\nneedle-up".to_vec(), ok("Content-Length: 0\r\n", b"")),
        ([b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice(), &chunks(b"the needle-up is here", 4)].concat(), ok(&length(down), down)),
        (b"GET /c HTTP/1.1\r\nHost: a\r\nCookie: crumb=1\r\n\r\n".to_vec(), ok(&length(b"x"), b"x")),
        (b"DELETE /find HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), ok("Content-Length: 0\r\n", b"")),
        (b"GET http://www.test/find HTTP/1.1\r\nHost: www.test\r\n\r\n".to_vec(), ok(&length(down), down)),
        (b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\nX-Needle: 1\r\n\r\n".to_vec(), b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\nX-Thread: 1\r\n\r\n".to_vec()),
        (b"POST /100 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\nneedle-up".to_vec(), [b"HTTP/1.1 100 Continue\r\n\r\n".as_slice(), &ok(&length(down), down)].concat()),
    ] {
        for v6 in [false, true] {
            capture.talk(v6, &[Talk::ask(&request), Talk::answer(&response)]);
        }
    }
    // Kept connections, in turn and pipelined.
    let (a, b) = (ok(&length(b"first"), b"first"), ok(&length(down), down));
    let turns =
        [Talk::ask(&get("/1")), Talk::answer(&a), Talk::ask(&get("/find")), Talk::answer(&b)];
    capture.talk(false, &turns);
    capture.talk(true, &turns);
    let both = [get("/1"), get("/find")].concat();
    capture.talk(false, &[Talk::ask(&both), Talk::answer(&[a, b].concat())]);
    capture
}

#[test]
fn a_generated_corpus_gives_the_same_findings() {
    let folder = tempfile::tempdir().unwrap();
    let (pcap, rules) = (folder.path().join("corpus.pcap"), folder.path().join("corpus.rules"));
    let corpus = corpus();
    fs::write(&pcap, corpus.bytes()).unwrap();
    fs::write(&rules, RULES).unwrap();
    for split in SPLITS {
        let result = compare(&pcap, &rules, None, split).unwrap();
        assert_eq!(result["equal"], true, "{split}: {result:#}");
        assert_eq!(
            (&result["left_out"], &result["connections"]),
            (&0.into(), &corpus.len().into())
        );
        assert!(result["replay"].as_u64().unwrap() > 40, "{result}");
    }
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
    let explained = include_str!("parity.txt");
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
            let result = compare(&file(case, "pcap"), &file(case, "rules"), yaml, split);
            let kind = match (&result, explanation(name)) {
                (Ok(r), _) if r["equal"] == true && r["connections"] != 0 => "equal",
                // What a live gateway refuses, or suricata does not look at either.
                (Ok(r), _) if r["equal"] == true && r["left_out"] != 0 => {
                    println!("{name} ({split}): refused: {}", r["refused"][0]["reason"]);
                    "refused"
                }
                (Ok(r), _) if r["equal"] == true => "without HTTP/1",
                (_, Some((_, why))) => {
                    println!("{name} ({split}): {why}");
                    "explained"
                }
                (Ok(r), None) => {
                    unexplained.push(format!("{name} ({split}): {}", r["differences"]));
                    "different"
                }
                (Err(reason), None) => {
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
