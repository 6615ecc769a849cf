//! Streams of one HTTP/2 connection that nobody reads, and their neighbours.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use support::Gateway;
use support::h2::{Origin, collect, connect, connect_as, get, handler, request, send, soon};

/// One whose content at `/big` is more than a window holds.
async fn large() -> Origin {
    Origin::start(
        3,
        handler(|request, mut respond| async move {
            let size = if request.uri().path() == "/big" { 4 << 20 } else { 1000 };
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            send(&mut stream, Bytes::from(vec![b'x'; size]), true).await;
        }),
    )
    .await
}

/// Responses of which nobody reads more than the heads.
async fn unread(
    sender: &SendRequest<Bytes>,
    origin: &Origin,
    count: usize,
) -> Vec<http::Response<RecvStream>> {
    let mut unread = Vec::new();
    for _ in 0..count {
        let mut sender = sender.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request(origin, "GET", "/big"), true).unwrap();
        unread.push(soon("a head", response).await.unwrap());
    }
    unread
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_takes_the_memory_for_all_that_is_unread() {
    let origin = large().await;
    let dir = tempfile::tempdir().unwrap();
    let settings = format!("{}[limits]\nstream_windows = \"16MiB\"\n", origin.settings(dir.path()));
    let gateway = Gateway::start(&settings);
    let reserved = || gateway.metric("meergate_stream_windows_bytes");
    let greedy = [connect(&gateway, &origin).await, connect(&gateway, &origin).await];
    let mut held = Vec::new();
    for sender in &greedy {
        held.extend(unread(sender, &origin, 30).await);
    }
    assert_eq!(reserved(), 8 << 20, "half of it, since nobody else wants any");
    assert!(gateway.metric("meergate_limited_total{limit=\"stream-windows\"}") > 0);
    let other = connect_as(2, &gateway, &origin).await;
    let others = unread(&other, &origin, 30).await;
    assert_eq!(reserved(), 12 << 20);
    drop((held, others, greedy, other));
    support::wait_for("the memory to be given back", || (reserved() == 0).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_that_no_one_reads_stop_no_other() {
    let origin = large().await;
    // Far more than the 128 KiB that a connection has anyhow hold.
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&origin.settings(dir.path()));
    let sender = connect(&gateway, &origin).await;
    let mut unread = unread(&sender, &origin, 60).await;
    let reserved = || gateway.metric("meergate_stream_windows_bytes");
    assert!(reserved() > 8 << 20, "{}", reserved());
    for _ in 0..20 {
        let (status, body) = soon("a neighbour", get(&sender, &origin, "/")).await.unwrap();
        assert_eq!((status, body.len()), (200, 1000));
    }
    let all = soon("an unread one", collect(unread.remove(30).into_body())).await.unwrap();
    assert_eq!(all.len(), 4 << 20);
    drop((unread, sender));
    support::wait_for("the memory to be given back", || (reserved() == 0).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_was_granted_stays_reserved_until_its_connection_ends() {
    let origin = large().await;
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&origin.settings(dir.path()));
    let reserved = || gateway.metric("meergate_stream_windows_bytes");
    let sender = connect(&gateway, &origin).await;
    for _ in 0..20 {
        soon("an answer", get(&sender, &origin, "/")).await.unwrap();
    }
    assert_eq!(reserved(), 512 << 10, "one after the other need the room of one");
    drop(unread(&sender, &origin, 10).await);
    let granted = reserved();
    assert!(granted >= 8 * (512 << 10), "{granted}");
    // Those that come later have it.
    drop(unread(&sender, &origin, 5).await);
    assert_eq!(reserved(), granted);
    drop(sender);
    support::wait_for("the memory to be given back", || (reserved() == 0).then_some(()));
}
