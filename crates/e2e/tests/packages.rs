//! Package managers and git fetch through both programs, from an origin of the test's own; what
//! arrives is compared with what was packed.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use e2e::origin::{After, Request, Wire};
use e2e::peers::nginx::Nginx;
use e2e::{Gateway, Inspected, Origin, content, peers};
use tempfile::TempDir;

/// What each package holds: compressed by nothing and longer than is held back for inspection.
fn data() -> Vec<u8> {
    content::noise(42, 1_500_000)
}

/// An origin for files, a gateway in front, and a folder for the client.
struct Setup {
    nginx: Nginx,
    gateway: Gateway,
    folder: TempDir,
    _inspected: Inspected,
}

impl Setup {
    fn start() -> Self {
        let inspected = Inspected::start();
        let nginx = Nginx::http2(&inspected.identity());
        let gateway = inspected.proxy();
        Self { nginx, gateway, folder: TempDir::new().unwrap(), _inspected: inspected }
    }

    fn proxy(&self) -> String {
        format!("http://{}", self.gateway.proxy())
    }

    /// A path in the client's folder; folders on the way to it are made.
    fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Puts a packed file where clients find it.
    fn publish(&self, name: &str, packed: &Path) {
        self.nginx.put(name, &fs::read(packed).unwrap());
    }

    /// A program that runs in the client's folder, with nothing of the machine's own settings.
    fn client(&self, mut command: Command) -> Command {
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .stdin(Stdio::null());
        command
    }
}

/// Runs it to its end, which must be a good one.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = words(&output);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn words(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// The file's SHA-256, in hexadecimal.
fn sha256(file: &Path) -> String {
    let said = run(Command::new("sha256sum").arg(file));
    said.split(' ').next().unwrap().to_owned()
}

/// `folder` of the client's, packed.
fn tar(setup: &Setup, folder: &str, packed: &str) -> PathBuf {
    let packed = setup.path(packed);
    run(setup.client(peers::client("tar")).arg("czf").arg(&packed).arg(folder));
    packed
}

#[track_caller]
fn expect_data(file: &Path) {
    let got = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(got == data(), "{}: {} bytes", file.display(), got.len());
}

#[test]
fn pip() {
    let setup = Setup::start();
    let data = setup.write("data.bin", data());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/wheel.py");
    run(peers::python().arg(script).arg(data).arg(setup.folder.path()));
    let name = "mg_test-1.0-py3-none-any.whl";
    let wheel = setup.path(name);
    setup.publish(&format!("simple/mg-test/{name}"), &wheel);
    let link = format!("<a href='{name}#sha256={}'>{name}</a>", sha256(&wheel));
    setup.nginx.put("simple/mg-test/index.html", link.as_bytes());

    let mut pip = setup.client(peers::python());
    pip.args(["-m", "pip", "--isolated", "--disable-pip-version-check", "install", "mg-test"])
        .args(["--no-cache-dir", "--index-url", &setup.nginx.url("/simple"), "--target", "got"])
        .args(["--proxy", &setup.proxy(), "--cert"])
        .arg(setup.gateway.authority());
    run(&mut pip);
    expect_data(&setup.path("got/mg_test/data.bin"));
}

#[test]
fn npm() {
    let setup = Setup::start();
    setup.write("package/data.bin", data());
    setup.write("package/package.json", "{\"name\": \"mg-test\", \"version\": \"1.0.0\"}");
    let packed = tar(&setup, "package", "mg-test-1.0.0.tgz");
    setup.publish("npm/mg-test-1.0.0.tgz", &packed);
    let about = format!(
        "{{\"name\": \"mg-test\", \"dist-tags\": {{\"latest\": \"1.0.0\"}}, \"versions\": {{\"1.0.0\": \
         {{\"name\": \"mg-test\", \"version\": \"1.0.0\", \"dist\": {{\"tarball\": \"{}\"}}}}}}}}",
        setup.nginx.url("/npm/mg-test-1.0.0.tgz")
    );
    setup.nginx.put("npm/mg-test", about.as_bytes());

    setup.write("got/package.json", "{\"name\": \"user\", \"version\": \"1.0.0\"}");
    let mut npm = setup.client(peers::client("npm"));
    npm.args(["install", "mg-test", "--ignore-scripts", "--no-audit", "--no-fund"])
        .args(["--no-update-notifier", "--fetch-retries", "0", "--cache", "cache", "--noproxy", ""])
        .args(["--registry", &setup.nginx.url("/npm/"), "--https-proxy", &setup.proxy()])
        .arg("--prefix")
        .arg(setup.path("got/x").parent().unwrap())
        .arg("--cafile")
        .arg(setup.gateway.authority());
    run(&mut npm);
    expect_data(&setup.path("got/node_modules/mg-test/data.bin"));
}

#[test]
fn cargo() {
    let setup = Setup::start();
    let manifest = "[package]\nname = \"mg-test\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    setup.write("mg-test-1.0.0/Cargo.toml", manifest);
    setup.write("mg-test-1.0.0/src/lib.rs", "");
    setup.write("mg-test-1.0.0/data.bin", data());
    let packed = tar(&setup, "mg-test-1.0.0", "mg-test-1.0.0.crate");
    setup.publish("crates/mg-test-1.0.0.crate", &packed);
    let files = setup.nginx.url("/crates/{crate}-{version}.crate");
    setup.nginx.put("index/config.json", format!("{{\"dl\": \"{files}\"}}").as_bytes());
    let about = format!(
        "{{\"name\": \"mg-test\", \"vers\": \"1.0.0\", \"deps\": [], \"cksum\": \"{}\", \
         \"features\": {{}}, \"yanked\": false}}\n",
        sha256(&packed)
    );
    setup.nginx.put("index/mg/-t/mg-test", about.as_bytes());

    let user = "[package]\nname = \"user\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[dependencies]\n\
                mg-test = { version = \"1\", registry = \"here\" }\n";
    setup.write("user/Cargo.toml", user);
    setup.write("user/src/lib.rs", "");
    let settings = format!(
        "[registries.here]\nindex = \"sparse+{}\"\n[net]\nretry = 0\n\
         [http]\nproxy = \"{}\"\ncainfo = \"{}\"\n",
        setup.nginx.url("/index/"),
        setup.proxy(),
        setup.gateway.authority().display(),
    );
    setup.write("home/config.toml", settings);
    // The one that runs this test, where one does.
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut cargo = setup.client(peers::client(&program));
    cargo.current_dir(setup.path("user/Cargo.toml").parent().unwrap());
    cargo.arg("fetch").env("CARGO_HOME", setup.folder.path().join("home"));
    if let Some(home) = std::env::var_os("HOME") {
        // Where a cargo of rustup's finds its toolchain.
        let usual = Path::new(&home).join(".rustup");
        cargo.env("RUSTUP_HOME", std::env::var_os("RUSTUP_HOME").unwrap_or(usual.into()));
    }
    run(&mut cargo);
    let sources = fs::read_dir(setup.folder.path().join("home/registry/src")).unwrap();
    let registry = sources.map(|entry| entry.unwrap().path()).next().unwrap();
    expect_data(&registry.join("mg-test-1.0.0/data.bin"));
}

#[test]
fn apt_get() {
    let setup = Setup::start();
    let control = "Package: mg-test\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@a.test>\n\
                   Description: a test\n";
    setup.write("deb/DEBIAN/control", control);
    setup.write("deb/usr/share/mg-test/data.bin", data());
    let packed = setup.path("mg-test_1.0_all.deb");
    run(setup
        .client(peers::client("dpkg-deb"))
        .args(["-Znone", "--root-owner-group", "-b", "deb"])
        .arg(&packed));
    let list = format!(
        "{control}Filename: ./mg-test_1.0_all.deb\nSize: {}\nSHA256: {}\n\n",
        fs::metadata(&packed).unwrap().len(),
        sha256(&packed)
    );
    setup.publish("apt/mg-test_1.0_all.deb", &packed);
    setup.nginx.put("apt/Packages", list.as_bytes());
    // apt sends several requests at once where there is no TLS.
    let documents = setup.nginx.documents();
    let plain = Origin::http(move |request, wire| {
        match fs::read(documents.join(request.target.trim_start_matches('/'))) {
            Ok(file) => wire.ok("application/octet-stream", &file),
            Err(_) => wire.not_found(),
        }
    });

    for (scheme, base) in [("https", setup.nginx.url("")), ("http", plain.url(""))] {
        let at = |name: &str| setup.path(&format!("{scheme}/{name}")).display().to_string();
        for folder in ["state/lists/partial/x", "cache/archives/partial/x"] {
            at(folder);
        }
        setup
            .write(&format!("{scheme}/sources.list"), format!("deb [trusted=yes] {base}/apt ./\n"));
        setup.write(&format!("{scheme}/status"), "");
        let settings = format!(
            "Dir::Etc::main \"/dev/null\"; Dir::Etc::parts \"/dev/null\";
             Dir::Etc::sourcelist \"{}\"; Dir::Etc::sourceparts \"/dev/null\";
             Dir::State \"{}\"; Dir::State::status \"{}\"; Dir::Cache \"{}\";
             Acquire::http::Proxy \"{proxy}\"; Acquire::https::Proxy \"{proxy}\";
             Acquire::https::CAInfo \"{}\"; Acquire::Retries \"0\"; Acquire::Languages \"none\";
             APT::Sandbox::User \"\"; Debug::NoLocking \"true\";",
            at("sources.list"),
            at("state"),
            at("status"),
            at("cache"),
            setup.gateway.authority().display(),
            proxy = setup.proxy(),
        );
        let settings = setup.write(&format!("{scheme}/apt.conf"), settings);
        for words in [&["update", "--error-on=any"][..], &["download", "mg-test"]] {
            run(setup
                .client(peers::client("apt-get"))
                .env("APT_CONFIG", &settings)
                .arg("-q")
                .args(words));
        }
        let got = setup.path("mg-test_1.0_all.deb");
        let to = setup.path(&format!("{scheme}/got"));
        run(setup.client(peers::client("dpkg-deb")).arg("-x").arg(&got).arg(&to));
        expect_data(&to.join("usr/share/mg-test/data.bin"));
        fs::remove_file(got).unwrap();
    }
}

/// Smart HTTP by git's own program, as web servers run it (RFC 3875).
fn git_backend(repositories: &Path, request: &Request, wire: &mut Wire<'_>) -> io::Result<After> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let field = |name: &str| request.fields.get(name).cloned().unwrap_or_default();
    let mut backend = peers::client("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", repositories)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", field("git-protocol"))
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", field("content-type"))
        .env("HTTP_CONTENT_ENCODING", field("content-encoding"))
        .env("REMOTE_USER", "tester")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = backend.stdin.take().expect("stdin is piped");
    let body = request.body.clone();
    let writer = std::thread::spawn(move || input.write_all(&body));
    let output = backend.wait_with_output()?;
    // One that answers without reading closes its end.
    let _unread = writer.join();
    let end = output.stdout.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("git http-backend gave no head"))?;
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let fields: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let status = fields.iter().find(|(name, _)| *name == "Status").map_or("200 OK", |(_, s)| s);
    wire.with_length(status, &fields, &output.stdout[end + 4..])
}

#[test]
fn git_clones_and_pushes() {
    let inspected = Inspected::start();
    let gateway = inspected.proxy();
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let git = |words: &[&str]| {
        let mut git = peers::client("git");
        for (name, value) in [
            ("http.proxy", format!("http://{}", gateway.proxy())),
            ("http.sslCAInfo", gateway.authority().display().to_string()),
            // So that uploads are chunked.
            ("http.postBuffer", "65536".to_owned()),
            ("user.name", "tester".to_owned()),
            ("user.email", "tester@localhost".to_owned()),
        ] {
            git.args(["-c", &format!("{name}={value}")]);
        }
        git.args(words).current_dir(at).env("HOME", at).env("GIT_CONFIG_NOSYSTEM", "1");
        git.stdin(Stdio::null());
        run(&mut git)
    };
    git(&["init", "-q", "--bare", "repositories/one.git"]);
    git(&["-C", "repositories/one.git", "config", "http.receivepack", "true"]);
    git(&["init", "-q", "-b", "main", "source"]);
    for number in 0..50 {
        fs::write(at.join(format!("source/{number}")), content::noise(number, 20_000)).unwrap();
    }
    fs::write(at.join("source/data.bin"), data()).unwrap();
    git(&["-C", "source", "add", "."]);
    git(&["-C", "source", "commit", "-q", "-m", "one"]);

    let repositories = at.join("repositories");
    let origin = Origin::https(&inspected.identity(), move |request, wire| {
        git_backend(&repositories, request, wire)
    });
    let url = origin.url("/one.git");
    git(&["-C", "source", "push", "-q", &url, "main"]);
    git(&["clone", "-q", "-b", "main", &url, "clone"]);
    expect_data(&at.join("clone/data.bin"));
    let commit = |folder| git(&["-C", folder, "rev-parse", "HEAD"]);
    assert_eq!(commit("source"), commit("clone"));
    assert_eq!(git(&["-C", "clone", "fsck", "--full"]), "");

    // The same repository as plain files, as any web server has it.
    git(&["-C", "repositories/one.git", "update-server-info"]);
    let nginx = Nginx::http2(&inspected.identity());
    let link = nginx.documents().join("one.git");
    std::os::unix::fs::symlink(at.join("repositories/one.git"), link).unwrap();
    git(&["clone", "-q", "-b", "main", &nginx.url("/one.git"), "files"]);
    expect_data(&at.join("files/data.bin"));
}
