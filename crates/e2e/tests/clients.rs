//! HTTP libraries and tools as people use them, through both programs: every byte that they get is
//! compared.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::origin::{After, Request, Wire};
use e2e::peers::nginx::Nginx;
use e2e::{Inspected, Origin, Process, content, peers};
use tempfile::TempDir;

/// What clients download one by one, all at once, and get back of what they upload.
const DOWNLOADS: [&str; 7] = [
    "bytes/0",
    "bytes/1",
    "bytes/65536",
    "bytes/3000000",
    "chunked/200000",
    "gzip/300000",
    "redirect",
];
const MANY: usize = 40;
const UPLOADS: [&str; 2] = ["echo_length", "echo_chunked"];

/// A site with bodies of every framing.
fn site(request: &Request, wire: &mut Wire<'_>) -> io::Result<After> {
    const BYTES: &str = "application/octet-stream";
    let (kind, size) = request.target[1..].split_once('/').unwrap_or((&request.target[1..], "0"));
    let size = size.parse().map_err(io::Error::other)?;
    let body = content::noise(size as u64, size);
    match kind {
        "bytes" if request.method == "HEAD" => {
            wire.raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
            Ok(After::KeepAlive)
        }
        "bytes" => wire.ok(BYTES, &body),
        "chunked" => wire.chunked(BYTES, body.chunks(7_777)),
        "close" => wire.until_close(BYTES, &body),
        "gzip" => {
            let fields = [("Content-Type", BYTES), ("Content-Encoding", "gzip")];
            wire.with_length("200 OK", &fields, &content::gzip(&body))
        }
        "redirect" => wire.with_length("302 Found", &[("Location", "/bytes/1234")], b""),
        "echo" => wire.ok(BYTES, &request.body),
        "eicar" => wire.ok(BYTES, &content::eicar()),
        _ => wire.not_found(),
    }
}

/// What a download of this name must give.
fn expected(name: &str) -> Vec<u8> {
    let size = match name {
        "redirect" => 1234,
        _ => name.rsplit(['/', '_']).next().and_then(|size| size.parse().ok()).unwrap_or(3_000_000),
    };
    content::noise(size as u64, size)
}

fn check(folder: &Path) {
    let many = (0..MANY).map(|number| format!("bytes/{}", 1000 + number));
    let all = DOWNLOADS.iter().chain(&UPLOADS).map(|&name| name.to_owned()).chain(many);
    for name in all {
        let got = fs::read(folder.join(name.replace('/', "_"))).unwrap_or_default();
        assert!(got == expected(&name), "{name}: {} bytes", got.len());
    }
}

/// One of the scripts beside the tests.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// Runs a client to its end, which must be a good one; returns what it wrote.
fn run<A: AsRef<OsStr>>(mut client: Command, args: impl IntoIterator<Item = A>) -> Vec<u8> {
    client.args(args).stdin(Stdio::null());
    let output = client.output().unwrap_or_else(|error| panic!("{client:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{client:?}: {}\n{said}", output.status);
    output.stdout
}

/// One library of Python's, against this origin.
fn python(library: &str, inspected: &Inspected, base: &str) {
    let gateway = inspected.proxy();
    let folder = TempDir::new().unwrap();
    let proxy = format!("http://{}", gateway.proxy());
    let authority = gateway.authority();
    let client = script("libraries.py");
    let words = [client.as_os_str(), library.as_ref(), base.as_ref(), proxy.as_ref()];
    let files = [authority.as_os_str(), folder.path().as_os_str()];
    run(peers::python(), words.into_iter().chain(files));
    check(folder.path());
}

#[test]
fn libraries_of_python() {
    let inspected = Inspected::start();
    let origin = Origin::https(&inspected.identity(), site);
    let base = origin.url("");
    for library in ["requests", "httpx", "aiohttp"] {
        python(library, &inspected, &base);
    }
    let origin = Origin::http(site);
    let nginx = Nginx::before(origin.addr(), &inspected.identity());
    python("httpx-http2", &inspected, &nginx.url(""));
}

#[test]
fn fetch_of_node() {
    let inspected = Inspected::start();
    let origin = Origin::https(&inspected.identity(), site);
    let gateway = inspected.target(origin.addr().port());
    let folder = TempDir::new().unwrap();
    let mut node = peers::client("node");
    // The gateway listens on IPv4, and Node before 20 tries but one of a name's addresses.
    node.arg("--dns-result-order=ipv4first");
    node.arg(script("fetch.mjs")).env("NODE_EXTRA_CA_CERTS", gateway.authority());
    let base = format!("https://localhost:{}", gateway.proxy().port());
    run(node, [base.as_ref(), folder.path().as_os_str()]);
    check(folder.path());
}

#[test]
fn nghttp_and_h2load() {
    let inspected = Inspected::start();
    let origin = Origin::http(site);
    let nginx = Nginx::before(origin.addr(), &inspected.identity());
    let gateway = inspected.target(nginx.port());
    let url = |path: &str| format!("https://localhost:{}/{path}", gateway.proxy().port());
    for name in ["bytes/0", "bytes/3000000", "chunked/200000"] {
        let got = run(peers::client("nghttp"), [url(name)]);
        assert!(got == expected(name), "{name}: {} bytes", got.len());
    }
    let folder = TempDir::new().unwrap();
    let body = folder.path().join("body");
    fs::write(&body, content::noise(9, 2_000_000)).unwrap();
    let got = run(peers::client("nghttp"), ["-d", &body.display().to_string(), &url("echo")]);
    assert!(got == content::noise(9, 2_000_000), "{} bytes", got.len());
    let page = run(peers::client("nghttp"), [url("eicar")]);
    assert!(String::from_utf8_lossy(&page).contains("1000001"));

    let load = ["-n", "3000", "-c", "10", "-m", "30", &url("bytes/20000")];
    let said = String::from_utf8(run(peers::client("h2load"), load)).unwrap();
    for line in ["3000 succeeded, 0 failed, 0 errored", "3000 2xx", "60000000) data"] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn grpc_calls_of_all_four_kinds() {
    let inspected = Inspected::start();
    let folder = TempDir::new().unwrap();
    let (certificates, key) = inspected.identity().write(folder.path());
    let mut command = peers::python();
    command.arg(script("rpc.py")).arg("server").args([certificates, key]);
    let mut server = Process::start("rpc.py", &mut command);
    let port = server.wait_for("its port", |line| line.strip_prefix("port ").map(str::to_owned));
    let gateway = inspected.proxy();
    let proxy = format!("http://{}", gateway.proxy());
    let authority = gateway.authority().display().to_string();
    let client = script("rpc.py").display().to_string();
    let said = run(peers::python(), [&client, "client", &port, &proxy, &authority]);
    let said = String::from_utf8(said).unwrap();
    assert_eq!(said.matches("blocked: ").count(), 2, "{said}");
    assert!(said.ends_with("all four kinds\n"), "{said}");
}
