//! Starts that cannot work say what is wrong and where. A process has one engine, so each case that reaches Suricata
//! runs in a process of its own: this test program again, asked for one case.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::fs;

use common::{alone, start_error, write};
use suricata::{Engine, EngineConfig, ErrorKind, EveOutput};

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
fn a_start_that_failed_leaves_signals_as_they_were() {
    if !alone("a_start_that_failed_leaves_signals_as_they_were") {
        return;
    }
    let ignored = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("SigIgn:")).unwrap().to_owned()
    };
    let before = ignored();
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let _ = start_error(EngineConfig::new().rules([rules]).set("flow.memcap", "a lot"));
    assert_eq!(ignored(), before);
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
