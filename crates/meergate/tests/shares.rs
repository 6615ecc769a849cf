//! No client can spend another's share: of passwords' hashing, of the console, of memory.

// Helpers of tests fail by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;
mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, RwLock, mpsc};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use program::{Program, run_to_end};
use socket2::{Domain, Socket, Type};
use support::icap::{Icap, Verdict};
use support::{Origin, PATIENCE, connect, read_to_end, wait_for};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A connection of another client: all of 127.0.0.0/8 is this machine.
fn connect_as(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn metric(program: &Program, name: &str) -> u64 {
    let text = program.console("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// KiB of memory that the program has had at most.
fn most_memory(program: &Program) -> u64 {
    let status = program.status();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn wrong_passwords_take_neither_memory_nor_anothers_turn() {
    let origin = Origin::answering(OK);
    let hash = run_to_end(&["hash-password", "alice"], "secret\n").stdout;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users");
    std::fs::write(&file, hash).unwrap();
    let program = Program::start(&format!(
        "[users]\nfile = {file:?}\nhashes = 1\nwrong_passwords = 5\n\
         [limits]\nbegin_timeout = \"1m\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"socks5\"\n"
    ));
    // Huge pages would keep what was given back in part.
    assert!(program.status().contains("THP_enabled:\t0\n"), "{}", program.status());
    let before = most_memory(&program);
    let mut flood = Vec::new();
    for number in 0..60u8 {
        let mut http = connect(program.at("proxy"));
        let basic = STANDARD.encode(format!("u:{number}"));
        write!(
            http,
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic {basic}\r\n\
             Connection: close\r\n\r\n"
        )
        .unwrap();
        // Some do not wait for what comes of it.
        if number % 3 > 0 {
            flood.push(http);
        }
        let mut socks = connect(program.at("socks5"));
        socks.write_all(&[5, 1, 2, 1, 1, b'u', 1, number]).unwrap();
        flood.push(socks);
    }
    // Another client has its turn, with the right password.
    let mut other = connect_as(2, program.at("proxy"));
    write!(
        other,
        "GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\nProxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n\
         Connection: close\r\n\r\n",
        origin.address
    )
    .unwrap();
    let answer = String::from_utf8(read_to_end(&mut other)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answers: Vec<Vec<u8>> = flood.iter_mut().map(read_to_end).collect();
    let starting = |text: &[u8]| answers.iter().filter(|answer| answer.starts_with(text)).count();
    assert!(starting(b"HTTP/1.1 429 ") > 0 && starting(b"HTTP/1.1 200 ") == 0);
    assert!(starting(&[5, 2, 1, 1]) > 0 && starting(&[5, 2, 1, 0]) == 0);
    let wrong = metric(&program, "meergate_passwords_total{outcome=\"wrong\"}");
    assert!((5..100).contains(&wrong), "{wrong} wrong passwords were hashed");
    assert!(metric(&program, "meergate_limited_total{limit=\"wrong_passwords\"}") > 0);
    // One hash takes 19 MiB.
    let grown = most_memory(&program) - before;
    assert!(grown < 100 << 10, "{grown} KiB more");
}

#[test]
fn half_open_connections_do_not_close_the_console() {
    let program = Program::start(
        "console.connections = 8\n[limits]\nbegin_timeout = \"1s\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n",
    );
    let mut half_open: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = connect(program.at("console"));
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n");
            stream
        })
        .collect();
    let mut other = connect_as(2, program.at("console"));
    other.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_to_end(&mut other).starts_with(b"HTTP/1.1 200 "));
    // They end without a word of theirs.
    for stream in &mut half_open {
        read_to_end(stream);
    }
    wait_for("room on the console", || {
        let mut again = connect(program.at("console"));
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        again.write_all(request).ok()?;
        let answer = String::from_utf8_lossy(&read_to_end(&mut again)).into_owned();
        answer.contains("meergate_limited_total{limit=\"console_connections\"}").then_some(())
    });
}

#[test]
fn the_console_answers_to_its_own_names_only() {
    let program = Program::start(
        "console.hosts = [\"console.example\"]\n[[listen]]\naddress = \"127.0.0.1:0\"\n",
    );
    let address = program.at("console");
    for (host, status) in [
        (address.to_string(), "200"),
        ("console.example:8088".into(), "200"),
        ("rebound.example".into(), "421"),
        (format!("rebound.example:{}", address.port()), "421"),
    ] {
        let mut stream = connect(address);
        write!(stream, "GET /ca.pem HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let answer = String::from_utf8(read_to_end(&mut stream)).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
}

#[test]
fn no_client_takes_all_memory_for_copies() {
    let origin = Origin::answering(OK);
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write().unwrap();
    let (told, asked) = mpsc::sync_channel(100);
    let waiting = gate.clone();
    let service = Icap::start(move |message| {
        let _ = told.send(message.icap.contains("Allow: 204"));
        drop(waiting.read());
        Verdict::Pass
    });
    let program = Program::start(&format!(
        "[limits]\ncopies = \"1MiB\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[icap.service]]\nname = \"slow\"\nurl = \"icap://{}/test\"\n\
         [[icap.chain]]\nname = \"default\"\nservices = [\"slow\"]\n",
        service.address
    ));
    let content = vec![b'x'; 100_000];
    let mut clients = Vec::new();
    let mut copied = Vec::new();
    for client in [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2] {
        let mut stream = connect_as(client, program.at("proxy"));
        write!(
            stream,
            "POST http://{0}/ HTTP/1.1\r\nHost: {0}\r\nConnection: close\r\n\
             Content-Length: {1}\r\n\r\n",
            origin.address,
            content.len()
        )
        .unwrap();
        stream.write_all(&content).unwrap();
        clients.push(stream);
        copied.push(asked.recv_timeout(PATIENCE).unwrap());
    }
    let (first, second) = copied.split_at(8);
    assert_eq!(first, [true, true, true, true, true, false, false, false]);
    assert_eq!(second, [true, true, false]);
    assert_eq!(metric(&program, "meergate_copies_bytes"), 700_000);
    assert_eq!(metric(&program, "meergate_icap_copies_refused_total{service=\"slow\"}"), 4);
    drop(closed);
    for stream in &mut clients {
        let answer = read_to_end(stream);
        assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"hello"));
    }
    wait_for("the memory to be given back", || {
        (metric(&program, "meergate_copies_bytes") == 0).then_some(())
    });
}

#[test]
fn uploads_that_wait_for_a_service_take_no_more_memory_than_copies_may() {
    let origin = Origin::answering(OK);
    let gate = Arc::new(RwLock::new(()));
    let _closed = gate.write().unwrap();
    let (told, asked) = mpsc::sync_channel(100);
    let waiting = gate.clone();
    let service = Icap::start(move |message| {
        let _ = told.send(message.body.len());
        drop(waiting.read());
        Verdict::Pass
    });
    let program = Program::start(&format!(
        "[limits]\ncopies = \"16MiB\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[icap.service]]\nname = \"slow\"\nurl = \"icap://{}/test\"\n\
         timeouts = {{ answer = \"10m\", idle = \"10m\" }}\n\
         [[icap.chain]]\nname = \"default\"\nservices = [\"slow\"]\n",
        service.address
    ));
    let before = most_memory(&program);
    let content = vec![b'x'; 1 << 20];
    let mut clients = Vec::new();
    for _ in 0..80 {
        let mut stream = connect(program.at("proxy"));
        let head = "Transfer-Encoding: chunked\r\n\r\n100000\r\n";
        write!(stream, "POST http://{0}/ HTTP/1.1\r\nHost: {0}\r\n{head}", origin.address).unwrap();
        stream.write_all(&content).unwrap();
        stream.write_all(b"\r\n0\r\n\r\n").unwrap();
        clients.push(stream);
        assert_eq!(asked.recv_timeout(PATIENCE), Ok(1 << 20));
    }
    assert_eq!(metric(&program, "meergate_copies_bytes"), 8 << 20);
    // Beside the copies, buffers of the connections.
    let grown = most_memory(&program) - before;
    assert!(grown < 48 << 10, "{grown} KiB more");
    // The service still has not answered.
    drop(clients);
    wait_for("the copies of clients that are gone to be given up", || {
        (metric(&program, "meergate_copies_bytes") == 0).then_some(())
    });
}
