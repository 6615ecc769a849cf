//! What is not HTTP, through both programs (`protocol = "any"`): byte-identical, and a signature cut before
//! its last byte.

mod any_protocol;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use any_protocol::{BAD, SID, Setup, echo, read_all, serve, to};
use e2e::content;
use e2e::process::DEADLINE;

/// A server that tells of all that came on each of its connections, and of whether that ended in order.
fn recorder() -> (u16, Receiver<(Vec<u8>, bool)>) {
    let (tell, told) = sync_channel(100);
    let addr = serve(move |mut socket| tell.send(read_all(&mut socket)).unwrap());
    (addr.port(), told)
}

#[test]
fn bytes_pass_both_ways_and_each_direction_ends_by_itself() {
    let addr = serve(echo);
    let mut setup = Setup::target(addr.port());
    let sent = content::noise(1, 8 << 20);
    let mut client = setup.connect();
    let mut writing = client.try_clone().unwrap();
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        writing.write_all(b"hello there\n").unwrap();
        writing.write_all(&sent).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    let (got, in_order) = read_all(&mut client);
    writer.join().unwrap();
    assert!(in_order && got == [b"hello there\n", &expected[..]].concat());
    let record = setup.ended("stream-done");
    assert_eq!(record["bytes_from_client"], (8 << 20) + 12);
    assert_eq!(record["bytes_from_server"], (8 << 20) + 12);
    assert_eq!(record["target"], format!("127.0.0.1:{}", addr.port()));
    assert_eq!(setup.metric("meergate_streams_total{outcome=\"stream-done\"}"), 1);

    // The server ends first, and the client goes on.
    let (tell, told) = sync_channel(100);
    let addr = serve(move |mut socket| {
        socket.write_all(b"all that I have\n").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        tell.send(read_all(&mut socket)).unwrap();
    });
    let setup = Setup::target(addr.port());
    let mut client = setup.connect();
    assert_eq!(read_all(&mut client), (b"all that I have\n".to_vec(), true));
    client.write_all(&expected).unwrap();
    drop(client);
    let (got, in_order) = told.recv_timeout(DEADLINE).unwrap();
    assert!(in_order && got == expected);
}

#[test]
fn a_signature_is_cut_before_its_last_byte_either_way() {
    let (port, told) = recorder();
    let mut setup = Setup::target(port);
    let mut client = setup.connect();
    client.write_all(b"<hello>\n").unwrap();
    client.write_all(BAD).unwrap();
    let (got, in_order) = read_all(&mut client);
    assert!(got.is_empty() && !in_order, "a reset");
    let (got, in_order) = told.recv_timeout(DEADLINE).unwrap();
    assert!(!in_order, "a reset");
    assert!(got.len() < 8 + BAD.len(), "{}", got.escape_ascii());
    let record = setup.ended("stream-blocked");
    assert_eq!(
        (&record["block"]["signature_id"], &record["block"]["violations"]),
        (&SID.into(), &"planted".into())
    );
    setup.gateway.process.wait_for("the block", |line| {
        (line.contains("a stream is blocked") && line.contains(SID)).then_some(())
    });
    setup
        .inspector
        .wait_for_alert(SID.parse().unwrap(), |event| event["alert"]["action"] == "blocked");

    // From the server, in pieces.
    let (tell, told) = sync_channel(100);
    let addr = serve(move |mut socket| {
        socket.write_all(b"220 ready\n").unwrap();
        for byte in BAD {
            if socket.write_all(&[*byte]).is_err() {
                break;
            }
        }
        tell.send(read_all(&mut socket).1).unwrap();
    });
    let setup = Setup::target(addr.port());
    let (got, _) = read_all(&mut setup.connect());
    assert!(got.len() < 10 + BAD.len() && !got.ends_with(b"x"), "{}", got.escape_ascii());
    assert!(!told.recv_timeout(DEADLINE).unwrap(), "a reset");
}

#[test]
fn a_server_may_speak_first_after_a_pause_and_so_may_a_slow_client() {
    // A server that waits before it says anything, as some do against spam.
    let pause = std::env::var("MEERGATE_E2E_PAUSE").map_or(2, |s| s.parse().unwrap());
    let addr = serve(move |mut socket| {
        thread::sleep(Duration::from_secs(pause));
        socket.write_all(b"220 at last\r\n").unwrap();
        socket.read_exact(&mut [0; 6]).unwrap();
        socket.write_all(b"221 bye\r\n").unwrap();
        read_all(&mut socket);
    });
    let mut setup = Setup::target(addr.port());
    let mut client = setup.connect();
    let mut greeting = [0; 13];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 at last\r\n");
    client.write_all(b"QUIT\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), (b"221 bye\r\n".to_vec(), true));
    setup.ended("stream-done");

    // Here the pause is the client's, who types as people do.
    let setup = Setup::target(serve(echo).port());
    let mut client = setup.connect();
    for byte in *b"ls -l\n" {
        thread::sleep(Duration::from_millis(300));
        client.write_all(&[byte]).unwrap();
        let mut back = [0];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, [byte]);
    }
}

#[test]
fn http_goes_the_way_of_http_and_never_as_a_stream() {
    let origin = e2e::Origin::http(|request, wire| match request.target.as_str() {
        "/bad" => wire.ok("text/plain", BAD),
        _ => wire.ok("text/plain", b"fine"),
    });
    let rule = "[[rule]]\npath = [\"/secret\"]\naction = \"block\"\n";
    let mut setup = Setup::start(&to(origin.addr().port()), rule);
    let ask = |target: &str, pauses: bool| {
        let mut client = setup.connect();
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        if pauses {
            thread::sleep(Duration::from_millis(600));
        }
        client.write_all(head.as_bytes()).unwrap();
        String::from_utf8(read_all(&mut client).0).unwrap()
    };
    for pauses in [false, true] {
        assert!(ask("/", pauses).ends_with("\r\n\r\nfine"));
        assert!(ask("/bad", pauses).starts_with("HTTP/1.1 403"));
        assert!(ask("/secret", pauses).starts_with("HTTP/1.1 403"));
    }
    // Whoever pauses within the first line is taken for something else, and does not end it.
    for pieces in [
        ["GET /sec", "ret HTTP/1.1\r\nHost: a\r\n\r\n"],
        ["GET /secret HTTP/1.1", "\r\nHost: a\r\n\r\n"],
    ] {
        let mut client = setup.connect();
        client.write_all(pieces[0].as_bytes()).unwrap();
        thread::sleep(Duration::from_millis(600));
        // The engine may know it by its first half.
        let _ = client.write_all(pieces[1].as_bytes());
        assert!(read_all(&mut client).0.is_empty());
        setup.ended_by(&["http-inside", "stream-blocked"]);
    }
    assert!(origin.requests().iter().all(|request| !request.target.contains("secret")));

    // A server that speaks first does not have its client's request taken for something else.
    let (tell, told) = sync_channel(100);
    let addr = serve(move |mut socket| {
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        tell.send(read_all(&mut socket).0).unwrap();
    });
    let setup = Setup::target(addr.port());
    let mut client = setup.connect();
    // The engine knows it by its first line, and may be faster.
    let _ = client.read_exact(&mut [0; 8]);
    let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!read_all(&mut client).0.ends_with(b"\r\n\r\n"));
    assert!(told.recv_timeout(DEADLINE).unwrap().is_empty());
}

#[test]
fn a_listener_for_http_is_as_strict_as_ever() {
    let (port, told) = recorder();
    let strict = to(port).replace("\"any\"", "\"http\"");
    for listener in [&strict, &strict.replace("protocol = \"http\"", "")] {
        let mut setup = Setup::start(listener, "");
        for said in [&b"<hello>\n"[..], b"\0\0\0\x08\x04\xd2\x16\x2f"] {
            let mut client = setup.connect();
            client.write_all(said).unwrap();
            assert!(read_all(&mut client).0.is_empty());
            setup.ended("unknown-protocol");
        }
        let mut client = setup.connect();
        client.write_all(b"EHLO me\r\n\r\n").unwrap();
        let (answer, _) = read_all(&mut client);
        assert!(answer.starts_with(b"HTTP/1.1 505"), "{}", answer.escape_ascii());
    }
    assert!(told.try_recv().is_err(), "nobody was led to the server");
}

#[test]
fn rules_know_what_is_spoken() {
    let addr = serve(echo);
    let rules = "[[rule]]\nname = \"not here\"\nprotocol = [\"tcp\"]\naction = \"reset\"\n";
    let mut setup = Setup::start(&to(addr.port()), rules);
    let mut client = setup.connect();
    client.write_all(b"<hello>\n").unwrap();
    assert_eq!(read_all(&mut client), (Vec::new(), false));
    let record = setup.ended("reset");
    assert_eq!((&record["rule"], &record["action"]), (&"not here".into(), &"reset".into()));

    // What is bypassed is counted; what is HTTP is not bypassed with it.
    let rules = "[[rule]]\nprotocol = [\"tcp\"]\naction = \"bypass\"\n";
    let mut setup = Setup::start(&to(addr.port()), rules);
    let mut client = setup.connect();
    client.write_all(&[b"<", BAD].concat()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), ([b"<", BAD].concat(), true));
    setup.ended("bypassed");
    let bypassed = "meergate_uninspected_bytes_total{reason=\"bypass\",direction=\"to_server\"}";
    assert_eq!(setup.metric(bypassed), 1 + BAD.len() as u64);
    let mut client = setup.connect();
    write!(client, "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", BAD.escape_ascii()).unwrap();
    assert!(read_all(&mut client).0.starts_with(b"HTTP/1.1 403"));
}

#[test]
fn without_a_service_that_takes_streams_nothing_passes() {
    let (port, told) = recorder();
    for icap in ["[icap]\nurls = [\"ECHO\"]\n", "[icap]\nnone = true\n"] {
        let mut setup = Setup::start(&to(port), icap);
        let mut client = setup.connect();
        client.write_all(b"<hello>\n").unwrap();
        assert_eq!(read_all(&mut client), (Vec::new(), false));
        let record = setup.ended("not-inspected");
        assert!(record["detail"].as_str().unwrap().contains("add one that does"), "{record}");
        assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (Vec::new(), false));
        assert_eq!(setup.metric("meergate_streams_total{outcome=\"not-inspected\"}"), 1);
    }
}

#[test]
fn a_service_that_fails_fails_as_it_is_set() {
    let (port, told) = recorder();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let service = format!(
        "[[icap.service]]\nname = \"gone\"\nurl = \"icap://{gone}/suricata\"\nfail = \"FAIL\"\n\
         [[icap.chain]]\nname = \"default\"\nservices = [\"gone\"]\n"
    );
    let mut setup = Setup::start(&to(port), &service.replace("FAIL", "closed"));
    let mut client = setup.connect();
    client.write_all(b"<hello>\n").unwrap();
    assert_eq!(read_all(&mut client), (Vec::new(), false));
    setup.ended("not-inspected");
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (Vec::new(), false));

    let mut setup = Setup::start(&to(port), &service.replace("FAIL", "open"));
    let mut client = setup.connect();
    client.write_all(b"<hello>\n").unwrap();
    drop(client);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (b"<hello>\n".to_vec(), true));
    setup.ended("stream-done");
    let bypassed =
        "meergate_uninspected_bytes_total{reason=\"service-bypassed\",direction=\"to_server\"}";
    assert_eq!(setup.metric(bypassed), 8);
}

#[test]
fn an_engine_that_dies_passes_nothing_more() {
    let (tell, told) = sync_channel(100);
    let addr = serve(move |mut socket| {
        let mut first = [0; 9];
        socket.read_exact(&mut first).unwrap();
        tell.send((first.to_vec(), true)).unwrap();
        tell.send(read_all(&mut socket)).unwrap();
    });
    let mut setup = Setup::target(addr.port());
    let mut client = setup.connect();
    client.write_all(b"<before>\n").unwrap();
    assert_eq!(told.recv_timeout(DEADLINE).unwrap().0, b"<before>\n");
    setup.inspector.process.kill_group();
    let inspector = setup.inspector.addr();
    // The engine's process, which ends with its supervisor, has the listening socket too.
    setup
        .gateway
        .process
        .wait_until("all of the inspector to end", || TcpStream::connect(inspector).is_err());
    let sent = (0..1000).try_for_each(|_| client.write_all(&[b'y'; 1000]));
    assert!(sent.is_err() || !read_all(&mut client).1, "a reset");
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (Vec::new(), false));
    setup.ended("not-inspected");
}

#[test]
fn more_streams_than_a_service_takes_are_refused_and_counted() {
    let addr = serve(echo);
    let mut setup = Setup::with(&to(addr.port()), "", "[limits]\nmax_streams = 4\n");
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..4 {
        let mut client = setup.connect();
        client.write_all(b"<").unwrap();
        let mut back = [0];
        match client.read_exact(&mut back) {
            Ok(()) => open.push(client),
            Err(_) => break,
        }
    }
    // One client gets no more than it leaves to others.
    assert_eq!(open.len(), 2);
    let record = setup.ended("not-inspected");
    assert!(record["detail"].as_str().unwrap().contains("streams"), "{record}");
    assert_eq!(setup.metric("meergate_streams_total{outcome=\"not-inspected\"}"), 1);
    // Room comes back.
    drop(open.pop());
    setup.ended("stream-done");
    let mut client = setup.connect();
    client.write_all(b"<").unwrap();
    client.read_exact(&mut [0]).unwrap();
}
