//! Rules and settings change while traffic flows.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{EICAR, RULES, Request, Server};

const NEW: &str = "drop http any any -> any any (msg:\"new\"; flow:established,to_client; file.data; content:\"new-word\"; sid:3000001;)\n";

fn reload(server: &Server) -> Result<String, String> {
    reload_at(&server.control())
}

fn reload_at(control: &Path) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_meergate-inspector"))
        .arg("reload")
        .arg("--control")
        .arg(control)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

#[test]
fn new_rules_take_effect_on_connections_that_stay() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let ask = Request::get("/x", b"a new-word in it").connection("c");
    client.ask(&ask).assert_passed(b"a new-word in it");
    let tag = client.options().field("ISTag").unwrap().to_owned();
    fs::write(server.rules(), format!("{RULES}{NEW}")).unwrap();
    let said = reload(&server).unwrap();
    assert!(said.contains("6 rules") && said.contains("version 2"), "{said}");
    client.ask(&ask).assert_blocked(3_000_001);
    client.ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
    assert_ne!(client.options().field("ISTag").unwrap(), tag);
    assert_eq!(server.metric("reloads_total"), 1);
    assert_eq!(server.metric("rules"), 6);
    assert_eq!(server.metric("engine_restarts_total"), 0);
}

#[test]
fn rules_that_do_not_load_are_refused_and_the_old_ones_stay() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for (rules, complaint) in [
        ("drop http any any -> any any (bogus; sid:1;)\n", "test.rules:1: "),
        ("", "only the beginning"),
        (&RULES[..RULES[..RULES.len() - 1].rfind('\n').unwrap() + 1], "only the beginning"),
        (RULES.trim_end(), "last line has no end"),
        ("# nothing\n", "no rule"),
        ("pass ip any any -> any any (sid:1;)\n", "check"),
    ] {
        fs::write(server.rules(), rules).unwrap();
        let said = reload(&server).unwrap_err();
        assert!(said.contains("refused") && said.contains(complaint), "{rules}: {said}");
        client.ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
    }
    fs::remove_file(server.rules()).unwrap();
    assert!(reload(&server).unwrap_err().contains("refused"));
    client.ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
    assert_eq!(server.metric("reloads_refused_total"), 7);
}

#[test]
fn rules_that_only_alert_are_taken_and_said_to_stop_nothing() {
    let server = Server::start(&[]);
    // Of `RULES` one only alerts.
    assert_eq!((server.metric("rules"), server.metric("rules_dropping")), (5, 4));
    let rules = "alert http any any -> any any (content:\"x\"; sid:1;)\n\
                 alert tcp any any -> any any (content:\"y\"; sid:2;)\n";
    fs::write(server.rules(), rules).unwrap();
    let said = reload(&server).unwrap();
    assert!(
        said.contains("2 rules, 0 of them can drop") && said.contains("no rule can drop"),
        "{said}"
    );
    assert_eq!(server.metric("rules_dropping"), 0);
    fs::write(
        server.rules(),
        format!("{rules}drop tcp any any -> any any (content:\"z\"; sid:3;)\n"),
    )
    .unwrap();
    let said = reload(&server).unwrap();
    assert!(said.contains("3 rules, 1 of them can drop") && !said.contains("warning"), "{said}");
}

#[test]
fn a_hangup_signal_reloads() {
    let server = Server::start(&[]);
    fs::write(server.rules(), format!("{RULES}{NEW}")).unwrap();
    server.signal("-HUP");
    server.wait_metric("reloads_total", 1);
    server.connect().ask(&Request::get("/x", b"new-word")).assert_blocked(3_000_001);
}

#[test]
fn compiled_patterns_outlive_an_engine_and_bad_ones_do_no_harm() {
    // Hyperscan exists for these alone.
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let server = Server::start(&[]);
    // What serves keeps nothing.
    assert!(server.compiled_patterns().is_empty());
    reload(&server).unwrap();
    let compiled = server.compiled_patterns();
    assert!(!compiled.is_empty());
    // The same rules, so the same patterns; and if one has nothing to do with the others, it is new.
    reload(&server).unwrap();
    assert_eq!(server.compiled_patterns(), compiled);
    assert!(!server.log().to_lowercase().contains("cache"), "{}", server.log());

    fs::write(&compiled[0], b"torn").unwrap();
    server.kill_engine("-KILL");
    server.wait_log("Failed to deserialize Hyperscan database");
    server.connect().ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);

    fs::write(server.rules(), NEW).unwrap();
    server.wait_until("patterns without use to be removed", || {
        reload(&server).unwrap();
        let left = server.compiled_patterns();
        compiled.iter().any(|path| !left.contains(path))
    });
}

#[test]
fn watched_files_reload_by_themselves() {
    let server = Server::start(&["--watch"]);
    fs::write(server.rules(), format!("{RULES}{NEW}")).unwrap();
    server.wait_metric("reloads_total", 1);
    server.connect().ask(&Request::get("/x", b"new-word")).assert_blocked(3_000_001);
}

#[test]
fn what_cannot_change_in_place_is_handed_over_to_a_second_engine() {
    let server = Server::with_settings("hold = \"all\"\n", &[]);
    let mut client = server.connect();
    let shown = |reply: crate::common::Reply| reply.field("X-Meergate").unwrap().to_owned();
    assert!(shown(client.options()).contains("hold=all"));
    // A transaction that is in flight during the handover ends on the old engine.
    let body = crate::common::random(50_000);
    let request = Request::get("/flight", &body);
    let head = request.head(client.base());
    client.send(&head);
    client.send(&crate::common::chunked(&body[..20_000]));
    server.wait_metric("connections", 1);
    fs::write(server.settings(), "hold = 4096\n").unwrap();
    reload(&server).unwrap();
    client.send(&crate::common::chunked(&body[20_000..]));
    client.send(b"0\r\n\r\n");
    client.reply().assert_passed(&body);
    let mut client = server.connect();
    assert!(shown(client.options()).contains("hold=4096"));
    client.ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
    assert_eq!(server.metric("engine_restarts_total"), 0);
}

/// The first connections of the engine's own check come from the lowest ports: rules that pass
/// only those that follow go wrong in the engine that serves, not where they are tried.
#[test]
fn rules_that_turn_out_not_to_inspect_give_way_to_the_old_ones() {
    let server = Server::start(&["--workers", "2"]);
    let mut client = server.connect();
    client.ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
    let pass = "pass tcp 192.0.2.1 2:65535 <> 192.0.2.2 any (msg:\"too much\"; sid:3000002;)\n";
    fs::write(server.rules(), format!("{RULES}{NEW}{pass}")).unwrap();
    let said = reload(&server).unwrap_err();
    assert!(said.contains("the engine's check passed"), "{said}");
    let mut client = server.connect();
    client.ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
    client.ask(&Request::get("/x", b"a new-word")).assert_passed(b"a new-word");
    // From there, what is right again is taken over.
    fs::write(server.rules(), format!("{RULES}{NEW}")).unwrap();
    reload(&server).unwrap();
    server.connect().ask(&Request::get("/x", b"a new-word")).assert_blocked(3_000_001);
}

#[test]
fn every_worker_knows_why_rules_are_refused() {
    let pass = "pass tcp any any -> any any (msg:\"all\"; sid:3000003;)\n";
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("pass.rules");
        fs::write(&rules, format!("{RULES}{pass}")).unwrap();
        let mut run = Command::new(env!("CARGO_BIN_EXE_meergate-inspector"));
        run.args(["run", "--listen", "127.0.0.1:0", "--workers", "2", "--rules"]).arg(&rules);
        run.arg("--control").arg(folder.path().join("control")).env("TMPDIR", folder.path());
        let output = run.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(said.contains("the engine's check passed"), "{said}");
    }
}

/// A pipe stands for a list, so that the engine waits for it as it would for many rules.
#[test]
fn a_reload_that_takes_long_is_not_taken_for_a_hanging_engine() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("sums");
    assert!(Command::new("mkfifo").arg(&list).status().unwrap().success());
    let sum = "drop http any any -> any any (msg:\"sum\"; filemd5:sums; sid:3000004;)\n";
    let rules = folder.path().join("sums.rules");
    fs::write(&rules, sum).unwrap();
    let give = || fs::write(&list, "2b00042f7481c7b056c4b410d28f33cf\n").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(give);
        let settings = "[limits]\nhang_timeout = 5\n";
        let server = Server::with_settings(settings, &["--rules", rules.to_str().unwrap()]);
        let control = server.control();
        let reloaded = scope.spawn(move || reload_at(&control));
        // For the process that tries the rules.
        scope.spawn(give);
        server.wait_log("rule reload starting");
        std::thread::sleep(std::time::Duration::from_secs(9));
        server.connect().ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
        give();
        assert!(reloaded.join().unwrap().unwrap().contains("version 2"));
        assert_eq!(server.metric("engine_restarts_total"), 0);
    });
}

/// Whoever rotates logs has no need of new rules, which take their time.
#[test]
fn logs_are_opened_anew_without_a_reload() {
    let server = Server::start(&[]);
    let ask = |id: &str| {
        let asked = Request::get("/x", EICAR).field("X-Transaction-Id", id);
        let reply = server.connect().ask(&asked);
        assert_eq!(reply.field("X-Response-Info"), Some("blocked"), "{id}");
    };
    let of = |id: &'static str| {
        move |event: &serde_json::Value| {
            event["event_type"] == "alert" && event.to_string().contains(id)
        }
    };
    ask("before-it");
    server.wait_eve(of("before-it"));
    let file = server.events();
    fs::rename(&file, file.with_extension("old")).unwrap();
    server.signal("-USR1");
    // It is opened when the next event is written.
    server.wait_until("a new file", || {
        ask("after-it");
        file.exists()
    });
    server.wait_eve(of("after-it"));
    assert!(!server.has_eve(of("before-it")));
    assert_eq!((server.metric("reloads_total"), server.metric("engine_restarts_total")), (0, 0));
}

#[test]
fn rules_that_are_done_without_are_named_and_counted() {
    let bad = "drop http any any -> any any (no_such_keyword; sid:77;)\n";
    let rules = format!("{bad}{RULES}{bad}");
    let server = Server::with_rules_and_settings(&rules, "tolerate_bad_rules = true\n");
    server.connect().ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
    assert_eq!(server.metric("rules_lost"), 2);
    let last = rules.lines().count();
    for line in [1, last] {
        server.wait_log(&format!("a rule is lost: {}:{line}: ", server.rules().display()));
    }
    assert!(reload(&server).unwrap().contains("2 lost since they do not parse"));
    fs::write(server.rules(), RULES).unwrap();
    assert!(!reload(&server).unwrap().contains("lost"));
    assert_eq!(server.metric("rules_lost"), 0);
}
