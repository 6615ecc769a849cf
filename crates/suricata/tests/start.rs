//! Starts that cannot work say what is wrong and where. A process has one engine, so each case that reaches Suricata
//! runs in a process of its own: this test program again, asked for one case.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use suricata::{Engine, EngineConfig, ErrorKind, EveOutput};

const CASE: &str = "SURICATA_TEST_CASE";

/// One line that is in order between two that are not: what drops would not drop.
const THRESHOLDS: &str = "rate_filter gen_id 1, sig_id 1000004, track by_nobody, count 1, seconds 60, new_action drop, timeout 60
suppress gen_id 1, sig_id 1000004
unheard_of gen_id 1, sig_id 1000004
";

/// Runs the calling test again in a process of its own, with `CASE` set; `true` in that process.
fn alone(name: &str) -> bool {
    if env::var_os(CASE).is_some() {
        return true;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CASE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}", output.status);
    false
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn start_error(config: EngineConfig) -> suricata::Error {
    match Engine::start(config) {
        Ok(_) => panic!("the engine started"),
        Err(error) => error,
    }
}

#[test]
fn what_is_wrong_with_files_is_found_before_suricata_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "good.rules", common::RULES);
    let missing = folder.path().join("missing");
    let cases = [
        (EngineConfig::new(), ErrorKind::Rules, "no rules"),
        (EngineConfig::new().rules([&missing]), ErrorKind::Rules, "missing"),
        (EngineConfig::new().rules([folder.path()]), ErrorKind::Rules, "folder"),
        (
            EngineConfig::new().rules([write(folder.path(), "empty.rules", "# none\n")]),
            ErrorKind::Rules,
            "empty.rules holds no rule",
        ),
        (EngineConfig::new().yaml(&missing), ErrorKind::Config, "missing"),
        (EngineConfig::new().rules([&good]).log_dir(&missing), ErrorKind::Config, "missing"),
        (
            EngineConfig::new().rules([&good]).eve(EveOutput::File(missing.join("eve.json"))),
            ErrorKind::Config,
            "missing",
        ),
        (EngineConfig::new().rules([&good]).workers(0), ErrorKind::Config, "workers"),
    ];
    for (config, kind, expected) in cases {
        let error = start_error(config);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_rule_that_does_not_parse_is_named_with_file_line_and_reason() {
    if !alone("a_rule_that_does_not_parse_is_named_with_file_line_and_reason") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(
        folder.path(),
        "my.rules",
        "\n# a comment\ndrop tcp any any -> any any (msg:\"x\"; bogus:1; sid:5;)\n",
    );
    let error = start_error(EngineConfig::new().rules([&rules]));
    assert_eq!(error.kind(), ErrorKind::Rules);
    let text = error.to_string();
    assert!(text.contains(&format!("{}:3: ", rules.display())) && text.contains("bogus"), "{text}");
    // And the process lives on, but cannot try again.
    let good = write(folder.path(), "good.rules", common::RULES);
    assert_eq!(start_error(EngineConfig::new().rules([good])).kind(), ErrorKind::AlreadyStarted);
}

#[test]
fn bad_rules_can_be_tolerated() {
    if !alone("bad_rules_can_be_tolerated") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text =
        format!("{}drop tcp any any -> any any (msg:\"x\"; bogus:1; sid:5;)\n", common::RULES);
    let rules = write(folder.path(), "my.rules", &text);
    let (engine, _seeds) =
        Engine::start(EngineConfig::new().rules([&rules]).tolerate_bad_rules(true)).unwrap();
    let stats = engine.rules();
    assert_eq!((stats.good, stats.bad), (6, 1));
    assert_eq!((stats.bad_rules[0].file.as_path(), stats.bad_rules[0].line), (rules.as_path(), 8));
}

#[test]
fn a_line_of_the_threshold_file_that_does_not_parse_is_an_error() {
    if !alone("a_line_of_the_threshold_file_that_does_not_parse_is_an_error") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let threshold = write(folder.path(), "threshold.config", THRESHOLDS);
    let config =
        EngineConfig::new().rules([rules]).set("threshold-file", threshold.to_str().unwrap());
    let error = start_error(config);
    assert_eq!(error.kind(), ErrorKind::Rules, "{error}");
    // Each of them, though the first is not the last.
    for name in ["by_nobody", "unheard_of"] {
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_threshold_file_can_be_tolerated_and_its_errors_are_told() {
    if !alone("a_threshold_file_can_be_tolerated_and_its_errors_are_told") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bad = "drop tcp any any -> any any (msg:\"x\"; bogus:1; sid:5;)\n";
    let rules = write(folder.path(), "my.rules", &format!("{}{bad}", common::RULES));
    let threshold = write(folder.path(), "threshold.config", THRESHOLDS);
    let config = EngineConfig::new()
        .rules([rules])
        .set("threshold-file", threshold.to_str().unwrap())
        .tolerate_bad_rules(true);
    let (engine, _seeds) = Engine::start(config).unwrap();
    let stats = engine.rules();
    assert_eq!((stats.good, stats.bad, stats.errors.len()), (6, 1, 2), "{:?}", stats.errors);
    assert!(stats.bad_rules[0].reason.contains("bogus"), "{}", stats.bad_rules[0]);
}

#[test]
fn a_threshold_file_that_is_named_and_not_there_is_an_error() {
    if !alone("a_threshold_file_that_is_named_and_not_there_is_an_error") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let absent = folder.path().join("absent.config");
    let config = EngineConfig::new().rules([rules]).set("threshold-file", absent.to_str().unwrap());
    let error = start_error(config);
    assert_eq!(error.kind(), ErrorKind::Rules, "{error}");
    assert!(error.to_string().contains("absent.config"), "{error}");
}

#[test]
fn a_rule_that_would_replace_bytes_is_refused() {
    if !alone("a_rule_that_would_replace_bytes_is_refused") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rule =
        "alert tcp any any -> any any (msg:\"x\"; content:\"evil\"; replace:\"good\"; sid:7;)\n";
    let rules = write(folder.path(), "my.rules", &format!("{}{rule}", common::RULES));
    let error = start_error(EngineConfig::new().rules([&rules]));
    assert_eq!(error.kind(), ErrorKind::Rules, "{error}");
    let text = error.to_string();
    assert!(text.contains("my.rules:8: replace: "), "{text}");
}

#[test]
fn a_yaml_that_is_none_is_an_error_and_not_the_end_of_the_process() {
    if !alone("a_yaml_that_is_none_is_an_error_and_not_the_end_of_the_process") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let yaml = write(folder.path(), "bad.yaml", "%YAML 1.1\n---\nstream:\n  memcap: [unclosed\n");
    let rules = write(folder.path(), "my.rules", common::RULES);
    let error = start_error(EngineConfig::new().yaml(&yaml).rules([rules]));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("bad.yaml"), "{error}");
}

#[test]
fn a_setting_at_which_suricata_exits_is_an_error_and_not_the_end_of_the_process() {
    if !alone("a_setting_at_which_suricata_exits_is_an_error_and_not_the_end_of_the_process") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let error = start_error(EngineConfig::new().rules([rules]).set("flow.memcap", "a lot"));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("flow.memcap"), "{error}");
}

#[test]
fn a_yaml_of_the_user_serves_and_what_is_forced_is_told() {
    if !alone("a_yaml_of_the_user_serves_and_what_is_forced_is_told") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "site.rules", common::RULES);
    let yaml = format!(
        "%YAML 1.1\n---\ndefault-log-dir: {0}\ndefault-rule-path: {0}\nrule-files:\n  - site.rules\n\
         unix-command:\n  enabled: no\nvlan:\n  use-for-tracking: no\nstream:\n  inline: auto\n  midstream: yes\n  \
         checksum-validation: no\n  reassembly:\n    depth: 1mb\nexception-policy: ignore\nflow:\n  memcap: 64mb\napp-layer:\n  protocols:\n    http:\n      enabled: yes\n      \
         libhtp:\n        default-config:\n          personality: IDS\n          request-body-limit: 0\n        \
         server-config:\n          - some:\n              address: [198.51.100.0/24]\n              \
         personality: IDS\n              response-body-limit: 10\n",
        folder.path().display()
    );
    let yaml = write(folder.path(), "user.yaml", &yaml);
    let (engine, seeds) = Engine::start(EngineConfig::new().yaml(yaml)).unwrap();
    let mut told =
        engine.overrides().iter().map(|it| (it.name.as_str(), it.was.as_str())).collect::<Vec<_>>();
    told.sort_unstable();
    let expected = [
        ("app-layer.protocols.http.libhtp.server-config.0.some.response-body-limit", "10"),
        ("exception-policy", "ignore"),
        ("stream.inline", "auto"),
        ("stream.midstream", "yes"),
        ("stream.reassembly.depth", "1mb"),
        ("vlan.use-for-tracking", "no"),
    ];
    assert_eq!(told, expected);
    assert_eq!(engine.rules().good, 6);
    let rules_of_yaml = rules;
    for seed in seeds {
        let mut worker = seed.attach().unwrap();
        let eicar = common::with_length(&[&[b'.'; 5000], common::EICAR].concat());
        let verdict =
            common::exchange(&mut worker, common::tuple(1), &common::get("/"), &eicar, 5).unwrap();
        assert_eq!(common::sid(&verdict), Some(1_000_001));
    }
    drop(rules_of_yaml);
    engine.stop().unwrap();
}

#[test]
fn a_rule_file_that_the_yaml_names_and_that_is_missing_is_an_error() {
    if !alone("a_rule_file_that_the_yaml_names_and_that_is_missing_is_an_error") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let yaml = format!(
        "%YAML 1.1\n---\ndefault-log-dir: {0}\ndefault-rule-path: {0}\nrule-files:\n  - absent.rules\n",
        folder.path().display()
    );
    let yaml = write(folder.path(), "user.yaml", &yaml);
    let error = start_error(EngineConfig::new().yaml(yaml).rules([rules]));
    assert_eq!(error.kind(), ErrorKind::Rules, "{error}");
    assert!(error.to_string().contains("absent.rules"), "{error}");
}

#[test]
fn a_pass_rule_for_everything_fails_the_canary() {
    if !alone("a_pass_rule_for_everything_fails_the_canary") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{}pass ip any any -> any any (msg:\"all\"; sid:9;)\n", common::RULES);
    let rules = write(folder.path(), "my.rules", &text);
    let (_engine, seeds) = Engine::start(EngineConfig::new().rules([rules])).unwrap();
    for seed in seeds {
        let error = seed.attach().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InspectionFailed, "{error}");
    }
}

#[test]
fn a_seed_thrown_away_stops_the_others_instead_of_letting_them_wait() {
    if !alone("a_seed_thrown_away_stops_the_others_instead_of_letting_them_wait") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let (engine, mut seeds) = Engine::start(EngineConfig::new().rules([rules]).workers(2)).unwrap();
    drop(seeds.pop());
    let error = seeds.pop().unwrap().attach().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Stopped);
    engine.stop().unwrap();
}

#[test]
fn many_workers_feed_at_once() {
    if !alone("many_workers_feed_at_once") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let (engine, seeds) = Engine::start(EngineConfig::new().rules([rules]).workers(4)).unwrap();
    // The first worker that is dropped stops the engine.
    let done = std::sync::Arc::new(std::sync::Barrier::new(seeds.len()));
    let feeders = seeds
        .into_iter()
        .map(|seed| {
            let done = std::sync::Arc::clone(&done);
            std::thread::spawn(move || {
                let mut worker = seed.attach().unwrap();
                for round in 0..500 {
                    let body = if round % 2 == 0 { common::EICAR } else { b"clean" };
                    let message = common::with_length(body);
                    // All workers use the same tuple.
                    let verdict = common::exchange(
                        &mut worker,
                        common::tuple(1),
                        &common::get("/"),
                        &message,
                        20,
                    )
                    .unwrap();
                    assert_eq!(common::sid(&verdict), (round % 2 == 0).then_some(1_000_001));
                }
                done.wait();
            })
        })
        .collect::<Vec<_>>();
    for feeder in feeders {
        feeder.join().unwrap();
    }
    engine.stop().unwrap();
}

#[test]
fn an_engine_that_gives_up_with_its_workers_at_the_door_lets_them_go_and_says_why() {
    if !alone("an_engine_that_gives_up_with_its_workers_at_the_door_lets_them_go_and_says_why") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    // Too few for the threads that there are: Suricata finds out when all of them wait for each other.
    let config = EngineConfig::new().rules([&rules]).workers(2).set("max-pending-packets", "8");
    let (engine, seeds) = Engine::start(config).unwrap();
    let (told, errors) = std::sync::mpsc::sync_channel(2);
    for seed in seeds {
        let told = told.clone();
        std::thread::spawn(move || told.send(seed.attach().err()).unwrap());
    }
    for _ in 0..2 {
        let error = errors.recv_timeout(std::time::Duration::from_secs(60)).expect("a word");
        let error = error.expect("an error");
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
        assert!(error.to_string().contains("max-pending-packets"), "{error}");
    }
    assert_eq!(engine.reload().unwrap_err().kind(), ErrorKind::Stopped);
    assert!(!engine.is_running());
    engine.stop().unwrap();
}

#[test]
fn a_yaml_does_not_change_the_process() {
    if !alone("a_yaml_does_not_change_the_process") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let text = "%YAML 1.1\n---\nsecurity:\n  limit-noproc: true\n  landlock:\n    enabled: yes\ncoredump:\n  \
                max-dump: unlimited\nrun-as:\n  user: nobody\n  group: nogroup\numask: 0777\nunix-command:\n  enabled: \
                yes\nthreading:\n  set-cpu-affinity: yes\nengine:\n  init-failure-fatal: yes\n";
    let yaml = write(folder.path(), "process.yaml", text);
    let facts = || {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let limits =
            limits.lines().filter(|line| line.contains("processes") || line.contains("core"));
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let status = status.lines().filter(|line| {
            ["Umask:", "Uid:", "Gid:", "CapEff:", "NoNewPrivs:", "Cpus_allowed:"]
                .iter()
                .any(|name| line.starts_with(name))
        });
        limits.chain(status).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = facts();
    let config = EngineConfig::new().yaml(&yaml).rules([&rules]).log_dir(folder.path());
    let (engine, seeds) = Engine::start(config).unwrap();
    let workers: Vec<_> = seeds.into_iter().map(|seed| seed.attach().unwrap()).collect();
    assert_eq!(facts(), before);
    for name in ["security.limit-noproc", "coredump", "run-as", "umask", "unix-command.enabled"] {
        assert!(engine.overrides().iter().any(|o| o.name == name), "{name} is not told");
    }
    drop(workers);
    engine.stop().unwrap();
}
