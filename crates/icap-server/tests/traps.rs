//! What real clients do, and what other servers got wrong: each test fails without its handling.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod common;

use common::{REQ, RES, connect, local, reqmod, respmod};
use icap_server::{Config, Echo, Router, Routes};

fn echo() -> Router<impl Routes> {
    Router::new().route("/echo", Echo::new()).route("/copy", Echo::copying())
}

/// One chunk of 16 KiB.
fn chunk() -> String {
    "4000\r\n".to_owned() + &"x".repeat(0x4000) + "\r\n"
}

#[test]
fn squid_stops_sending_after_64_kib_until_the_reply_starts() {
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("Allow: trailers\r\n") + &chunk().repeat(3)).await;
        assert!(client.head().await.starts_with("ICAP/1.0 200 OK\r\n"));
        assert_eq!(client.head().await, RES);
        for _ in 0..20 {
            client.send(chunk()).await;
            client.read_to("xx\r\n").await;
        }
        client.send("0\r\n\r\n").await;
        client.read_to("\r\n0\r\n\r\n").await;
        client.still_serves().await;
    });
}

#[test]
fn squid_may_allow_trailers_and_206_and_not_204() {
    local(async {
        for allow in ["Allow: trailers\r\n", "Allow: 206, trailers\r\n"] {
            let mut client = connect(echo(), Config::default());
            // Within the preview 204 is fine whatever was allowed …
            client.send(respmod(&format!("{allow}Preview: 3\r\n")) + "3\r\nabc\r\n0\r\n\r\n").await;
            assert!(client.head().await.starts_with("ICAP/1.0 204 "), "{allow}");
            // … outside it is not, and that is no error.
            client.send(respmod(allow) + "3\r\nabc\r\n0\r\n\r\n").await;
            assert!(client.head().await.starts_with("ICAP/1.0 200 "), "{allow}");
            client.read_to("3\r\nabc\r\n0\r\n\r\n").await;
            client.still_serves().await;
        }
    });
}

#[test]
fn the_body_after_a_206_or_204_is_not_the_next_request() {
    // c-icap's ex206 answers, leaves the body unread and takes it for a request.
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("Allow: 204, 206\r\n")).await;
        assert!(client.head().await.starts_with("ICAP/1.0 204 "));
        client.send("20\r\nOPTIONS icap://h/no ICAP/1.0\r\n\r\n\r\n0\r\n\r\n").await;
        client.still_serves().await;
    });
}

#[test]
fn extensions_on_data_chunks_and_request_trailers_are_no_reason_to_hang_up() {
    // c-icap closes without a reply.
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("") + "3;x=\"y\"\r\nabc\r\n0\r\nX-T: 1\r\n\r\n").await;
        client.read_to("3\r\nabc\r\n0\r\n\r\n").await;
        client.still_serves().await;
    });
}

#[test]
fn ieof_may_stand_anywhere_and_in_any_case() {
    // c-icap wants it first and in lower case.
    local(async {
        let mut client = connect(echo(), Config::default());
        for last in ["0; ieof", "0;ieof", "0 ;IEOF", "0; x; Ieof", "0; x=\";\"; ieof ", "00; ieof"]
        {
            let request = respmod("Preview: 9\r\n").replace("/echo", "/copy");
            client.send(request + "3\r\nabc\r\n" + last + "\r\n\r\n").await;
            let reply = client.read_to("\r\n0\r\n\r\n").await;
            assert!(reply.starts_with("ICAP/1.0 200 "), "{last}: {reply}");
            assert!(reply.ends_with("3\r\nabc\r\n0\r\n\r\n"), "{last}: {reply}");
        }
        client.still_serves().await;
    });
}

#[test]
fn a_preview_is_not_taken_for_the_whole_body() {
    // E2Guardian returns a file of 2,048 bytes with 1,024.
    local(async {
        let mut client = connect(echo(), Config::default());
        let request = respmod("Preview: 1024\r\n").replace("/echo", "/copy");
        let part = "400\r\n".to_owned() + &"x".repeat(1024) + "\r\n0\r\n\r\n";
        client.send(request + &part).await;
        assert_eq!(client.head().await, "ICAP/1.0 100 Continue\r\n\r\n");
        client.send(part).await;
        let reply = client.read_to("\r\n0\r\n\r\n").await;
        assert_eq!(reply.matches('x').count(), 2048);
        client.still_serves().await;
    });
}

#[test]
fn nothing_follows_100_until_the_client_goes_on() {
    // icap-rs loses a reply that comes in one packet with the 100.
    local(async {
        let mut client = connect(echo(), Config::default());
        let request = respmod("Preview: 0\r\n").replace("/echo", "/copy");
        client.send(request + "0\r\n\r\n").await;
        assert_eq!(client.head().await, "ICAP/1.0 100 Continue\r\n\r\n");
        // The server has nothing else to do but to send what it has.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.waiting(), "");
        client.send("1\r\nx\r\n0\r\n\r\n").await;
        client.read_to("1\r\nx\r\n0\r\n\r\n").await;
    });
}

#[test]
fn connection_close_is_obeyed() {
    // E2Guardian ignores it, and the client waits.
    local(async {
        for fields in ["Connection: close\r\n", "Connection: x, CLOSE\r\n", "connection:close\r\n"]
        {
            let mut client = connect(echo(), Config::default());
            client.send(reqmod("/echo", fields)).await;
            assert!(client.rest().await.ends_with(REQ));
        }
    });
}

#[test]
fn offsets_from_outside_allocate_nothing() {
    // A Go server died of it.
    local(async {
        for last in ["2147483647", "9223372036854775807", "18446744073709551616"] {
            let mut client = connect(echo(), Config::default());
            let list = format!("Encapsulated: req-hdr=0, null-body={last}");
            client.send(format!("REQMOD icap://h/echo ICAP/1.0\r\n{list}\r\n\r\n")).await;
            let reply = client.rest().await;
            assert!(reply.starts_with("ICAP/1.0 4"), "{last}: {reply}");
        }
    });
}

#[test]
fn an_empty_chunked_body_is_a_body() {
    // SSLproxy took an absent Content-Length for 0; here the chunks alone count.
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("") + "0\r\n\r\n").await;
        let reply = client.read_to("\r\n0\r\n\r\n").await;
        assert!(reply.contains("res-body="), "{reply}");
        client.send(respmod("Preview: 0\r\n").replace("/echo", "/copy") + "0; ieof\r\n\r\n").await;
        let reply = client.read_to("\r\n0\r\n\r\n").await;
        assert!(reply.contains("res-body="), "{reply}");
        client.still_serves().await;
    });
}

#[test]
fn a_request_that_is_cut_off_is_not_answered_as_if_it_were_whole() {
    use tokio::io::AsyncWriteExt;
    local(async {
        for cut in ["5\r\nhel", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0"] {
            let mut client = connect(echo(), Config::default());
            client.send(respmod("") + cut).await;
            client.io.shutdown().await.unwrap();
            let reply = client.rest().await;
            assert!(!reply.ends_with("0\r\n\r\n"), "{cut}: {reply}");
        }
    });
}
