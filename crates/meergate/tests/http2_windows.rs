//! Streams of one HTTP/2 connection that nobody reads, and their neighbours.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bytes::Bytes;
use support::Gateway;
use support::h2::{Origin, collect, connect, get, handler, request, send, soon};

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_that_no_one_reads_stop_no_other() {
    let origin = Origin::start(
        1,
        handler(|request, mut respond| async move {
            let size = if request.uri().path() == "/big" { 4 << 20 } else { 1000 };
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            send(&mut stream, Bytes::from(vec![b'x'; size]), true).await;
        }),
    )
    .await;
    // More than the 8 MiB that a connection has anyhow hold.
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&origin.settings(dir.path()));
    let sender = connect(&gateway, &origin).await;
    let mut unread = Vec::new();
    for _ in 0..60 {
        let mut sender = sender.clone().ready().await.unwrap();
        let (response, _) = sender.send_request(request(&origin, "GET", "/big"), true).unwrap();
        unread.push(soon("a head", response).await.unwrap());
    }
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
