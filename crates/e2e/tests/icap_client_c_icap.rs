//! Our ICAP client against c-icap: `echo`, `ex206`, `virus_scan` with clamd.

mod icap_client;

use e2e::content;
use e2e::interop::{Ours, Seen, version};
use e2e::peers::c_icap::CIcap;
use e2e::pki::Authority;
use icap_client::*;

use ::icap_client::{Adapted, Chain, FailureKind, Frame, ServiceConfig, Size, next_frame};

const WORKERS: &str = "the harness blocks while a peer starts";

fn peer(service: &str) -> String {
    format!("c-icap {} `{service}`", version("c-icap", "-V"))
}

fn scanner() -> String {
    format!("{}, ClamAV {}", peer("virus_scan"), version("clamd", "--version"))
}

fn chain(url: String) -> Chain {
    Chain::from_services(&[ServiceConfig::new("c-icap", url)]).expect("a chain")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo() {
    let server = CIcap::start();
    let chain = chain(server.url("echo"));
    let mut seen = bodies_stay_as_they_are(&chain, "o.test").await;
    seen.merge(a_hundred_megabytes_stay_as_they_are(&chain, "o.test").await);
    seen.record(Ours::Client, &peer("echo"));
    let metrics = chain.services().next().expect(WORKERS).metrics();
    // It alternates between 204 and 200 on previews: both must have come.
    assert!(metrics.passed.value() > 0 && metrics.adapted.value() > 0);
    assert!(metrics.reused.value() > 0, "connections are kept");
    assert_eq!(metrics.retries.value(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ex206() {
    let server = CIcap::start();
    let chain = chain(server.url("ex206"));
    let mut seen = bodies_stay_as_they_are(&chain, "o.test").await;
    seen.merge(a_hundred_megabytes_stay_as_they_are(&chain, "o.test").await);
    seen.record(Ours::Client, &peer("ex206"));
}

/// ex206 puts a comment into HTML and leaves the rest to the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ex206_changes_html_and_uses_the_original_body() {
    let server = CIcap::start();
    for (size, preview) in [(10_000, true), (10_000, false), (500, true), (900 * 1024, true)] {
        let mut config = ServiceConfig::new("c-icap", server.url("ex206"));
        if !preview {
            config.max_preview = Some(Size(0));
        }
        let chain = Chain::from_services(&[config]).expect("a chain");
        let mut page = b"<html><head><title>x</title></head><body>".to_vec();
        page.resize(size, b'a');
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {size}\r\n\r\n");
        let head = http_wire::ResponseHead::from_bytes(head.into(), &http_wire::Limits::default());
        let head = head.expect("a head");
        for round in 0..3 {
            let what = format!("{size} bytes, preview {preview}, round {round}");
            let adapted =
                respmod(&chain, &info(0), &get("o.test"), head.clone(), body(&page, 1000, true))
                    .await;
            let adapted = adapted.unwrap_or_else(|e| panic!("{what}: {e}"));
            let declared = adapted.head.field("Content-Length").map(|f| f.value.to_vec());
            let got = collect(adapted.body).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            if let Some(declared) = declared {
                assert_eq!(declared, got.len().to_string().as_bytes(), "{what}");
            }
            // Whatever it put in, the original's text stands whole around it.
            let kept: usize = got.iter().filter(|b| **b == b'a').count();
            assert!(kept >= size - 41, "{what}: {kept}");
            assert!(got.starts_with(b"<html>"), "{what}");
            assert!(got.ends_with(b"aaaa"), "{what}");
        }
    }
    let mut seen = Seen::default();
    seen.note("206 and the original's rest");
    seen.record(Ours::Client, &peer("ex206"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virus_scan_passes_what_is_clean() {
    let server = CIcap::with_virus_scan();
    let chain = chain(server.url("virus_scan"));
    let mut seen = bodies_stay_as_they_are(&chain, "o.test").await;
    seen.merge(a_hundred_megabytes_stay_as_they_are(&chain, "o.test").await);
    seen.record(Ours::Client, &scanner());
    let metrics = chain.services().next().expect(WORKERS).metrics();
    assert!(metrics.passed.value() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virus_scan_blocks_eicar_both_ways() {
    let server = CIcap::with_virus_scan();
    let chain = chain(server.url("virus_scan"));
    let eicar = content::eicar();
    let deep = content::infected(3, 800_000, 700_000);
    for (name, sent) in [("plain", eicar), ("deep", deep)] {
        for known in [true, false] {
            let length = known.then_some(sent.len());
            let info = info(1);
            let adapted =
                reqmod(&chain, &info, post("o.test", length), body(&sent, 4096, known)).await;
            match adapted.expect("an answer") {
                Adapted::Respond { head, body, block, by, .. } => {
                    assert_eq!(head.status(), 403, "{name}");
                    assert_eq!(&*by, "c-icap");
                    let violations = block.expect("an account of the block").violations;
                    assert!(
                        violations.expect("violations").to_lowercase().contains("eicar"),
                        "{name}"
                    );
                    let page = collect(body).await.expect("a whole page");
                    assert!(!content::has_eicar(&page) && !page.is_empty());
                }
                Adapted::Forward { .. } => panic!("{name}: let through"),
            }
            let adapted =
                respmod(&chain, &info, &get("o.test"), ok(length), body(&sent, 4096, known)).await;
            let adapted = adapted.expect("an answer");
            assert!(adapted.blocked_by.is_some(), "{name}");
            assert_eq!(adapted.head.status(), 403, "{name}");
            let page = collect(adapted.body).await.expect("a whole page");
            assert!(!content::has_eicar(&page), "{name}");
        }
    }
    let mut seen = Seen::default();
    seen.note("blocks");
    seen.record(Ours::Client, &scanner());
}

/// A server that goes away in the middle must leave an error behind, never half a body that
/// looks whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle() {
    let server = CIcap::start();
    let chain = chain(server.url("echo"));
    let piece = bytes::Bytes::from(content::noise(1, 1 << 20));
    let sent = ::icap_client::Full::new((0..64).map(|_| piece.clone()), None).boxed();
    let adapted = respmod(&chain, &info(0), &get("o.test"), ok(Some(64 << 20)), Some(sent)).await;
    let mut body = adapted.expect("an answer").body.expect("a body");
    let mut got = 0;
    let error = loop {
        match next_frame(&mut body).await {
            Some(Ok(Frame::Data(data))) => {
                if got == 0 {
                    server.process.kill_group();
                }
                got += data.len();
            }
            Some(Ok(Frame::Trailers(_))) => {}
            Some(Err(error)) => break error,
            None => panic!("ended as if whole after {got} bytes"),
        }
    };
    assert!(error.failure().is_some(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_tls() {
    let authority = Authority::new("ICAP services");
    let server = CIcap::with_tls(&authority.leaf(&["localhost"]));
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = ServiceConfig::new("c-icap", server.tls_url("echo"));
    config.tls.ca = Some(authority.write(folder.path()));
    let chain = Chain::from_services(&[config.clone()]).expect("a chain");
    let mut seen = bodies_stay_as_they_are(&chain, "o.test").await;
    seen.note("TLS");
    seen.record(Ours::Client, &peer("echo"));

    // Another authority, or another name, is no connection.
    let other = tempfile::tempdir().expect("a folder");
    let mut stranger = config.clone();
    stranger.tls.ca = Some(Authority::new("Somebody else").write(other.path()));
    config.tls.server_name = Some("other.test".into());
    for config in [stranger, config] {
        let chain = Chain::from_services(&[config]).expect("a chain");
        let failure = reqmod(&chain, &info(1), get("o.test"), None).await.err().expect("a failure");
        assert_eq!(failure.kind(), FailureKind::Connect, "{failure}");
    }
}
