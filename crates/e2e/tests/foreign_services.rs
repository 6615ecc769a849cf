//! The gateway asks other people's ICAP services, alone and in a chain with ours.

use e2e::demo::sid;
use e2e::origin::{self, After, Request, Wire};
use e2e::peers::c_icap::CIcap;
use e2e::pki::Authority;
use e2e::{Curl, Gateway, Inspector, Origin, content};
use tempfile::TempDir;

const KIND: &str = "application/octet-stream";

struct Setup {
    gateway: Gateway,
    origin: Origin,
    folder: TempDir,
}

impl Setup {
    fn start(services: &[String]) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new("Origin");
        let trusted = authority.write(folder.path());
        let origin = Origin::https(&authority.leaf(&origin::NAMES), serve);
        let mut args = vec!["--upstream-ca".to_owned(), trusted.display().to_string()];
        for service in services {
            args.extend(["--icap".to_owned(), service.clone()]);
        }
        Self { gateway: Gateway::start(args), origin, folder }
    }

    fn curl(&self) -> Curl {
        Curl::through(self.gateway.proxy()).trust(&self.gateway.authority())
    }

    fn clean_bodies_come_through(&self, sizes: &[usize]) {
        for &size in sizes {
            let body = content::noise(5, size);
            for framing in ["length", "chunked", "close"] {
                eprintln!("{framing} {size}");
                let url = self.origin.url(&format!("/{framing}={size}"));
                self.curl().run(&url).expect_body(&body);
            }
            eprintln!("upload {size}");
            let file = self.folder.path().join("upload");
            std::fs::write(&file, &body).unwrap();
            self.curl().post(&file).run(&self.origin.url("/upload")).expect_body(&body);
        }
    }
}

fn serve(request: &Request, wire: &mut Wire<'_>) -> std::io::Result<After> {
    let noise = |size: &str| content::noise(5, size.parse().unwrap());
    match request.target.split_once('=') {
        _ if request.method == "POST" => wire.ok(KIND, &request.body),
        Some(("/length", size)) => wire.ok(KIND, &noise(size)),
        Some(("/chunked", size)) => wire.chunked(KIND, noise(size).chunks(10_007)),
        Some(("/close", size)) => wire.until_close(KIND, &noise(size)),
        Some(("/eicar", "alone")) => wire.ok("text/plain", &content::eicar()),
        Some(("/eicar", _)) => wire.ok(KIND, &content::infected(6, 50_000, 40_000)),
        _ => wire.not_found(),
    }
}

const SIZES: [usize; 8] = [0, 1, 1023, 1024, 1025, 65_536, 1 << 20, 100 << 20];

#[test]
fn clean_bodies_come_through_the_echo_service() {
    let c_icap = CIcap::start();
    Setup::start(&[c_icap.url("echo")]).clean_bodies_come_through(&SIZES);
}

#[test]
fn an_antivirus_lets_clean_bodies_through_and_blocks_eicar() {
    let c_icap = CIcap::with_virus_scan();
    let setup = Setup::start(&[c_icap.url("virus_scan")]);
    setup.clean_bodies_come_through(&[0, 1, 1024, 65_536, 1 << 20]);

    let fetched = setup.curl().run(&setup.origin.url("/eicar=alone"));
    fetched.expect_status(403);
    assert!(fetched.text().to_lowercase().contains("virus"), "{}", fetched.text());
    assert!(!content::has_eicar(&fetched.body));

    let file = setup.folder.path().join("upload");
    std::fs::write(&file, content::eicar()).unwrap();
    let fetched = setup.curl().post(&file).run(&setup.origin.url("/upload"));
    fetched.expect_status(403);
    assert!(!setup.origin.requests().iter().any(|request| content::has_eicar(&request.body)));
}

#[test]
fn in_a_chain_each_service_has_its_say() {
    let c_icap = CIcap::with_virus_scan();
    let mut inspector = Inspector::with_test_rules();
    for ours_first in [true, false] {
        let mut services = [c_icap.url("echo"), c_icap.url("virus_scan"), inspector.url()];
        if ours_first {
            services.reverse();
        }
        eprintln!("{services:?}");
        let setup = Setup::start(&services);
        setup.clean_bodies_come_through(&[0, 1, 1024, 65_536, 1 << 20]);

        let fetched = setup.curl().run(&setup.origin.url("/eicar=alone"));
        fetched.expect_status(403);
        assert_eq!(ours_first, fetched.text().contains(&sid::DOWNLOAD.to_string()));

        // What only the engine has a signature for is blocked wherever the engine stands.
        let fetched = setup.curl().run(&setup.origin.url("/meergate-forbidden"));
        fetched.expect_status(403);
        let port = u64::from(fetched.local_port);
        inspector.wait_for_alert(sid::PATH, |event| event["src_port"] == port);
    }
}

#[test]
fn a_service_that_is_gone_closes_the_way() {
    let c_icap = CIcap::start();
    let setup = Setup::start(&[c_icap.url("echo")]);
    setup.clean_bodies_come_through(&[1000]);
    let served = setup.origin.requests().len();
    drop(c_icap);
    let fetched = setup.curl().run(&setup.origin.url("/length=1000"));
    assert!(fetched.status == 502 || fetched.status == 503, "{} {}", fetched.status, fetched.heads);
    assert_eq!(setup.origin.requests().len(), served);
}

#[test]
fn a_service_that_does_not_exist_closes_the_way() {
    let c_icap = CIcap::start();
    let setup = Setup::start(&[c_icap.url("no-such-service")]);
    let fetched = setup.curl().run(&setup.origin.url("/length=1000"));
    assert!(fetched.status == 502 || fetched.status == 503, "{} {}", fetched.status, fetched.heads);
    assert_eq!(setup.origin.requests().len(), 0);
}
