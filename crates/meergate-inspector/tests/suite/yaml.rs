//! The user's own suricata.yaml.

use std::fs;

use crate::common::{EICAR, Request, Server};

const YAML: &str = "%YAML 1.1\n---\n\
default-log-dir: LOGS\n\
vars:\n  address-groups:\n    HOME_NET: \"[10.0.0.0/8]\"\n    EXTERNAL_NET: \"!$HOME_NET\"\n\
stream:\n  inline: no\n  reassembly:\n    depth: 1kb\n\
vlan:\n  use-for-tracking: false\n\
outputs:\n  - eve-log:\n      enabled: yes\n      filetype: regular\n      filename: own.json\n      types:\n        - alert\n\
app-layer:\n  protocols:\n    http:\n      enabled: yes\n";

const RULE: &str = "drop http $EXTERNAL_NET any -> $HOME_NET any (msg:\"from outside\"; flow:established,to_client; file.data; content:\"EICAR-STANDARD\"; sid:11;)\n";

#[test]
fn is_honoured_except_for_what_safety_needs() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = folder.path().join("suricata.yaml");
    fs::write(&yaml, YAML.replace("LOGS", folder.path().to_str().unwrap())).unwrap();
    let yaml = yaml.to_str().unwrap();
    let server = Server::with_rules(RULE, &["--suricata-yaml", yaml]);
    let mut client = server.connect();
    let from = |ip: &str, at: usize| {
        let mut body = vec![b'x'; at];
        body.extend_from_slice(EICAR);
        Request::get("/x", &body)
            .field("X-Client-IP", ip)
            .field("X-Client-Port", "4000")
            .field("X-Server-IP", "192.0.2.1")
            .field("X-Server-Port", "80")
    };
    // Beyond the depth that the YAML asks for.
    client.ask(&from("10.9.9.9", 100_000)).assert_blocked(11);
    assert_eq!(client.ask(&from("172.16.0.1", 0)).status, 200);
    let log = server.log();
    for setting in ["stream.inline", "stream.reassembly.depth", "vlan.use-for-tracking"] {
        assert_eq!(log.matches(&format!("\"setting\":\"{setting}\"")).count(), 1, "{setting}");
    }
}

#[test]
fn a_changed_yaml_is_taken_over_by_a_second_engine() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("suricata.yaml");
    let text = YAML.replace("LOGS", folder.path().to_str().unwrap());
    fs::write(&file, &text).unwrap();
    let server = Server::with_rules(RULE, &["--suricata-yaml", file.to_str().unwrap()]);
    let ask = Request::get("/x", EICAR)
        .field("X-Client-IP", "172.16.0.1")
        .field("X-Client-Port", "4000")
        .field("X-Server-IP", "192.0.2.1")
        .field("X-Server-Port", "80");
    assert_eq!(server.connect().ask(&ask).field("X-Response-Info"), None);
    fs::write(&file, text.replace("10.0.0.0/8", "172.16.0.0/12")).unwrap();
    server.signal("-HUP");
    server.wait_metric("reloads_total", 1);
    server.connect().ask(&ask).assert_blocked(11);
    fs::write(&file, "broken: [\n").unwrap();
    server.signal("-HUP");
    server.wait_metric("reloads_refused_total", 1);
    server.connect().ask(&ask).assert_blocked(11);
    assert_eq!(server.metric("engine_restarts_total"), 0);
}

#[test]
fn rule_files_that_it_names_are_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_str().unwrap();
    let rule = |path: &str| {
        let text =
            format!("drop http any any -> any any (http.uri; content:\"/{path}\"; sid:12;)\n");
        fs::write(folder.path().join("named.rules"), text).unwrap();
    };
    rule("first");
    let yaml = YAML.replace("LOGS", at)
        + &format!("default-rule-path: {at}\nrule-files:\n  - named.rules\n");
    fs::write(folder.path().join("suricata.yaml"), yaml).unwrap();
    let settings =
        format!("suricata_yaml = \"{at}/suricata.yaml\"\n[sandbox]\nread = [\"{at}\"]\n");
    let server = Server::with_rules_and_settings(RULE, &settings);
    let is_blocked = |path: &str| {
        let reply = server.connect().ask(&Request::get(path, b"x"));
        reply.field("X-Response-Info") == Some("blocked")
    };
    assert!(is_blocked("/first") && !is_blocked("/second"));
    rule("second");
    server.signal("-HUP");
    server.wait_metric("reloads_total", 1);
    assert!(is_blocked("/second") && !is_blocked("/first"));
    fs::write(folder.path().join("named.rules"), "drop http any any (\n").unwrap();
    server.signal("-HUP");
    server.wait_metric("reloads_refused_total", 1);
    assert!(is_blocked("/second"));
    assert_eq!(server.metric("engine_restarts_total"), 0);
}
