//! Under a service manager: what the programs tell it, and the settings that are installed for it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use e2e::Process;
use e2e::programs::{binary, root, run_to_end, test_rules};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The manager's end of the notifications, one message at a time.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { socket, folder }
    }

    fn start(&self, program: &str, args: &[&str]) -> Process {
        let mut command = Command::new(binary(program));
        command.args(["run", "--listen", "127.0.0.1:0"]).args(args);
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.env("WATCHDOG_USEC", "2000000");
        Process::start(program, &mut command)
    }

    /// Waits for a message that has this line.
    fn hears(&self, line: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let length = self.socket.recv(&mut bytes).unwrap_or_else(|e| panic!("no {line}: {e}"));
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|l| l == line) {
                return message;
            }
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

fn end(mut process: Process) {
    let pid = Pid::from_raw(process.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(process.wait_for_end().success());
}

#[test]
fn the_gateway_says_when_it_serves_lives_and_stops() {
    let manager = Manager::new();
    let args = ["--console", "off", "--state-dir", &manager.path("state")];
    let gateway = manager.start("meergate", &args);
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    end(gateway);
    manager.hears("STOPPING=1");
}

#[test]
fn the_inspector_says_when_it_inspects_lives_and_stops() {
    let manager = Manager::new();
    let rules = test_rules().display().to_string();
    let args = ["--rules", &rules, "--control", &manager.path("control")];
    let inspector = manager.start("meergate-inspector", &args);
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=inspecting with "), "{ready}");
    manager.hears("WATCHDOG=1");
    end(inspector);
    manager.hears("STOPPING=1");
}

/// The settings that are installed are right, but for folders that only an installation has.
#[test]
fn installed_settings_are_right() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().display().to_string();
    let rules = test_rules().display().to_string();
    let socket = "unix:/run/meergate/icap.sock";
    for (program, settings) in
        [("meergate", "meergate.toml"), ("meergate-inspector", "inspector.toml")]
    {
        let text = fs::read_to_string(root().join("packaging").join(settings)).unwrap();
        assert!(text.contains(socket), "{settings}: the programs meet at {socket}");
        let text = text
            .replace("/var/lib/suricata/rules/suricata.rules", &rules)
            .replace("/var/lib/meergate", &here)
            .replace("/var/log/meergate-inspector", &here)
            .replace("/var/log/meergate", &here)
            .replace("/run/meergate", &here);
        let file = folder.path().join(settings);
        fs::write(&file, text).unwrap();
        let output = run_to_end(program, ["check", "--config", &file.display().to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The value of `key` in an installed unit.
fn unit(program: &str, key: &str) -> Option<String> {
    let file = root().join("packaging").join(format!("{program}.service"));
    let text = fs::read_to_string(file).unwrap();
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
    text.lines().find_map(value)
}

/// The user of each unit is one that the installation makes, and the gateway's is in the group of the
/// inspector's.
#[test]
fn the_units_have_users_of_their_own() {
    let made = fs::read_to_string(root().join("packaging/meergate.sysusers")).unwrap();
    let users = ["meergate", "meergate-inspector"].map(|name| unit(name, "User").unwrap());
    assert_ne!(users[0], users[1]);
    for user in &users {
        assert!(made.lines().any(|line| line.starts_with(&format!("u {user} "))), "{user}");
    }
    assert_eq!(unit("meergate", "SupplementaryGroups").as_ref(), Some(&users[1]));
    // Two units that give one folder to two users take it from each other.
    assert_ne!(unit("meergate", "LogsDirectory"), unit("meergate-inspector", "LogsDirectory"));
}

/// Users that nobody else has, for programs that root starts as somebody else.
const GATEWAY: &str = "64901";
const INSPECTOR: &str = "64902";

/// A command that has a user's rights and those of one more group, if any.
fn as_user(user: &str, group: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user]);
    match group {
        Some(group) => command.args(["--groups", group]),
        None => command.arg("--clear-groups"),
    };
    command.arg(program);
    command
}

#[test]
fn two_users_meet_at_the_socket_and_nowhere_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can start programs as other users");
        return;
    }
    let folder = TempDir::new().unwrap();
    let of = |name: &str, user: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        let id = user.parse().ok();
        chown(&path, id, id).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (run, state) = (of("run", INSPECTOR, 0o755), of("state", GATEWAY, 0o700));
    let rules = folder.path().join("test.rules");
    fs::copy(test_rules(), &rules).unwrap();
    // Where they are built, others may have no way to.
    let programs = ["meergate", "meergate-inspector"].map(|name| folder.path().join(name));
    for program in &programs {
        fs::copy(binary(program.file_name().unwrap().to_str().unwrap()), program).unwrap();
    }
    let [gateway, inspector] = &programs;
    let listen = format!("unix:{}", run.join("icap.sock").display());
    let mut command = as_user(INSPECTOR, None, inspector);
    command.args(["run", "--listen", &listen, "--rules"]).arg(&rules);
    command.arg("--control").arg(run.join("control.sock"));
    let mut inspector = Process::start("meergate-inspector", &mut command);
    inspector.wait_for_line("ready");
    let asks = |user, group| {
        let url = format!("{listen}:/suricata");
        as_user(user, group, gateway).args(["icap", "options", &url]).output().unwrap()
    };
    let said = asks(GATEWAY, Some(INSPECTOR));
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(!asks(GATEWAY, None).status.success(), "without the group");

    let ca = |user| {
        let mut command = as_user(user, None, gateway);
        command.args(["ca", "new", "--state-dir"]).arg(&state).output().unwrap()
    };
    assert!(ca(GATEWAY).status.success());
    let key = state.join("ca.key").display().to_string();
    let reads = |user| as_user(user, None, "cat").arg(&key).output().unwrap().status.success();
    assert!(reads(GATEWAY) && !reads(INSPECTOR));
    end(inspector);
}
