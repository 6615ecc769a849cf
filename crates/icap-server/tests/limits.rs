//! Limits of size, count and time: a clear answer, and a closed connection only where the end of
//! the request can't be found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::time::Duration;

use common::{Client, connect, in_no_time, local, reqmod, respmod};
use icap::{Headers, IsTag, Limits};
use icap_server::{
    Config, Echo, Http, Options, Outcome, ReplyHead, Router, Routes, Service, TransactError,
    Transaction,
};
use tokio::io::AsyncWriteExt;

fn echo() -> Router<impl Routes> {
    Router::new().route("/echo", Echo::new())
}

fn strict() -> Config {
    Config {
        limits: Limits {
            max_head: 300,
            max_fields: 6,
            max_uri: 40,
            max_encapsulated: 200,
            max_chunk_line: 30,
            max_trailers: 30,
        },
        max_drain: 1000,
        ..Config::default()
    }
}

/// What a server with strict limits says to `request` before it closes.
fn last_words(request: String) -> String {
    local(async move {
        let mut client = connect(echo(), strict());
        client.send(request).await;
        let reply = client.rest().await;
        drop(client.io);
        assert!(matches!(client.server.await.unwrap(), Outcome::Closed));
        reply
    })
}

#[test]
fn what_loses_the_framing_is_answered_with_a_reason_and_the_connection_closed() {
    let options = |rest: &str| format!("OPTIONS icap://h/echo ICAP/1.0\r\n{rest}\r\n\r\n");
    let body = |body: &str| respmod("") + body;
    for (request, status) in [
        (options(&format!("X: {}", "x".repeat(300))), "431"),
        (format!("OPTIONS icap://h/echo ICAP/1.0\r\nX: {}", "x".repeat(300)), "431"),
        (options("a:\r\nb:\r\nc:\r\nd:\r\ne:\r\nf:\r\ng:"), "431"),
        (format!("OPTIONS icap://h/{} ICAP/1.0\r\n\r\n", "x".repeat(40)), "414"),
        (reqmod("/echo", "").replace("null-body=", "null-body=9"), "413"),
        ("REQMOD icap://h/echo ICAP/1.0\r\n\r\n".to_owned(), "400"),
        (reqmod("/echo", "Preview: many\r\n"), "400"),
        ("LOGMOD icap://h/echo ICAP/1.0\r\n\r\n".to_owned(), "501"),
        ("OPTIONS icap://h/echo ICAP/2.0\r\n\r\n".to_owned(), "505"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (options("no colon"), "400"),
    ] {
        let reply = last_words(request.clone());
        assert!(reply.starts_with(&format!("ICAP/1.0 {status} ")), "{request}: {reply}");
        assert!(reply.contains("\r\nConnection: close\r\n"), "{reply}");
        assert!(reply.contains("\r\nISTag: \"no-service\"\r\n"), "{reply}");
        assert!(reply.contains("\r\nEncapsulated: null-body=0\r\n"), "{reply}");
    }
    // Once the reply has started, only an end without a last chunk can tell.
    for broken in [
        "zz\r\n".to_owned(),
        "1\r\nab\r\n".to_owned(),
        format!("1;{}\r\na", "x".repeat(40)),
        format!("0\r\nX: {}\r\n\r\n", "x".repeat(40)),
        "0\r\nno colon\r\n\r\n".to_owned(),
    ] {
        let reply = last_words(body(&format!("5\r\nhello\r\n{broken}")));
        assert!(!reply.contains("\r\n0\r\n"), "{broken}: {reply}");
    }
}

#[test]
fn what_keeps_the_framing_keeps_the_connection() {
    local(async {
        let mut client = connect(echo().route("/req", RequestsOnly), Config::default());
        let request = respmod("") + "5\r\nhello\r\n0\r\n\r\n";
        for (request, status) in [
            (request.replace("/echo", "/nobody"), "404 "),
            (request.replace("/echo", "/req"), "405 "),
            (
                respmod("Preview: 9\r\n").replace("/echo", "/nobody") + "5\r\nhello\r\n0\r\n\r\n",
                "404 ",
            ),
            (reqmod("/req", ""), "500 the service gave no reply"),
            (reqmod("/req?fail", ""), "500 no disk"),
            (reqmod("/req?twice", ""), "403 once"),
            (reqmod("/req?misuse", ""), "500 "),
            (reqmod("/req?late", ""), "500 the service wants another thread too late"),
        ] {
            client.send(&request).await;
            let head = client.head().await;
            assert!(head.starts_with(&format!("ICAP/1.0 {status}")), "{request}: {head}");
            assert!(!head.contains("Connection: close"), "{head}");
            client.still_serves().await;
        }
    });
}

/// A service that misbehaves as the query says.
struct RequestsOnly;

impl Service for RequestsOnly {
    fn istag(&self) -> IsTag {
        IsTag::from_state("req", 0)
    }

    fn options(&self) -> Options {
        Options::default()
    }

    fn methods(&self) -> &'static [icap::Method] {
        &[icap::Method::Reqmod]
    }

    async fn transact(&self, transaction: &mut Transaction<'_>) -> Result<(), TransactError> {
        let none = Headers::new();
        let uri = transaction.head().uri();
        let (body, reply) = transaction.split();
        match uri.split_once('?').map(|(_, query)| query) {
            Some("fail") => Err(TransactError::Failed("no disk".to_owned())),
            Some("twice") => {
                reply.respond_error(403, "once")?;
                reply.respond_error(403, "twice")
            }
            Some("misuse") => reply.no_content(&none),
            Some("late") => {
                body.next().await?;
                Err(TransactError::Elsewhere(7))
            }
            Some("half") => {
                let http = Http::Request(b"GET / HTTP/1.1\r\n\r\n");
                reply.start(&ReplyHead { status: 200, headers: &none, http, has_body: true })?;
                reply.data(b"half of it").await
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn a_reply_that_is_not_whole_never_looks_whole() {
    local(async {
        let router = Router::new().route("/req", RequestsOnly);
        let mut client = connect(router, Config::default());
        client.send(reqmod("/req?half", "")).await;
        assert!(!client.rest().await.contains("0\r\n\r\n"));
    });
}

#[test]
fn a_body_that_nobody_wants_is_read_off_up_to_a_limit() {
    local(async {
        let mut client = connect(echo(), strict());
        let request = respmod("").replace("/echo", "/nobody");
        client.send(request.clone() + "3e8\r\n" + &"x".repeat(1000) + "\r\n0\r\n\r\n").await;
        assert!(client.head().await.starts_with("ICAP/1.0 404 "));
        client.still_serves().await;
        client.send(request + "3e9\r\n" + &"x".repeat(1001)).await;
        assert!(client.rest().await.starts_with("ICAP/1.0 404 "));
    });
}

/// What a client sees that sends `request` and then nothing.
fn silence(request: String) -> String {
    in_no_time(async move {
        let mut client = connect(echo(), Config::default());
        client.send(request).await;
        client.rest().await
    })
}

#[test]
fn silence_between_requests_closes_without_a_word() {
    assert_eq!(silence(String::new()), "");
    let reply = silence(reqmod("/echo", "Allow: 204\r\n"));
    assert_eq!(reply.matches("ICAP/1.0").count(), 1, "{reply}");
    assert!(reply.starts_with("ICAP/1.0 204 "), "{reply}");
}

#[test]
fn a_quiet_connection_wakes_up_again() {
    in_no_time(async {
        let mut client = connect(echo(), Config::default());
        for pause in [0, 1, 2, 100, 299] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            client.send(reqmod("/echo", "Allow: 204\r\n")).await;
            assert!(client.head().await.starts_with("ICAP/1.0 204 "));
        }
        client.still_serves().await;
    });
}

#[test]
fn silence_within_a_request_is_answered_408() {
    let head = respmod("Preview: 9\r\n").replace("/echo", "/copy");
    for request in [
        "O".to_owned(),
        "OPTIONS icap://h/echo ICAP/1.0\r\n".to_owned(),
        reqmod("/echo", "").split_at(100).0.to_owned(),
    ] {
        let reply = silence(request.clone());
        assert!(reply.starts_with("ICAP/1.0 408 Request Timeout\r\n"), "{request}: {reply}");
        assert!(reply.contains("Connection: close\r\n"), "{reply}");
    }
    let reply = in_no_time(async move {
        let mut client = connect(Router::new().route("/copy", Echo::copying()), Config::default());
        client.send(head + "5\r\nhel").await;
        client.rest().await
    });
    assert!(reply.starts_with("ICAP/1.0 408 Request Timeout\r\n"), "{reply}");
}

#[test]
fn a_head_that_drips_is_answered_408() {
    in_no_time(async {
        let mut client = connect(echo(), Config::default());
        let mut sent = 0;
        // A byte a second never lets the connection fall silent.
        while client.io.write_all(b"X").await.is_ok() {
            sent += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(sent < 100, "no limit on the time a head may take");
        }
        assert!(client.rest().await.starts_with("ICAP/1.0 408 "));
    });
}

#[test]
fn a_body_may_drip_as_long_as_it_moves() {
    in_no_time(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("")).await;
        for _ in 0..200 {
            client.send("1\r\nx\r\n").await;
            tokio::time::sleep(Duration::from_secs(250)).await;
        }
        client.send("0\r\n\r\n").await;
        let reply = client.read_to("\r\n0\r\n\r\n").await;
        assert_eq!(reply.matches("1\r\nx\r\n").count(), 200);
        client.still_serves().await;
    });
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    in_no_time(async {
        let client = connect(echo(), Config::default());
        let Client { mut io, server, .. } = client;
        io.write_all(respmod("").as_bytes()).await.unwrap();
        let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        // Memory has a bound, so the server stops reading; and then it gives up.
        let mut chunks = 0;
        while io.write_all(&chunk).await.is_ok() {
            chunks += 1;
            assert!(chunks < 100, "the server reads on while nothing leaves");
        }
        assert!(matches!(server.await.unwrap(), Outcome::Closed));
    });
}

#[test]
fn a_client_that_asks_and_takes_no_replies_is_cut_off() {
    in_no_time(async {
        let Client { mut io, server, .. } = connect(echo(), Config::default());
        let requests = reqmod("/nobody", "").repeat(100);
        let mut sent = 0;
        while io.write_all(requests.as_bytes()).await.is_ok() {
            sent += requests.len();
            assert!(sent < 10 << 20, "replies pile up without bound");
        }
        assert!(matches!(server.await.unwrap(), Outcome::Closed));
    });
}

#[test]
fn a_stop_lets_a_transaction_end_and_says_so() {
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("") + "5\r\nhello\r\n").await;
        assert!(!client.head().await.contains("Connection: close"));
        client.shutdown.request();
        client.send("0\r\n\r\n").await;
        assert!(client.rest().await.ends_with("0\r\n\r\n"));
        assert!(matches!(client.server.await.unwrap(), Outcome::Closed));

        let client = connect(echo(), Config::default());
        client.shutdown.request();
        assert!(matches!(client.server.await.unwrap(), Outcome::Closed));

        let mut client = connect(echo(), Config::default());
        client.send(&reqmod("/echo", "")[..50]).await;
        tokio::task::yield_now().await;
        client.shutdown.request();
        client.send(&reqmod("/echo", "")[50..]).await;
        let reply = client.rest().await;
        assert!(reply.starts_with("ICAP/1.0 200 OK\r\n"), "{reply}");
        assert!(reply.contains("Connection: close\r\n"), "{reply}");
    });
}

#[test]
fn a_client_that_wants_to_close_is_told_so() {
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(reqmod("/echo", "Connection: close\r\n")).await;
        assert!(client.rest().await.contains("Connection: close\r\n"));
    });
}

#[test]
fn a_client_that_has_said_all_still_gets_its_reply() {
    local(async {
        let mut client = connect(echo(), Config::default());
        client.send(respmod("") + "5\r\nhello\r\n0\r\n\r\n").await;
        client.io.shutdown().await.unwrap();
        assert!(client.rest().await.ends_with("5\r\nhello\r\n0\r\n\r\n"));
    });
}
