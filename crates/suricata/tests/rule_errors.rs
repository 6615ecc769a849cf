//! What is wrong with rules is told, and where. A process has one engine, so each case runs in a process of its own.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use common::{alone, start_error, write};
use suricata::{Engine, EngineConfig, ErrorKind};

/// One line that is in order between two that are not: what drops would not drop.
const THRESHOLDS: &str = "rate_filter gen_id 1, sig_id 1000004, track by_nobody, count 1, seconds 60, new_action drop, timeout 60
suppress gen_id 1, sig_id 1000004
unheard_of gen_id 1, sig_id 1000004
";

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
fn a_rate_filter_that_is_not_in_force_is_an_error() {
    if !alone("a_rate_filter_that_is_not_in_force_is_an_error") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rule = "alert http any any -> any any (msg:\"x\"; http.uri; content:\"/x\"; threshold:type limit, track by_src, \
                count 1, seconds 60; sid:9;)\n";
    let rules = write(folder.path(), "my.rules", &format!("{}{rule}", common::RULES));
    let filter = "rate_filter gen_id 1, sig_id 9, track by_src, count 1, seconds 60, new_action drop, timeout 60\n";
    let threshold = write(folder.path(), "threshold.config", filter);
    let config =
        EngineConfig::new().rules([rules]).set("threshold-file", threshold.to_str().unwrap());
    let error = start_error(config);
    assert_eq!(error.kind(), ErrorKind::Rules, "{error}");
    assert!(error.to_string().contains("sid:9 has a threshold"), "{error}");
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

/// A rule with a list, and the list: the second of three entries is no base64.
const WITH_LIST: &str = "drop http any any -> any any (msg:\"listed\"; http.host; dataset:isset,listed,type string,load listed.lst; sid:8;)\n";
const LIST: &str = "ZXZpbC5leGFtcGxl\n!!\nd29yc2UuZXhhbXBsZQ==\n";

#[test]
fn a_data_set_with_an_entry_that_cannot_be_read_is_an_error() {
    if !alone("a_data_set_with_an_entry_that_cannot_be_read_is_an_error") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "listed.lst", LIST);
    let rules = write(folder.path(), "my.rules", &format!("{}{WITH_LIST}", common::RULES));
    let error = start_error(EngineConfig::new().rules([rules]));
    assert_eq!(error.kind(), ErrorKind::Rules, "{error}");
    assert!(error.to_string().contains("listed.lst"), "{error}");
}

#[test]
fn a_data_set_of_the_yaml_with_an_entry_that_cannot_be_read_is_an_error() {
    if !alone("a_data_set_of_the_yaml_with_an_entry_that_cannot_be_read_is_an_error") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let list = write(folder.path(), "listed.lst", LIST);
    let rules = write(folder.path(), "my.rules", common::RULES);
    let yaml = format!(
        "%YAML 1.1\n---\ndefault-log-dir: {}\ndatasets:\n  listed:\n    type: string\n    load: {}\n",
        folder.path().display(),
        list.display()
    );
    let yaml = write(folder.path(), "user.yaml", &yaml);
    let error = start_error(EngineConfig::new().yaml(yaml).rules([rules]));
    assert_eq!(error.kind(), ErrorKind::Rules, "{error}");
    assert!(error.to_string().contains("listed.lst"), "{error}");
}

#[test]
fn errors_of_a_data_set_are_not_taken_for_those_of_the_next_bad_rule() {
    if !alone("errors_of_a_data_set_are_not_taken_for_those_of_the_next_bad_rule") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "listed.lst", LIST);
    let bad = "drop tcp any any -> any any (msg:\"x\"; bogus:1; sid:5;)\n";
    let rules = write(folder.path(), "my.rules", &format!("{}{WITH_LIST}{bad}", common::RULES));
    let config = EngineConfig::new().rules([rules]).tolerate_bad_rules(true);
    let (engine, _seeds) = Engine::start(config).unwrap();
    let stats = engine.rules();
    assert_eq!((stats.good, stats.bad), (7, 1));
    assert!(stats.bad_rules[0].reason.contains("bogus"), "{}", stats.bad_rules[0]);
    assert!(stats.errors[0].contains("listed.lst"), "{:?}", stats.errors);
}
