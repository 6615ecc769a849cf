//! All ways in, and what is inside TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use e2e::process::DEADLINE;

use super::{BAD, SID, Setup, accept, echo, read_all, serve, tls_client, tls_server, to};

/// A server's greeting, an answer, and the planted bytes: the first two come, the last don't.
fn talk(mut client: impl Read + Write) {
    let mut greeting = [0; 7];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"<hello>");
    client.write_all(b"<and you>").unwrap();
    let mut back = [0; 9];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"<and you>");
    let sent = client.write_all(BAD).and_then(|()| client.flush());
    let (got, in_order) = read_all(&mut client);
    assert!(got.is_empty() && (sent.is_err() || !in_order), "{}", got.escape_ascii());
}

fn greet(mut socket: TcpStream) {
    socket.write_all(b"<hello>").unwrap();
    echo(socket);
}

#[test]
fn connect_and_socks_lead_to_streams() {
    let port = serve(greet).port();
    let mut setup = Setup::start("protocol = \"any\"", "");
    let mut client = setup.connect();
    write!(client, "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.extend_from_slice(&byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "));
    talk(client);
    let record = setup.ended("stream-blocked");
    assert_eq!(
        (&record["listener"], &record["block"]["signature_id"]),
        (&"proxy".into(), &SID.into())
    );

    let mut setup = Setup::start("kind = \"socks5\"\nprotocol = \"any\"", "");
    let mut client = setup.connect();
    client.write_all(&[5, 1, 0]).unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    client.write_all(&[&[5, 1, 0, 1, 127, 0, 0, 1], &port.to_be_bytes()[..]].concat()).unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    talk(client);
    setup.ended("stream-blocked");
}

#[test]
fn what_is_inside_tls_is_inspected_as_it_is_in_the_clear() {
    for alpn in [&["imap", "x-other"][..], &[]] {
        let authority = e2e::pki::Authority::new("Servers");
        let config = tls_server(&authority.leaf(&["localhost"]), &alpn[..alpn.len().min(1)]);
        let (tell, told) = sync_channel(100);
        let addr = serve(move |socket| {
            let mut stream = accept(&config, socket);
            stream.write_all(b"<hello>").unwrap();
            tell.send(stream.conn.alpn_protocol().map(<[u8]>::to_vec)).unwrap();
            let mut buffer = [0; 1000];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                stream.write_all(&buffer[..read]).unwrap();
            }
        });
        let sni = format!("kind = \"sni\"\nport = {}\nprotocol = \"any\"", addr.port());
        for listener in [to(addr.port()), sni] {
            let mut setup = Setup::trusting(&listener, &authority);
            let client = tls_client(setup.connect(), &setup.gateway.authority(), alpn);
            talk(client);
            let chosen = told.recv_timeout(DEADLINE).unwrap();
            assert_eq!(chosen.as_deref(), alpn.first().map(|name| name.as_bytes()));
            let record = setup.ended("stream-blocked");
            assert_eq!(record["tls"]["alpn"].as_str(), alpn.first().copied(), "{record}");
        }
    }
}

#[test]
fn http_inside_tls_without_alpn_is_http_and_pages_say_what_is_wrong() {
    let authority = e2e::pki::Authority::new("Servers");
    let origin =
        e2e::Origin::https(&authority.leaf(&["localhost"]), |_, wire| wire.ok("text/plain", BAD));
    let setup = Setup::trusting(&to(origin.addr().port()), &authority);
    let other = Setup::target(origin.addr().port());
    for (setup, status) in [(setup, "403"), (other, "502")] {
        let mut client = tls_client(setup.connect(), &setup.gateway.authority(), &[]);
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let (answer, _) = read_all(&mut client);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[test]
fn half_of_a_tls_stream_may_end_before_the_other_and_none_in_silence() {
    let authority = e2e::pki::Authority::new("Servers");
    let config = tls_server(&authority.leaf(&["localhost"]), &[]);
    let (tell, told) = sync_channel(100);
    let addr = serve(move |socket| {
        let mut stream = accept(&config, socket);
        let (got, in_order) = read_all(&mut stream);
        let _ = stream.write_all(b"<all of it>");
        stream.conn.send_close_notify();
        let _ = stream.flush();
        tell.send((got, in_order)).unwrap();
    });
    let setup = Setup::trusting(&to(addr.port()), &authority);
    let mut client = tls_client(setup.connect(), &setup.gateway.authority(), &[]);
    client.write_all(b"<question>").unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert_eq!(read_all(&mut client), (b"<all of it>".to_vec(), true));
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (b"<question>".to_vec(), true));

    // Whoever does not say that it ends has its words delivered, and the other is not told that it did.
    let mut client = tls_client(setup.connect(), &setup.gateway.authority(), &[]);
    client.write_all(b"<question>").unwrap();
    client.flush().unwrap();
    client.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (b"<question>".to_vec(), false));
}

#[test]
fn tls_within_a_stream_is_cut() {
    let authority = e2e::pki::Authority::new("Servers");
    let config = tls_server(&authority.leaf(&["localhost"]), &[]);
    let (tell, told) = sync_channel(100);
    let addr = serve(move |mut socket| {
        socket.write_all(b"220 hello\r\n").unwrap();
        socket.read_exact(&mut [0; 10]).unwrap();
        socket.write_all(b"220 go on\r\n").unwrap();
        let mut stream = accept(&config, socket);
        tell.send(stream.write_all(b"<secret>").is_ok()).unwrap();
    });
    let mut setup = Setup::trusting(&to(addr.port()), &authority);
    let mut client = setup.connect();
    client.read_exact(&mut [0; 11]).unwrap();
    // No protocol in which they would agree on TLS with that.
    client.write_all(b"BEGINTLS\r\n").unwrap();
    client.read_exact(&mut [0; 11]).unwrap();
    let mut client = tls_client(client, &setup.gateway.authority(), &[]);
    assert!(client.read(&mut [0; 8]).is_err());
    assert!(!told.recv_timeout(DEADLINE).unwrap(), "no handshake");
    setup.ended("tls-inside");
}

#[test]
fn a_rule_for_what_is_inside_tls_is_asked_when_that_is_known() {
    let authority = e2e::pki::Authority::new("Servers");
    let config = tls_server(&authority.leaf(&["localhost"]), &[]);
    let addr = serve(move |socket| {
        let mut stream = accept(&config, socket);
        let _ = stream.write_all(b"<hello>");
        thread::sleep(Duration::from_secs(1));
    });
    let rules = "[[rule]]\nname = \"no streams\"\nprotocol = [\"tcp\"]\naction = \"block\"\n";
    let mut setup = Setup::trusting_with(&to(addr.port()), rules, &authority);
    let mut client = tls_client(setup.connect(), &setup.gateway.authority(), &[]);
    assert!(client.read(&mut [0; 8]).is_err(), "a reset");
    assert_eq!(setup.ended("blocked")["rule"], "no streams");
}
