//! Three network namespaces: clients, the gateway between, and a server. Clients know of no proxy;
//! netfilter brings their connections to the gateway by the rules of `meergate nft`.
//!
//! Needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN); without it each test says so and checks nothing.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::demo::sid;
use e2e::pki::Authority;
use e2e::programs::{binary, test_rules};
use e2e::{Process, content, peers};
use serde_json::Value;
use tempfile::TempDir;

/// Addresses: the client, the gateway on both sides, the server.
const CLIENT: [&str; 2] = ["10.201.1.2", "fd00:201:1::2"];
const INSIDE: [&str; 2] = ["10.201.1.1", "fd00:201:1::1"];
const OUTSIDE: [&str; 2] = ["10.201.2.1", "fd00:201:2::1"];
const SERVER: [&str; 2] = ["10.201.2.2", "fd00:201:2::2"];

/// The client's interface of the gateway.
const INTERFACE: &str = "inside";

/// What is dropped in streams.
const PLANTED: &str = "x-planted-signature-x";

struct Network {
    names: [String; 3],
}

impl Network {
    /// `None`, with a reason on stderr, where namespaces or netfilter are not to be had.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let names = ["client", "gateway", "server"].map(|name| format!("mg-{name}-{id}"));
        // Missing programs are a fault of the machine's setup, missing rights are not.
        for name in ["ip", "nft", "sysctl"] {
            peers::program(name);
        }
        let first = ip(&["netns", "add", &names[0]]);
        if !first.status.success() {
            eprintln!("SKIPPED: no namespace can be made: {}", text(&first.stderr));
            return None;
        }
        let network = Self { names };
        network.build();
        Some(network)
    }

    fn build(&self) {
        let [client, gateway, server] = &self.names;
        for name in [gateway, server] {
            must(ip(&["netns", "add", name]));
        }
        for (far, own, peer) in [(client, INTERFACE, "c0"), (server, "outside", "s0")] {
            must(ip(&[
                "link", "add", own, "netns", gateway, "type", "veth", "peer", "name", peer,
                "netns", far,
            ]));
        }
        for (name, interface, addresses) in [
            (client, "c0", CLIENT),
            (gateway, INTERFACE, INSIDE),
            (gateway, "outside", OUTSIDE),
            (server, "s0", SERVER),
        ] {
            must(ip(&["-n", name, "link", "set", "lo", "up"]));
            must(ip(&["-n", name, "link", "set", interface, "up"]));
            let [v4, v6] = addresses;
            must(ip(&["-n", name, "addr", "add", &format!("{v4}/24"), "dev", interface]));
            let v6 = format!("{v6}/64");
            must(ip(&["-n", name, "addr", "add", &v6, "dev", interface, "nodad"]));
        }
        for (name, via) in [(client, INSIDE), (server, OUTSIDE)] {
            must(ip(&["-n", name, "route", "add", "default", "via", via[0]]));
            must(ip(&["-n", name, "-6", "route", "add", "default", "via", via[1]]));
        }
        for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            must(self.inside(gateway, "sysctl").args(["-q", "-w", setting]).output().unwrap());
        }
    }

    fn inside(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name, program]);
        command
    }

    fn client(&self, program: &str) -> Command {
        self.inside(&self.names[0], program)
    }

    fn gateway(&self, program: &str) -> Command {
        self.inside(&self.names[1], program)
    }

    fn server(&self, program: &str) -> Command {
        self.inside(&self.names[2], program)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "del", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Output {
    Command::new("ip").args(arguments).output().unwrap()
}

fn must(output: Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything that runs in the network.
struct Setup {
    network: Network,
    gateway: Process,
    _inspector: Process,
    _server: Process,
    folder: TempDir,
}

impl Setup {
    /// With one listener of these settings.
    fn start(listener: &str) -> Option<Self> {
        let network = Network::new()?;
        let folder = TempDir::new().unwrap();
        let at = folder.path();
        let authority = Authority::new("Test origins");
        let names = ["server.test", SERVER[0], SERVER[1]];
        let (certificates, key) = authority.leaf(&names).write(at);
        fs::write(at.join("origins.pem"), authority.pem()).unwrap();

        let documents = at.join("documents");
        fs::create_dir(&documents).unwrap();
        fs::write(documents.join("clean"), content::noise(1, 300_000)).unwrap();
        fs::write(documents.join("bad"), content::eicar()).unwrap();
        let nginx = format!(
            "daemon off; user root; worker_processes 1; pid {at}/pid; error_log stderr warn;
             events {{ worker_connections 1024; }}
             http {{ access_log off; root {at}/documents;
               server {{ listen 80; listen [::]:80; listen 443 ssl; listen [::]:443 ssl;
                 ssl_certificate {}; ssl_certificate_key {};
                 location = /who {{ return 200 \"$remote_addr\"; }} }} }}",
            certificates.display(),
            key.display(),
            at = at.display(),
        );
        fs::write(at.join("nginx.conf"), nginx).unwrap();
        let nginx = peers::program("nginx").display().to_string();
        let mut command = network.server(&nginx);
        command.arg("-p").arg(at).args(["-e", "stderr", "-c"]).arg(at.join("nginx.conf"));
        let mut server = Process::start("nginx", &mut command);
        let probe = |family: &str| {
            let mut curl = network.server("curl");
            curl.args(["-s", "-o", "/dev/null", &format!("http://{family}/who")]);
            curl.status().unwrap().success()
        };
        server.wait_until("nginx to serve", || probe("127.0.0.1") && probe("[::1]"));

        let inspector = binary("meergate-inspector").display().to_string();
        let mut command = network.gateway(&inspector);
        command.args(["run", "--listen", "127.0.0.1:1344", "--eve"]).arg(at.join("eve.json"));
        command.arg("--rules").arg(test_rules());
        let rule = format!(
            "drop tcp any any -> any any (msg:\"planted\"; content:\"{PLANTED}\"; sid:4711001; rev:1;)\n"
        );
        fs::write(at.join("streams.rules"), rule).unwrap();
        command.arg("--rules").arg(at.join("streams.rules"));
        let mut inspector = Process::start("meergate-inspector", &mut command);
        inspector.wait_for_line("ready");

        let settings = format!(
            "state_dir = {state:?}\n[[listen]]\n{listener}\n[console]\naddress = \"off\"\n\
             [upstream]\nca = [{ca:?}]\n[icap]\nurls = [\"icap://127.0.0.1:1344/suricata\"]\n\
             [log]\ntransactions = {log:?}\nconnections = {connections:?}\n\
             [firewall]\napply = true\ninterfaces = [\"{INTERFACE}\"]\n",
            state = at.join("state"),
            ca = at.join("origins.pem"),
            log = at.join("transactions.json"),
            connections = at.join("connections.json"),
        );
        fs::write(at.join("meergate.toml"), settings).unwrap();
        let meergate = binary("meergate").display().to_string();
        let mut command = network.gateway(&meergate);
        command.args(["run", "--config"]).arg(at.join("meergate.toml"));
        let mut gateway = Process::start("meergate", &mut command);
        gateway.wait_for_line("ready");
        Some(Self { network, gateway, _inspector: inspector, _server: server, folder })
    }

    /// curl at the client, on its way to `https://server.test` or `http://server.test` at the
    /// server's address of one family (0 for IPv4, 1 for IPv6).
    fn curl(&self, family: usize, url: &str) -> Command {
        let server = if family == 0 { SERVER[0].to_owned() } else { format!("[{}]", SERVER[1]) };
        let mut curl = self.network.client("curl");
        curl.args(["-sS", "--max-time", "100", "--noproxy", "*", "--cacert"])
            .arg(self.folder.path().join("state/ca.pem"))
            .args(["--connect-to", &format!("server.test::{server}:"), url])
            .stdin(Stdio::null());
        curl
    }

    fn fetch(&self, family: usize, url: &str) -> Vec<u8> {
        let output = self.curl(family, url).output().unwrap();
        assert!(output.status.success(), "{url}: {}", text(&output.stderr));
        output.stdout
    }

    fn status(&self, family: usize, url: &str) -> String {
        let output =
            self.curl(family, url).args(["-o", "/dev/null", "-w", "%{http_code}"]).output();
        text(&output.unwrap().stdout)
    }

    fn records(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let path: PathBuf = self.folder.path().join(name);
        let mut found = Vec::new();
        self.gateway.wait_until("a record", || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            found = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            found.retain(&wanted);
            !found.is_empty()
        });
        found
    }

    /// What must hold however connections come in. `seen` is the client as the server sees it.
    fn check(&mut self, seen: [&str; 2]) {
        let clean = content::noise(1, 300_000);
        for family in [0, 1] {
            for scheme in ["http", "https"] {
                let url = |path: &str| format!("{scheme}://server.test{path}");
                assert_eq!(text(&self.fetch(family, &url("/who"))), seen[family], "{scheme}");
                assert!(self.fetch(family, &url("/clean")) == clean, "{scheme}, {family}");
                assert_eq!(self.status(family, &url("/bad")), "403", "{scheme}, {family}");
            }
            // The engine sees who talks to whom, on the ports that they use.
            let drops = self.records("eve.json", |event| {
                event["alert"]["signature_id"] == sid::DOWNLOAD
                    && [&event["src_ip"], &event["dest_ip"]]
                        .into_iter()
                        .any(|ip| *ip == CLIENT[family] || same_address(ip, CLIENT[family]))
            });
            for event in &drops {
                let ends = [&event["src_ip"], &event["dest_ip"]];
                assert!(ends.into_iter().any(|ip| same_address(ip, SERVER[family])), "{event}");
                let ports = [&event["src_port"], &event["dest_port"]];
                assert!(ports.into_iter().any(|port| *port == 80 || *port == 443), "{event}");
            }
        }
    }

    /// A connection to the listener itself would lead back to it for ever.
    fn refuses_itself(&mut self, port: u16) {
        for inside in [INSIDE[0].to_owned(), format!("[{}]", INSIDE[1])] {
            let url = format!("http://{inside}:{port}/");
            let mut curl = self.network.client("curl");
            let output = curl.args(["-sS", "--max-time", "100", &url]).output().unwrap();
            // Reset or empty, at once: neither an answer nor the time limit.
            assert!(matches!(output.status.code(), Some(52 | 56)), "{}", text(&output.stderr));
        }
        self.gateway.wait_for_line("to this listener itself");
    }

    /// What the logs say of every connection: who came, and whom it was for.
    fn check_records(&mut self) {
        for family in [0, 1] {
            for scheme in ["http", "https"] {
                let port = if scheme == "http" { 80 } else { 443 };
                let ends = |record: &Value, client: &str, server: &str| {
                    let at = |name: &str| record[name].as_str().and_then(|a| a.parse().ok());
                    let (Some(from), Some(to)): (Option<SocketAddr>, Option<SocketAddr>) =
                        (at(client), at(server))
                    else {
                        return false;
                    };
                    from.ip().to_canonical() == ip_of(CLIENT[family])
                        && to.ip().to_canonical() == ip_of(SERVER[family])
                        && to.port() == port
                };
                self.records("transactions.json", |record| ends(record, "client", "server"));
                self.records("connections.json", |record| ends(record, "client", "local"));
            }
        }
        // Nobody else is in them.
        for file in ["transactions.json", "connections.json"] {
            let text = fs::read_to_string(self.folder.path().join(file)).unwrap();
            for line in text.lines() {
                let record: Value = serde_json::from_str(line).unwrap();
                let client: SocketAddr = record["client"].as_str().unwrap().parse().unwrap();
                let client = client.ip().to_canonical();
                assert!(CLIENT.iter().any(|known| ip_of(known) == client), "{line}");
            }
        }
    }

    /// 64 clients at once, half of either family, all get the right bytes.
    fn crowd(&self) {
        let clean = content::noise(1, 300_000);
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..64)
                .map(|n| scope.spawn(move || self.fetch(n % 2, "https://server.test/clean")))
                .collect();
            for one in all {
                assert!(one.join().unwrap() == clean);
            }
        });
    }
}

fn ip_of(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn same_address(value: &Value, address: &str) -> bool {
    let parse = |text: &str| text.parse::<IpAddr>().ok();
    value.as_str().and_then(parse) == parse(address)
}

#[test]
fn redirected_connections_are_inspected() {
    let listener = "kind = \"redirect\"\naddress = \"[::]:3129\"";
    let Some(mut setup) = Setup::start(listener) else { return };
    setup.check(OUTSIDE);
    setup.crowd();
    setup.check_records();

    setup.refuses_itself(3129);

    // What was set is removed again.
    setup.gateway.terminate();
    assert!(setup.gateway.wait_for_end().success());
    let left = setup.network.gateway("nft").args(["list", "tables"]).output().unwrap();
    assert_eq!(text(&left.stdout), "", "{}", setup.gateway.log());
}

#[test]
fn diverted_connections_are_inspected() {
    let listener = "kind = \"tproxy\"\naddress = \"[::]:3130\"";
    let Some(mut setup) = Setup::start(listener) else { return };
    setup.check(OUTSIDE);
    setup.crowd();
    setup.check_records();
    setup.refuses_itself(3130);
}

#[test]
fn the_server_sees_the_client_where_that_is_set() {
    let listener = "kind = \"tproxy\"\naddress = \"[::]:3130\"\nkeep_client_address = true";
    let Some(mut setup) = Setup::start(listener) else { return };
    setup.check(CLIENT);
    setup.crowd();
    setup.check_records();
    setup.gateway.terminate();
    assert!(setup.gateway.wait_for_end().success());
    let rules = ip(&["-n", &setup.network.names[1], "rule", "show"]);
    assert!(!text(&rules.stdout).contains("0x6d67"));
}

/// A server that speaks first and echoes, and a client of its that says whether it was cut.
const SERVER_OF_STREAMS: &str = "\
import socket, threading
def serve(connection):
    connection.sendall(b'<hello>')
    while (got := connection.recv(65536)):
        connection.sendall(got)
    connection.shutdown(socket.SHUT_WR)
listener = socket.create_server(('::', 5555), family=socket.AF_INET6, dualstack_ipv6=True)
print('listening', flush=True)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]]).start()
";
const CLIENT_OF_STREAMS: &str = "\
import socket, sys
connection = socket.create_connection((sys.argv[1], 5555), timeout=100)
got = b''
while len(got) < 7:
    got += connection.recv(7 - len(got))
assert got == b'<hello>', got
sent = sys.argv[2].encode() * 1000 if sys.argv[3] == 'clean' else sys.argv[2].encode()
connection.sendall(sent)
got = b''
try:
    while len(got) < len(sent) and (piece := connection.recv(65536)):
        got += piece
    connection.shutdown(socket.SHUT_WR)
    print('same' if got == sent and connection.recv(1) == b'' else 'other')
except ConnectionResetError:
    print('cut', len(got) < len(sent))
";

#[test]
fn streams_are_inspected_however_netfilter_brings_them() {
    let rest = "address = \"[::]:3130\"\nports = [80, 443, 5555]\nprotocol = \"any\"";
    for kind in ["redirect", "tproxy"] {
        let Some(mut setup) = Setup::start(&format!("kind = \"{kind}\"\n{rest}")) else { return };
        let mut command = setup.network.server("/usr/bin/python3");
        let mut server = Process::start("python", command.args(["-c", SERVER_OF_STREAMS]));
        server.wait_for_line("listening");
        for (family, server) in SERVER.iter().enumerate() {
            let talk = |text: &str, kind: &str| {
                let mut client = setup.network.client("/usr/bin/python3");
                client.args(["-c", CLIENT_OF_STREAMS, server, text, kind]);
                let output = client.output().unwrap();
                self::text(&output.stdout) + &self::text(&output.stderr)
            };
            assert_eq!(talk("a line\n", "clean"), "same\n", "{kind}");
            assert_eq!(talk(PLANTED, "bad"), "cut True\n", "{kind}");
            let is_from = |record: &Value| {
                let client = record["client"].as_str().and_then(|at| at.parse::<SocketAddr>().ok());
                client.is_some_and(|at| at.ip().to_canonical() == ip_of(CLIENT[family]))
            };
            let ended = |end: &'static str| move |record: &Value| record["end"] == end;
            for end in ["stream-done", "stream-blocked"] {
                let all = setup.records("connections.json", ended(end));
                assert!(all.iter().any(is_from), "{kind}: {end}");
            }
        }
        // HTTP on the same listener goes the way of HTTP.
        assert_eq!(setup.status(0, "http://server.test/bad"), "403");
        assert_eq!(setup.status(1, "https://server.test/bad"), "403");
    }
}

#[test]
fn quic_is_rejected_so_that_clients_come_back_over_tcp() {
    let listener = "kind = \"redirect\"\naddress = \"[::]:3129\"";
    let Some(setup) = Setup::start(listener) else { return };
    // bash's /dev/udp: the second write fails once the rejection has arrived for the first.
    for server in SERVER {
        let script = format!(
            "exec 3<>/dev/udp/{server}/443 || exit 9; for i in $(seq 100); do \
             echo x >&3 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
        );
        let mut shell = setup.network.client("bash");
        let status = shell.args(["-c", &script]).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{server}");
    }
}

#[test]
fn nothing_passes_a_gateway_that_was_killed() {
    for kind in ["tproxy", "redirect"] {
        let listener = format!("kind = \"{kind}\"\naddress = \"[::]:3130\"");
        let Some(setup) = Setup::start(&listener) else { return };
        setup.gateway.kill();
        for family in [0, 1] {
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://server.test/who");
                let output = setup.curl(family, &url).arg("-k").output().unwrap();
                let said = text(&output.stderr);
                assert!(!output.status.success(), "{kind}: {}", text(&output.stdout));
                // Refused at once, rather than left to time out.
                assert!(matches!(output.status.code(), Some(7 | 56)), "{kind}: {said}");
            }
        }
        // It is the one chain that holds them.
        let chain = ["delete", "chain", "inet", "meergate", "unserved"];
        must(setup.network.gateway("nft").args(chain).output().unwrap());
        let passes = setup.status(0, "http://server.test/who") == "200";
        assert_eq!(passes, kind == "tproxy");
    }
}
