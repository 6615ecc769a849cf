//! Started as root for a user who fills the program's folders with links: nothing outside changes.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// `nobody`, as most systems number it.
const USER: u32 = 65534;

/// What a test compares: of each path below, owner, group, mode, and content or the link's target.
type Tree = BTreeMap<String, (u32, u32, u32, Vec<u8>)>;

fn tree(folder: &Path) -> Tree {
    let mut all = Tree::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let name = path.display().to_string();
        all.insert(name, (meta.uid(), meta.gid(), meta.mode(), content));
        if meta.is_dir() {
            all.extend(tree(&path));
        }
    }
    all
}

/// Starts the program, and ends it as soon as it serves (or has given up), and a reload and the CA's
/// commands after it.
fn run(dir: &Path) {
    let settings = dir.join("meergate.toml");
    let mut child = Command::new(env!("CARGO_BIN_EXE_meergate"))
        .args(["run", "--config"])
        .arg(&settings)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    while lines.next().is_some_and(|line| line.unwrap() != "ready") {}
    for command in [
        &["reload"][..],
        &["ca", "show"],
        &["ca", "rotate", "--at-once"],
        &["ca", "new", "--replace"],
    ] {
        let mut command_line = Command::new(env!("CARGO_BIN_EXE_meergate"));
        command_line.args(command).arg("--config").arg(&settings);
        command_line.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The user's folder, in which all lies that the program writes, and root's.
fn folders() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    for (name, owner) in [("roots", 0), ("users", USER), ("users/state", USER), ("users/log", USER)]
    {
        fs::create_dir(path.join(name)).unwrap();
        chown(path.join(name), Some(owner), Some(owner)).unwrap();
    }
    fs::write(path.join("roots/file"), "root's own").unwrap();
    fs::set_permissions(path.join("roots/file"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(path.join("roots/folder")).unwrap();
    let users = path.join("users");
    fs::write(
        path.join("meergate.toml"),
        format!(
            "user = \"nobody\"\nstate_dir = {:?}\nconsole.address = \"off\"\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\n[tls]\nkeylog = {:?}\n\
             [log]\nconnections = {:?}\ntransactions = {:?}\n[capture]\nfolder = {:?}\n",
            users.join("state"),
            users.join("log/keys"),
            users.join("log/connections"),
            users.join("log/transactions"),
            users.join("log"),
        ),
    )
    .unwrap();
    dir
}

const WRITTEN: [&str; 9] = [
    "state/ca.key",
    "state/ca.pem",
    "state/ca.lock",
    "state/ca.former.pem",
    "state/meergate.pid",
    "state/control.sock",
    "log/keys",
    "log/connections",
    "log/transactions",
];

fn is_root() -> bool {
    let root = fs::read("/etc/shadow").is_ok();
    if !root {
        eprintln!("SKIPPED: only root can become somebody else");
    }
    root
}

#[test]
fn links_in_the_users_folders_lead_root_nowhere() {
    if !is_root() {
        return;
    }
    let mut cases = 0;
    for name in WRITTEN.iter().chain(&["state", "log"]) {
        for kind in ["to a file", "to a new file", "to a folder", "hard"] {
            if kind == "hard" && !name.contains('/') {
                continue;
            }
            let dir = folders();
            let (path, roots) = (dir.path().join("users").join(name), dir.path().join("roots"));
            let _ = fs::remove_dir(&path);
            match kind {
                "to a file" => symlink(roots.join("file"), &path),
                "to a new file" => symlink(roots.join("new"), &path),
                "to a folder" => symlink(roots.join("folder"), &path),
                _ => fs::hard_link(roots.join("file"), &path),
            }
            .unwrap();
            let before = tree(&roots);
            run(dir.path());
            assert_eq!(tree(&roots), before, "{name}, a link {kind}");
            cases += 1;
        }
    }
    assert!(cases >= 40, "{cases}");
}

#[test]
fn races_in_the_users_folders_lead_root_nowhere() {
    if !is_root() {
        return;
    }
    let dir = folders();
    let (users, roots) = (dir.path().join("users"), dir.path().join("roots"));
    let before = tree(&roots);
    let over = Arc::new(AtomicBool::new(false));
    let racer = {
        let (over, users, roots) = (over.clone(), users.clone(), roots.clone());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                for name in WRITTEN {
                    let path = users.join(name);
                    let _ = fs::remove_file(&path);
                    let _ = symlink(roots.join("file"), &path);
                    let _ = fs::remove_file(&path);
                    let _ = symlink(roots.join("new"), &path);
                    let _ = fs::remove_file(&path);
                }
                thread::sleep(Duration::from_micros(50));
            }
        })
    };
    for _ in 0..5 {
        run(dir.path());
    }
    over.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    assert_eq!(tree(&roots), before);
}

#[test]
fn what_is_written_has_its_mode_whatever_the_umask() {
    if !is_root() {
        return;
    }
    for umask in ["000", "077"] {
        let dir = folders();
        let users = dir.path().join("users");
        let program = env!("CARGO_BIN_EXE_meergate");
        let settings = dir.path().join("meergate.toml");
        let shell = format!("umask {umask}; exec {program} run --config {}", settings.display());
        let mut child = Command::new("sh")
            .args(["-c", &shell])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        assert!(std::io::BufRead::lines(out).any(|line| line.unwrap() == "ready"));
        for (name, mode) in [
            ("state/ca.key", 0o600),
            ("state/ca.pem", 0o644),
            ("state/ca.lock", 0o600),
            ("state/meergate.pid", 0o644),
            ("state/control.sock", 0o600),
            ("log/keys", 0o600),
            ("log/connections", 0o640),
            ("log/transactions", 0o640),
        ] {
            let meta = fs::metadata(users.join(name)).unwrap();
            assert_eq!((meta.mode() & 0o777, meta.uid()), (mode, USER), "{name}, umask {umask}");
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
