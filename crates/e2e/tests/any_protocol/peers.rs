//! Programs that people use, through the gateway.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use e2e::pki::Authority;
use e2e::{Port, Process, content, peers};
use tempfile::TempDir;

use super::{BAD, SID, Setup, to};

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

pub(super) fn must(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// OpenSSH's server, for the user that the tests run as.
struct Sshd {
    _process: Process,
    port: Port,
    folder: TempDir,
    user: String,
}

impl Sshd {
    fn start() -> Self {
        let (folder, port) = (TempDir::new().unwrap(), Port::claim());
        let at = folder.path();
        for key in ["host", "key"] {
            must(
                peers::client("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(at.join(key)),
            );
        }
        if rustix::process::getuid().is_root() {
            // What its service would make.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let config = format!(
            "ListenAddress 127.0.0.1:{}\nHostKey {at}/host\nAuthorizedKeysFile {at}/key.pub\n\
             StrictModes no\nPermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\n",
            port.number(),
            at = at.display(),
        );
        fs::write(at.join("config"), config).unwrap();
        let mut command = Command::new(peers::program("sshd"));
        let mut process =
            Process::start("sshd", command.args(["-D", "-e", "-f"]).arg(at.join("config")));
        process.wait_for_line("Server listening");
        let user = must(Command::new("id").arg("-un")).trim().to_owned();
        Self { _process: process, port, folder, user }
    }

    /// ssh or scp, on its way through a gateway.
    fn client(&self, program: &str, port: u16) -> Command {
        let at = self.folder.path().display();
        let mut command = peers::client(program);
        command.args(["-F", "none", "-i", &format!("{at}/key"), "-o", &format!("Port={port}")]);
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=accept-new",
            &format!("UserKnownHostsFile={at}/known"),
            "HostKeyAlias=server",
        ] {
            command.args(["-o", option]);
        }
        command
    }
}

/// 10 MB for CI; `MEERGATE_E2E_SCP=100000000` is as much as before a release.
#[test]
fn ssh_and_scp() {
    let length = std::env::var("MEERGATE_E2E_SCP").map_or(10_000_000, |n| n.parse().unwrap());
    let sshd = Sshd::start();
    let mut setup = Setup::target(sshd.port.number());
    let port = setup.gateway.proxy().port();
    let place = format!("{}@127.0.0.1", sshd.user);
    let said = must(sshd.client("ssh", port).args([&place, "echo", "hello"]));
    assert_eq!(said, "hello\n");

    let at = sshd.folder.path();
    let sent = content::noise(3, length);
    fs::write(at.join("sent"), &sent).unwrap();
    let far = format!("{place}:{}/far", at.display());
    must(sshd.client("scp", port).arg(at.join("sent")).arg(&far));
    must(sshd.client("scp", port).arg(&far).arg(at.join("back")));
    assert!(fs::read(at.join("far")).unwrap() == sent);
    assert!(fs::read(at.join("back")).unwrap() == sent);
    setup.record(|record| {
        record["end"] == "stream-done" && record["bytes_from_client"].as_u64() > Some(length as u64)
    });
    setup.inspector.wait_for_alert(4_711_002, |_| true);
}

/// Redis, in the clear or inside TLS.
struct Redis {
    _process: Process,
    port: Port,
    _folder: TempDir,
}

impl Redis {
    fn start(authority: Option<&Authority>) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), Port::claim());
        let number = port.number().to_string();
        let mut command = Command::new(peers::program("redis-server"));
        command.args(["--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder.path());
        match authority {
            None => command.args(["--port", &number]),
            Some(authority) => {
                let (certificate, key) = authority.leaf(&["localhost"]).write(folder.path());
                command.args(["--port", "0", "--tls-auth-clients", "no", "--tls-port", &number]);
                command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
                command.arg("--tls-ca-cert-file").arg(authority.write(folder.path()))
            }
        };
        let mut process = Process::start("redis", &mut command);
        process.wait_for_line("Ready to accept connections");
        Self { _process: process, port, _folder: folder }
    }
}

#[test]
fn redis_in_the_clear_and_inside_tls() {
    let bad = text(BAD);
    for is_tls in [false, true] {
        let authority = Authority::new("Servers");
        let redis = Redis::start(is_tls.then_some(&authority));
        let mut setup = Setup::trusting(&to(redis.port.number()), &authority);
        let (port, trusted) = (setup.gateway.proxy().port().to_string(), setup.gateway.authority());
        let cli = |args: &[&str]| {
            let mut command = peers::client("redis-cli");
            command.args(["-h", "127.0.0.1", "-p", &port, "--no-auth-warning"]);
            if is_tls {
                command.args(["--tls", "--sni", "localhost", "--cacert"]).arg(&trusted);
            }
            let output = run(command.args(args));
            text(&output.stdout) + &text(&output.stderr)
        };
        let long = "v".repeat(100_000);
        assert_eq!(cli(&["SET", "key", &long]), "OK\n");
        assert_eq!(cli(&["GET", "key"]), format!("{long}\n"));
        assert!(cli(&["SET", "key", &bad]).contains("Error"));
        assert_eq!(cli(&["STRLEN", "key"]), "100000\n");
        // Put together there, so that it comes from the server.
        assert_eq!(cli(&["SET", "key", &bad[..9]]), "OK\n");
        assert_eq!(cli(&["APPEND", "key", &bad[9..]]), format!("{}\n", bad.len()));
        let got = cli(&["GET", "key"]);
        assert!(got.contains("Error") && !got.contains(&bad), "{got}");
        assert_eq!(setup.ended("stream-blocked")["block"]["signature_id"], SID);
    }
}

const MAILS: &str = "\
import smtplib, sys, threading
from aiosmtpd.controller import Controller
class Keep:
    def __init__(self):
        self.mails = []
    async def handle_DATA(self, server, session, envelope):
        self.mails.append(envelope.original_content)
        return '250 kept'
keep = Keep()
server = Controller(keep, hostname='127.0.0.1', port=int(sys.argv[1]))
server.start()
head = b'From: a@a.test\\r\\nTo: b@b.test\\r\\nSubject: mail\\r\\n\\r\\n'
bad = sys.argv[3].encode()
def send(body):
    client = smtplib.SMTP('127.0.0.1', int(sys.argv[2]), timeout=100)
    client.sendmail('a@a.test', ['b@b.test'], head + body)
    client.quit()
bodies = [b'a line of text\\r\\n' * n for n in (1, 100, 10000)]
for body in bodies:
    send(body)
assert keep.mails == [head + body for body in bodies], 'not what was sent'
try:
    send(b'x' * 70 + b'\\r\\n' + bad + b'\\r\\n')
except (smtplib.SMTPException, OSError) as error:
    print('cut:', type(error).__name__)
server.stop()
assert len(keep.mails) == len(bodies), 'a bad mail arrived'
print('kept', len(keep.mails))
";

#[test]
fn mail() {
    let port = Port::claim();
    let mut setup = Setup::target(port.number());
    let mut python = peers::python();
    python.args(["-c", MAILS, &port.number().to_string()]);
    let gateway = setup.gateway.proxy().port().to_string();
    let said = must(python.arg(gateway).arg(text(BAD)));
    assert!(said.contains("cut:") && said.contains("kept 3"), "{said}");
    let record = setup.ended("stream-blocked");
    assert_eq!(record["block"]["signature_id"], SID);
}

/// PostgreSQL, which does not run as root.
struct Postgres {
    _process: Process,
    port: Port,
    _folder: TempDir,
}

impl Postgres {
    fn start(authority: &Authority) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), Port::claim());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        peers::give_to("postgres", &data);
        let (certificate, key) = authority.leaf(&["localhost"]).write(folder.path());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        peers::give_to("postgres", &key);
        let as_user = |program: PathBuf| match rustix::process::getuid().is_root() {
            true => {
                let mut command = Command::new(peers::program("setpriv"));
                command
                    .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                    .arg(program);
                command
            }
            false => Command::new(program),
        };
        let mut initdb = as_user(postgres("initdb"));
        must(initdb.args(["-U", "test", "-A", "trust", "-N", "-D"]).arg(&data).current_dir("/"));
        let mut command = as_user(postgres("postgres"));
        command.arg("-D").arg(&data).args(["-p", &port.number().to_string(), "-c", "fsync=off"]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        command.arg("-c").arg(format!("ssl_cert_file={}", certificate.display()));
        command.arg("-c").arg(format!("ssl_key_file={}", key.display())).args(["-c", "ssl=on"]);
        let mut process = Process::start("postgres", command.current_dir("/"));
        process.wait_for_line("ready to accept connections");
        Self { _process: process, port, _folder: folder }
    }
}

/// One of its programs, which Debian keeps apart by version.
fn postgres(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin").join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| peers::program(name))
}

#[test]
fn postgresql() {
    let authority = Authority::new("Servers");
    let server = Postgres::start(&authority);
    let mut setup = Setup::trusting(&to(server.port.number()), &authority);
    let (port, trusted) = (setup.gateway.proxy().port(), setup.gateway.authority());
    let psql = |query: &str, mode: &str| {
        let place = format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user=test dbname=postgres sslmode={mode} \
             sslrootcert={}",
            trusted.display()
        );
        let output = run(peers::client("psql").args(["-X", "-A", "-t", "-c", query, &place]));
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let bad = text(BAD);
    for mode in ["disable", "verify-full"] {
        let long = psql("select repeat('ab', 50000)", mode);
        assert!(
            long == (true, "ab".repeat(50_000) + "\n"),
            "{mode}: {}",
            &long.1[..200.min(long.1.len())]
        );
        let parts = format!("select '{}' || '{}'", &bad[..9], &bad[9..]);
        for query in [format!("select '{bad}'"), parts] {
            let (passed, said) = psql(&query, mode);
            assert!(!passed && !said.contains(&bad), "{mode}: {said}");
        }
    }
    let in_tls = |record: &serde_json::Value| {
        record["end"] == "stream-blocked" && record["tls"]["sni"] == "localhost"
    };
    assert_eq!(setup.record(in_tls)["block"]["signature_id"], SID);
}
