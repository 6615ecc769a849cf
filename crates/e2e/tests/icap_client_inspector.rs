//! Our ICAP client against our inspector, alone and behind other people's services.

mod icap_client;

use e2e::interop::Ours;
use e2e::peers::c_icap::CIcap;
use e2e::peers::e2guardian::E2Guardian;
use e2e::{Inspector, content};
use icap_client::*;

use ::icap_client::{Adapted, Chain};

fn chain(urls: &[String]) -> Chain {
    Chain::from_urls(urls).expect("a chain")
}

async fn eicar_is_blocked_both_ways(chain: &Chain) {
    for (name, sent) in
        [("alone", content::eicar()), ("at 700 KB", content::infected(3, 800_000, 700_000))]
    {
        let length = Some(sent.len());
        let info = info(900);
        match reqmod(chain, &info, post("o.test", length), body(&sent, 4096, true)).await {
            Ok(Adapted::Respond { head, body, .. }) => {
                assert_eq!(head.status(), 403, "{name}");
                assert!(!content::has_eicar(&collect(body).await.expect("a whole page")));
            }
            Ok(Adapted::Forward { .. }) => panic!("REQMOD, {name}: let through"),
            Err(failure) => panic!("REQMOD, {name}: {failure}"),
        }
        let info = ::icap_client::TransactionInfo::new("http", "c901", "t901");
        let request = get("o.test");
        let adapted = reqmod(chain, &info, request.clone(), None).await;
        assert!(matches!(adapted, Ok(Adapted::Forward { .. })), "{name}");
        let adapted = respmod(chain, &info, &request, ok(length), body(&sent, 4096, true)).await;
        let adapted = adapted.unwrap_or_else(|e| panic!("RESPMOD, {name}: {e}"));
        assert_eq!(adapted.head.status(), 403, "{name}");
        assert!(adapted.blocked_by.is_some(), "{name}");
        assert!(!content::has_eicar(&collect(adapted.body).await.expect("a whole page")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clean_messages_stay_as_they_are() {
    let inspector = Inspector::with_test_rules();
    for url in [inspector.url(), inspector.echo_url()] {
        let chain = chain(&[url]);
        let mut seen = bodies_stay_as_they_are(&chain, "o.test").await;
        seen.merge(a_hundred_megabytes_stay_as_they_are(&chain, "o.test").await);
        seen.record(Ours::Client, "our inspector");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_come_back_byte_for_byte() {
    let inspector = Inspector::with_test_rules();
    let chain = chain(&[inspector.url()]);
    let head = request(
        "POST /a HTTP/1.1\r\nhOST: o.test\r\nX-Odd:   spaced\t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    // Within what it holds, and beyond.
    for size in [10, 3 << 20] {
        let sent = content::noise(5, size);
        let adapted = reqmod(&chain, &info(1), head.clone(), body(&sent, 10_000, false)).await;
        match adapted.expect("an answer") {
            Adapted::Forward { head: got, body, .. } => {
                assert_eq!(got.bytes(), head.bytes());
                assert!(collect(body).await.expect("a whole body") == sent);
            }
            Adapted::Respond { head, .. } => panic!("{:?}", head.bytes()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_name_their_signature() {
    let inspector = Inspector::with_test_rules();
    let chain = chain(&[inspector.url()]);
    eicar_is_blocked_both_ways(&chain).await;
    let eicar = content::eicar();
    let length = Some(eicar.len());
    match reqmod(&chain, &info(1), post("o.test", length), body(&eicar, 1, true)).await {
        Ok(Adapted::Respond { block, .. }) => {
            let block = block.expect("an account of the block");
            let sid: u64 = block.signature_id.expect("an id").parse().expect("a number");
            assert!(sid > 0);
        }
        _ => panic!("let through"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_others() {
    let guardian = E2Guardian::start();
    let scanner = CIcap::with_virus_scan();
    let inspector = Inspector::with_test_rules();
    let first = [guardian.request_url(), guardian.response_url()];
    for (names, rest) in [
        ("our inspector", vec![inspector.url()]),
        ("`virus_scan` → our inspector", vec![scanner.url("virus_scan"), inspector.url()]),
    ] {
        let chain = chain(&[&first[..], &rest].concat());
        let mut seen = bodies_stay_as_they_are(&chain, "o.test").await;
        seen.merge(a_hundred_megabytes_stay_as_they_are(&chain, "o.test").await);
        eicar_is_blocked_both_ways(&chain).await;
        seen.note("blocks");
        seen.note("E2Guardian's header carried over");
        seen.record(Ours::Client, &format!("E2Guardian → {names}"));
        let adapted = reqmod(&chain, &info(1), get(E2Guardian::BANNED), None).await;
        assert!(matches!(adapted, Ok(Adapted::Respond { .. })));
    }
}

/// Each transaction that was under way fails, and none is taken for clean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle() {
    let inspector = Inspector::with_test_rules();
    let chain = chain(&[inspector.url()]);
    let piece = bytes::Bytes::from(content::noise(1, 1 << 20));
    let sent = ::icap_client::Full::new((0..64).map(|_| piece.clone()), None).boxed();
    let request = get("o.test");
    let adapted = respmod(&chain, &info(0), &request, ok(Some(64 << 20)), Some(sent)).await;
    let mut body = adapted.expect("an answer").body.expect("a body");
    let first = ::icap_client::next_frame(&mut body).await;
    assert!(matches!(first, Some(Ok(_))));
    inspector.process.kill_group();
    let error = loop {
        match ::icap_client::next_frame(&mut body).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("ended as if whole"),
        }
    };
    assert!(error.failure().is_some(), "{error}");
    assert!(reqmod(&chain, &info(1), request, None).await.is_err());
}
