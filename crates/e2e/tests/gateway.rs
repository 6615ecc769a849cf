//! What clients and origins see of the gateway while all of it is inspected.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use e2e::demo::sid;
use e2e::origin::{After, Request, Wire};
use e2e::{Curl, Gateway, Inspector, Origin, content, process};

struct Setup {
    gateway: Gateway,
    _inspector: Inspector,
}

impl Setup {
    fn start() -> Self {
        let inspector = Inspector::with_test_rules();
        let gateway = Gateway::start(["--icap", &inspector.url()]);
        Self { gateway, _inspector: inspector }
    }

    fn client(&self) -> Client {
        let socket = TcpStream::connect(self.gateway.proxy()).unwrap();
        socket.set_read_timeout(Some(process::DEADLINE)).unwrap();
        Client { stream: BufReader::new(socket) }
    }
}

/// The authority of a URL, for `Host`.
fn host(url: &str) -> &str {
    url.split('/').nth(2).unwrap()
}

/// A client of one connection that sends and reads bytes as they are.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn send(&mut self, bytes: &str) {
        self.stream.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// An answer's head, and its body by Content-Length.
    fn answer(&mut self) -> (String, Vec<u8>) {
        let head = self.head();
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, length)| length.trim().parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (head, body)
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.stream.read_line(&mut head).unwrap() > 0, "cut after {head:?}");
        }
        head
    }
}

fn plain(request: &Request, wire: &mut Wire<'_>) -> std::io::Result<After> {
    match request.target.as_str() {
        "/eicar" => wire.ok("text/plain", &content::eicar()),
        "/odd-head" => {
            wire.raw(b"HTTP/1.1 200 Fine Indeed\r\nsErver: x\r\nX-Z:1\r\nx-a:   two  \r\n")?;
            wire.raw(b"Content-Length: 2\r\n\r\nok")?;
            Ok(After::KeepAlive)
        }
        "/not-modified" => {
            wire.raw(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"1\"\r\n\r\n")?;
            Ok(After::KeepAlive)
        }
        "/big-head" => {
            let cookie = "c".repeat(20_000);
            wire.with_length("200 OK", &[("Set-Cookie", &cookie)], b"big")
        }
        "/echo" => wire.ok("application/octet-stream", &request.body),
        "/two-lengths" => {
            wire.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc")?;
            Ok(After::Close)
        }
        _ => wire.ok("text/plain", b"plain"),
    }
}

#[test]
fn transactions_of_a_kept_connection_are_each_inspected() {
    let setup = Setup::start();
    let origin = Origin::http(plain);
    let mut client = setup.client();
    let base = origin.url("");
    let get = |path| format!("GET {base}{path} HTTP/1.1\r\nHost: {}\r\n\r\n", host(&base));
    for _ in 0..20 {
        client.send(&get("/"));
        assert_eq!(client.answer().1, b"plain");
    }
    client.send(&get("/eicar"));
    let (head, page) = client.answer();
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(String::from_utf8_lossy(&page).contains(&sid::DOWNLOAD.to_string()));

    let mut client = setup.client();
    client.send(&(get("/") + &get("/odd-head") + &get("/")));
    for body in [&b"plain"[..], b"ok", b"plain"] {
        assert_eq!(client.answer().1, body, "pipelined requests are answered in order");
    }
}

#[test]
fn heads_stay_as_they_were_written() {
    let setup = Setup::start();
    let origin = Origin::http(plain);
    let mut client = setup.client();
    let url = origin.url("/odd-head");
    let lines = format!("hOST: {}\r\nX-b:2\r\nx-A:  1\r\nUser-Agent: a  b\r\n", host(&url));
    client.send(&format!("GET {url} HTTP/1.1\r\n{lines}\r\n"));
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 200 Fine Indeed\r\n"), "{head}");
    assert!(head.contains("sErver: x\r\nX-Z:1\r\nx-a:   two  \r\n"), "{head:?}");
    let asked = origin.requests();
    let asked = String::from_utf8_lossy(&asked[0].head).into_owned();
    assert!(asked.starts_with("GET /odd-head HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("X-b:2\r\nx-A:  1\r\nUser-Agent: a  b\r\n"), "{asked:?}");
}

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    let setup = Setup::start();
    let origin = Origin::http(plain);
    let mut client = setup.client();
    let base = origin.url("");
    let host = format!("Host: {}\r\n\r\n", host(&base));
    client.send(&format!("GET {} HTTP/1.1\r\n{host}", origin.url("/not-modified")));
    assert!(client.head().starts_with("HTTP/1.1 304"));
    client.send(&format!("GET {} HTTP/1.1\r\n{host}", origin.url("/big-head")));
    let (head, body) = client.answer();
    assert!(head.len() > 20_000 && body == b"big");
    client.send(&format!(
        "POST {} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n{host}",
        origin.url("/echo")
    ));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 100"), "{head}");
    client.send("body");
    assert_eq!(client.answer().1, b"body");
    client.send(&format!(
        "POST {} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{host}1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n",
        origin.url("/echo")
    ));
    assert_eq!(client.answer().1, b"abc");
}

#[test]
fn messages_that_can_be_read_in_two_ways_go_no_further() {
    let setup = Setup::start();
    let origin = Origin::http(plain);
    let url = origin.url("/echo");
    for fields in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length : 3\r\n",
        "Content-Length: +3\r\n",
        "X: a\r\n b\r\n",
        "X: a\rb\r\n",
        "Transfer-Encoding: gzip\r\n",
    ] {
        let mut client = setup.client();
        client.send(&format!("POST {url} HTTP/1.1\r\nHost: {}\r\n{fields}\r\nabc", host(&url)));
        let head = client.head();
        assert!(
            head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 501"),
            "{fields:?}: {head}"
        );
    }
    assert_eq!(origin.requests().len(), 0);
    let mut client = setup.client();
    let url = origin.url("/two-lengths");
    client.send(&format!("GET {url} HTTP/1.1\r\nHost: {}\r\n\r\n", host(&url)));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
}

#[test]
fn the_engine_sees_the_true_addresses_of_ipv6() {
    const LOOPBACK: &str = "0000:0000:0000:0000:0000:0000:0000:0001";
    let mut inspector = Inspector::with_test_rules();
    let gateway = Gateway::start_at("[::1]:0", ["--icap", &inspector.url()]);
    let origin = Origin::http_ipv6(plain);
    let server = origin.addr().port();
    let fetched = Curl::through(gateway.proxy()).run(&format!("http://[::1]:{server}/eicar"));
    fetched.expect_status(403);
    let event = inspector.wait_for_alert(sid::DOWNLOAD, |_| true);
    let (source, destination) = (&event["src_port"], &event["dest_port"]);
    assert_eq!((source, destination), (&server.into(), &fetched.local_port.into()), "{event}");
    assert_eq!((&event["src_ip"], &event["dest_ip"]), (&LOOPBACK.into(), &LOOPBACK.into()));
}

#[test]
fn a_client_and_an_origin_of_different_families_are_inspected() {
    let setup = Setup::start();
    let origin = Origin::http_ipv6(plain);
    let url = |path| format!("http://[::1]:{}{path}", origin.addr().port());
    let curl = Curl::through(setup.gateway.proxy());
    curl.run(&url("/eicar")).expect_status(403);
    curl.run(&url("/")).expect_body(b"plain");
}

#[test]
fn an_origin_that_breaks_off_is_not_taken_for_complete() {
    let setup = Setup::start();
    let origin = Origin::http(|_, wire| {
        wire.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")?;
        Ok(After::Abort)
    });
    let fetched = Curl::through(setup.gateway.proxy()).run(&origin.url("/"));
    assert!(fetched.exit != 0 || fetched.status == 502, "{} {}", fetched.exit, fetched.heads);
}
