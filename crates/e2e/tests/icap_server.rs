//! Our ICAP server and other people's clients: Squid with every status there is, c-icap's stress
//! tool, and the independent implementation `icap-rs`.

mod own_server;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use e2e::interop::{Ours, Seen, version};
use e2e::peers::squid::{IcapService, Squid};
use e2e::pki::Authority;
use e2e::{Curl, Inspector, Origin, content, origin, peers};
use http::{Request as HttpRequest, Response as HttpResponse};
use icap_rs::{Client, Request};
use own_server::{MARK, OwnServer};
use tempfile::TempDir;

const PREVIEW: usize = 1024;

/// From nothing to more than Squid keeps for a 204, with the sizes that have caught others.
const SIZES: [usize; 9] =
    [0, 1, PREVIEW - 1, PREVIEW, PREVIEW + 1, 64 << 10, 65_537, 100_000, 1 << 20];

struct Setup {
    squid: Squid,
    origin: Origin,
    folder: TempDir,
}

impl Setup {
    fn start(url: &str, preview: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new("Origin");
        let trusted = authority.write(folder.path());
        let origin = Origin::https(&authority.leaf(&origin::NAMES), |request, wire| {
            let kind = "application/octet-stream";
            let noise = |size: &str| content::noise(5, size.parse().unwrap());
            match request.target.split_once('=') {
                _ if request.method == "POST" => wire.ok(kind, &request.body),
                Some(("/length", size)) => wire.ok(kind, &noise(size)),
                Some(("/chunked", size)) => wire.chunked(kind, noise(size).chunks(10_003)),
                _ => wire.not_found(),
            }
        });
        let squid = Squid::start(&IcapService { url, preview }, &trusted);
        Self { squid, origin, folder }
    }

    fn curl(&self) -> Curl {
        Curl::through(self.squid.proxy()).trust(&self.squid.authority())
    }

    fn file(&self, content: &[u8]) -> PathBuf {
        let file = self.folder.path().join("upload");
        fs::write(&file, content).unwrap();
        file
    }

    /// Fetches and uploads all sizes; `passes` says how often a body goes by the service's mark.
    fn bodies(&self, marked: bool, seen: &mut Seen) {
        let mark = |times: usize, body: &[u8]| match marked && !body.is_empty() {
            true => [MARK.repeat(times).as_slice(), body].concat(),
            false => body.to_vec(),
        };
        for size in SIZES {
            let body = content::noise(5, size);
            for framing in ["length", "chunked"] {
                eprintln!("{framing} {size}");
                let url = self.origin.url(&format!("/{framing}={size}"));
                self.curl().run(&url).expect_body(&mark(1, &body));
                seen.body("RESPMOD", size);
            }
            eprintln!("upload {size}");
            // On its way there, and on its way back.
            let file = self.file(&body);
            let fetched = self.curl().post(&file).run(&self.origin.url("/upload"));
            fetched.expect_body(&mark(2, &body));
            seen.body("REQMOD", size);
        }
    }
}

/// The service says which of 200, 204 and 206 it has answered; all must have come.
#[test]
fn squid_takes_every_status() {
    let mut seen = Seen::default();
    let mut copied = 0;
    for preview in [true, false] {
        for (service, marked, status) in [("echo", false, 204), ("mark", true, 206)] {
            eprintln!("{service}, preview {preview}");
            let server = OwnServer::start();
            let setup = Setup::start(&server.url(service), preview);
            setup.bodies(marked, &mut seen);
            assert!(server.answered(status) > 0, "no {status}");
            assert_eq!(server.previews() > 0, preview);
            copied += server.answered(200);
            seen.note(&status.to_string());
        }
        seen.note(if preview { "with previews" } else { "without previews" });
    }
    assert!(copied > 0, "no 200");
    seen.note("200");
    seen.record(Ours::Server, &format!("Squid {}", version("squid", "-v")));
}

/// Its threads pause after each request, so there are many of them. It compares nothing, but counts
/// what failed.
#[test]
fn c_icap_stretch_gets_an_answer_to_each_request() {
    let inspector = Inspector::with_test_rules();
    let folder = TempDir::new().unwrap();
    let files: Vec<PathBuf> = [0, 1, 1023, 1024, 1025, 64 << 10, 100_000, 1 << 20]
        .into_iter()
        .map(|size| {
            let file = folder.path().join(format!("{size}.dat"));
            fs::write(&file, content::noise(size as u64, size)).unwrap();
            file
        })
        .collect();
    let urls = folder.path().join("urls");
    fs::write(&urls, "http://files.test/one\nhttp://files.test/two\n").unwrap();
    let mut seen = Seen::default();
    for service in ["suricata", "echo"] {
        for (method, more) in [("RESPMOD", None), ("REQMOD", Some(&urls))] {
            let mut command = Command::new("timeout");
            command
                .arg("120")
                .arg(peers::program("c-icap-stretch"))
                .args(["-i", "127.0.0.1", "-p", &inspector.addr().port().to_string()])
                .args(["-s", service, "-t", "16", "-m", "80"]);
            match more {
                Some(urls) => command.arg("-req").arg("-urls").arg(urls),
                None => command.args(&files),
            };
            let output = command.output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            eprintln!("{service} {method}: {said}");
            assert!(output.status.success(), "{}: {said}", output.status);
            for nothing in ["Requests failed :0", "Requests soft failed :0", "Write Errors :0"] {
                assert!(said.contains(nothing), "{service} {method}: {said}");
            }
            seen.note(method);
        }
    }
    seen.note("16 connections at once");
    seen.record(Ours::Server, &format!("c-icap-stretch {}", version("c-icap", "-V")));
}

/// The body of an encapsulated message; the client has taken off the chunking.
fn body_of(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    &message[end..]
}

#[test]
fn icap_rs_gets_every_byte_back() {
    let inspector = Inspector::with_test_rules();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut seen = Seen::default();
    let all = content::noise(11, 1 << 20);
    runtime.block_on(async {
        let uri = format!("icap://{}", inspector.addr());
        let client = Client::builder().with_uri(&uri).unwrap().keep_alive(true).build();
        let options = client.send(&Request::options("/suricata")).await.unwrap();
        assert_eq!(options.status_code().as_u16(), 200);
        // It reads nothing before it has written all, so there is no more than sockets hold.
        for size in SIZES {
            for (preview, allow_204) in [(false, false), (false, true), (true, false), (true, true)]
            {
                for respmod in [false, true] {
                    let case = format!("{size} bytes, preview {preview}, 204 {allow_204}");
                    eprintln!("{case}, respmod {respmod}");
                    let path = "/suricata";
                    let mut request =
                        if respmod { Request::respmod(path) } else { Request::reqmod(path) };
                    if allow_204 {
                        request = request.allow_204();
                    }
                    if preview {
                        request = request.preview(PREVIEW);
                    }
                    let (body, length) = (all[..size].to_vec(), size.to_string());
                    let request = if respmod {
                        let message = HttpResponse::builder().header("Content-Length", length);
                        request.with_http_response(message.body(body).unwrap())
                    } else {
                        let message = HttpRequest::post("http://o.test/f");
                        let message = message.header("Content-Length", length);
                        request.with_http_request(message.body(body).unwrap())
                    };
                    let sending = client.send(request.as_ref().unwrap());
                    let reply = tokio::time::timeout(Duration::from_secs(120), sending).await;
                    let reply = reply.expect(&case).expect(&case);
                    match reply.status_code().as_u16() {
                        204 => assert!(allow_204 || preview, "{case}"),
                        200 => assert!(body_of(reply.body()) == &all[..size], "{case}"),
                        other => panic!("{case}: {other}"),
                    }
                    seen.note(&reply.status_code().as_u16().to_string());
                    seen.body(if respmod { "RESPMOD" } else { "REQMOD" }, size);
                }
            }
        }
        let message = HttpRequest::post("http://o.test/f").body(content::eicar()).unwrap();
        let request = Request::reqmod("/suricata").with_http_request(message).unwrap();
        let reply = client.send(&request).await.unwrap();
        assert!(String::from_utf8_lossy(reply.body()).contains("403"));
    });
    seen.note("with previews");
    seen.note("without previews");
    seen.note("blocks");
    // Its version is that of Cargo.lock.
    let lock = fs::read_to_string(e2e::programs::root().join("Cargo.lock")).unwrap();
    let version = lock.split("name = \"icap-rs\"\nversion = \"").nth(1).unwrap();
    let version: Vec<_> = version.split(['.', '"']).take(2).collect();
    seen.record(Ours::Server, &format!("icap-rs {}", version.join(".")));
}
