//! Settings that are wrong, as people have written them: `check` refuses each, says what is wrong beside what to do about it, and
//! tells of all of them at once; and it accepts nothing that `run` refuses.

use std::fs;
use std::path::Path;

use e2e::pki::Authority;
use e2e::programs::run_to_end;
use tempfile::TempDir;

const GATEWAY: &str = "meergate";
const INSPECTOR: &str = "meergate-inspector";

/// Settings, and what has to be said of them on one line.
type Case = (&'static str, &'static [&'static str]);

const OF_GATEWAY: [Case; 63] = [
    ("nonsense = 1", &["s.toml:1:1: unknown field `nonsense`", "docs/settings.md"]),
    ("\n[limits]\nconections = 1", &["s.toml:3:1: unknown field `conections`", "connections"]),
    ("[limits]\nconnections = \"many\"", &["s.toml:2:15: ", "\"many\""]),
    ("[limits]\nconnections = -1", &["s.toml:2:15: ", "-1"]),
    ("[limits]\nidle_timeout = \"soon\"", &["s.toml:2:16: ", "soon"]),
    ("[http]\nmax_head = \"big\"", &["s.toml:2:12: ", "big"]),
    ("[http]\nranges = \"all\"", &["s.toml:2:10: ", "`all`", "overlap"]),
    ("[limits", &["s.toml:1:", "]"]),
    ("[limits]\nconnections = 1\nconnections = 2", &["s.toml:3:1: ", "duplicate key"]),
    ("[log]\nconnections = 1", &["s.toml:2:15: ", "path string"]),
    ("[[listen]]\naddress = \"nowhere\"", &["s.toml:2:11: ", "socket address"]),
    ("[[listen]]\naddress = \"127.0.0.1\"", &["s.toml:2:11: ", "socket address"]),
    ("[[listen]]\nkind = \"proxy\"", &["s.toml:1:1: missing field `address`"]),
    ("[[listen]]\naddress = \"[::1]:0\"\nkind = \"magic\"", &["s.toml:3:8: ", "`magic`", "tproxy"]),
    ("[[listen]]\naddress = \"[::1]:0\"\nkind = \"target\"", &["needs `target = \"host:port\"`"]),
    ("[[listen]]\naddress = \"[::1]:0\"\ntarget = \"a:1\"", &["`target` is for listeners of kind"]),
    ("[[listen]]\naddress = \"[::1]:0\"\nkind = \"sni\"\nport = 0", &["`port` is 1 to 65535"]),
    ("[[listen]]\naddress = \"[::1]:0\"\nkind = \"redirect\"\nports = []", &["at least one port"]),
    ("[[listen]]\naddress = \"[::1]:0\"\ntls_min = \"1.1\"", &["s.toml:3:11: ", "`1.1`", "`1.2`"]),
    (
        "[[listen]]\naddress = \"127.0.0.1:9\"\n[[listen]]\naddress = \"127.0.0.1:9\"",
        &["twice", "of its own"],
    ),
    (
        "[console]\naddress = \"203.0.113.1:9\"",
        &["203.0.113.1:9", "console.address", "of this machine"],
    ),
    ("user = \"nobody-of-that-name\"", &["no such user", "nobody-of-that-name"]),
    (
        "[log]\nconnections = \"/no-such-folder/a\"",
        &["/no-such-folder", "log.connections", "make the folder"],
    ),
    ("[log]\ntransactions = \"/no-such-folder/a\"", &["log.transactions", "make the folder"]),
    (
        "[capture]\nfolder = \"/no-such-folder\"",
        &["/no-such-folder", "capture.folder", "make the folder"],
    ),
    ("[tls]\nmin = \"1.0\"", &["s.toml:2:7: ", "`1.0`", "`1.2`"]),
    ("[tls]\nmin = \"1.3\"\nmax = \"1.2\"", &["newer than the newest", "tls.min and tls.max"]),
    ("[tls]\nkeylog = \"/no-such-folder/k\"", &["/no-such-folder/k"]),
    ("[tls]\ncrl_url = \"https://a.test/\"", &["s.toml:2:11: ", "http"]),
    ("[ca]\ncert = \"/no-such-file\"\nkey = \"/no-such-key\"", &["/no-such-file"]),
    ("[upstream]\nca = [\"/no-such-file\"]", &["/no-such-file"]),
    ("[upstream]\nintermediates = [\"/no-such-file\"]", &["/no-such-file"]),
    ("[upstream]\nproxy = \"other\"", &["other", "upstream.proxy", "[[upstream_proxy]]"]),
    ("[[upstream_proxy]]\nname = \"a\"\nurl = \"ftp://a.test\"", &["s.toml:", "ftp"]),
    ("[users]\nfile = \"/no-such-file\"", &["/no-such-file", "name:hash"]),
    ("[destinations]\nallow = [\"10.0.0.0/33\"]", &["s.toml:2:", "10.0.0.0/33"]),
    ("[destinations]\nconnect_ports = [\"1-70000\"]", &["s.toml:2:", "70000"]),
    ("[icap]\nurls = [\"http://127.0.0.1/x\"]", &["http://127.0.0.1/x"]),
    ("[icap]\nurls = [\"icap://127.0.0.1:99999/x\"]", &["icap://127.0.0.1:99999/x"]),
    (
        "[icap]\nnone = true\nurls = [\"icap://127.0.0.1/x\"]",
        &["icap.none", "leave one of the two out"],
    ),
    ("[[icap.service]]\nurl = \"icap://a.test/x\"", &["s.toml:1:1: missing field `name`"]),
    (
        "[[icap.service]]\nname = \"a\"\nurl = \"icap://a.test/x\"\nfail = \"maybe\"",
        &["s.toml:4:8: "],
    ),
    ("[[icap.chain]]\nname = \"a\"\nservices = [\"other\"]", &["other"]),
    ("no_rules = true\n[[rule]]\nport = [1]", &["no_rules", "leave one of the two out"]),
    ("[[rule]]\naction = \"deny\"", &["s.toml:2:10: ", "`deny`", "`block`"]),
    ("[[rule]]\nclient = [\"10.0.0.0/33\"]", &["s.toml:2:", "10.0.0.0/33"]),
    ("[[rule]]\ncertificate_fingerprint = [\"xyz\"]", &["s.toml:2:", "xyz"]),
    ("[[rule]]\ninvalid_certificate = \"ignore\"", &["s.toml:2:23: ", "`ignore`", "`mimic`"]),
    ("[[rule]]\ntls_min = \"1.3\"\ntls_max = \"1.2\"", &["newer than the newest", "rule 1"]),
    ("[[rule]]\nhost = [\"a.test:443\"]", &["\"a.test:443\"", "rule 1"]),
    ("[[rule]]\nhost = [\"https://a.test/\"]", &["\"https://a.test/\"", "rule 1"]),
    ("[[rule]]\nhost_file = [\"/no-such-file\"]", &["/no-such-file", "name a readable file"]),
    ("[[rule]]\nchain = \"other\"", &["no [[icap.chain]] named \"other\"", "rule 1"]),
    ("[[rule]]\nupstream_proxy = \"other\"", &["no [[upstream_proxy]] named \"other\"", "rule 1"]),
    (
        "[[rule]]\nclient_certificate = \"other\"",
        &["no [[client_certificate]] \"other\"", "rule 1"],
    ),
    ("[[rule]]\ncapture = true", &["capture.folder is not set", "rule 1"]),
    ("[[rule]]\nall = true\nport = [1]", &["says that it is for all", "rule 1"]),
    ("[[rule]]\nmethod = [\"get\"]", &["\"get\"", "write \"GET\""]),
    ("[[rule]]\npath = [\"admin/*\"]", &["\"admin/*\"", "begin it with /"]),
    ("[[rule]]\npath = [\"/a?b\"]", &["leave the query out"]),
    ("[[rule]]\ncontent_type = [\"text/html; charset=utf-8\"]", &["without parameters"]),
    ("[[rule]]\nuser = [\"anna\"]", &["nobody is asked for a name", "set users.file"]),
    (
        "[[rule]]\nall = true\n[[rule]]\nname = \"b\"\nport = [1]",
        &["never reached", "\"b\"", "put it before"],
    ),
];

const OF_INSPECTOR: [Case; 22] = [
    ("RULES\nnonsense = 1", &["s.toml:2:1: unknown field `nonsense`", "correct or remove"]),
    ("RULES\nhold = \"x\"", &["s.toml:2:8: ", "\"x\"", "MiB"]),
    ("RULES\nworkers = -1", &["s.toml:2:11: ", "-1"]),
    ("RULES\nlisten = [\"nowhere\"]", &["s.toml:2:", "nowhere"]),
    ("RULES\n[content]\nparts = \"refuse\"", &["s.toml:3:9: ", "`refuse`", "`block`"]),
    ("RULES\n[suricata]\n\"stream.midstream\" = true", &["s.toml:3:22: ", "a string"]),
    ("RULES\n[limits]\nper_client_percent = 0", &["limits.per_client_percent", "1 to 100"]),
    ("RULES\n[limits]\nstream_window = 0", &["limits.stream_window", "from 1 to"]),
    ("RULES\nlisten = []", &["nothing to listen on", "at least one address"]),
    ("RULES\nlisten = [\"icaps://127.0.0.1:0\"]", &["tls.cert and tls.key"]),
    ("RULES\n[tls]\ncert = \"a\"\nkey = \"b\"", &["nothing listens with TLS", "icaps://"]),
    (
        "RULES\nlisten = [\"icaps://[::1]:0\"]\n[tls]\ncert = \"/no-such-file\"\nkey = \"b\"",
        &["/no-such-file"],
    ),
    (
        "RULES\nlisten = [\"127.0.0.1:9\", \"127.0.0.1:9\"]",
        &["127.0.0.1:9 is there twice", "leave one"],
    ),
    ("RULES\neve = \"/no-such-folder/eve.json\"", &["/no-such-folder", "eve: make the folder"]),
    ("RULES\ncontrol = \"/no-such-folder/c\"", &["/no-such-folder", "control: make the folder"]),
    ("RULES\nuser = \"nobody-of-that-name\"", &["nobody-of-that-name", "user: "]),
    ("listen = [\"127.0.0.1:0\"]", &["nothing would be inspected", "--rules"]),
    ("rules = [\"/no-such-file\"]", &["/no-such-file", "name a file that exists"]),
    ("rules = [\"FOLDER\"]", &["is a folder", "name the rule files in it"]),
    ("rules = [\"FOLDER/empty\"]", &["empty"]),
    (
        "rules = [\"FOLDER/bad\"]",
        &["2 rules do not parse", "bad:1: ", "no_such", "bad:3: ", "nor_such"],
    ),
    ("suricata_yaml = \"/no-such-file\"", &["/no-such-file", "name a file that exists"]),
];

/// What a program says of settings on standard error, and whether it accepts them.
fn check(program: &str, folder: &Path, text: &str) -> (bool, Vec<String>) {
    let rules = format!("rules = [{:?}]", e2e::programs::test_rules().display().to_string());
    let text = text.replace("RULES", &rules).replace("FOLDER", folder.to_str().unwrap());
    let mut text = format!("{text}\n");
    if program == GATEWAY && !text.contains("address") {
        text.push_str("[[listen]]\naddress = \"127.0.0.1:0\"\n");
    }
    let config = folder.join("s.toml");
    fs::write(&config, text).unwrap();
    let state = folder.join("state");
    let mut words = vec!["check".into(), "--config".into(), config.into_os_string()];
    if program == GATEWAY {
        words.extend(["--state-dir".into(), state.into_os_string()]);
    }
    let output = run_to_end(program, &words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let start = format!("{program}: ");
    let told = said.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned);
    (output.status.success(), told.collect())
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    Authority::new("Test").write(folder.path());
    fs::write(folder.path().join("empty"), "# nothing\n").unwrap();
    let bad = "drop http any any -> any any (no_such; sid:1;)\n\
               drop http any any -> any any (msg:\"good\"; sid:2;)\n\
               drop http any any -> any any (nor_such; sid:3;)\n";
    fs::write(folder.path().join("bad"), bad).unwrap();
    folder
}

#[test]
fn what_is_wrong_is_said_beside_what_to_do() {
    let folder = folder();
    let of_gateway = OF_GATEWAY.iter().map(|case| (GATEWAY, case));
    let cases = of_gateway.chain(OF_INSPECTOR.iter().map(|case| (INSPECTOR, case)));
    let mut wrong = Vec::new();
    for (program, (text, words)) in cases {
        let (accepted, told) = check(program, folder.path(), text);
        let [line] = &told[..] else {
            wrong.push(format!("{text:?}: {told:#?}, accepted: {accepted}"));
            continue;
        };
        if accepted || !words.iter().all(|word| line.contains(word)) {
            wrong.push(format!("{text:?}: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_that_is_wrong_is_told_in_one_run() {
    let folder = folder();
    let (accepted, told) = check(
        GATEWAY,
        folder.path(),
        "user = 7\n[limits]\nconections = 1\nconnections = \"x\"\n[[rule]]\naction = \"deny\"\n\
         [[rule]]\nclient = [\"::/0\", \"a\"]\n[htp]\n",
    );
    let places: Vec<_> = told.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let places: Vec<_> =
        places.iter().map(|place| place.rsplit("s.toml:").next().unwrap()).collect();
    assert!(!accepted);
    assert_eq!(places[..4], ["1:8", "3:1", "4:15", "6:10"], "{told:#?}");
    assert_eq!(places.len(), 6, "{told:#?}");

    let (accepted, told) = check(
        GATEWAY,
        folder.path(),
        "user = \"nobody-of-that-name\"\n[upstream]\nca = [\"/no-such-file\"]\n[log]\nconnections = \"/no-such/a\"\n\
         [[rule]]\nhost = [\"a b\"]\n[[rule]]\nchain = \"other\"\n[[rule]]\nmethod = [\"get\"]\n\
         [users]\nfile = \"/no-such-users\"\n",
    );
    assert!(!accepted);
    for words in
        ["no such user", "/no-such-file", "\"a b\"", "\"other\"", "\"get\"", "/no-such-users"]
    {
        assert!(told.iter().any(|line| line.contains(words)), "{words}: {told:#?}");
    }

    let (accepted, told) = check(
        INSPECTOR,
        folder.path(),
        "rules = [\"FOLDER/bad\"]\neve = \"/no-such-folder/eve.json\"\nuser = \"nobody-of-that-name\"\n",
    );
    assert!(!accepted && told.len() == 3, "{told:#?}");
}
