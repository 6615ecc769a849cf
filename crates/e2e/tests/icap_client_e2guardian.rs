//! Our ICAP client against E2Guardian, alone and at the head of a chain.

mod icap_client;

use e2e::content;
use e2e::interop::{Ours, version};
use e2e::peers::c_icap::CIcap;
use e2e::peers::e2guardian::E2Guardian;
use icap_client::*;

use ::icap_client::{Adapted, Chain, ChainConfig, Chains, LateChanges, ServiceConfig};

fn guardian(server: &E2Guardian, rest: &[String]) -> Chain {
    let urls = [&[server.request_url(), server.response_url()], rest].concat();
    let services: Vec<_> = urls.iter().map(|url| ServiceConfig::new(url, url)).collect();
    // c-icap's `ex206` is there to change messages, also those that E2Guardian has seen.
    let config = ChainConfig { late_changes: LateChanges::Pass, ..ChainConfig::new("", urls) };
    let chains = Chains::from_config(&services, &[config]).expect("a chain");
    chains.chain("").cloned().expect("a chain")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clean_messages_stay_as_they_are_and_its_header_is_carried_over() {
    let server = E2Guardian::start();
    let chain = guardian(&server, &[]);
    // Without the header that REQMOD returned, RESPMOD would be a 418.
    let mut seen = bodies_stay_as_they_are(&chain, "o.test").await;
    seen.merge(a_hundred_megabytes_stay_as_they_are(&chain, "o.test").await);
    seen.note("its header carried over");
    seen.record(Ours::Client, &format!("E2Guardian {}", version("e2guardian", "-v")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_without_its_request_fails_closed() {
    let server = E2Guardian::start();
    let chain = guardian(&server, &[]);
    let adapted =
        respmod(&chain, &info(1), &get("o.test"), ok(Some(3)), body(b"abc", 3, true)).await;
    assert!(adapted.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_site_is_answered_with_its_page() {
    let server = E2Guardian::start();
    let chain = guardian(&server, &[]);
    for round in 0..24 {
        if round % 2 == 1 {
            // One of its threads that has blocked once returns requests with a wrong Encapsulated.
            let adapted = reqmod(&chain, &info(1), get("o.test"), None).await;
            assert!(matches!(adapted, Ok(Adapted::Forward { .. })));
            continue;
        }
        let adapted = reqmod(&chain, &info(1), get(E2Guardian::BANNED), None).await;
        match adapted.expect("an answer") {
            Adapted::Respond { head, body, .. } => {
                assert_eq!(head.status(), 200);
                let page = collect(body).await.expect("a whole page");
                assert!(page.len() > 10_000, "{}", page.len());
                assert!(
                    page.windows(E2Guardian::BANNED.len())
                        .any(|w| w == E2Guardian::BANNED.as_bytes())
                );
            }
            Adapted::Forward { .. } => panic!("let through"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_of_two_and_three() {
    let guardian_server = E2Guardian::start();
    let scanner = CIcap::with_virus_scan();
    let (scan, partial) = (scanner.url("virus_scan"), scanner.url("ex206"));
    for (names, rest) in [
        ("`virus_scan`", vec![scan.clone()]),
        ("`virus_scan` → `ex206`", vec![scan.clone(), partial.clone()]),
    ] {
        let chain = guardian(&guardian_server, &rest);
        let mut seen = bodies_stay_as_they_are(&chain, "o.test").await;
        seen.merge(a_hundred_megabytes_stay_as_they_are(&chain, "o.test").await);
        seen.note("E2Guardian's header carried over");
        seen.note("blocks");
        seen.record(Ours::Client, &format!("E2Guardian → {names}"));
        // Each link still does its own work.
        let info = info(1);
        let adapted = reqmod(&chain, &info, get(E2Guardian::BANNED), None).await;
        assert!(matches!(adapted, Ok(Adapted::Respond { .. })));
        match reqmod(&chain, &info, get("o.test"), None).await {
            Ok(Adapted::Forward { .. }) => {}
            Ok(Adapted::Respond { head, by, .. }) => panic!("{by}: {:?}", head.bytes()),
            Err(failure) => panic!("{failure}"),
        }
        let eicar = content::eicar();
        let length = Some(eicar.len());
        let adapted =
            respmod(&chain, &info, &get("o.test"), ok(length), body(&eicar, 10, true)).await;
        let adapted = adapted.expect("an answer");
        assert!(adapted.blocked_by.is_some());
        assert!(!content::has_eicar(&collect(adapted.body).await.expect("a page")));
    }
}
