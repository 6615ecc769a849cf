//! Whole transactions with the echo service.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{REQ, RES, connect, local, reqmod, respmod};
use icap_server::{Config, Echo, Router};

fn echo() -> Router<impl icap_server::Routes> {
    Router::new().route("/echo", Echo::new()).route("/copy", Echo::copying())
}

#[test]
fn a_body_comes_back_when_204_is_not_allowed() {
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("") + "5\r\nhello\r\n0\r\n\r\n").await;
        let head = client.head().await;
        assert!(head.starts_with("ICAP/1.0 200 OK\r\nISTag: \"echo-"), "{head}");
        assert!(head.contains(&format!("Encapsulated: res-hdr=0, res-body={}\r\n", RES.len())));
        assert_eq!(client.head().await, RES);
        assert_eq!(client.read_to("0\r\n\r\n").await, "5\r\nhello\r\n0\r\n\r\n");
        client.still_serves().await;
    });
}

#[test]
fn the_reply_starts_while_the_request_is_still_coming() {
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("") + "5\r\nhello\r\n").await;
        client.read_to("hello\r\n").await;
        client.send("3\r\nyou\r\n0\r\n\r\n").await;
        assert_eq!(client.read_to("0\r\n\r\n").await, "3\r\nyou\r\n0\r\n\r\n");
        client.still_serves().await;
    });
}

#[test]
fn an_allowed_204_comes_before_the_body_and_the_rest_is_read_off() {
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("Allow: 204\r\n") + "5\r\nhello\r\n").await;
        assert!(client.head().await.starts_with("ICAP/1.0 204 "));
        client.send("1\r\n!\r\n0\r\n\r\n").await;
        client.still_serves().await;
    });
}

#[test]
fn a_preview_is_answered_by_204_and_its_rest_never_comes() {
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("Preview: 5\r\n") + "5\r\nhello\r\n0\r\n\r\n").await;
        assert!(client.head().await.starts_with("ICAP/1.0 204 "));
        client.still_serves().await;
    });
}

#[test]
fn a_copied_preview_is_continued() {
    local(async {
        let mut client = connect(echo(), Config::default());
        let request = respmod("Preview: 2\r\n").replace("/echo", "/copy");
        client.send(request.clone() + "2\r\nhe\r\n0\r\n\r\n").await;
        assert_eq!(client.head().await, "ICAP/1.0 100 Continue\r\n\r\n");
        client.send("3\r\nllo\r\n0\r\n\r\n").await;
        assert!(client.head().await.starts_with("ICAP/1.0 200 OK\r\n"));
        assert_eq!(client.head().await, RES);
        assert_eq!(client.read_to("0\r\n\r\n").await, "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");
        client.send(request + "2\r\nhi\r\n0; ieof\r\n\r\n").await;
        assert!(client.head().await.starts_with("ICAP/1.0 200 OK\r\n"));
        assert_eq!(client.head().await, RES);
        assert_eq!(client.read_to("0\r\n\r\n").await, "2\r\nhi\r\n0\r\n\r\n");
        client.still_serves().await;
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    local(async {
        let mut client = connect(echo(), Config::default());
        client
            .send(
                reqmod("/echo", "")
                    + &reqmod("/nobody", "")
                    + &(respmod("") + "5\r\nhello\r\n0\r\n\r\n")
                    + &reqmod("/echo", "Allow: 204\r\n"),
            )
            .await;
        assert!(client.head().await.starts_with("ICAP/1.0 200 OK\r\n"));
        assert_eq!(client.head().await, REQ);
        assert!(client.head().await.starts_with("ICAP/1.0 404 ICAP Service Not Found\r\n"));
        assert!(client.head().await.starts_with("ICAP/1.0 200 OK\r\n"));
        assert_eq!(client.head().await, RES);
        client.read_to("0\r\n\r\n").await;
        assert!(client.head().await.starts_with("ICAP/1.0 204 "));
        client.still_serves().await;
    });
}

#[test]
fn ten_megabytes_pass_through_a_pipe_of_64_kib() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    local(async {
        let client = connect(echo(), Config::default());
        let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        let (mut reader, mut writer) = tokio::io::split(client.io);
        let sending = async {
            writer.write_all(respmod("").as_bytes()).await.unwrap();
            for _ in 0..160 {
                writer.write_all(&chunk).await.unwrap();
            }
            writer.write_all(b"0\r\n\r\n").await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut reply = Vec::new();
        let (_, read) = tokio::join!(sending, reader.read_to_end(&mut reply));
        read.unwrap();
        assert_eq!(reply.iter().filter(|b| **b == b'x').count(), 160 * 0x10000);
        assert!(reply.ends_with(b"\r\n0\r\n\r\n"));
    });
}
