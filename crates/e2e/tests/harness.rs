//! The harness itself, against real peers and without our programs: what a test takes for granted.

use std::process::Command;

use e2e::origin::{self, After};
use e2e::peers::nginx::Nginx;
use e2e::pki::Authority;
use e2e::{Curl, Origin, Process, chromium, content};
use tempfile::TempDir;

#[test]
fn a_process_is_waited_for_by_its_words_and_ended_with_its_group() {
    let mut process = Process::start(
        "sh",
        Command::new("sh").args(["-c", "sleep 1000 & echo pid $!; echo ready >&2; wait"]),
    );
    let child: u32 =
        process.wait_for("the child's pid", |line| line.strip_prefix("pid ")?.parse().ok());
    process.wait_for_line("ready");
    assert_eq!(
        (process.stdout(), process.stderr()),
        (format!("pid {child}\n"), "ready\n".to_owned())
    );
    drop(process);
    let mut gone = Process::start("sleep", Command::new("sleep").arg("1000"));
    gone.wait_until("the child's end", || {
        let state = std::fs::read_to_string(format!("/proc/{child}/stat"));
        state.map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn the_origin_speaks_every_framing_and_curl_reads_it() {
    let authority = Authority::new("Origin");
    let folder = TempDir::new().unwrap();
    let trusted = authority.write(folder.path());
    let body = content::noise(1, 300_000);
    let served = body.clone();
    let origin = Origin::https(&authority.leaf(&origin::NAMES), move |request, wire| match request
        .target
        .as_str()
    {
        "/length" => wire.ok("application/octet-stream", &served),
        "/chunked" => wire.chunked("application/octet-stream", served.chunks(10_007)),
        "/close" => wire.until_close("application/octet-stream", &served),
        "/echo" => wire.ok("application/octet-stream", &request.body),
        "/cut" => {
            wire.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
            Ok(After::Abort)
        }
        _ => wire.not_found(),
    });
    let curl = Curl::direct().trust(&trusted);
    for path in ["/length", "/chunked", "/close"] {
        curl.run(&origin.url(path)).expect_body(&body);
    }
    let file = folder.path().join("upload");
    std::fs::write(&file, &body).unwrap();
    curl.clone().post(&file).run(&origin.url("/echo")).expect_body(&body);
    curl.clone()
        .post(&file)
        .arg("--header")
        .arg("Transfer-Encoding: chunked")
        .run(&origin.url("/echo"))
        .expect_body(&body);
    assert_ne!(curl.run(&origin.url("/cut")).exit, 0);
    curl.run(&origin.url("/absent")).expect_status(404);
    assert_ne!(Curl::direct().run(&origin.url("/length")).exit, 0, "an unknown CA is refused");
    assert_eq!(origin.requests()[0].fields["host"], format!("localhost:{}", origin.addr().port()));
}

#[test]
fn nginx_serves_files() {
    let authority = Authority::new("Origin");
    let folder = TempDir::new().unwrap();
    let trusted = authority.write(folder.path());
    let nginx = Nginx::start(&authority.leaf(&origin::NAMES));
    let body = content::noise(2, 1 << 20);
    nginx.put("file.bin", &body);
    Curl::direct().trust(&trusted).run(&nginx.url("/file.bin")).expect_body(&body);
}

#[test]
fn the_signature_is_where_it_was_put() {
    assert_eq!(content::eicar().len(), 68);
    assert!(!content::has_eicar(&content::noise(3, 100_000)));
    assert!(content::has_eicar(&content::infected(3, 100_000, 99_932)));
}

#[test]
fn chromium_reads_a_page_through_a_proxy() {
    // Any HTTP server is a proxy for plain URLs.
    let origin = Origin::http(|request, wire| {
        let page = format!("<p>asked for {}</p>", request.target);
        wire.ok("text/html", page.as_bytes())
    });
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("Proxy").write(folder.path());
    let page = chromium::open("http://localhost/page", origin.addr(), &authority);
    assert!(page.dom.contains("asked for http://localhost/page"), "{}\n{}", page.dom, page.log);
}
