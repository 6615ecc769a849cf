//! The inspector dies: what was not inspected does not get through, by no path.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use e2e::origin::After;
use e2e::{Gateway, Inspector, Origin, content, process};

const SENT_FIRST: usize = 8 << 20;
const WHOLE: usize = 16 << 20;

/// An origin that sends the first half of a body, says so, and sends the rest when told.
fn origin(half_sent: SyncSender<()>, go_on: Receiver<()>) -> Origin {
    let go_on = Mutex::new(go_on);
    Origin::http(move |request, wire| {
        if request.target != "/slow" {
            return wire.ok("text/plain", b"never to be seen");
        }
        let body = content::noise(1, WHOLE);
        wire.raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {WHOLE}\r\n\r\n").as_bytes())?;
        wire.raw(&body[..SENT_FIRST])?;
        let _nobody_waits = half_sent.send(());
        let _told = go_on.lock().unwrap().recv_timeout(process::DEADLINE);
        wire.raw(&body[SENT_FIRST..])?;
        Ok(After::Close)
    })
}

fn ask(gateway: &Gateway, url: &str) -> TcpStream {
    let mut client = TcpStream::connect(gateway.proxy()).unwrap();
    client.set_read_timeout(Some(process::DEADLINE)).unwrap();
    let host = url.split('/').nth(2).unwrap();
    write!(client, "GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    client
}

#[test]
fn a_transfer_ends_with_the_inspector() {
    let (half_sent, half) = sync_channel(1);
    let (go, go_on) = sync_channel(1);
    let origin = origin(half_sent, go_on);
    let inspector = Inspector::with_test_rules();
    let gateway = Gateway::start(["--icap", &inspector.url()]);

    let mut client = BufReader::new(ask(&gateway, &origin.url("/slow")));
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(client.read_line(&mut line).unwrap() > 0, "a head comes, as more than `hold` came");
    }
    let mut got = vec![0; 1];
    client.read_exact(&mut got).unwrap();
    // What is read on another thread, so that nothing waits for the client.
    let rest = std::thread::spawn(move || {
        let mut rest = Vec::new();
        let end = client.read_to_end(&mut rest);
        (rest, end)
    });
    half.recv_timeout(process::DEADLINE).unwrap();
    inspector.process.kill_group();
    go.send(()).unwrap();

    let (rest, _cut_or_reset) = rest.join().unwrap();
    got.extend(rest);
    assert!(got.len() <= SENT_FIRST, "{} bytes, of which the inspector saw less", got.len());
    assert!(content::noise(1, WHOLE).starts_with(&got), "a prefix of the body and nothing else");
}

#[test]
fn no_path_opens_while_the_inspector_is_gone() {
    let (half_sent, _half) = sync_channel(1);
    let (_go, go_on) = sync_channel(1);
    let origin = origin(half_sent, go_on);
    let mut inspector = Inspector::with_test_rules();
    let gateway = Gateway::start(["--icap", &inspector.url()]);
    inspector.process.kill_group();
    inspector.process.wait_for_end();

    for _ in 0..5 {
        let mut client = BufReader::new(ask(&gateway, &origin.url("/fast")));
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        assert!(line.contains(" 502 ") || line.contains(" 503 "), "{line}");
    }
    assert_eq!(origin.requests().len(), 0, "nothing uninspected reached the origin");
}

#[test]
fn a_gateway_that_starts_before_its_inspector_works_once_that_is_there() {
    let (half_sent, _half) = sync_channel(1);
    let (_go, go_on) = sync_channel(1);
    let origin = origin(half_sent, go_on);
    let port = e2e::Port::claim();
    let gateway = Gateway::start(["--icap", &format!("icap://{}/suricata", port.addr())]);

    let status = || {
        let mut line = String::new();
        BufReader::new(ask(&gateway, &origin.url("/fast"))).read_line(&mut line).unwrap();
        line
    };
    assert!(!status().contains(" 200 "), "closed without an inspector");
    let address = port.addr().to_string();
    let rules = e2e::programs::test_rules();
    let mut inspector =
        Inspector::start(["--listen", &address, "--rules", rules.to_str().unwrap()]);
    inspector.process.wait_until("the first clean answer", || status().contains(" 200 "));
}
