//! Bad starts: one line that says what, where and what to do, and exit code 1.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;
mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use program::run_to_end;

/// Runs `meergate run` with these settings and arguments; its one line on stderr.
fn refused(settings: &str, arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meergate.toml");
    let state = dir.path().join("state");
    fs::write(&file, settings).unwrap();
    let mut all = vec!["run", "--listen", "127.0.0.1:0", "--console", "off", "--config"];
    all.push(file.to_str().unwrap());
    if !arguments.contains(&"--state-dir") {
        all.extend(["--state-dir", state.to_str().unwrap()]);
    }
    all.extend(arguments);
    let output = run_to_end(&all, "");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ready"));
    let said = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("meergate: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    errors[0].to_owned()
}

#[test]
fn each_bad_start_says_what_where_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("text"), "no certificate").unwrap();
    fs::write(path("empty"), "").unwrap();
    let (text, empty, none) = (path("text"), path("empty"), path("none"));
    for (settings, arguments, parts) in [
        (
            "[limits]\nconections = 1\n",
            vec![],
            vec!["unknown field `conections`", "meergate.toml:2"],
        ),
        ("[limits\n", vec![], vec!["meergate.toml:1"]),
        ("", vec!["--listen", &taken], vec!["cannot listen", &taken, "choose another"]),
        ("", vec!["--console", &taken], vec!["cannot listen", &taken, "--console"]),
        ("", vec!["--ca-cert", &none, "--ca-key", &none], vec!["cannot read the CA", &none]),
        ("", vec!["--ca-cert", &text, "--ca-key", &text], vec!["PEM", &text]),
        ("", vec!["--upstream-ca", &none], vec!["cannot read the CAs", &none]),
        ("", vec!["--upstream-ca", &empty], vec!["no certificate", &empty]),
        ("", vec!["--icap", "http://x/"], vec!["http://x/", "--icap"]),
        ("[[rule]]\nhost_file = [\"/none/x\"]\n", vec![], vec!["list of hosts", "/none/x"]),
        ("[users]\nfile = \"/none/x\"\n", vec![], vec!["users", "/none/x"]),
        ("[log]\nconnections = \"/none/x\"\n", vec![], vec!["log", "/none/x"]),
        ("[tls]\nkeylog = \"/none/x\"\n", vec![], vec!["key log", "/none/x"]),
        (
            "",
            vec!["--state-dir", "/proc/none"],
            vec!["cannot keep a CA", "/proc/none", "--state-dir"],
        ),
        ("[firewall]\napply = true\n", vec![], vec!["no listener needs rules"]),
    ] {
        // Later flags of the same name are errors of usage, so the default ones are left out.
        let line = match arguments.first() {
            Some(&"--listen" | &"--console") => {
                let other = match arguments[0] {
                    "--listen" => ["--console", "off"],
                    _ => ["--listen", "127.0.0.1:0"],
                };
                let state = path("state");
                let mut all = vec!["run", "--state-dir", &state];
                all.extend(other);
                all.extend(&arguments);
                let output = run_to_end(&all, "");
                assert_eq!(output.status.code(), Some(1));
                String::from_utf8(output.stderr).unwrap()
            }
            _ => refused(settings, &arguments),
        };
        for part in parts {
            assert!(line.contains(part), "{arguments:?}: {part:?} is not in {line}");
        }
    }
}

#[test]
fn an_unreadable_ca_key_is_named() {
    if fs::read("/etc/shadow").is_ok() {
        eprintln!("SKIPPED: root reads every file");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    assert!(run_to_end(&["ca", "new", "--state-dir", state], "").status.success());
    let key = dir.path().join("ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o000)).unwrap();
    let line = refused("", &["--state-dir", state]);
    assert!(line.contains("cannot read the CA key") && line.contains("ca.key"), "{line}");
}

#[test]
fn wrong_usage_is_told_apart() {
    for arguments in [&["run", "--magic"][..], &["fly"], &["run", "--ca-cert", "x"]] {
        assert_eq!(run_to_end(arguments, "").status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_ca_is_made_shown_exported_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    let ca = |words: &[&str]| {
        let all = [&["ca"], words, &["--state-dir", state]].concat();
        let output = run_to_end(&all, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), output.stdout, said)
    };
    assert!(!ca(&["show"]).0);
    assert!(ca(&["new"]).0);
    assert!(ca(&["new"]).2.contains("already"));
    let (_, pem, _) = ca(&["export"]);
    let (_, der, _) = ca(&["export", "--form", "der"]);
    let (_, profile, _) = ca(&["export", "--form", "mobileconfig"]);
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));
    assert_eq!(der[0], 0x30);
    assert!(profile.starts_with(b"<?xml"));
    for text in [&pem, &der, &profile] {
        assert!(!String::from_utf8_lossy(text).contains("PRIVATE"));
    }
    let shown = |out: Vec<u8>| String::from_utf8(out).unwrap();
    let first = shown(ca(&["show"]).1);
    assert!(first.contains("fingerprint"));
    // Imported elsewhere, it is the same.
    let other = dir.path().join("other");
    let cert = format!("{state}/ca.pem");
    let key = format!("{state}/ca.key");
    let import = ["ca", "import", &cert, &key, "--state-dir", other.to_str().unwrap()];
    let imported = run_to_end(&import, "");
    let of = |text: &str| text.lines().find(|l| l.starts_with("fingerprint")).map(str::to_owned);
    assert_eq!(of(&shown(imported.stdout)), of(&first));
    assert!(ca(&["rotate", "--overlap", "7"]).0);
    let rotated = shown(ca(&["show"]).1);
    assert_ne!(of(&rotated), of(&first));
    assert!(rotated.contains("former CA    counts until"), "{rotated}");
    let both = shown(ca(&["export"]).1);
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(both.contains(&shown(pem)), "the former CA is exported still");
    assert!(!ca(&["rotate", "--overlap", "0"]).0);
    assert!(ca(&["new", "--replace"]).0);
    assert_ne!(of(&shown(ca(&["show"]).1)), of(&first));
}

#[test]
fn all_settings_are_checked_before_there_is_a_ca() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meergate.toml");
    let state = dir.path().join("state");
    let check = |settings: &str| {
        fs::write(&file, settings).unwrap();
        let (file, state) = (file.to_str().unwrap(), state.to_str().unwrap());
        run_to_end(&["check", "--config", file, "--state-dir", state], "")
    };
    for (settings, what) in [
        ("[users]\nfile = \"/none/users\"\n", "/none/users"),
        ("[upstream]\nca = [\"/none/ca\"]\n", "/none/ca"),
        (
            "[[client_certificate]]\nname = \"a\"\ncert = \"/none/cert\"\nkey = \"/none/key\"\n",
            "/none/cert",
        ),
    ] {
        let output = check(settings);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{settings}: {said}");
        assert!(said.contains(what), "{said}");
    }
    let output = check("");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("the CA will be made"));
    assert!(!state.exists(), "a CA was made");
}

#[test]
fn rules_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meergate.toml");
    let settings = "[[rule]]\nname = \"banks\"\nhost = [\"*.bank.example\"]\nclient = [\"10.0.0.0/8\"]\n\
                    action = \"bypass\"\n[[rule]]\npath = [\"/admin*\"]\naction = \"block\"\n";
    fs::write(&file, settings).unwrap();
    let explain = |words: &[&str]| {
        let all = [&["check", "--config", file.to_str().unwrap(), "--explain"], words].concat();
        let output = run_to_end(&all, "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = explain(&["https://www.bank.example/x", "--client", "10.1.2.3"]);
    let bypassed =
        "connection:\n  banks: matches\n  -> bypass, by \"banks\"; inspected by nobody\n";
    assert!(said.contains(bypassed), "{said}");
    let said = explain(&["https://www.bank.example/admin/x", "--client", "192.0.2.1"]);
    assert!(said.contains("banks: no, its client does not match"), "{said}");
    assert!(said.contains("request:"), "{said}");
    assert!(said.contains("-> block, by \"rule 2\"\n"), "{said}");
    // An IPv6 address that leads to an IPv4 one counts as both, as for the program that runs.
    let rule = "[[rule]]\nname = \"old\"\naddress = [\"203.0.113.0/24\"]\naction = \"block\"\n";
    fs::write(&file, rule).unwrap();
    let said = explain(&["https://[64:ff9b::203.0.113.9]/", "--client", "192.0.2.1"]);
    assert!(said.contains("connection:\n  old: matches\n  -> block, by \"old\""), "{said}");
    let bad = ["check", "--config", file.to_str().unwrap(), "--explain", "nonsense"];
    assert_eq!(run_to_end(&bad, "").status.code(), Some(1));
}

#[test]
fn passwords_are_hashed_for_the_users_file() {
    let output = run_to_end(&["hash-password", "alice"], "secret\n");
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.starts_with("alice:$argon2id$"), "{line}");
    assert!(!line.contains("secret"));
    assert_eq!(run_to_end(&["hash-password", "alice"], "").status.code(), Some(1));
    assert_eq!(run_to_end(&["hash-password", "a:b"], "x\n").status.code(), Some(1));
}
