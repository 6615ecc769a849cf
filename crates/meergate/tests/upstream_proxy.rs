//! Origins that are reached through other proxies.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;

use support::h2::{self, get, handler, soon};
use support::{Asked, Gateway, Origin};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
/// alice:geheim
const AUTHORIZATION: &str = "Proxy-Authorization: Basic YWxpY2U6Z2VoZWlt\r\n";

fn settings(kind: &str, proxy: &Origin, more: &str) -> String {
    format!(
        "[upstream]\nproxy = \"up\"\n{more}\n[[upstream_proxy]]\nname = \"up\"\n\
         url = \"{kind}://{}\"\nuser = \"alice\"\npassword = \"geheim\"\n",
        proxy.address
    )
}

fn ask(gateway: &Gateway, url: &str) -> String {
    let host = url.trim_start_matches("http://").split('/').next().unwrap();
    let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    String::from_utf8(gateway.ask(request.as_bytes())).unwrap()
}

/// Relays between a proxy's client and `to` to the end of both.
fn relay(asked: &mut Asked, to: SocketAddr) {
    let mut far = TcpStream::connect(to).unwrap();
    let (mut near, mut back) = (asked.stream.try_clone().unwrap(), far.try_clone().unwrap());
    let down = thread::spawn(move || {
        let _ = copy(&mut back, &mut near);
        let _ = near.shutdown(Shutdown::Write);
    });
    let _ = copy(&mut asked.stream, &mut far);
    let _ = far.shutdown(Shutdown::Write);
    down.join().unwrap();
}

/// A SOCKS5 proxy that insists on alice and leads everybody to `to`.
fn socks_proxy(to: impl Fn() -> SocketAddr + Send + Sync + 'static) -> Origin {
    Origin::start(move |asked| {
        let methods = usize::from(asked.exactly(2).unwrap()[1]);
        assert!(asked.exactly(methods).unwrap().contains(&2), "no password is offered");
        asked.stream.write_all(&[5, 2]).unwrap();
        let given = asked.exactly(b"\x01\x05alice\x06geheim".len()).unwrap();
        asked.stream.write_all(&[1, u8::from(given != b"\x01\x05alice\x06geheim")]).unwrap();
        let kind = asked.exactly(4).unwrap()[3];
        let length = match kind {
            1 => 4,
            3 => usize::from(asked.exactly(1).unwrap()[0]),
            _ => 16,
        };
        asked.exactly(length + 2).unwrap();
        // A bound address of another kind, which must be read to its end.
        asked.stream.write_all(b"\x05\x00\x00\x03\x04host\x00\x50").unwrap();
        relay(asked, to());
    })
}

#[test]
fn plain_requests_go_to_http_proxies_with_absolute_targets() {
    let proxy = Origin::answering(OK);
    let gateway = Gateway::start(&settings("http", &proxy, ""));
    // Only the proxy knows the name.
    let answer = ask(&gateway, "http://name.invalid/a?b");
    assert!(answer.ends_with("hello"), "{answer}");
    let seen = String::from_utf8(proxy.seen().concat()).unwrap();
    assert!(seen.starts_with("GET http://name.invalid/a?b HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains(AUTHORIZATION), "{seen}");
}

#[test]
fn a_proxy_that_asks_for_a_user_asks_nobody_else() {
    let proxy = Origin::answering(
        "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"up\"\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = Gateway::start(&settings("http", &proxy, ""));
    let answer = ask(&gateway, "http://name.invalid/");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(!answer.contains("Proxy-Authenticate"), "{answer}");
    let record = &gateway.transactions(1)[0];
    assert_eq!(record["outcome"], "origin-unreachable");
}

#[test]
fn rules_choose_the_way() {
    let proxy = Origin::answering(OK);
    let direct = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ndirect");
    let rule = "[[rule]]\naddress = [\"127.0.0.0/8\"]\nupstream_proxy = \"direct\"\n";
    let gateway = Gateway::start(&settings("http", &proxy, rule));
    assert!(ask(&gateway, &direct.url("/")).ends_with("direct"));
    assert!(ask(&gateway, "http://name.invalid/").ends_with("hello"));
    assert!(proxy.seen().concat().starts_with(b"GET http://name.invalid/"));
}

#[test]
fn socks_proxies_get_names_and_passwords() {
    let origin = Origin::answering(OK);
    let address = origin.address;
    let proxy = socks_proxy(move || address);
    let gateway = Gateway::start(&settings("socks5", &proxy, ""));
    assert!(ask(&gateway, "http://name.invalid:8080/x").ends_with("hello"));
    let asked = proxy.seen().concat();
    let wanted = b"\x05\x01\x00\x03\x0cname.invalid\x1f\x90";
    assert!(asked.windows(wanted.len()).any(|w| w == wanted), "{asked:?}");
    assert!(origin.seen().concat().starts_with(b"GET /x HTTP/1.1\r\n"));
}

#[test]
fn a_proxy_that_refuses_is_named_on_a_page() {
    let proxy = Origin::start(|asked| {
        asked.exactly(2).unwrap();
        asked.stream.write_all(&[5, 0xff]).unwrap();
    });
    let gateway = Gateway::start(&settings("socks5", &proxy, ""));
    let answer = ask(&gateway, "http://name.invalid/");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("it takes no password"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_through_tunnels() {
    let origin = h2::Origin::start(
        usize::MAX,
        handler(|_, mut respond| async move {
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            h2::send(&mut stream, "through".into(), true).await;
        }),
    )
    .await;
    let to = origin.address;
    for kind in ["http", "socks5"] {
        let proxy = match kind {
            "http" => Origin::start(move |asked| {
                let head = asked.head().unwrap();
                assert!(head.starts_with(&format!("CONNECT localhost:{} HTTP/1.1", to.port())));
                assert!(head.contains(AUTHORIZATION), "{head}");
                let fine = b"HTTP/1.1 200 Fine\r\nX: y\r\n\r\n";
                asked.stream.write_all(fine).unwrap();
                relay(asked, to);
            }),
            _ => socks_proxy(move || to),
        };
        let dir = tempfile::tempdir().unwrap();
        let trust = origin.settings(dir.path());
        let before = origin.streams.load(Ordering::SeqCst);
        let more = trust.replace("[upstream]\n", "");
        let gateway = Gateway::start(&settings(kind, &proxy, &more));
        let client = h2::connect(&gateway, &origin).await;
        let answer = soon("the answer", get(&client, &origin, "/")).await.unwrap();
        assert_eq!(answer, (200, b"through".to_vec()), "{kind}");
        assert_eq!(origin.streams.load(Ordering::SeqCst), before + 1);
        assert_eq!(proxy.seen().len(), 1, "{kind}: one tunnel for the connection");
    }
}

#[test]
fn what_is_bypassed_goes_through_a_tunnel_too() {
    // Its server speaks first, so that its words come with the proxy's answer.
    let proxy = Origin::start(|asked| {
        assert!(asked.head().unwrap().starts_with("CONNECT mail.invalid:25 "));
        asked.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n220 hello\r\n").unwrap();
        assert_eq!(asked.exactly(6).unwrap(), b"QUIT\r\n");
    });
    let rule = "[[rule]]\naction = \"bypass\"\n";
    let gateway = Gateway::start(&settings("http", &proxy, rule));
    let mut client = gateway.connect();
    client.write_all(b"CONNECT mail.invalid:25 HTTP/1.1\r\nHost: mail.invalid:25\r\n\r\n").unwrap();
    let answer = support::read_until(&mut client, b"\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 hello\r\n");
    client.write_all(b"QUIT\r\n").unwrap();
    assert_eq!(support::read_to_end(&mut client), b"");
}

/// Asks for a tunnel to `to` and in it, in the clear, with these bytes.
fn ask_inside(gateway: &Gateway, to: &str, request: &str) -> String {
    let mut tcp = gateway.connect();
    write!(tcp, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").unwrap();
    let answer = support::read_until(&mut tcp, b"\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    tcp.write_all(request.as_bytes()).unwrap();
    String::from_utf8(support::read_to_end(&mut tcp)).unwrap()
}

#[test]
fn a_proxy_is_asked_for_what_rules_were_asked_about() {
    for (to, line, host, wanted) in [
        ("ok.example:80", "/x", "ok.example", "http://ok.example/x"),
        // Not the client's word for the port.
        ("ok.example:80", "/x", "ok.example:25", "http://ok.example/x"),
        ("ok.example:8080", "/x", "ok.example", "http://ok.example:8080/x"),
        ("192.0.2.1:8080", "/x", "Ok.Example:8080", "http://ok.example:8080/x"),
        ("[2001:db8::1]:80", "/", "[2001:db8::1]", "http://[2001:db8::1]/"),
        ("ok.example:80", "http://ok.example/x?y", "ok.example", "http://ok.example/x?y"),
        ("ok.example:80", "http://ok.example?y", "ok.example", "http://ok.example/?y"),
    ] {
        let proxy = Origin::answering(OK);
        let gateway = Gateway::start(&settings("http", &proxy, ""));
        let request = format!("GET {line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = ask_inside(&gateway, to, &request);
        assert!(answer.ends_with("hello"), "{to} {line}: {answer}");
        let seen = String::from_utf8(proxy.seen().concat()).unwrap();
        let authority = wanted[7..].split(['/', '?']).next().unwrap();
        assert!(seen.starts_with(&format!("GET {wanted} HTTP/1.1\r\n")), "{seen}");
        assert!(seen.contains(&format!("\r\nHost: {authority}\r\n")), "{seen}");
    }
}

#[test]
fn rules_look_at_the_host_that_a_proxy_is_asked_for() {
    let proxy = Origin::answering(OK);
    let rules = "[[rule]]\naddress = [\"10.0.0.0/8\"]\naction = \"block\"\n\
                 [[rule]]\naddress = [\"192.0.2.0/24\"]\naction = \"bypass\"\n";
    let gateway = Gateway::start(&settings("http", &proxy, rules));
    let ask = |to, host| {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        ask_inside(&gateway, to, &request)
    };
    assert!(ask("ok.example:80", "10.0.0.5").starts_with("HTTP/1.1 403 "));
    assert!(ask("ok.example:80", "10.0.0.5:25").starts_with("HTTP/1.1 403 "));
    // A host that rules cannot be asked about is not asked for.
    assert!(ask("ok.example:80", "0x0a000005").starts_with("HTTP/1.1 400 "));
    assert!(proxy.seen().concat().is_empty());

    // What is allowed for an address is not for a host that is elsewhere.
    assert!(ask("192.0.2.1:80", "192.0.2.1").ends_with("hello"));
    assert!(ask("192.0.2.1:80", "other.example").ends_with("hello"));
    let reasons: Vec<_> =
        gateway.transactions(5)[3..].iter().map(|r| r["uninspected"].clone()).collect();
    assert_eq!(reasons, [serde_json::json!(["bypass"]), serde_json::json!(["no-service"])]);
}
