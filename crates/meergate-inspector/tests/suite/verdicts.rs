//! Clean messages come back as they were, others are blocked, whatever their form.

use crate::common::{EICAR, Request, Server, random};

#[test]
fn clean_responses_pass_and_eicar_is_blocked() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let clean = random(1000);
    client.ask(&Request::get("/clean", &clean)).assert_passed(&clean);
    client.ask(&Request::get("/clean", &clean).allow_204()).assert_unmodified();
    client.ask(&Request::get("/eicar", EICAR)).assert_blocked(1_000_001);
    client.ask(&Request::get("/eicar", EICAR).allow_204()).assert_blocked(1_000_001);
    client.ask(&Request::get("/clean", &clean)).assert_passed(&clean);
    assert_eq!(server.metric("transactions_total{outcome=\"blocked\"}"), 2);
    assert_eq!(server.metric("transactions_total{outcome=\"passed\"}"), 3);
    assert!(server.stop().success());
}

#[test]
fn requests_are_judged_by_their_heads_and_bodies() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let get =
        |path: &str| Request::reqmod(format!("GET {path} HTTP/1.1\r\nHost: www.test\r\n\r\n"));
    let post = |body: &[u8]| {
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: www.test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Request::reqmod(head).body(body)
    };
    client.ask(&get("/fine").allow_204()).assert_unmodified();
    let reply = client.ask(&get("/fine"));
    assert_eq!(reply.http, "GET /fine HTTP/1.1\r\nHost: www.test\r\n\r\n");
    client.ask(&get("/forbidden/x")).assert_blocked(1_000_003);
    client.ask(&post(b"hello")).assert_passed(b"hello");
    client.ask(&post(EICAR)).assert_blocked(1_000_002);
    client.ask(&post(&random(300_000))).assert_passed(&random(300_000));
}

#[test]
fn request_and_response_of_kept_connections_share_a_flow() {
    let server = Server::start(&[]);
    let mut reqmod = server.connect();
    let mut respmod = server.connect();
    for n in 0..20 {
        for connection in ["c-1", "c-2"] {
            let path = format!("/seen/{n}");
            let head = format!("GET {path} HTTP/1.1\r\nHost: www.test\r\n\r\n");
            reqmod
                .ask(&Request::reqmod(head).connection(connection).allow_204())
                .assert_unmodified();
            let body = random(100 + n);
            respmod
                .ask(&Request::get(&path, &body).connection(connection).allow_204())
                .assert_unmodified();
        }
    }
    assert_eq!(server.metric("flows_opened_total"), 2);
    // A drop ends the flow; the connection goes on in another one.
    respmod.ask(&Request::get("/eicar", EICAR).connection("c-1")).assert_blocked(1_000_001);
    respmod.ask(&Request::get("/fine", b"fine").connection("c-1")).assert_passed(b"fine");
    respmod.ask(&Request::get("/eicar", EICAR).connection("c-1")).assert_blocked(1_000_001);
    assert_eq!(server.metric("flows_opened_total"), 3);
}

/// The engine takes content for a file only where it finds a path to name it after.
#[test]
fn content_that_belongs_to_no_path_does_not_come_through() {
    let server = Server::start(&[]);
    let ask = |line: &str, status: &str| {
        let request = format!("{line} HTTP/1.1\r\nHost: www.test\r\n\r\n");
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", EICAR.len());
        let message = Request::respmod(request, response).body(EICAR).allow_204();
        server.connect().ask(&message)
    };
    for line in ["GET http://www.test/", "GET https://www.test:1/?x", "GET /?http://a", "OPTIONS *"]
    {
        ask(line, "200 OK").assert_blocked(1_000_001);
    }
    for line in [
        "GET http://www.test",
        "GET HTTP://www.test?x/",
        "GET http://www.test#/",
        "POST http://www.test",
        "OPTIONS https://www.test",
        "GET www.test:443",
        "GET ?",
        "GET :",
        "CONNECT www.test:443",
        "CONNECT http://www.test/x",
    ] {
        for status in ["200 OK", "404 Not Found"] {
            let reply = ask(line, status);
            assert!((400..600).contains(&reply.status), "{line}, {status}: {reply:?}");
        }
    }
    let upload = format!(
        "PUT http://www.test HTTP/1.1\r\nHost: www.test\r\nContent-Length: {}\r\n\r\n",
        EICAR.len()
    );
    let reply = server.connect().ask(&Request::reqmod(upload).body(EICAR).allow_204());
    assert!((400..600).contains(&reply.status), "{reply:?}");
    let tunnel = "CONNECT www.test:443 HTTP/1.1\r\nHost: www.test:443\r\n\r\n";
    server.connect().ask(&Request::reqmod(tunnel).allow_204()).assert_unmodified();
}
