//! What a user can get wrong: each mistake gets one line that says what, where and what to do.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use e2e::origin;
use e2e::pki::Authority;
use e2e::programs::{run_to_end, test_rules};
use e2e::{Curl, Gateway, Origin};
use tempfile::TempDir;

/// Starts the program with these arguments, which must fail, and not by a signal. The last line on
/// standard error (of a usage error, all of them) says why, with all of `words`.
#[track_caller]
fn refuses(program: &str, args: &[OsString], words: &[&str]) {
    let output = run_to_end(program, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    let usage = code == Some(2);
    assert!(code == Some(1) || usage, "{args:?}: {:?}\n{said}", output.status);
    let error = if usage { &said } else { said.trim_end().lines().last().unwrap_or_default() };
    for word in words {
        assert!(error.contains(word), "{args:?}: no {word:?} in {error:?}\n{said}");
    }
    assert!(usage || error.starts_with(&format!("{program}: ")), "{said}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!stdout.contains("ready"), "{args:?}: not a word of readiness: {stdout}");
}

fn args<const N: usize>(words: [&dyn AsRef<Path>; N]) -> Vec<OsString> {
    words.iter().map(|word| word.as_ref().as_os_str().to_owned()).collect()
}

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

const ANY: &str = "127.0.0.1:0";

#[test]
fn unknown_flags() {
    for program in ["meergate", "meergate-inspector"] {
        refuses(program, &args([&"run", &"--no-such-flag"]), &["--no-such-flag"]);
        refuses(program, &args([&"no-such-command"]), &["no-such-command"]);
    }
}

#[test]
fn settings_with_an_unknown_key() {
    let folder = TempDir::new().unwrap();
    let config = file(&folder, "config.toml", "\n\nno_such_key = 1\n");
    for program in ["meergate", "meergate-inspector"] {
        refuses(
            program,
            &args([&"run", &"--config", &config]),
            &["config.toml", "3", "no_such_key"],
        );
    }
}

#[test]
fn settings_that_are_not_there_or_not_toml() {
    let folder = TempDir::new().unwrap();
    let absent = folder.path().join("absent.toml");
    let broken = file(&folder, "broken.toml", "listen = [\n");
    for program in ["meergate", "meergate-inspector"] {
        refuses(program, &args([&"run", &"--config", &absent]), &["absent.toml"]);
        refuses(program, &args([&"run", &"--config", &broken]), &["broken.toml"]);
    }
}

#[test]
fn addresses_that_are_none() {
    let state = TempDir::new().unwrap();
    for address in ["127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", "nonsense"] {
        let common = args([&"run", &"--listen", &address]);
        let gateway = [common.clone(), args([&"--state-dir", &state.path()])].concat();
        refuses("meergate", &gateway, &[address]);
        refuses("meergate-inspector", &common, &[address]);
    }
}

#[test]
fn a_port_in_use() {
    let state = TempDir::new().unwrap();
    let taken = TcpListener::bind(ANY).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--console"] {
        let other = if flag == "--listen" { "--console" } else { "--listen" };
        let run = args([&"run", &flag, &address, &other, &ANY, &"--state-dir", &state.path()]);
        refuses("meergate", &run, &[&address, "in use"]);
    }
    let run = args([&"run", &"--listen", &address, &"--rules", &test_rules()]);
    refuses("meergate-inspector", &run, &[&address, "in use"]);
}

#[test]
fn rules_that_are_not_there_or_do_not_parse() {
    let folder = TempDir::new().unwrap();
    let run = |rules: &Path| args([&"run", &"--listen", &ANY, &"--rules", &rules]);
    refuses("meergate-inspector", &run(&folder.path().join("absent.rules")), &["absent.rules"]);
    let good = fs::read_to_string(test_rules()).unwrap();
    let broken = good + "drop http any any -> any any (msg:\"odd\"; no_such_keyword; sid:7;)\n";
    let line = broken.lines().count().to_string();
    let broken = file(&folder, "broken.rules", &broken);
    refuses("meergate-inspector", &run(&broken), &["broken.rules", &line, "no_such_keyword"]);
    let empty = file(&folder, "empty.rules", "# nothing\n");
    refuses("meergate-inspector", &run(&empty), &["empty.rules"]);
}

#[test]
fn an_engine_configuration_that_is_not_yaml() {
    let folder = TempDir::new().unwrap();
    let broken = file(&folder, "suricata.yaml", "%YAML 1.1\n---\noutputs: [\n");
    let run = |yaml: &Path| args([&"run", &"--listen", &ANY, &"--suricata-yaml", &yaml]);
    refuses("meergate-inspector", &run(&broken), &["suricata.yaml"]);
    refuses("meergate-inspector", &run(&folder.path().join("absent.yaml")), &["absent.yaml"]);
}

/// A folder with what an authority may be made of, right and wrong.
fn authorities() -> TempDir {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("Test");
    authority.write(folder.path());
    file(&folder, "ca.key", &authority.key_pem());
    file(&folder, "other.key", &Authority::new("Other").key_pem());
    file(&folder, "garbage", "nothing of use\n");
    let leaf = authority.leaf(&["localhost"]);
    file(&folder, "leaf.pem", &leaf.certificates);
    file(&folder, "leaf.key", &leaf.key);
    folder
}

#[track_caller]
fn refuses_authority(folder: &TempDir, cert: &str, key: &str, named: &str) {
    let [state, cert, key] = ["state", cert, key].map(|name| folder.path().join(name));
    let common = args([&"run", &"--listen", &ANY, &"--console", &ANY, &"--state-dir", &state]);
    let files = args([&"--ca-cert", &cert, &"--ca-key", &key]);
    refuses("meergate", &[common, files].concat(), &[named]);
}

#[test]
fn an_authority_certificate_that_can_not_be_used() {
    let folder = authorities();
    refuses_authority(&folder, "absent", "ca.key", "absent");
    refuses_authority(&folder, "garbage", "ca.key", "garbage");
    refuses_authority(&folder, "leaf.pem", "leaf.key", "leaf.pem");
    refuses_authority(&folder, "authority.pem", "other.key", "authority.pem");
}

#[test]
fn an_authority_key_that_can_not_be_used() {
    let folder = authorities();
    refuses_authority(&folder, "authority.pem", "absent", "absent");
    refuses_authority(&folder, "authority.pem", "garbage", "garbage");
}

#[test]
fn a_key_that_may_not_be_read() {
    if rustix::process::getuid().is_root() {
        // Root reads everything; a folder in the key's place can't be read by anyone.
        let folder = TempDir::new().unwrap();
        let cert = Authority::new("Test").write(folder.path());
        let key = folder.path().join("folder.key");
        fs::create_dir(&key).unwrap();
        let files = args([&"run", &"--ca-cert", &cert, &"--ca-key", &key, &"--listen", &ANY]);
        refuses("meergate", &files, &["folder.key"]);
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("Test");
    let cert = authority.write(folder.path());
    let key = file(&folder, "closed.key", &authority.key_pem());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o000)).unwrap();
    let files = args([&"run", &"--ca-cert", &cert, &"--ca-key", &key, &"--listen", &ANY]);
    refuses("meergate", &files, &["closed.key"]);
}

#[test]
fn icap_urls_that_are_none() {
    let state = TempDir::new().unwrap();
    for url in ["http://127.0.0.1/echo", "icap://", "127.0.0.1:1344", "icap://127.0.0.1:99999/echo"]
    {
        let run = args([&"run", &"--listen", &ANY, &"--state-dir", &state.path(), &"--icap", &url]);
        refuses("meergate", &run, &[url]);
    }
}

#[test]
fn upstream_certificates_that_are_not_trusted_get_a_page_that_says_why() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("Origin");
    let trusted = authority.write(folder.path());
    let serve = |identity| Origin::https(&identity, |_, wire| wire.ok("text/plain", b"secret"));
    let gateway = Gateway::start(["--upstream-ca", trusted.to_str().unwrap()]);
    let curl = Curl::through(gateway.proxy()).trust(&gateway.authority());

    for (identity, reason) in [
        (authority.expired_leaf(&origin::NAMES), "expired"),
        (Authority::new("Stranger").leaf(&origin::NAMES), "issuer"),
        (authority.leaf(&["other.test"]), "name"),
    ] {
        let origin = serve(identity);
        let fetched = curl.run(&origin.url("/"));
        fetched.expect_status(502);
        let page = fetched.text().to_lowercase();
        assert!(page.contains(reason) && page.contains("localhost"), "{reason}: {page}");
        assert!(!page.contains("secret") && origin.requests().is_empty());
    }
    curl.run(&serve(authority.leaf(&origin::NAMES)).url("/")).expect_body(b"secret");
}
