//! c-icap's own client asks our inspector, with and without previews and 204.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::demo::sid;
use e2e::interop::{Ours, Seen, version};
use e2e::{Inspector, content, peers};
use tempfile::TempDir;

/// One run of c-icap-client: what it said, and the body it got back.
struct Answer {
    said: String,
    body: Vec<u8>,
}

fn ask(inspector: &Inspector, service: &str, file: &Path, options: &[&str]) -> Answer {
    let folder = TempDir::new().unwrap();
    let saved = folder.path().join("body");
    let output = Command::new("timeout")
        .arg("120")
        .arg(peers::program("c-icap-client"))
        .args(["-i", "127.0.0.1", "-p", &inspector.addr().port().to_string(), "-s", service, "-v"])
        .arg("-f")
        .arg(file)
        .arg("-o")
        .arg(&saved)
        .args(options)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{options:?}: {}\n{said}", output.status);
    Answer { said, body: fs::read(&saved).unwrap_or_default() }
}

fn peer() -> String {
    format!("c-icap-client {}", version("c-icap", "-V"))
}

const WAYS: [&[&str]; 5] =
    [&[], &["-nopreview"], &["-no204"], &["-nopreview", "-no204"], &["-w", "0"]];

#[test]
fn clean_bodies_come_back_identical() {
    let inspector = Inspector::with_test_rules();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    let mut seen = Seen::default();
    for size in [0, 1, 1023, 1024, 1025, 65_536, 1 << 20, 100 << 20] {
        let body = content::noise(size as u64, size);
        fs::write(&file, &body).unwrap();
        for service in ["suricata", "echo"] {
            for way in WAYS {
                eprintln!("{service} {size} {way:?}");
                let options = [way, &["-resp", "http://files.test/file"]].concat();
                let answer = ask(&inspector, service, &file, &options);
                // A 204 says that the body is fine as it is; the client saves nothing then.
                if answer.said.contains("ICAP/1.0 204") {
                    assert!(
                        answer.body.is_empty() && way != ["-nopreview", "-no204"],
                        "{}",
                        answer.said
                    );
                    seen.note("204");
                } else {
                    assert!(answer.body == body, "{size} {way:?}: {}", answer.said);
                    seen.note("200");
                }
                seen.body("RESPMOD", size);
            }
        }
    }
    seen.note("with previews");
    seen.note("without previews");
    seen.record(Ours::Server, &peer());
}

#[test]
fn eicar_is_blocked_with_a_page() {
    let inspector = Inspector::with_test_rules();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    for body in [content::eicar(), content::infected(1, 100_000, 90_000)] {
        fs::write(&file, body).unwrap();
        for way in WAYS {
            let options = [way, &["-resp", "http://files.test/file"]].concat();
            let answer = ask(&inspector, "suricata", &file, &options);
            let page = String::from_utf8_lossy(&answer.body);
            assert!(page.contains(&sid::DOWNLOAD.to_string()), "{way:?}: {}\n{page}", answer.said);
            for line in ["ICAP/1.0 200", "HTTP/1.1 403", "X-Violations-Found", "X-Signature-Id"] {
                assert!(answer.said.contains(line), "{way:?}: no {line}: {}", answer.said);
            }
        }
    }
    let mut seen = Seen::default();
    seen.note("blocks");
    seen.record(Ours::Server, &peer());
}

#[test]
fn the_echo_service_passes_what_the_engine_would_block() {
    let inspector = Inspector::with_test_rules();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, content::eicar()).unwrap();
    let options = ["-no204", "-nopreview", "-resp", "http://files.test/file"];
    let answer = ask(&inspector, "echo", &file, &options);
    assert!(answer.body == content::eicar(), "{}", answer.said);
}

#[test]
fn a_service_that_is_not_there_is_said_so() {
    let inspector = Inspector::with_test_rules();
    let output = Command::new(peers::program("c-icap-client"))
        .args(["-i", "127.0.0.1", "-p", &inspector.addr().port().to_string(), "-s", "absent"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("404"), "{said}");
}
