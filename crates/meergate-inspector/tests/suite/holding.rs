//! What leaves before the verdict, and what never does.

use std::time::{Duration, Instant};

use crate::common::{EICAR, Request, Server, chunked, random};

/// EICAR at `at` in `len` bytes of noise.
fn infected(len: usize, at: usize) -> Vec<u8> {
    let mut body = random(len);
    body[at..at + EICAR.len()].copy_from_slice(EICAR);
    body
}

#[test]
fn within_hold_a_block_page_takes_the_place_of_the_body() {
    let server = Server::start(&["--hold", "1MiB"]);
    let mut client = server.connect();
    for at in [0, 1, 65_000, 500_000, (1 << 20) - EICAR.len()] {
        let body = infected(1 << 20, at);
        client.ask(&Request::get("/late", &body)).assert_blocked(1_000_001);
    }
}

#[test]
fn past_hold_a_hit_cuts_the_reply_before_its_end() {
    let server = Server::start(&["--hold", "100000"]);
    let body = infected(5_000_000, 4_000_000);
    let reply = server.connect().ask(&Request::get("/late", &body));
    assert_eq!(reply.status, 200);
    assert!(reply.broken, "a whole reply although EICAR is in it");
    assert!(reply.body.len() < 4_000_000 + EICAR.len(), "{}", reply.body.len());
    assert!(body.starts_with(&reply.body));
    server.wait_metric("transactions_total{outcome=\"cut\"}", 1);
}

#[test]
fn holding_everything_blocks_with_a_page_wherever_the_hit_is() {
    let server = Server::start(&["--hold", "all"]);
    let mut client = server.connect();
    let body = infected(5_000_000, 5_000_000 - EICAR.len());
    client.ask(&Request::get("/late", &body)).assert_blocked(1_000_001);
    client.ask(&Request::get("/late", &body).allow_204()).assert_blocked(1_000_001);
    let clean = random(5_000_000);
    client.ask(&Request::get("/clean", &clean)).assert_passed(&clean);
    client.ask(&Request::get("/clean", &clean).allow_204()).assert_unmodified();
    assert_eq!(server.metric("held_bytes"), 0);
}

#[test]
fn holding_nothing_still_cuts() {
    let server = Server::start(&["--hold", "0"]);
    let clean = random(300_000);
    server.connect().ask(&Request::get("/clean", &clean).allow_204()).assert_passed(&clean);
    let body = infected(300_000, 200_000);
    let reply = server.connect().ask(&Request::get("/late", &body));
    assert!(reply.broken && reply.body.len() < 200_000 + EICAR.len());
}

#[test]
fn large_bodies_come_back_whole_while_they_are_sent() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let body = random(40_000_000);
    for request in [Request::get("/large", &body), Request::get("/large", &body).allow_204()] {
        client.ask(&request).assert_passed(&body);
    }
    let chunks = body.chunks(7_777);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = Request::respmod("GET /chunks HTTP/1.1\r\nHost: www.test\r\n\r\n", head);
    client.ask(&request.chunks(chunks)).assert_passed(&body);
    assert_eq!(server.metric("inspected_bytes_total"), 120_000_000);
}

#[test]
fn a_client_that_writes_everything_before_it_reads_gets_its_204() {
    let server = Server::start(&["--hold", "8MiB"]);
    let mut client = server.connect();
    let body = random(8_000_000);
    let request = Request::get("/large", &body).allow_204();
    let bytes = request.bytes(client.base());
    client.send(&bytes);
    client.reply().assert_unmodified();
}

#[test]
fn released_bytes_do_not_wait_for_those_that_follow() {
    let server = Server::start(&["--hold", "1000"]);
    let mut client = server.connect();
    let body = random(5_000);
    let request = Request::get("/slow", &body);
    let head = request.head(client.base());
    client.send(&head);
    client.send(&chunked(&body[..3_000]));
    // Nothing more is sent before these have come back.
    assert_eq!(client.body_so_far(3_000), body[..3_000]);
    client.send(&chunked(&body[3_000..]));
    client.send(b"0\r\n\r\n");
    assert_eq!(client.rest_of_body(), body[3_000..]);
}

#[test]
fn streams_that_matter_before_their_end_are_not_held() {
    let server = Server::with_settings("pause = 0\n", &[]);
    let event = b"data: one\n\n".as_slice();
    for content_type in [
        "text/event-stream; charset=utf-8",
        "application/grpc+proto",
        "Multipart/X-Mixed-Replace;boundary=b",
    ] {
        let fields = format!("Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n");
        let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let post = format!("POST /up HTTP/1.1\r\nHost: www.test\r\n{fields}\r\n");
        for request in [
            Request::respmod("GET /down HTTP/1.1\r\nHost: www.test\r\n\r\n", response),
            Request::reqmod(post),
        ] {
            let mut client = server.connect();
            let head = request.body(event).allow_204().head(client.base());
            client.send(&head);
            // The head does not wait for the first event, nor an event for the next.
            assert_eq!(client.body_so_far(0), b"");
            for _ in 0..3 {
                client.send(&chunked(event));
                assert_eq!(client.more_body(event.len()), event);
            }
            client.send(&chunked(EICAR));
            assert!(!client.rest_of_body().ends_with(&EICAR[EICAR.len() - 1..]));
            assert!(client.is_closed());
        }
    }
    assert_eq!(server.metric("unheld_total"), 6);
    server.wait_metric("transactions_total{outcome=\"cut\"}", 6);
}

#[test]
fn a_body_that_pauses_is_released_as_far_as_it_has_passed() {
    let server = Server::with_settings("pause = \"200ms\"\n", &[]);
    let body = random(5_000);
    let request = Request::get("/poll", &body).allow_204();
    let mut client = server.connect();
    let head = request.head(client.base());
    client.send(&head);
    client.send(&chunked(&body[..3_000]));
    assert_eq!(client.body_so_far(3_000), body[..3_000]);
    client.send(&chunked(&body[3_000..4_000]));
    assert_eq!(client.more_body(1_000), body[3_000..4_000]);
    client.send(&chunked(&body[4_000..]));
    client.send(b"0\r\n\r\n");
    assert_eq!(client.rest_of_body(), body[4_000..]);
    assert_eq!(server.metric("paused_total"), 1);
    // Half a signature is no signature: the other half is what never leaves.
    let infected = infected(5_000, 2_980);
    let head = Request::get("/poll", &infected).head(client.base());
    client.send(&head);
    client.send(&chunked(&infected[..3_000]));
    assert_eq!(client.body_so_far(3_000), infected[..3_000]);
    client.send(&chunked(&infected[3_000..]));
    assert_eq!(client.rest_of_body(), b"");
    assert!(client.is_closed());
    server.wait_metric("transactions_total{outcome=\"cut\"}", 1);
}

#[test]
fn silence_ends_a_stream_where_it_is_and_a_held_body_with_an_error() {
    let settings = "pause = 0\n[limits]\nsilence_timeout = 1\n";
    let server = Server::with_settings(settings, &[]);
    let event = b"data: one\n\n".as_slice();
    let fields = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n";
    let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let stream = Request::respmod("GET /down HTTP/1.1\r\nHost: www.test\r\n\r\n", response);
    let mut client = server.connect();
    let head = stream.body(event).head(client.base());
    client.send(&head);
    client.send(&chunked(event));
    assert_eq!(client.body_so_far(event.len()), event);
    assert!(client.is_closed());
    let mut client = server.connect();
    let head = Request::get("/held", &random(1_000)).head(client.base());
    client.send(&head);
    client.send(&chunked(&random(500)));
    assert_eq!(client.reply().status, 408);
    assert!(client.is_closed());
}

#[test]
fn an_origin_may_be_silent_for_longer_than_a_peer_within_a_chunk() {
    let settings = "pause = 0\n[limits]\nio_timeout = 1\n";
    let server = Server::with_settings(settings, &[]);
    let event = b"data: one\n\n".as_slice();
    let response = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let stream = Request::respmod("GET /down HTTP/1.1\r\nHost: www.test\r\n\r\n", response);
    let mut client = server.connect();
    let head = stream.body(event).head(client.base());
    client.send(&head);
    client.send(&chunked(event));
    assert_eq!(client.body_so_far(event.len()), event);
    // Three times what ends a chunk.
    std::thread::sleep(Duration::from_secs(3));
    client.send(&chunked(event));
    assert_eq!(client.more_body(event.len()), event);
    for part in ["5", "5\r\nda", "5\r\ndata:"] {
        let mut client = server.connect();
        let head = Request::get("/held", &random(1_000)).head(client.base());
        client.send(&head);
        client.send(part.as_bytes());
        assert_eq!(client.reply().status, 408, "{part:?}");
        assert!(client.is_closed());
    }
}

#[test]
fn a_preview_that_pauses_is_continued_before_anything_is_released() {
    let server = Server::with_settings("hold = 0\npause = \"200ms\"\n", &[]);
    let mut client = server.connect();
    let body = random(3_000);
    let head = Request::get("/poll", &body).field("Preview", "1000").head(client.base());
    client.send(&head);
    client.send(&chunked(&body[..1_000]));
    client.send(b"0\r\n\r\n");
    assert_eq!(client.reply().status, 100);
    assert_eq!(client.body_so_far(1_000), body[..1_000]);
    client.send(&chunked(&body[1_000..]));
    client.send(b"0\r\n\r\n");
    assert_eq!(client.rest_of_body(), body[1_000..]);
}

#[test]
fn everything_is_held_whatever_it_is_and_however_it_pauses() {
    let server = Server::with_settings("hold = \"all\"\npause = \"50ms\"\n", &[]);
    let body = infected(5_000, 4_000);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5000\r\n\r\n";
    let request = Request::respmod("GET /all HTTP/1.1\r\nHost: www.test\r\n\r\n", head);
    let mut client = server.connect();
    let head = request.body(&body).head(client.base());
    client.send(&head);
    client.send(&chunked(&body[..3_000]));
    std::thread::sleep(Duration::from_millis(500));
    client.send(&chunked(&body[3_000..]));
    client.send(b"0\r\n\r\n");
    client.reply().assert_blocked(1_000_001);
}

#[test]
fn a_preview_is_no_copy_of_what_follows_it() {
    let server = Server::start(&["--hold", "all"]);
    let mut client = server.connect();
    let body = random(50_000);
    let request = Request::get("/preview", &body).field("Preview", "1024");
    client.send(&request.head(client.base()));
    client.send(&chunked(&body[..1024]));
    client.send(b"0\r\n\r\n");
    assert_eq!(client.reply().status, 100);
    client.send(&chunked(&body[1024..]));
    client.send(b"0\r\n\r\n");
    client.reply().assert_passed(&body);
}

#[test]
fn a_block_does_not_wait_for_the_rest_of_the_body() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let head = "POST /forbidden HTTP/1.1\r\nHost: www.test\r\nContent-Length: 1000\r\n\r\n";
    let request = Request::reqmod(head).body(&random(1000));
    let began = Instant::now();
    let bytes = request.head(client.base());
    client.send(&bytes);
    client.reply().assert_blocked(1_000_003);
    assert!(began.elapsed() < Duration::from_secs(60), "it waited for a timeout");
}

#[test]
fn a_preview_is_continued_and_judged_as_a_whole() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for (body, preview) in [(random(5_000), 1_024), (random(1_024), 1_024), (random(10), 0)] {
        let request = Request::get("/preview", &body).field("Preview", &preview.to_string());
        let head = request.head(client.base());
        client.send(&head);
        client.send(&chunked(&body[..preview]));
        if body.len() == preview {
            client.send(b"0; ieof\r\n\r\n");
            client.reply().assert_unmodified();
            continue;
        }
        client.send(b"0\r\n\r\n");
        assert_eq!(client.reply().status, 100);
        client.send(&chunked(&body[preview..]));
        client.send(b"0\r\n\r\n");
        client.reply().assert_passed(&body);
    }
    // The signature lies across the end of the preview.
    let body = infected(2_000, 1_000);
    let request = Request::get("/preview", &body).field("Preview", "1024");
    let head = request.head(client.base());
    client.send(&head);
    client.send(&chunked(&body[..1_024]));
    client.send(b"0\r\n\r\n");
    assert_eq!(client.reply().status, 100);
    client.send(&chunked(&body[1_024..]));
    client.send(b"0\r\n\r\n");
    client.reply().assert_blocked(1_000_001);
}
