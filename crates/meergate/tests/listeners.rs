//! The ways in that need no firewall, users, limits, reload and the end.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::SystemTime;

use program::{Program, run_to_end};
use support::icap::{Icap, Verdict};
use support::{Origin, connect, read_to_end, read_until, text};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn get(stream: &mut TcpStream, origin: SocketAddr) -> String {
    write!(stream, "GET / HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n").unwrap();
    String::from_utf8(read_to_end(stream)).unwrap()
}

fn socks_request(origin: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(v4) = origin else { panic!("not IPv4") };
    let mut request = vec![5, 1, 0, 1];
    request.extend_from_slice(&v4.ip().octets());
    request.extend_from_slice(&v4.port().to_be_bytes());
    request
}

fn exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn socks_target_and_proxy_protocol_lead_to_the_origin() {
    let origin = Origin::answering(OK);
    let log = tempfile::tempdir().unwrap();
    let records = log.path().join("connections.json");
    let program = Program::start(&format!(
        "log.connections = {records:?}\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"socks5\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"target\"\ntarget = \"{0}\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = [\"127.0.0.1\"]\n",
        origin.address
    ));
    let mut socks = connect(program.at("socks5"));
    socks.write_all(b"\x05\x01\x00").unwrap();
    assert_eq!(exactly(&mut socks, 2), b"\x05\x00");
    socks.write_all(&socks_request(origin.address)).unwrap();
    assert_eq!(exactly(&mut socks, 10)[..2], *b"\x05\x00");
    assert!(get(&mut socks, origin.address).ends_with("hello"));

    let mut target = connect(program.at("target"));
    assert!(get(&mut target, origin.address).ends_with("hello"));

    let mut balanced = connect(program.at("proxy"));
    balanced.write_all(b"PROXY TCP4 192.0.2.77 192.0.2.1 4711 8080\r\n").unwrap();
    write!(
        balanced,
        "GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\nConnection: close\r\n\r\n",
        origin.address
    )
    .unwrap();
    assert!(String::from_utf8(read_to_end(&mut balanced)).unwrap().ends_with("hello"));
    let record = support::wait_for("the record", || {
        let text = std::fs::read_to_string(&records).ok()?;
        text.lines().find(|line| line.contains("192.0.2.77:4711")).map(str::to_owned)
    });
    assert!(record.contains("\"local\":\"192.0.2.1:8080\""), "{record}");

    // Without the header, the balancer's connections are not taken.
    let mut bare = connect(program.at("proxy"));
    let _ = write!(bare, "GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address);
    assert_eq!(read_to_end(&mut bare), b"");
}

#[test]
fn users_are_asked_for_their_passwords() {
    let origin = Origin::answering(OK);
    let hash = run_to_end(&["hash-password", "alice"], "secret\n").stdout;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users");
    std::fs::write(&file, hash).unwrap();
    let program = Program::start(&format!(
        "[users]\nfile = {file:?}\nrealm = \"Here\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[rule]]\nuser = [\"alice\"]\npath = [\"/no\"]\naction = \"block\"\n"
    ));
    let ask = |path: &str, authorization: &str| {
        let mut stream = connect(program.at("proxy"));
        write!(
            stream,
            "GET http://{0}{path} HTTP/1.1\r\nHost: {0}\r\n{authorization}Connection: close\r\n\r\n",
            origin.address
        )
        .unwrap();
        String::from_utf8(read_to_end(&mut stream)).unwrap()
    };
    let refused = ask("/", "");
    assert!(refused.starts_with("HTTP/1.1 407 "), "{refused}");
    assert!(refused.contains("Proxy-Authenticate: Basic realm=\"Here\""), "{refused}");
    // alice:wrong
    let wrong = ask("/", "Proxy-Authorization: Basic YWxpY2U6d3Jvbmc=\r\n");
    assert!(wrong.starts_with("HTTP/1.1 407 "), "{wrong}");
    assert!(origin.seen().is_empty(), "nothing may pass without a user");
    // alice:secret
    let right = "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n";
    assert!(ask("/", right).ends_with("hello"));
    let seen = String::from_utf8(origin.seen().concat()).unwrap();
    assert!(!seen.contains("YWxpY2U"), "credentials must not reach origins: {seen}");
    assert!(ask("/no", right).starts_with("HTTP/1.1 403 "));
    assert!(ask("/%6eo", right).starts_with("HTTP/1.1 403 "), "another spelling of the path");
}

#[test]
fn each_request_is_of_the_user_whose_the_connection_is() {
    let origin = Origin::answering(OK);
    let hash = |name: &str| run_to_end(&["hash-password", name], "secret\n").stdout;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users");
    std::fs::write(&file, [hash("alice"), hash("bob")].concat()).unwrap();
    let program = Program::start(&format!(
        "[users]\nfile = {file:?}\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[rule]]\nuser = [\"bob\"]\npath = [\"/no\"]\naction = \"block\"\n"
    ));
    let o = origin.address;
    // alice:secret, bob:secret, alice:wrong
    let (alice, bob, wrong) = ("YWxpY2U6c2VjcmV0", "Ym9iOnNlY3JldA==", "YWxpY2U6d3Jvbmc=");
    let basic = |pair: &str| format!("Proxy-Authorization: Basic {pair}\r\n");
    let same = format!("proxy-authorization:  bASIC   {alice}\r\n");
    for (later, status) in [
        (basic(alice), "200"),
        (same, "200"),
        (basic(bob), "407"),
        (basic(wrong), "407"),
        (String::new(), "407"),
        ("Proxy-Authorization: Bearer x\r\n".to_owned(), "407"),
        (basic(bob) + &basic(alice), "407"),
    ] {
        for tunnel in [false, true] {
            let mut stream = connect(program.at("proxy"));
            let get = |path: &str| format!("GET http://{o}{path} HTTP/1.1\r\nHost: {o}\r\n");
            write!(stream, "{}{}\r\n", get("/"), basic(alice)).unwrap();
            assert!(read_until(&mut stream, b"hello").starts_with(b"HTTP/1.1 200 "));
            let before = origin.seen().concat().len();
            let request = match tunnel {
                true => format!("CONNECT {o} HTTP/1.1\r\nHost: {o}\r\n"),
                false => get("/no"),
            };
            write!(stream, "{request}{later}\r\n").unwrap();
            let answer = read_until(&mut stream, b"\r\n\r\n");
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(answer.split(' ').nth(1), Some(status), "{later}: {answer}");
            if status == "407" {
                assert!(answer.contains("Proxy-Authenticate: Basic"), "{answer}");
                assert_eq!(read_to_end(&mut stream), b"");
                assert_eq!(origin.seen().concat().len(), before);
            }
        }
    }
}

#[test]
fn a_client_gets_as_many_connections_as_it_may() {
    let program = Program::start(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nconnections_per_client = 2\n",
    );
    let _first = connect(program.at("proxy"));
    let second = connect(program.at("proxy"));
    let open = |program: &Program| {
        let text = program.console("/metrics");
        text.lines().any(|line| line == "meergate_connections 2")
    };
    support::wait_for("two open connections", || open(&program).then_some(()));
    let mut third = connect(program.at("proxy"));
    assert_eq!(read_to_end(&mut third), b"");
    let limited = "meergate_limited_total{limit=\"connections_per_client\"} 1";
    assert!(program.console("/metrics").contains(limited));
    drop(second);
    support::wait_for("room", || (!open(&program)).then_some(()));
    let mut fourth = connect(program.at("proxy"));
    fourth.write_all(b"nonsense\r\n\r\n").unwrap();
    assert!(read_to_end(&mut fourth).starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn settings_are_reloaded_while_connections_go_on() {
    let origin = Origin::answering(OK);
    let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
    let program = Program::start(listen);
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address);
    let status = |stream: &mut TcpStream| {
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_until(stream, b"\r\n\r\n");
        String::from_utf8_lossy(&head[9..12]).into_owned()
    };
    let mut kept = connect(program.at("proxy"));
    assert_eq!(status(&mut kept), "200");
    assert_eq!(exactly(&mut kept, 5), b"hello");

    let hosts = program.dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1\n").unwrap();
    program.write_settings(&format!(
        "{listen}[[rule]]\nhost_file = [{hosts:?}]\naction = \"block\"\n"
    ));
    program.signal("HUP");
    program.wait_for_log("settings reloaded", 1);
    assert_eq!(status(&mut connect(program.at("proxy"))), "403");
    assert_eq!(status(&mut kept), "200", "an open connection keeps its settings");

    // Settings that cannot be used change nothing.
    let file = program.dir.path().join("meergate.toml");
    let reload = ["reload", "--config", file.to_str().unwrap()];
    assert_eq!(run_to_end(&reload, "").status.code(), Some(0));
    program.wait_for_log("settings reloaded", 2);
    program.write_settings("nonsense = 1");
    let said = run_to_end(&reload, "");
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("unknown field `nonsense`"));
    program.signal("HUP");
    program.wait_for_log("settings not reloaded", 1);
    // Nor do those that only a reload refuses, and `meergate reload` says so.
    program.write_settings("[[listen]]\naddress = \"127.0.0.1:0\"\n# no rule is left\n");
    let said = run_to_end(&reload, "");
    assert_eq!(said.status.code(), Some(1));
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(told.contains("not reloaded: no rule is left"), "{told}");
    assert_eq!(status(&mut connect(program.at("proxy"))), "403");
    let metrics = program.console("/metrics");
    assert!(metrics.contains("meergate_reloads_total{outcome=\"failed\"} 2"), "{metrics}");

    // A list that changes is noticed without being told.
    program.write_settings(&format!(
        "{listen}[[rule]]\nhost_file = [{hosts:?}]\naction = \"block\"\n"
    ));
    std::fs::write(&hosts, "other.example\n").unwrap();
    program.wait_for_log("a list of hosts changed", 1);
    support::wait_for("the new list", || {
        (status(&mut connect(program.at("proxy"))) == "200").then_some(())
    });
}

#[test]
fn a_reload_takes_over_no_file_that_was_cut() {
    let origin = Origin::answering(OK);
    let icap = Icap::start(|_| Verdict::Pass);
    let hash = run_to_end(&["hash-password", "alice"], "secret\n").stdout;
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    std::fs::write(&users, hash).unwrap();
    let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
    let rule = "[[rule]]\npath = [\"/no\"]\naction = \"block\"\n";
    let users = format!("[users]\nfile = {users:?}\n");
    let icap_settings = icap.settings();
    let all = format!("{listen}{rule}{users}{icap_settings}");
    let program = Program::start(&all);
    let ask = |path: &str| {
        let mut stream = connect(program.at("proxy"));
        let o = origin.address;
        let fields = "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\nConnection: close\r\n";
        write!(stream, "GET http://{o}{path} HTTP/1.1\r\nHost: {o}\r\n{fields}\r\n").unwrap();
        text(&read_to_end(&mut stream))
    };
    assert!(ask("/no").starts_with("HTTP/1.1 403 "));
    let lost = [
        ("no ICAP service", format!("{listen}{rule}{users}# nothing more\n")),
        ("no ICAP service", format!("{listen}{rule}{users}[icap]\n# none\n")),
        ("no ICAP service", format!("{listen}{rule}{users}[icap]\nurls = []\n")),
        ("no rule", format!("{listen}{users}{icap_settings}")),
        ("no users", format!("{listen}{rule}{icap_settings}")),
        ("no users", format!("{listen}{rule}[users]\n{icap_settings}")),
        ("only the beginning", String::new()),
        ("only the beginning", format!("{listen}{rule}")),
        ("a new rule has no condition", format!("{all}[[rule]]\n")),
        ("a new rule has no condition", format!("{all}[[rule]]\naction = \"bypass\"\n")),
        (
            "a new rule has no condition",
            format!("{all}[[rule]]\nhost = [\"*\"]\naction = \"bypass\"\n"),
        ),
        (
            "a new rule has no condition",
            format!("{all}[[rule]]\npath = [\"/*\"]\nhost = [\"*.*\"]\naction = \"bypass\"\n"),
        ),
        (
            "a new rule has no condition",
            format!("{all}[[rule]]\nclient = [\"0.0.0.0/0\", \"::/0\"]\naction = \"bypass\"\n"),
        ),
        (
            "in the default chain",
            format!(
                "{listen}{rule}{users}[[icap.service]]\nname = \"s\"\nurl = \"icap://{}/x\"\n\
             [[icap.chain]]\nname = \"default\"\nservices = []\n\
             [[icap.chain]]\nname = \"other\"\nservices = [\"s\"]\n",
                icap.address
            ),
        ),
    ];
    for (at, (what, settings)) in lost.iter().enumerate() {
        program.write_settings(settings);
        program.signal("HUP");
        program.wait_for_log("settings not reloaded", at + 1);
        assert!(program.has_logged(what), "{what}");
        let before = icap.asked().len();
        assert!(ask("/").ends_with("hello"));
        assert_eq!(icap.asked().len(), before + 2, "{settings}");
        assert!(ask("/no").starts_with("HTTP/1.1 403 "), "{settings}");
    }
    program.write_settings(&all);
    let file = program.dir.path().join("meergate.toml");
    let cut = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, cut.trim_end()).unwrap();
    program.signal("HUP");
    program.wait_for_log("settings not reloaded", lost.len() + 1);
    assert!(program.has_logged("last line has no end"));
    // Said so, it is meant.
    program.write_settings(&format!("{all}[[rule]]\nall = true\naction = \"block\"\n"));
    program.signal("HUP");
    program.wait_for_log("settings reloaded", 1);
    assert!(ask("/").starts_with("HTTP/1.1 403 "));
    program.write_settings(&format!(
        "no_rules = true\n{listen}[users]\nnone = true\n[icap]\nnone = true\n"
    ));
    program.signal("HUP");
    program.wait_for_log("settings reloaded", 2);
    let before = icap.asked().len();
    assert!(ask("/no").ends_with("hello"));
    assert_eq!(icap.asked().len(), before);
    // Both at once is a mistake.
    program.write_settings(&format!("{listen}[icap]\nnone = true\nurls = [\"icap://a/b\"]\n"));
    program.signal("HUP");
    program.wait_for_log("settings not reloaded", lost.len() + 2);
}

#[test]
fn a_reload_takes_over_no_list_that_was_cut() {
    let origin = Origin::answering(OK);
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    let whole = "127.0.0.1\n*.blocked.example\n";
    std::fs::write(&hosts, format!("# none\n{whole}")).unwrap();
    let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
    let rule = format!("[[rule]]\nhost_file = [{hosts:?}]\naction = \"block\"\n");
    let program = Program::start(&format!("{listen}{rule}"));
    let ask = || {
        let mut stream = connect(program.at("proxy"));
        let o = origin.address;
        write!(stream, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n")
            .unwrap();
        text(&read_to_end(&mut stream))
    };
    assert!(ask().starts_with("HTTP/1.1 403 "));
    for (at, (what, cut)) in [
        ("only the beginning", "# none\n"),
        ("last line has no end", "127.0.0.1\n*"),
        ("every host", "127.0.0.1\n*\n"),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(&hosts, cut).unwrap();
        program.signal("HUP");
        program.wait_for_log("settings not reloaded", at + 1);
        assert!(program.has_logged(what), "{what}");
        assert!(ask().starts_with("HTTP/1.1 403 "), "{what}");
    }
    std::fs::write(&hosts, "*.blocked.example\n").unwrap();
    program.signal("HUP");
    program.wait_for_log("settings reloaded", 1);
    assert!(ask().ends_with("hello"));
}

#[test]
fn it_stops_when_open_connections_end() {
    let origin = Origin::start(|asked| {
        asked.head();
        asked.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfirst").unwrap();
        // The rest comes when the test closes its end of a side channel: never before the signal.
        std::thread::sleep(std::time::Duration::from_millis(300));
        asked.stream.write_all(b"end").unwrap();
    });
    let mut program = Program::start(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nshutdown_timeout = \"60s\"\n",
    );
    let proxy = program.at("proxy");
    let mut stream = connect(proxy);
    write!(stream, "GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address).unwrap();
    read_until(&mut stream, b"first");
    program.signal("TERM");
    program.wait_for_log("stopping", 1);
    assert_eq!(exactly(&mut stream, 3), b"end");
    drop(stream);
    assert!(program.wait_for_end());
    assert!(TcpStream::connect(proxy).is_err());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut program = Program::start(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nshutdown_timeout = \"1h\"\n",
    );
    let mut stuck = connect(program.at("proxy"));
    stuck.write_all(b"GET http://a.example/ HTTP/1.1\r\n").unwrap();
    support::wait_for("the connection", || {
        program.console("/metrics").contains("meergate_connections 1").then_some(())
    });
    program.signal("TERM");
    program.wait_for_log("stopping", 1);
    assert!(!program.has_ended());
    program.signal("TERM");
    assert!(program.wait_for_end());
}

#[test]
fn the_console_shows_state_and_gives_the_ca_away() {
    let program = Program::start("[[listen]]\naddress = \"127.0.0.1:0\"\n");
    let page = program.console("/");
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    assert!(page.contains(&program.at("proxy").to_string()), "{page}");
    assert!(page.contains("no ICAP service is set"), "{page}");
    let pem = std::fs::read_to_string(program.authority()).unwrap();
    assert!(program.console("/ca.pem").ends_with(&pem));
    assert!(!program.console("/ca.pem").contains("PRIVATE"));
    assert!(program.console("/nothing").starts_with("HTTP/1.1 404 "));
}

#[test]
fn metrics_say_when_the_ca_ends() {
    let program = Program::start("[[listen]]\naddress = \"127.0.0.1:0\"\n");
    let metrics = program.console("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix("meergate_ca_expires_seconds "));
    let expires: u64 = line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let years = expires.saturating_sub(now) / (365 * 86_400);
    assert!((9..=10).contains(&years), "{expires}");
}

#[test]
fn a_reload_says_what_only_a_start_changes() {
    let program = Program::start("[[listen]]\naddress = \"127.0.0.1:0\"\n");
    program.write_settings(
        "user = \"nobody\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n[sandbox]\nread = [\"/none\"]\n",
    );
    program.signal("HUP");
    program.wait_for_log("settings reloaded", 1);
    for key in ["user", "sandbox"] {
        assert!(program.has_logged(&format!("\"key\":\"{key}\"")), "{key}");
    }
    assert!(!program.has_logged("\"key\":\"listen\""));
}

/// Clients that come all the time, with connections of one request and of several, while `change`
/// runs: each gets its answers.
fn under_load(proxy: SocketAddr, request: &str, change: impl FnOnce()) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stopped = || stop.load(std::sync::atomic::Ordering::SeqCst);
    let ask = |stream: &mut TcpStream| {
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_until(stream, b"\r\n\r\n");
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
        assert_eq!(exactly(stream, 5), b"hello");
        // It says so when a connection is not to be used again.
        !String::from_utf8_lossy(&head).contains("Connection: close")
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                scope.spawn(move || {
                    let mut answers = 0;
                    while !stopped() {
                        let mut stream = connect(proxy);
                        let rounds = if number % 2 == 0 { 1 } else { 20 };
                        let kept = (0..rounds).take_while(|_| ask(&mut stream)).count();
                        answers += kept.max(1);
                    }
                    answers
                })
            })
            .collect();
        change();
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
}

#[test]
fn twenty_reloads_under_load_fail_no_transaction() {
    let origin = Origin::answering(OK);
    let program = Program::start("[[listen]]\naddress = \"127.0.0.1:0\"\n");
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address);
    under_load(program.at("proxy"), &request, || {
        for round in 1..=20 {
            program.write_settings(&format!(
                "[[listen]]\naddress = \"127.0.0.1:0\"\n[[rule]]\nname = \"round {round}\"\nall = true\n"
            ));
            program.signal("HUP");
            program.wait_for_log("settings reloaded", round);
        }
    });
    let metrics = program.console("/metrics");
    assert!(metrics.contains("meergate_reloads_total{outcome=\"ok\"} 20"), "{metrics}");
}

#[test]
fn a_successor_takes_over_without_a_refused_connection() {
    let origin = Origin::answering(OK);
    let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
    let mut program = Program::start(listen);
    let proxy = program.at("proxy");
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address);
    under_load(proxy, &request, || {
        for _ in 0..20 {
            let mut former = program.replace();
            assert!(former.wait_for_end(), "the former one ends by itself");
            assert_eq!(program.at("proxy"), proxy);
        }
    });
    let file = program.dir.path().join("meergate.toml");
    support::wait_for("the last one to be marked", || {
        let output = run_to_end(&["reload", "--config", file.to_str().unwrap()], "");
        output.status.success().then_some(())
    });
    program.wait_for_log("settings reloaded", 1);
    program.signal("TERM");
    assert!(program.wait_for_end());
    let alone = run_to_end(&["run", "--replace", "--config", file.to_str().unwrap()], "");
    assert!(String::from_utf8_lossy(&alone.stderr).contains("start without --replace"));
}

#[test]
fn it_serves_with_few_rights() {
    let origin = Origin::answering(OK);
    let is_root = std::fs::read("/etc/shadow").is_ok();
    let user = if is_root { "user = \"nobody\"\n" } else { "" };
    let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
    let program = Program::start(&format!("{user}{listen}"));
    let status = program.status();
    assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
    assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    if is_root {
        assert!(!status.contains("\nUid:\t0\t"), "{status}");
        assert!(status.contains("\nCapPrm:\t0000000000000000\n"), "{status}");
        assert!(status.contains("\nGroups:\t \n"), "{status}");
    } else {
        eprintln!("SKIPPED in part: only root can become somebody else");
    }
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address);
    let mut stream = connect(program.at("proxy"));
    stream.write_all(request.as_bytes()).unwrap();
    assert!(read_until(&mut stream, b"hello").starts_with(b"HTTP/1.1 200 "));

    if program.has_logged("landlock is off") {
        eprintln!("SKIPPED in part: this kernel has no landlock");
        return;
    }
    // Files that the settings did not name at the start are out of reach.
    let elsewhere = tempfile::tempdir().unwrap();
    let list = elsewhere.path().join("hosts");
    std::fs::write(&list, "a.example\n").unwrap();
    std::fs::set_permissions(elsewhere.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::fs::set_permissions(
        program.dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    program.write_settings(&format!("{user}{listen}[[rule]]\nhost_file = [{list:?}]\n"));
    program.signal("HUP");
    program.wait_for_log("settings not reloaded", 1);
    // The CA, which is the program's own, is not: settings without that list are read.
    program.write_settings(&format!("{user}{listen}"));
    program.signal("HUP");
    program.wait_for_log("settings reloaded", 1);
}
