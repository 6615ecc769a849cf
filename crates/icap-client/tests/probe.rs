//! One request at a time, as the command line sends them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use common::*;
use icap_client::{Ask, Probe};

async fn server() -> Server {
    serve_requests(OPTIONS_PREVIEW, |mut peer, mut request| async move {
        if request.at_preview_end {
            peer.go_on(&mut request).await;
        }
        let allow = request.header("Allow").unwrap_or_default();
        if request.req_hdr.starts_with(b"DELETE") {
            peer.send("ICAP/1.0 405 Method Not Allowed\r\n\r\n").await;
        } else if allow.contains("206") {
            let head = std::str::from_utf8(&request.req_hdr).unwrap();
            let length = head.len();
            peer.send(format!(
                "ICAP/1.0 206 Partial\r\nEncapsulated: req-hdr=0, req-body={length}\r\n\r\n{head}\
                 3\r\nnew\r\n0; use-original-body=4\r\n\r\n"
            ))
            .await;
        } else {
            peer.send(pass(&request)).await;
        }
        Some(peer)
    })
    .await
}

#[tokio::test]
async fn options_are_told_as_they_came_and_as_they_are_understood() {
    let server = server().await;
    let (headers, capabilities) = Probe::new(&config(&server)).unwrap().options().await.unwrap();
    assert_eq!(headers.text("Preview"), Some("1024"));
    assert_eq!(capabilities.preview, Some(1024));
    assert!(capabilities.reqmod && capabilities.allow_206);
}

#[tokio::test]
async fn a_request_promises_what_it_is_told_to() {
    let server = server().await;
    let probe = Probe::new(&config(&server)).unwrap();
    let body = noise(3000);
    for (ask, status, expected) in [
        (Ask::default(), 200, body.clone()),
        (Ask { allow_204: true, ..Ask::default() }, 204, body.clone()),
        (
            Ask { allow_204: true, allow_206: true, preview: None },
            206,
            [b"new", &body[4..]].concat(),
        ),
        (Ask { preview: Some(10), ..Ask::default() }, 200, body.clone()),
    ] {
        let told = probe.send(ask, &info(), post(3000), None, full(&body)).await.unwrap();
        assert_eq!(told.status, status, "{ask:?}");
        assert_eq!(told.continued, ask.preview.is_some(), "{ask:?}");
        assert_eq!(told.http.is_some(), status != 204, "{ask:?}");
        assert!(collect(told.body).await.unwrap().0 == expected, "{ask:?}");
    }
}

#[tokio::test]
async fn a_response_goes_along_with_its_request() {
    let server = server().await;
    let probe = Probe::new(&config(&server)).unwrap();
    let told = probe.send(Ask::default(), &info(), get(), Some(ok(3)), full(b"abc")).await.unwrap();
    assert_eq!(told.status, 200);
    assert_eq!(told.http.as_ref(), Some(ok(3).bytes()));
    assert_eq!(collect(told.body).await.unwrap().0, b"abc");
}

#[tokio::test]
async fn an_error_status_is_an_answer() {
    let server = server().await;
    let probe = Probe::new(&config(&server)).unwrap();
    let delete = request("DELETE /a HTTP/1.1\r\nHost: o.test\r\n\r\n");
    let told = probe.send(Ask::default(), &info(), delete, None, None).await.unwrap();
    assert_eq!((told.status, told.reason.as_str()), (405, "Method Not Allowed"));
    assert!(told.body.is_none());
}
