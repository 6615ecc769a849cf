//! `meergate icap`: people look at services, try them and measure them.

use std::fs;
use std::path::Path;
use std::process::Output;

use e2e::demo::sid;
use e2e::peers::c_icap::CIcap;
use e2e::peers::e2guardian::E2Guardian;
use e2e::programs::run_to_end;
use e2e::{Inspector, content};
use tempfile::TempDir;

/// What it printed; it must have succeeded, or failed, as `good` says.
fn icap(good: bool, args: &[&str]) -> String {
    let output = run_to_end("meergate", [&["icap"], args].concat());
    let Output { status, stdout, stderr } = output;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.success(), good, "{args:?}: {said}");
    said
}

#[track_caller]
fn says(said: &str, all: &[&str]) {
    for words in all {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
}

fn file(folder: &TempDir, name: &str, content: &[u8]) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn options_are_said_in_words() {
    let c_icap = CIcap::start();
    let said = icap(true, &["options", &c_icap.url("ex206")]);
    says(
        &said,
        &[
            "requests (REQMOD) and responses (RESPMOD)",
            "the first 1024 bytes of each body",
            "all other files: with preview",
            "204 (no change) and 206 (partly changed)",
            "no limit",
            "  Methods: RESPMOD, REQMOD",
        ],
    );
    let inspector = Inspector::with_test_rules();
    let said = icap(true, &["options", &inspector.url()]);
    says(&said, &["1048576 bytes of a body until it has judged them", "  X-Meergate: "]);
    let guardian = E2Guardian::start();
    let said = icap(true, &["options", &guardian.request_url()]);
    says(&said, &["requests only (REQMOD)", "none: bodies are sent whole"]);
}

#[test]
fn a_service_that_is_not_there_or_not_named_is_said_in_one_line() {
    let c_icap = CIcap::start();
    let said = icap(false, &["options", &c_icap.url("absent")]);
    says(&said, &["404", "the URL names no service there"]);
    let (url, nothing) = (c_icap.url("echo"), "icap://127.0.0.1:1/echo");
    drop(c_icap);
    for args in [&["options", &url][..], &["options", nothing], &["bench", nothing]] {
        let said = icap(false, args);
        says(&said, &["meergate: no connection to", args[1]]);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
    says(&icap(false, &["options", "http://h/"]), &["an unknown scheme"]);
    says(&icap(false, &["options", "icaps://h/"]), &["nobody to trust", "--ca"]);
}

#[test]
fn a_file_goes_through_and_comes_back() {
    let folder = TempDir::new().unwrap();
    let body = content::noise(4, 300_000);
    let sent = file(&folder, "file.dat", &body);
    let output = folder.path().join("output");
    let out = output.to_str().unwrap();
    let inspector = Inspector::with_test_rules();
    let socket = folder.path().join("icap.sock");
    let listen = format!("unix:{}", socket.display());
    let rules = e2e::programs::test_rules();
    let unix = Inspector::start(["--listen", &listen, "--rules", rules.to_str().unwrap()]);
    let c_icap = CIcap::start();
    for url in
        [inspector.url(), inspector.echo_url(), format!("{listen}:/suricata"), c_icap.url("echo")]
    {
        for method in ["reqmod", "respmod"] {
            for preview in [&[][..], &["--preview", "0"], &["--preview", "1024"]] {
                let _gone_already = fs::remove_file(&output);
                let args =
                    [&["send", &url, &sent, "--method", method, "-o", out], preview].concat();
                let said = icap(true, &args);
                if said.contains("no change") {
                    assert!(!preview.is_empty(), "{url} {method}: {said}");
                } else {
                    says(&said, &["ICAP 200", "300000 bytes, as sent", "Content-Length: 300000"]);
                }
                // A 204 leaves the body to us, which then is what comes back.
                assert!(fs::read(&output).unwrap() == body, "{url} {method} {preview:?}: {said}");
            }
        }
    }
    // ex206 cuts requests that allow it neither 204 nor 206.
    for url in [inspector.url(), c_icap.url("echo"), c_icap.url("ex206")] {
        let said = icap(true, &["send", &url, &sent, "--204", "--preview", "1024"]);
        says(&said, &["ICAP 20", "300000 bytes, as sent"]);
    }
    drop(unix);
}

#[test]
fn a_204_is_said_to_be_no_change() {
    let folder = TempDir::new().unwrap();
    let sent = file(&folder, "file.dat", &content::noise(4, 300_000));
    let inspector = Inspector::with_test_rules();
    let said = icap(true, &["send", &inspector.url(), &sent, "--204"]);
    says(&said, &["ICAP 204", "no change: the message goes on as it is"]);
}

#[test]
fn a_change_and_where_it_begins_is_shown() {
    let folder = TempDir::new().unwrap();
    let page = b"<html><head><title>x</title></head><body>".to_vec();
    let page = [page, vec![b'a'; 5000]].concat();
    let sent = file(&folder, "page.html", &page);
    let output = folder.path().join("output");
    let c_icap = CIcap::start();
    let url = c_icap.url("ex206");
    let mut args =
        vec!["send", &url, &sent, "--204", "--206", "--header", "Content-Type: text/html"];
    args.extend(["--output", output.to_str().unwrap(), "--preview"]);
    let said = icap(true, &[&args[..], &["1024"]].concat());
    says(&said, &["ICAP 206", "sent were 5041; they differ from byte"]);
    let got = fs::read(&output).unwrap();
    assert!(got.len() > page.len() && got.ends_with(b"aaaa"), "{}", got.len());
    // It changes only what it has seen, and says 206 all the same.
    let said = icap(true, &[&args[..], &["0"]].concat());
    says(&said, &["ICAP 206", "5041 bytes, as sent"]);
    assert!(fs::read(&output).unwrap() == page);
}

#[test]
fn a_block_is_shown_with_its_page_and_its_signature() {
    let folder = TempDir::new().unwrap();
    let sent = file(&folder, "file.dat", &content::eicar());
    let output = folder.path().join("page");
    let inspector = Inspector::with_test_rules();
    for (method, sid) in [("reqmod", sid::UPLOAD), ("respmod", sid::DOWNLOAD)] {
        let args = ["send", &inspector.url(), &sent, "--method", method, "--204"];
        let args = [&args[..], &["-o", output.to_str().unwrap()]].concat();
        let said = icap(true, &args);
        says(&said, &["ICAP 200", "HTTP/1.1 403 ", &format!("X-Signature-Id: {sid}")]);
        let page = fs::read_to_string(&output).unwrap();
        assert!(page.contains(&sid.to_string()) && !content::has_eicar(page.as_bytes()));
    }
    // A request without a body, decided by its URL.
    let url = "http://files.test/meergate-forbidden";
    let said = icap(true, &["send", &inspector.url(), "--method", "reqmod", "--url", url]);
    says(&said, &["HTTP/1.1 403 ", &format!("X-Signature-Id: {}", sid::PATH)]);
}

#[test]
fn an_error_status_is_shown_and_is_an_error() {
    let folder = TempDir::new().unwrap();
    let sent = file(&folder, "file.dat", b"abc");
    let guardian = E2Guardian::start();
    // It has not seen the request.
    let said = icap(false, &["send", &guardian.response_url(), &sent]);
    says(&said, &["ICAP 418", "answered with ICAP status 418"]);
    says(&icap(false, &["send", &guardian.response_url(), "/absent"]), &["cannot read the file"]);
}

#[test]
fn a_service_is_measured_and_every_byte_compared() {
    let c_icap = CIcap::start();
    let inspector = Inspector::with_test_rules();
    for (url, size, more) in [
        (c_icap.url("echo"), "1024", &[][..]),
        (c_icap.url("ex206"), "100000", &["--204", "--preview", "1024"]),
        (inspector.url(), "1024", &["--204"]),
        (inspector.echo_url(), "1000000", &["--method", "reqmod"]),
    ] {
        let args = ["bench", &url, "--requests", "200", "--connections", "4", "--size", size];
        let said = icap(true, &[&args[..], more].concat());
        says(&said, &["200 transactions", "p50", "p99", "errors       0\n", "wrong bytes  0\n"]);
    }
    let said = icap(true, &["bench", &c_icap.url("echo"), "--seconds", "1"]);
    says(&said, &["over 8 connections", "errors       0\n"]);
}

/// A service that is wrong must not look fast.
#[test]
fn a_service_that_changes_or_refuses_is_no_success() {
    let guardian = E2Guardian::start();
    let said = icap(false, &["bench", &guardian.response_url(), "--requests", "10"]);
    says(&said, &["10 refused", "418"]);
    let folder = TempDir::new().unwrap();
    let rules = folder.path().join("all.rules");
    fs::write(
        &rules,
        "drop http any any -> any any (msg:\"all\"; http.uri; content:\"/file\"; sid:1;)\n",
    )
    .unwrap();
    let inspector = Inspector::start([Path::new("--rules"), &rules]);
    let args = ["bench", &inspector.url(), "--requests", "20", "--size", "5000"];
    let said = icap(false, &[&args[..], &["--method", "reqmod"]].concat());
    assert!(!said.contains("wrong bytes  0\n"), "{said}");
    says(&said, &["bodies came back other than they were sent"]);
}
