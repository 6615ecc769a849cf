//! Squid decrypts and asks our inspector: RFC 3507 as its fullest client speaks it.

use std::path::PathBuf;

use e2e::demo::sid;
use e2e::interop::{Ours, Seen, version};
use e2e::origin;
use e2e::peers::squid::{IcapService, Squid};
use e2e::pki::Authority;
use e2e::{Curl, Inspector, Origin, content};
use tempfile::TempDir;

/// From nothing to far more than any buffer, with the sizes that have caught others.
const SIZES: [usize; 9] = [0, 1, 1023, 1024, 1025, 64 << 10, 100_000, 1 << 20, 100 << 20];

struct Setup {
    squid: Squid,
    _inspector: Inspector,
    origin: Origin,
    folder: TempDir,
}

impl Setup {
    fn start(preview: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new("Origin");
        let trusted = authority.write(folder.path());
        let origin = Origin::https(&authority.leaf(&origin::NAMES), |request, wire| {
            let kind = "application/octet-stream";
            match request.target.split_once('=') {
                _ if request.method == "POST" => wire.ok(kind, &request.body),
                Some(("/length", size)) => wire.ok(kind, &content::noise(5, size.parse().unwrap())),
                Some(("/chunked", size)) => {
                    let body = content::noise(5, size.parse().unwrap());
                    wire.chunked(kind, body.chunks(100_003))
                }
                Some(("/eicar", "small")) => wire.ok(kind, &content::eicar()),
                Some(("/eicar", _)) => wire.ok(kind, &content::infected(6, 500_000, 499_000)),
                _ => wire.ok(kind, b"never to be seen"),
            }
        });
        let inspector = Inspector::with_test_rules();
        let url = inspector.url();
        let squid = Squid::start(&IcapService { url: &url, preview }, &trusted);
        Self { squid, _inspector: inspector, origin, folder }
    }

    fn curl(&self) -> Curl {
        Curl::through(self.squid.proxy()).trust(&self.squid.authority())
    }

    fn file(&self, content: &[u8]) -> PathBuf {
        let file = self.folder.path().join("upload");
        std::fs::write(&file, content).unwrap();
        file
    }
}

fn clean_bodies_come_through(preview: bool) {
    let setup = Setup::start(preview);
    let mut seen = Seen::default();
    for size in SIZES {
        let body = content::noise(5, size);
        for framing in ["length", "chunked"] {
            eprintln!("{framing} {size}");
            let url = setup.origin.url(&format!("/{framing}={size}"));
            setup.curl().run(&url).expect_body(&body);
            seen.body("RESPMOD", size);
        }
    }
    for size in SIZES.into_iter().filter(|&size| size <= 1 << 20) {
        eprintln!("upload {size}");
        let body = content::noise(8, size);
        setup.curl().post(&setup.file(&body)).run(&setup.origin.url("/upload")).expect_body(&body);
        seen.body("REQMOD", size);
    }
    seen.note(if preview { "with previews" } else { "without previews" });
    seen.record(Ours::Server, &format!("Squid {}", version("squid", "-v")));
}

fn eicar_is_blocked(preview: bool) {
    let setup = Setup::start(preview);
    let url = |path| setup.origin.url(path);
    for (fetched, sid) in [
        (setup.curl().run(&url("/eicar=small")), sid::DOWNLOAD),
        (setup.curl().run(&url("/eicar=late")), sid::DOWNLOAD),
        (
            setup
                .curl()
                .post(&setup.file(&content::infected(9, 200_000, 100_000)))
                .run(&url("/up")),
            sid::UPLOAD,
        ),
        (setup.curl().run(&url("/meergate-forbidden")), sid::PATH),
    ] {
        fetched.expect_status(403);
        assert!(!content::has_eicar(&fetched.body));
        assert!(fetched.text().contains(&sid.to_string()), "{}", fetched.text());
    }
    assert!(!setup.origin.requests().iter().any(|request| content::has_eicar(&request.body)));
    let mut seen = Seen::default();
    seen.note("blocks");
    seen.record(Ours::Server, &format!("Squid {}", version("squid", "-v")));
}

#[test]
fn clean_bodies_come_through_with_previews() {
    clean_bodies_come_through(true);
}

#[test]
fn clean_bodies_come_through_without_previews() {
    clean_bodies_come_through(false);
}

#[test]
fn eicar_is_blocked_with_previews() {
    eicar_is_blocked(true);
}

#[test]
fn eicar_is_blocked_without_previews() {
    eicar_is_blocked(false);
}
