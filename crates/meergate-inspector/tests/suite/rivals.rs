//! Mistakes of other programs, each as a test against this one.

use crate::common::{EICAR, Request, Server, random};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: www.test\r\n\r\n")
}

/// A block that is a 204 with a side header is delivered by standard clients.
#[test]
fn a_block_is_never_a_204() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.ask(&Request::get("/x", EICAR).allow_204()).assert_blocked(1_000_001);
    let blocked = client.ask(&Request::reqmod(get("/forbidden")).allow_204());
    blocked.assert_blocked(1_000_003);
    // A preview always allows a 204.
    let request = Request::get("/x", EICAR).field("Preview", "1024");
    let head = request.head(client.base());
    client.send(&head);
    client.send(&crate::common::chunked(EICAR));
    client.send(b"0; ieof\r\n\r\n");
    client.reply().assert_blocked(1_000_001);
}

/// Sequence numbers one off after the request; the second request of a kept connection; a RESPMOD
/// on another ICAP connection; a RESPMOD alone.
#[test]
fn every_response_is_inspected_wherever_it_comes() {
    let server = Server::start(&["--workers", "2"]);
    for n in 0..20 {
        let id = format!("connection-{n}");
        let (mut first, mut second) = (server.connect(), server.connect());
        for _ in 0..2 {
            first.ask(&Request::reqmod(get("/a")).connection(&id).allow_204()).assert_unmodified();
            second.ask(&Request::get("/a", b"fine").connection(&id)).assert_passed(b"fine");
        }
        first.ask(&Request::reqmod(get("/b")).connection(&id).allow_204()).assert_unmodified();
        second.ask(&Request::get("/b", EICAR).connection(&id)).assert_blocked(1_000_001);
        second.ask(&Request::get("/alone", EICAR)).assert_blocked(1_000_001);
        let no_request = Request::respmod("", "HTTP/1.1 200 OK\r\nContent-Length: 68\r\n\r\n");
        second.ask(&no_request.clone().body(EICAR)).assert_blocked(1_000_001);
        second.ask(&no_request.body(&random(68))).assert_passed(&random(68));
    }
    assert_eq!(server.metric("flows_opened_total"), 20 * 4);
    assert_eq!(server.metric("transactions_total{outcome=\"failed\"}"), 0);
}

#[test]
fn a_clean_request_after_a_blocked_one_passes() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for n in 0..40 {
        let id = if n % 2 == 0 { "kept" } else { "other" };
        client.ask(&Request::reqmod(get("/forbidden")).connection(id)).assert_blocked(1_000_003);
        client.ask(&Request::reqmod(get("/fine")).connection(id).allow_204()).assert_unmodified();
        client.ask(&Request::get("/fine", b"fine").connection(id)).assert_passed(b"fine");
    }
}

/// Buffers of 4 KB and 64 KB that wrapped wrongly, lengths over 16 bits.
#[test]
fn bodies_of_every_size_come_back_as_they_were() {
    let server = Server::start(&["--hold", "5000"]);
    let mut client = server.connect();
    for size in [
        0, 1, 4_095, 4_096, 4_999, 5_000, 5_001, 10_240, 65_494, 65_495, 65_496, 65_535, 65_536,
        131_071, 300_000, 1_048_576, 10_485_760,
    ] {
        let body = random(size);
        client.ask(&Request::get("/size", &body)).assert_passed(&body);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = Request::respmod(get("/size"), head).chunks(body.chunks(50_001));
        client.ask(&chunked).assert_passed(&body);
        let close = Request::respmod(get("/size"), "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n");
        client.ask(&close.body(&body)).assert_passed(&body);
    }
}

#[test]
fn large_heads_pass() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for size in [17_000, 60_000, 100_000] {
        let cookie = "c".repeat(size);
        let request = format!("GET / HTTP/1.1\r\nHost: www.test\r\nCookie: {cookie}\r\n\r\n");
        client.ask(&Request::reqmod(&request).allow_204()).assert_unmodified();
        let response =
            format!("HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\nContent-Length: 4\r\n\r\n");
        let reply = client.ask(&Request::respmod(&request, &response).body(b"body"));
        reply.assert_passed(b"body");
        assert_eq!(reply.http, response);
    }
}

#[test]
fn the_engine_sees_the_true_addresses_of_both_families() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for (ip, port, server_ip) in
        [("10.1.2.3", 40_001, "192.0.2.80"), ("2001:db8:7::1", 40_002, "2001:db8:8::80")]
    {
        let id = format!("transaction-{port}");
        let request = Request::reqmod(get("/seen"))
            .field("X-Client-IP", ip)
            .field("X-Client-Port", &port.to_string())
            .field("X-Server-IP", server_ip)
            .field("X-Server-Port", "8443")
            .field("X-Transaction-Id", &id);
        client.ask(&request.allow_204()).assert_unmodified();
        let event =
            server.wait_eve(|e| e["transaction_id"] == id.as_str() && e["event_type"] == "alert");
        let text = |key: &str| event[key].as_str().unwrap().parse::<std::net::IpAddr>().unwrap();
        assert_eq!(text("src_ip").to_string(), ip);
        assert_eq!(text("dest_ip").to_string(), server_ip);
        assert_eq!((&event["src_port"], &event["dest_port"]), (&port.into(), &8443.into()));
        assert_eq!(event["alert"]["signature_id"], 1_000_005);
    }
    assert_eq!(server.metric("stand_in_addresses_total"), 0);
}

#[test]
fn requests_without_a_response_do_not_stay() {
    let server = Server::with_settings("[limits]\nflow_idle_timeout = 1\n", &[]);
    let mut client = server.connect();
    for n in 0..50 {
        let request = Request::reqmod(get("/a")).connection(&n.to_string());
        client.ask(&request.allow_204()).assert_unmodified();
    }
    server.wait_metric("flows_expired_total", 50);
    server.wait_metric("flows", 0);
}

/// SSLproxy: tuple headers, no request head in RESPMOD.
#[test]
fn a_response_without_request_head_is_joined_by_its_tuple() {
    let server = Server::start(&[]);
    let (mut reqmod, mut respmod) = (server.connect(), server.connect());
    for n in 0..10 {
        let tuple = |request: Request| {
            request
                .field("X-Client-IP", "10.0.0.9")
                .field("X-Client-Port", "5555")
                .field("X-Server-IP", "192.0.2.9")
                .field("X-Server-Port", "443")
        };
        reqmod.ask(&tuple(Request::reqmod(get("/x")).allow_204())).assert_unmodified();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 68\r\n\r\n";
        let body = if n == 9 { EICAR.to_vec() } else { random(68) };
        let reply = respmod.ask(&tuple(Request::respmod("", head).body(&body)));
        if n == 9 {
            reply.assert_blocked(1_000_001);
        } else {
            reply.assert_passed(&body);
        }
    }
    assert_eq!(server.metric("flows_opened_total"), 1);
    assert_eq!(server.metric("unasked_responses_total"), 0);
}

/// Squid: no ports, and a request head that has changed on its way.
#[test]
fn request_and_response_are_joined_by_client_and_request_line() {
    let server = Server::start(&["--workers", "2"]);
    for n in 0..10 {
        let (mut reqmod, mut respmod) = (server.connect(), server.connect());
        let url = format!("http://www.test/path/{n}");
        let asked = format!("GET {url} HTTP/1.1\r\nHost: www.test\r\n\r\n");
        let sent = format!("GET {url} HTTP/1.1\r\nHost: www.test\r\nVia: 1.1 proxy\r\n\r\n");
        let client = format!("10.0.0.{}", n % 3);
        let request = Request::reqmod(&asked).field("X-Client-IP", &client);
        reqmod.ask(&request.allow_204()).assert_unmodified();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 68\r\n\r\n";
        let response = Request::respmod(&sent, head).field("X-Client-IP", &client);
        respmod.ask(&response.body(EICAR)).assert_blocked(1_000_001);
    }
    assert_eq!(server.metric("flows_opened_total"), 10);
    server.wait_metric("flows", 0);
}

#[test]
fn a_request_that_follows_an_unanswered_one_gets_a_flow_of_its_own() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for n in 0..5 {
        let request = Request::reqmod(get(&format!("/{n}"))).connection("c");
        client.ask(&request.allow_204()).assert_unmodified();
    }
    client.ask(&Request::get("/4", EICAR).connection("c")).assert_blocked(1_000_001);
    assert_eq!(server.metric("flows_opened_total"), 5);
}

/// A browser opens thousands of streams on a connection, so their flows must not pile up.
#[test]
fn streams_that_follow_each_other_use_one_flow() {
    let server = Server::start(&["--workers", "1"]);
    let mut client = server.connect();
    for n in (1..100).step_by(2) {
        let stream = |request: Request| {
            request.connection("h2").field("X-Stream-Id", &n.to_string()).field("X-Proto", "h2")
        };
        client.ask(&stream(Request::reqmod(get("/x")).allow_204())).assert_unmodified();
        let bad = n == 51;
        let reply = client.ask(&stream(Request::get("/x", if bad { EICAR } else { b"clean" })));
        if bad { reply.assert_blocked(1_000_001) } else { reply.assert_passed(b"clean") }
    }
    // The block took the first one with it.
    assert_eq!(server.metric("flows_opened_total"), 2);
}

#[test]
fn streams_of_one_connection_do_not_share_a_fate() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let stream = |request: Request, n: usize| {
        request.connection("h2").field("X-Stream-Id", &n.to_string()).field("X-Proto", "h2")
    };
    for n in 0..10 {
        client.ask(&stream(Request::reqmod(get("/x")).allow_204(), n)).assert_unmodified();
    }
    for n in (0..10).rev() {
        let body = if n % 3 == 0 { EICAR } else { b"clean" };
        let reply = client.ask(&stream(Request::get("/x", body), n));
        if n % 3 == 0 { reply.assert_blocked(1_000_001) } else { reply.assert_passed(body) }
    }
    assert_eq!(server.metric("flows_opened_total"), 10);
    server.wait_eve(|e| e["stream_id"] == "9" && e["alert"]["signature_id"] == 1_000_001);
}

#[test]
fn contradictions_fail_and_do_not_pass() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for (head, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"short".as_slice()),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"longer"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", b"body"),
        ("HTTP/1.1 204 No Content\r\n\r\n", b"body"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", b"body"),
    ] {
        let reply = client.ask(&Request::respmod(get("/"), head).body(body).allow_204());
        assert_eq!(reply.status, 400, "{head}: {reply:?}");
    }
    assert_eq!(server.metric("transactions_total{outcome=\"failed\"}"), 5);
    assert_eq!(server.metric("transactions_total{outcome=\"passed\"}"), 0);
}

/// The engine may have its own idea of where a message ends: then nothing may follow on its flow.
#[test]
fn what_follows_an_odd_end_is_read_for_what_it_is() {
    let server = Server::start(&[]);
    let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (number, (head, body)) in [
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000000\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        ("HTTP/1.1 100 Continue\r\n\r\n", ""),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", ""),
        // A body of a certain length, and trailers, as HTTP/2 has them.
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "2\r\nok\r\n0\r\nhttp-x: 1\r\n\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = server.connect();
        let id = format!("odd-{number}");
        let request = Request::reqmod(get("/odd")).connection(&id).allow_204();
        client.ask(&request).assert_unmodified();
        let mut odd = Request::respmod(get("/odd"), head).connection(&id).allow_204();
        if body.is_empty() {
            client.ask(&odd).assert_unmodified();
        } else {
            odd = odd.body(b"");
            client.send(&[&odd.head(client.base()), body.as_bytes()].concat());
            client.reply().assert_unmodified();
        }
        for path in ["/odd", "/next"] {
            let reply =
                client.ask(&Request::respmod(get(path), gzip).body(GZIPPED).connection(&id));
            reply.assert_blocked(1_000_001);
        }
    }
}

#[test]
fn signatures_are_found_whatever_the_split() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
    let plain = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    let long = [random(70_000).as_slice(), EICAR, &random(70_000)].concat();
    for (head, body, pieces) in [
        (gzip, GZIPPED, 1),
        (gzip, GZIPPED, 7),
        (gzip, GZIPPED, 1_000),
        (plain, EICAR, 1),
        (plain, &long, 3_333),
        (close, &long, 65_000),
        (close, EICAR, 1),
    ] {
        let request = Request::respmod(get("/"), head).chunks(body.chunks(pieces));
        client.ask(&request).assert_blocked(1_000_001);
        // Every byte in a packet of its own, as far as the kernel lets it.
        let bytes = request.bytes(client.base());
        if bytes.len() < 2_000 {
            for byte in bytes.chunks(1) {
                client.send(byte);
            }
            client.reply().assert_blocked(1_000_001);
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let mut bytes = Vec::new();
    for n in 0..20 {
        let body = if n % 2 == 0 { EICAR } else { b"clean" };
        bytes.extend(Request::get("/", body).connection("p").bytes(client.base()));
    }
    client.send(&bytes);
    for n in 0..20 {
        let reply = client.reply();
        if n % 2 == 0 { reply.assert_blocked(1_000_001) } else { reply.assert_passed(b"clean") }
    }
}

#[test]
fn unix_sockets_echo_and_unknown_services() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("unix:{}", folder.path().join("icap").display());
    let server = Server::start(&["--listen", "127.0.0.1:0", "--listen", &path]);
    let stream = std::os::unix::net::UnixStream::connect(server.unix()).unwrap();
    drop(stream);
    let mut client = server.connect();
    client.ask(&Request::get("/", EICAR).service("/echo")).assert_passed(EICAR);
    assert_eq!(client.ask(&Request::get("/", EICAR).service("/nothing")).status, 404);
    let options = client.options();
    assert_eq!(options.status, 200);
    assert_eq!(
        options.field("X-Meergate"),
        Some(
            "raw-heads, decodes=aws-chunked+br+deflate+gzip+x-gzip+zstd, hold=1048576, stream=1, window=262144, streams=5000"
        )
    );
    assert_eq!(options.field("Allow"), Some("204"));
    assert_eq!(options.field("Preview"), None);
    let tag = options.field("ISTag").unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() <= 34, "{tag}");
}

/// `before <EICAR> after`, compressed.
pub(crate) const GZIPPED: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 75, 74, 77, 203, 47, 74, 85, 136, 48, 245, 87, 12, 80, 117,
    112, 12, 136, 54, 137, 9, 136, 138, 48, 53, 209, 8, 136, 211, 52, 119, 118, 214, 52, 175, 85,
    113, 245, 116, 118, 12, 210, 13, 14, 113, 244, 115, 113, 12, 114, 209, 117, 244, 11, 241, 12,
    243, 12, 10, 13, 214, 13, 113, 13, 14, 209, 117, 243, 244, 113, 85, 84, 241, 208, 246, 208, 82,
    72, 76, 43, 73, 45, 2, 0, 44, 226, 107, 109, 81, 0, 0, 0,
];
