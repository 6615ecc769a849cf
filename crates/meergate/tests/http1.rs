//! HTTP/1 through the program, without and with services.
#![allow(clippy::unwrap_used, reason = "helpers fail the test that calls them")]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use support::h2;
use support::icap::{Icap, Message, Verdict};
use support::{Asked, Gateway, Origin, PATIENCE, read_to_end, read_until, text, tunnel, wait_for};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One request on a connection of its own; what comes back.
fn get(gateway: &Gateway, origin: &Origin, path: &str, fields: &str) -> String {
    let o = origin.address;
    let request =
        format!("GET http://{o}{path} HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n{fields}\r\n");
    text(&gateway.ask(request.as_bytes()))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn heads_pass_byte_for_byte() {
    let answer =
        "HTTP/1.1 200 Fine  so\r\nsERVER:x\r\nX-A:  1 \t\r\nContent-length: 2\r\nx-a: 2\r\n\r\nok";
    let origin = Origin::answering(answer);
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    let request = "GET /a?%20|\u{e9} HTTP/1.1\r\nhOST:a.test\r\nX-b:\t 1 \r\naccept-ENCODING: br\r\n\
                   Cookie: a=b;  c\r\nRange: bytes=0-1\r\nX-B:2\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let got = text(&read_to_end(&mut stream));
    assert_eq!(got, answer.replace("x-a: 2\r\n", "x-a: 2\r\nConnection: close\r\n"));
    assert_eq!(text(&origin.seen()[0]), request);
}

#[test]
fn absolute_targets_become_origin_form() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::start("");
    let o = origin.address;
    let request = format!(
        "GET HTTP://{o}?q HTTP/1.1\r\nA: 1\r\nHost: {o}\r\nProxy-Connection: keep-alive\r\n\
         Proxy-Authorization: Basic x\r\nConnection: close\r\n\r\n"
    );
    assert!(text(&gateway.ask(request.as_bytes())).starts_with("HTTP/1.1 200"));
    let seen = text(&origin.seen()[0]);
    assert_eq!(seen, format!("GET /?q HTTP/1.1\r\nA: 1\r\nHost: {o}\r\nConnection: close\r\n\r\n"));
}

#[test]
fn a_path_that_a_target_leaves_out_is_put_in() {
    let origin = Origin::answering(OK);
    let o = origin.address;
    let ask = |gateway: &Gateway, line: &str| {
        let mut stream = tunnel(gateway, &origin);
        write!(stream, "{line} HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n").unwrap();
        text(&read_to_end(&mut stream))
    };
    let gateway = Gateway::start("");
    for (line, seen) in [
        (format!("GET http://{o}"), format!("GET http://{o}/ ")),
        (format!("GET HTTP://{o}?q=/"), format!("GET HTTP://{o}/?q=/ ")),
        (format!("OPTIONS http://{o}"), "OPTIONS * ".to_owned()),
        (format!("GET http://{o}/x"), format!("GET http://{o}/x ")),
    ] {
        let before = origin.seen().len();
        let answer = ask(&gateway, &line);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{line}: {answer}");
        let got = text(&origin.seen()[before]);
        assert!(got.starts_with(&seen), "{line}: {got}");
    }
    let gateway = Gateway::start("[[rule]]\npath = [\"/\"]\naction = \"block\"\n");
    for line in [format!("GET http://{o}?q"), format!("GET http://{o}"), "GET /?q".to_owned()] {
        let answer = ask(&gateway, &line);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{line}: {answer}");
    }
}

#[test]
fn the_target_replaces_host() {
    let origin = Origin::answering(OK);
    let o = origin.address;
    let ask = |gateway: &Gateway, host: &str| {
        let request = format!("GET http://{o}/ HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        text(&gateway.ask(request.as_bytes()))
    };
    let rule = |host: &str| format!("[[rule]]\nhost = [{host:?}]\naction = \"block\"\n");
    let gateway = Gateway::start(&rule("other.example"));
    for host in ["", "Host:\r\n", "Host: other.example\r\n"] {
        let before = origin.seen().len();
        let answer = ask(&gateway, host);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host:?}: {answer}");
        let seen = text(&origin.seen()[before]);
        assert_eq!(seen, format!("GET / HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n"));
    }
    let twice = format!("Host: {o}\r\nHost: other.example\r\n");
    for host in ["Host:\r\nHost:\r\n", "Host: a/b\r\n", &twice] {
        let answer = ask(&gateway, host);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host:?}: {answer}");
    }
    // Rules look at what is used.
    let gateway = Gateway::start(&rule("127.0.0.1"));
    let answer = ask(&gateway, "Host: other.example\r\n");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn pipelined_requests_are_answered_in_order_over_one_connection() {
    let origin = Origin::start(|asked| {
        while let Some(head) = asked.head() {
            if head.starts_with("POST") {
                asked.exactly(5).unwrap();
            }
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            asked.stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    let requests = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
                    POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
                    GET /3 HTTP/1.1\r\nHost: a\r\n\r\n\
                    GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).unwrap();
    let got = text(&read_to_end(&mut stream));
    let order: Vec<usize> = ["/1", "/2", "/3", "/4"].iter().map(|p| got.find(p).unwrap()).collect();
    assert!(order.is_sorted(), "{got}");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn answers_without_content_do_not_hold_up_the_next() {
    let origin = Origin::start(|asked| {
        while let Some(head) = asked.head() {
            let answer = match head.split(' ').nth(1).unwrap() {
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
                "/0" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                _ => OK,
            };
            asked.stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    for line in ["HEAD /head", "GET /204", "GET /304", "GET /0"] {
        write!(stream, "{line} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let head = text(&read_until(&mut stream, b"\r\n\r\n"));
        assert!(!head.to_lowercase().contains("chunked"), "{head}");
    }
    write!(stream, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert!(text(&read_to_end(&mut stream)).ends_with("\r\n\r\nok"));
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let origin = Origin::start(|asked| {
        asked.head();
        let mut got = Vec::new();
        while !got.ends_with(b"X-Sum: 1\r\n\r\n") {
            got.extend(asked.exactly(1).unwrap());
        }
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      3;ext=1\r\nabc\r\n3\r\ndef\r\n0\r\nX-End: 2\r\n\r\n";
        asked.stream.write_all(answer.as_bytes()).unwrap();
    });
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    let head =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{head}5\r\nhello\r\n").as_bytes()).unwrap();
    stream.write_all(b"1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n").unwrap();
    let got = text(&read_to_end(&mut stream));
    assert!(got.contains("abc") && got.ends_with("\r\n0\r\nX-End: 2\r\n\r\n"), "{got}");
    assert!(!got.contains("ext=1"), "chunk extensions are for one connection only: {got}");
    let seen = text(&origin.seen()[0]);
    assert!(seen.starts_with(head) && seen.ends_with("0\r\nX-Sum: 1\r\n\r\n"), "{seen}");
}

#[test]
fn an_end_by_closing_becomes_one_that_can_be_told_from_a_cut() {
    let origin = Origin::start(|asked| {
        asked.head();
        asked.stream.write_all(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nsome content").unwrap();
    });
    let gateway = Gateway::start("");
    let got = get(&gateway, &origin, "/", "");
    assert!(got.starts_with("HTTP/1.1 200 OK\r\nA: b\r\n"), "{got}");
    assert!(got.contains("Transfer-Encoding: chunked\r\n"), "{got}");
    assert!(got.ends_with("\r\nc\r\nsome content\r\n0\r\n\r\n"), "{got}");

    let o = origin.address;
    let got = text(&gateway.ask(format!("GET http://{o}/ HTTP/1.0\r\n\r\n").as_bytes()));
    assert!(got.ends_with("\r\n\r\nsome content") && !got.contains("chunked"), "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_without_a_length_ends_with_tls_however_that_ends() {
    let origin = h2::Origin::start(0, h2::handler(|_, _| async {})).await;
    let icap = Icap::start(|_| Verdict::Pass);
    for settings in ["", &icap.settings()] {
        let (gateway, _dir) = h2::gateway(&origin, settings);
        for (path, is_whole) in [("/ends", true), ("/short", false)] {
            let mut tls = h2::tls(&gateway, &origin, &[b"http/1.1"]).await;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            tls.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // A cut is an error here.
            let _ = h2::soon("an answer", tls.read_to_end(&mut answer)).await;
            let answer = text(&answer);
            let chunked = answer.contains("\r\nTransfer-Encoding: chunked\r\n");
            let is_complete = match chunked {
                true => answer.ends_with("\r\n7\r\ncontent\r\n0\r\n\r\n"),
                false => {
                    answer.contains("\r\nContent-Length: 7\r\n")
                        && answer.ends_with("\r\n\r\ncontent")
                }
            };
            assert_eq!(
                answer.starts_with("HTTP/1.1 200 ") && is_complete,
                is_whole,
                "{path}: {answer}"
            );
        }
    }
}

/// A head that announces five bytes of content, which are held back until they are asked for.
fn expecting(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
}

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn content_is_asked_for_when_the_client_waits_for_it() {
    let origin = Origin::start(|asked| {
        while asked.head().is_some() {
            asked.stream.write_all(CONTINUE.as_bytes()).unwrap();
            asked.exactly(5).unwrap();
            asked.stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    for _ in 0..3 {
        write!(stream, "{}", expecting("PUT /")).unwrap();
        assert_eq!(text(&read_until(&mut stream, b"\r\n\r\n")), CONTINUE);
        stream.write_all(b"hello").unwrap();
        assert_eq!(text(&read_until(&mut stream, b"ok")), OK);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(text(&read_to_end(&mut stream)), "");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn no_content_is_asked_for_after_the_answer() {
    let origin = Origin::start(|asked| {
        while let Some(head) = asked.head() {
            if head.contains("/no") {
                asked.stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").unwrap();
                continue;
            }
            asked.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").unwrap();
            // Longer than a gateway waits for a 100.
            thread::sleep(std::time::Duration::from_millis(1500));
            asked.stream.write_all(b"cd").unwrap();
        }
    });
    let gateway = Gateway::start("");
    for (line, answer) in [
        ("PUT /no", "403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        ("PUT /slowly", "200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nabcd"),
    ] {
        let mut stream = tunnel(&gateway, &origin);
        let head = expecting(line);
        stream.write_all(head.as_bytes()).unwrap();
        let mut got = vec![0; "HTTP/1.1 ".len() + answer.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(text(&got), format!("HTTP/1.1 {answer}"));
        // Whether this is the content or another request, nobody can tell.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(text(&read_to_end(&mut stream)), "");
        assert_eq!(text(origin.seen().last().unwrap()), head);
    }
}

#[test]
fn no_content_is_asked_for_after_a_page_of_our_own() {
    let origin = Origin::answering(OK);
    let gateway =
        Gateway::start("[[rule]]\nname = \"no\"\naction = \"block\"\nmethod = [\"PUT\"]\n");
    let mut stream = tunnel(&gateway, &origin);
    stream.write_all(expecting("PUT /").as_bytes()).unwrap();
    let got = text(&read_to_end(&mut stream));
    assert!(got.starts_with("HTTP/1.1 403 ") && got.contains("\r\nConnection: close\r\n"), "{got}");
    assert!(!got.contains("100 Continue"), "{got}");
}

#[test]
fn content_that_a_service_asked_for_leaves_the_client_its_connection() {
    let origin = Origin::start(|asked| {
        while let Some(head) = asked.head() {
            let answer = match head.contains("PUT /no ") {
                true => "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
                false => OK,
            };
            asked.stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let mut stream = tunnel(&gateway, &origin);
    stream.write_all(expecting("PUT /no").as_bytes()).unwrap();
    assert_eq!(text(&read_until(&mut stream, b"\r\n\r\n")), CONTINUE);
    stream.write_all(b"hello").unwrap();
    let refusal = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(text(&read_until(&mut stream, b"\r\n\r\n")), refusal);
    write!(stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(text(&read_until(&mut stream, b"ok")), OK);
}

#[test]
fn interim_responses_pass_to_those_who_know_them() {
    let answer = format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}");
    let origin = Origin::answering(answer.clone());
    let gateway = Gateway::start("");
    let got = get(&gateway, &origin, "/", "");
    assert!(
        got.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{got}"
    );
    // No service sees them.
    let unseen = "meergate_uninspected_bytes_total{reason=\"interim\",direction=\"to_client\"}";
    let head = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    assert_eq!(gateway.metric(unseen), head.len() as u64);
    let o = origin.address;
    let got = text(&gateway.ask(format!("GET http://{o}/ HTTP/1.0\r\n\r\n").as_bytes()));
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
    let flood = "HTTP/1.1 102 Processing\r\n\r\n".repeat(1000);
    let got = get(&gateway, &Origin::answering(flood), "/", "");
    assert!(got.contains("HTTP/1.1 502 "), "{got}");
}

#[test]
fn web_sockets_are_relayed_and_counted() {
    let origin = Origin::start(|asked| {
        let head = asked.head().unwrap();
        assert!(head.contains("Upgrade: websocket"), "{head}");
        let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                        Upgrade: websocket\r\n\r\nhello";
        asked.stream.write_all(switched.as_bytes()).unwrap();
        while let Some(piece) = asked.read() {
            asked.stream.write_all(&piece).unwrap();
        }
    });
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
    stream.write_all(request.as_bytes()).unwrap();
    let got = text(&read_until(&mut stream, b"hellofirst"));
    assert!(got.starts_with("HTTP/1.1 101 "), "{got}");
    stream.write_all(b"second").unwrap();
    read_until(&mut stream, b"second");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut stream), b"");
    let record = &gateway.transactions(1)[0];
    assert_eq!(record["outcome"], "upgraded");
    assert_eq!(record["uninspected"], serde_json::json!(["no-service", "upgrade"]));
}

/// As `kubectl exec` and `docker attach` do.
#[test]
fn rules_say_what_may_be_upgraded_to() {
    let origin = Origin::start(|asked| {
        let head = asked.head().unwrap();
        let upgrade = head.lines().find_map(|line| line.strip_prefix("Upgrade: "));
        let answer = upgrade.map_or(OK.to_owned(), |protocol| {
            let fields = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
            format!("HTTP/1.1 101 Switching Protocols\r\n{fields}")
        });
        asked.stream.write_all(answer.as_bytes()).unwrap();
    });
    let rules = "[[rule]]\npath = [\"/exec*\"]\nupgrades = [\"SPDY/3.1\", \"tcp\"]\n\
                 [[rule]]\npath = [\"/none\"]\nupgrades = []\n";
    let gateway = Gateway::start(rules);
    for (path, protocol, status) in [
        ("/exec/pod", "SPDY/3.1", "101"),
        ("/exec/pod", "tcp", "101"),
        ("/exec/pod", "websocket", "200"),
        ("/other", "SPDY/3.1", "200"),
        ("/other", "websocket", "101"),
        ("/none", "websocket", "200"),
    ] {
        for method in ["GET", "POST"] {
            let mut stream = tunnel(&gateway, &origin);
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).unwrap();
            let got = text(&read_until(&mut stream, b"\r\n\r\n"));
            assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {protocol}: {got}");
        }
    }
}

/// From a 101 on nothing is inspected, so what is left of the content must not go on behind it.
#[test]
fn no_change_of_protocols_in_the_midst_of_a_request() {
    let origin = Origin::start(|asked| {
        asked.head();
        asked.exactly(2);
        let switched =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        asked.stream.write_all(switched.as_bytes()).unwrap();
        while asked.read().is_some() {}
    });
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Content-Length: 4\r\n\r\nab";
    stream.write_all(request.as_bytes()).unwrap();
    let got = text(&read_until(&mut stream, b"\r\n\r\n"));
    assert!(got.starts_with("HTTP/1.1 502 "), "{got}");
    let _ = stream.write_all(b"cd");
    read_to_end(&mut stream);
    assert!(origin.seen()[0].ends_with(b"\r\n\r\nab"));
}

/// What follows a 101 is relayed as what was asked for, so the origin has to say that it is that.
#[test]
fn no_change_to_another_protocol_than_was_asked_for() {
    for named in ["Upgrade: h2c\r\n", "Upgrade: websocket, h2c\r\n", ""] {
        let switched =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{named}\r\nother");
        let origin = Origin::answering(switched);
        let gateway = Gateway::start("");
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let got = get(&gateway, &origin, "/", fields);
        assert!(got.contains("HTTP/1.1 502 ") && !got.contains("other"), "{named}: {got}");
    }
}

#[test]
fn an_answer_before_the_end_of_an_upload_arrives() {
    let origin = Origin::start(|asked| {
        asked.head();
        let answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
        asked.stream.write_all(answer.as_bytes()).unwrap();
    });
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let length = 200u64 << 20;
        let _ = write!(sender, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        while sender.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let got = text(&read_to_end(&mut stream));
    assert!(got.starts_with("HTTP/1.1 413 ") && got.ends_with("big"), "{got}");
    drop(stream);
    sending.join().unwrap();
}

#[test]
fn contents_flow_both_ways_at_once_and_are_not_collected() {
    const TOTAL: usize = 64 << 20;
    let origin = Origin::start(|asked| {
        asked.head();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n");
        asked.stream.write_all(head.as_bytes()).unwrap();
        let mut piece = vec![0; 65536];
        let mut left = TOTAL;
        while left > 0 {
            let n = asked.stream.read(&mut piece).unwrap();
            asked.stream.write_all(&piece[..n]).unwrap();
            left -= n;
        }
    });
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        write!(sender, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {TOTAL}\r\n\r\n").unwrap();
        for block in 0..TOTAL / 4096 {
            sender.write_all(&[block as u8; 4096]).unwrap();
        }
    });
    read_until(&mut stream, b"\r\n\r\n");
    let mut got = vec![0; 4096];
    for block in 0..TOTAL / 4096 {
        stream.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|&b| b == block as u8), "block {block}");
    }
    sending.join().unwrap();
}

#[test]
fn a_kept_connection_that_the_origin_ended_is_replaced() {
    let origin = Origin::start(|asked| {
        asked.head();
        asked.stream.write_all(OK.as_bytes()).unwrap();
    });
    let gateway = Gateway::start("");
    let mut stream = tunnel(&gateway, &origin);
    for _ in 0..20 {
        write!(stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(text(&read_until(&mut stream, b"ok")), OK);
    }
    assert_eq!(origin.seen().len(), 20);
}

#[test]
fn cuts_are_seen_on_the_other_side() {
    let gateway = Gateway::start("");
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let origin = Origin::start(move |asked| {
            asked.head();
            write!(asked.stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n").unwrap();
        });
        let got = get(&gateway, &origin, "/", "");
        assert!(got.contains("hello") && !got.ends_with("0\r\n\r\n"), "{got}");
    }
    let origin = Origin::start(|asked| while asked.read().is_some() {});
    let mut stream = tunnel(&gateway, &origin);
    let half = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    stream.write_all(half).unwrap();
    wait_for("the upload to begin", || {
        origin.seen().first().filter(|seen| seen.ends_with(b"hello\r\n")).map(drop)
    });
    drop(stream);
    let record = &gateway.transactions(3)[2];
    assert_eq!(record["outcome"], "client-gone", "{record}");
    assert!(!text(&origin.seen()[0]).ends_with("0\r\n\r\n"));
}

// With services.

fn asks_for(message: &Message, path: &str) -> bool {
    message.heads.starts_with(&format!("GET {path} "))
}

#[test]
fn services_see_both_messages_and_a_pass_changes_nothing() {
    let answer = "HTTP/1.1 200 OK\r\nsERVER:x\r\nContent-length: 2\r\n\r\nok";
    let origin = Origin::start(move |asked| {
        asked.head();
        asked.exactly(5);
        asked.stream.write_all(answer.as_bytes()).unwrap();
    });
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let mut stream = tunnel(&gateway, &origin);
    let request = "POST /a HTTP/1.1\r\nhOST:a.test\r\nX-b:\t 1 \r\nContent-Length: 5\r\n\r\nhello";
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(text(&read_until(&mut stream, b"ok")), answer);
    assert_eq!(text(&origin.seen()[0]), request);
    let asked = icap.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].body.as_slice()), ("REQMOD", &b"hello"[..]));
    assert_eq!((asked[1].method.as_str(), asked[1].body.as_slice()), ("RESPMOD", &b"ok"[..]));
    let port = |m: &Message, name: &str| {
        m.icap.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned())
    };
    let client = stream.local_addr().unwrap().port().to_string();
    let server = origin.address.port().to_string();
    for message in &asked {
        assert_eq!(port(message, "X-Client-Port:").as_ref(), Some(&client), "{}", message.icap);
        assert_eq!(port(message, "X-Server-Port:").as_ref(), Some(&server), "{}", message.icap);
        assert_eq!(port(message, "X-Proto:").as_deref(), Some("http"), "{}", message.icap);
    }
    let record = &gateway.transactions(1)[0];
    let id = port(&asked[0], "X-Transaction-Id:").unwrap();
    assert_eq!(record["transaction_id"], id.as_str());
    assert_eq!(record["respmod"]["services"][0]["did"], "passed");
    let of_service = record["respmod"]["services"][0]["ms"].as_f64().unwrap();
    assert!(of_service > 0.0 && of_service <= record["ms"].as_f64().unwrap(), "{record}");
    assert!(record.get("uninspected").is_none(), "{record}");
}

#[test]
fn a_blocked_request_never_reaches_the_origin() {
    let origin = Origin::answering(OK);
    let icap = Icap::start(|m| if asks_for(m, "/evil") { Verdict::Block } else { Verdict::Pass });
    let gateway = Gateway::start(&icap.settings());
    let mut stream = tunnel(&gateway, &origin);
    for (path, status) in [("/fine", "200"), ("/evil", "403"), ("/fine", "200")] {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let end: &[u8] = if status == "403" { b"blocked" } else { b"ok" };
        let got = text(&read_until(&mut stream, end));
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{got}");
    }
    assert!(!origin.seen().iter().any(|seen| text(seen).contains("/evil")));
    let record = &gateway.transactions(3)[1];
    assert_eq!(record["outcome"], "blocked");
    assert_eq!(record["block"]["signature_id"], "4711");
}

#[test]
fn a_blocked_response_is_replaced_by_the_page() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nmalware");
    let icap = Icap::start(|m| match m.body.as_slice() {
        b"malware" => Verdict::Block,
        _ => Verdict::Pass,
    });
    let gateway = Gateway::start(&icap.settings());
    let got = get(&gateway, &origin, "/", "");
    assert!(got.starts_with("HTTP/1.1 403 ") && got.ends_with("blocked"), "{got}");
    assert!(!got.contains("malware"));
}

#[test]
fn a_page_that_a_service_has_created_is_delivered() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nmalware");
    for method in ["REQMOD", "RESPMOD"] {
        let icap = Icap::start(move |m| match m.method == method {
            true => Verdict::Created,
            false => Verdict::Pass,
        });
        let gateway = Gateway::start(&format!(
            "[[icap.service]]\nname = \"s\"\nurl = \"icap://{}/s\"\nfail = \"open\"\n\
             [[icap.chain]]\nname = \"default\"\nservices = [\"s\"]\n",
            icap.address
        ));
        let got = get(&gateway, &origin, "/", "");
        assert!(got.starts_with("HTTP/1.1 403 ") && got.ends_with("blocked"), "{got}");
        assert_eq!(gateway.transactions(1)[0]["outcome"], "blocked");
    }
}

#[test]
fn an_origins_fault_is_not_told_of_the_service() {
    let origin = Origin::start(|asked| {
        asked.head();
        write!(asked.stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").unwrap();
    });
    let icap = Icap::start(|_| Verdict::Pass);
    let dead = Icap::start(|_| Verdict::Close);
    for (icap, is_told) in [(icap, false), (dead, true)] {
        let gateway = Gateway::start(&icap.settings());
        get(&gateway, &origin, "/", "");
        gateway.transactions(1);
        let log = std::fs::read_to_string(gateway.dir.path().join("stderr.log")).unwrap();
        assert_eq!(log.contains("failing closed"), is_told, "{log}");
    }
}

#[test]
fn a_service_that_fails_lets_nothing_pass() {
    let origin = Origin::answering(OK);
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let gateway = Gateway::start(&format!("[icap]\nurls = [\"icap://{gone}/test\"]\n"));
    let got = get(&gateway, &origin, "/", "");
    assert!(got.starts_with("HTTP/1.1 50") && got.contains("Proxy-Status: meergate"), "{got}");
    assert!(origin.seen().iter().all(Vec::is_empty), "the request went on without inspection");

    let icap = Icap::start(|m| if m.method == "RESPMOD" { Verdict::Close } else { Verdict::Pass });
    let gateway = Gateway::start(&icap.settings());
    let got = get(&gateway, &origin, "/", "");
    assert!(got.starts_with("HTTP/1.1 50") && !body(&got).contains("ok\n"), "{got}");
    assert_eq!(gateway.transactions(1)[0]["outcome"], "service-failed");
}

#[test]
fn a_service_that_dies_in_mid_content_leaves_a_cut() {
    let content: String = (0..20_000).map(|n| format!("{n:05}")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len());
    let origin = Origin::answering(answer);
    let icap = Icap::start(|m| match m.method.as_str() {
        "RESPMOD" => Verdict::CutAfter(10_000),
        _ => Verdict::Pass,
    });
    let gateway = Gateway::start(&icap.settings());
    let got = get(&gateway, &origin, "/", "");
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    if head.contains("Content-Length: 100000") {
        assert!(body.len() <= 10_000 && content.starts_with(body));
    } else {
        assert!(head.contains("chunked") && !body.ends_with("0\r\n\r\n"), "{head}");
    }
    assert!(!got.contains("19999"), "the rest of the content passed");
}

#[test]
fn changed_contents_are_framed_anew() {
    let origin = Origin::start(|asked: &mut Asked| {
        asked.head();
        while asked.read().is_some() {
            let got = text(&asked.seen());
            if got.ends_with("hello") || got.ends_with("0\r\n\r\n") {
                asked.stream.write_all(OK.as_bytes()).unwrap();
            }
        }
    });
    let icap = Icap::start(|_| Verdict::Echo);
    let gateway = Gateway::start(&icap.settings());
    let mut stream = tunnel(&gateway, &origin);
    let request =
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    stream.write_all(request.as_bytes()).unwrap();
    let got = text(&read_to_end(&mut stream));
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
    let sound = got.ends_with("\r\n\r\nok") || got.ends_with("2\r\nok\r\n0\r\n\r\n");
    assert!(sound, "{got}");
}

#[test]
fn what_services_cannot_look_into_does_not_slip_by() {
    let origin = Origin::start(|asked| {
        while let Some(head) = asked.head() {
            let answer = match head.split(' ').nth(1).unwrap() {
                "/br" => "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok",
                "/alt" => "HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":443\"\r\nContent-Length: 2\r\n\r\nok",
                _ => OK,
            };
            asked.stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let offers = "Accept-Encoding: br, gzip\r\nAvailable-Dictionary: :AA==:\r\n";
    let got = get(&gateway, &origin, "/", offers);
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    let seen = text(&origin.seen()[0]);
    assert!(seen.contains("\r\nAccept-Encoding: gzip\r\n") && !seen.contains("Dict"), "{seen}");
    assert!(get(&gateway, &origin, "/br", "").starts_with("HTTP/1.1 403 "));
    assert!(!get(&gateway, &origin, "/alt", "").contains("Alt-Svc"));

    let settings = format!("{}[http]\nother_codings = \"pass\"\n", icap.settings());
    let gateway = Gateway::start(&settings);
    assert!(get(&gateway, &origin, "/br", "").starts_with("HTTP/1.1 200 "));
    assert_eq!(gateway.transactions(1)[0]["uninspected"][0], "coding");
}

/// What is kept until a verdict takes about as much memory as it has bytes, however few come at a
/// time.
#[test]
fn content_that_comes_byte_by_byte_takes_no_more_memory_than_its_size() {
    const PIECES: usize = 6000;
    const LENGTH: usize = 200_000;
    let origin = Origin::start(|asked| {
        asked.head();
        write!(asked.stream, "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
        for _ in 0..PIECES {
            asked.stream.write_all(b"x").unwrap();
            // So that most are read by themselves.
            thread::sleep(std::time::Duration::from_micros(200));
        }
        asked.stream.write_all(&[b'x'; LENGTH - PIECES]).unwrap();
    });
    let service = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&service.settings());
    let before = gateway.memory();
    let answer = get(&gateway, &origin, "/", "");
    assert!(answer.ends_with(&"x".repeat(LENGTH)), "{} bytes", answer.len());
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more than before");
}

#[test]
fn a_request_whose_content_comes_too_slowly_is_ended() {
    let origin = Origin::start(|asked| {
        asked.head();
        while asked.read().is_some() {}
    });
    let service = Icap::start(|_| Verdict::Echo);
    for services in ["", &service.settings()] {
        let gateway = Gateway::start(&format!(
            "[limits]\nmin_rate = 1000\nmin_rate_window = \"500ms\"\n{services}"
        ));
        let mut stream = gateway.connect();
        let url = origin.url("/");
        let host = origin.address;
        write!(stream, "POST {url} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\n")
            .unwrap();
        let mut drip = stream.try_clone().unwrap();
        let dripping = thread::spawn(move || {
            while drip.write_all(b"x").is_ok() {
                thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let answer = text(&read_to_end(&mut stream));
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        drop(stream);
        dripping.join().unwrap();
        let record = &gateway.transactions(1)[0];
        assert_eq!(record["outcome"], "slow-client", "{record}");
        assert_eq!(gateway.metric("meergate_limited_total{limit=\"min-rate\"}"), 1);
    }
}

#[test]
fn what_never_answers_is_given_up() {
    let origin = Origin::start(|asked| while asked.read().is_some() {});
    let gateway = Gateway::start("[limits]\nidle_timeout = \"300ms\"\n");
    let got = get(&gateway, &origin, "/", "");
    assert!(got.starts_with("HTTP/1.1 504 "), "{got}");
    let mut silent = tunnel(&gateway, &origin);
    write!(silent, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_to_end(&mut silent);
}

#[test]
fn a_client_that_is_gone_is_noticed_while_its_origin_is_silent() {
    for begun in [false, true] {
        let (gone, noticed) = std::sync::mpsc::sync_channel(1);
        let gone = std::sync::Mutex::new(gone);
        let origin = Origin::start(move |asked| {
            asked.head();
            if begun {
                let part = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
                asked.stream.write_all(part).unwrap();
            }
            while asked.read().is_some() {}
            gone.lock().unwrap().send(()).unwrap();
        });
        let gateway = Gateway::start("");
        let mut stream = gateway.connect();
        let o = origin.address;
        write!(stream, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n").unwrap();
        if begun {
            read_until(&mut stream, b"1\r\nx\r\n");
        } else {
            wait_for("the request", || (!origin.seen().concat().is_empty()).then_some(()));
        }
        drop(stream);
        // Well before limits.idle_timeout, after which all would end anyway.
        noticed.recv_timeout(PATIENCE).unwrap();
        let records = gateway.transactions(1);
        assert_eq!(records[0]["outcome"], "client-gone", "{records:?}");
    }
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answer() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::start("");
    let mut stream = gateway.connect();
    let o = origin.address;
    write!(stream, "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(text(&read_to_end(&mut stream)).ends_with("ok"));
}
