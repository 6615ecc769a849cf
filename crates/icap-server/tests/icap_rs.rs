//! An independent client, the crate `icap-rs`, against this server: every byte compared.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use common::local;
use http::{Request as HttpRequest, Response as HttpResponse};
use icap_rs::{Client, Request};
use icap_server::{Config, Echo, Listener, Router, Shutdown, serve_connection};
use tokio::task::spawn_local;

const PREVIEW: usize = 1024;

/// A server on a thread of its own; its address, and what stops it.
fn server() -> (String, Shutdown, thread::JoinHandle<()>) {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let handle = thread::spawn(move || {
        local(async move {
            let listener = Listener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local().unwrap()).unwrap();
            loop {
                let (stream, peer) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = stop.requested() => return,
                };
                let stop = stop.clone();
                spawn_local(async move {
                    let router =
                        Router::new().route("/echo", Echo::new()).route("/copy", Echo::copying());
                    let config = Config::default();
                    serve_connection(stream, BytesMut::new(), peer, &router, &config, &stop).await
                });
            }
        });
    });
    (receiver.recv().unwrap(), shutdown, handle)
}

fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    random.take(len).collect()
}

/// The body of an encapsulated message; the client has taken off the chunking.
fn body_of(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    &message[end..]
}

#[test]
fn bodies_of_all_sizes_with_and_without_preview_and_204() {
    let (address, shutdown, handle) = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::builder()
            .with_uri(&format!("icap://{address}"))
            .unwrap()
            .keep_alive(true)
            .build();
        let options = client.send(&Request::options("/echo")).await.unwrap();
        assert_eq!(options.status_code().as_u16(), 200);
        for size in [0, 1, PREVIEW - 1, PREVIEW, PREVIEW + 1, 64 << 10, 100_000, 1 << 20] {
            for (preview, allow_204) in [(false, false), (false, true), (true, false), (true, true)]
            {
                for respmod in [false, true] {
                    let body = bytes(size);
                    let mut request =
                        if respmod { Request::respmod("/copy") } else { Request::reqmod("/copy") };
                    if allow_204 {
                        request = request.allow_204();
                    }
                    if preview {
                        request = request.preview(PREVIEW);
                    }
                    let request = if respmod {
                        let message = HttpResponse::builder()
                            .header("Content-Length", size.to_string())
                            .body(body.clone());
                        request.with_http_response(message.unwrap())
                    } else {
                        let message = HttpRequest::post("http://o.test/f")
                            .header("Content-Length", size.to_string())
                            .body(body.clone());
                        request.with_http_request(message.unwrap())
                    };
                    let case = format!("{size} bytes, preview {preview}, 204 {allow_204}");
                    let sending = client.send(request.as_ref().unwrap());
                    let reply = tokio::time::timeout(Duration::from_secs(60), sending).await;
                    let reply = reply.expect(&case).expect(&case);
                    assert_eq!(reply.status_code().as_u16(), 200, "{case}");
                    assert!(body_of(reply.body()) == body, "{case}");
                }
            }
        }
        let request = Request::reqmod("/echo").allow_204();
        let message = HttpRequest::post("http://o.test/f").body(bytes(5000)).unwrap();
        let reply = client.send(&request.with_http_request(message).unwrap()).await.unwrap();
        assert_eq!(reply.status_code().as_u16(), 204);
        let message = HttpRequest::post("http://o.test/f").body(bytes(5000)).unwrap();
        let request = Request::reqmod("/nobody").with_http_request(message).unwrap();
        let reply = client.send(&request).await.unwrap();
        assert_eq!(reply.status_code().as_u16(), 404);
    });
    shutdown.request();
    handle.join().unwrap();
}
