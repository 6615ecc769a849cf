//! Rules that look at what comes back: types of contents.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;

use support::icap::{Icap, Verdict};
use support::{Gateway, Origin, read_to_end, read_until};

/// An origin that gives every path the type that it names.
fn typed() -> Origin {
    Origin::start(|asked| {
        while let Some(head) = asked.head() {
            let path = head.split(' ').nth(1).unwrap();
            let types: String =
                path[1..].split('+').map(|t| format!("Content-Type: {t}\r\n")).collect();
            let answer = format!("HTTP/1.1 200 OK\r\n{types}Content-Length: 7\r\n\r\ncontent");
            asked.stream.write_all(answer.as_bytes()).unwrap();
        }
    })
}

fn ask(gateway: &Gateway, origin: &Origin, kind: &str) -> String {
    let host = origin.address;
    let url = origin.url(&format!("/{kind}"));
    let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    String::from_utf8(gateway.ask(request.as_bytes())).unwrap()
}

#[test]
fn the_type_of_a_response_decides_about_it() {
    let origin = typed();
    let (usual, special) = (Icap::start(|_| Verdict::Pass), Icap::start(|_| Verdict::Pass));
    let gateway = Gateway::start(&format!(
        "[[icap.service]]\nname = \"usual\"\nurl = \"icap://{}/u\"\n\
         [[icap.service]]\nname = \"special\"\nurl = \"icap://{}/s\"\n\
         [[icap.chain]]\nname = \"default\"\nservices = [\"usual\"]\n\
         [[icap.chain]]\nname = \"programs\"\nservices = [\"special\"]\n\
         [[rule]]\nname = \"no flash\"\ncontent_type = [\"*flash*\"]\naction = \"block\"\n\
         [[rule]]\nname = \"films\"\ncontent_type = [\"video/*\"]\naction = \"bypass\"\n\
         [[rule]]\nname = \"programs\"\ncontent_type = [\"application/x-program\"]\n\
         chain = \"programs\"\n",
        usual.address, special.address
    ));
    let seen = |service: &Icap, method: &str| {
        service.asked().iter().filter(|m| m.method == method).count()
    };

    let blocked = ask(&gateway, &origin, "application/x-shockwave-flash");
    assert!(blocked.starts_with("HTTP/1.1 403 "), "{blocked}");
    assert!(blocked.contains("no flash") && !blocked.contains("content\r\n"), "{blocked}");
    assert_eq!((seen(&usual, "REQMOD"), seen(&usual, "RESPMOD")), (1, 0));

    assert!(ask(&gateway, &origin, "video/mp4;x=y").ends_with("content"));
    assert_eq!((seen(&usual, "REQMOD"), seen(&usual, "RESPMOD")), (2, 0));

    assert!(ask(&gateway, &origin, "Application/X-Program").ends_with("content"));
    assert_eq!((seen(&usual, "RESPMOD"), seen(&special, "RESPMOD")), (0, 1));
    assert_eq!(seen(&special, "REQMOD"), 0);

    assert!(ask(&gateway, &origin, "text/html").ends_with("content"));
    assert_eq!((seen(&usual, "RESPMOD"), seen(&special, "RESPMOD")), (1, 1));

    // Of two types, the one that lets less pass counts.
    assert!(ask(&gateway, &origin, "video/mp4+text/html").ends_with("content"));
    assert_eq!(seen(&usual, "RESPMOD"), 2);
    assert!(ask(&gateway, &origin, "video/mp4,text/html").ends_with("content"));
    assert_eq!(seen(&usual, "RESPMOD"), 3);

    let records = gateway.transactions(6);
    assert_eq!(records[0]["outcome"], "refused");
    assert_eq!(records[0]["rule"], "no flash");
    assert_eq!(records[1]["rule"], "films");
    assert_eq!(records[1]["uninspected"], serde_json::json!(["bypass"]));
    assert_eq!(records[2]["rule"], "programs");
    assert!(records[3]["rule"].is_null() && records[3]["uninspected"].is_null());
}

#[test]
fn a_response_can_be_inspected_although_its_request_is_not() {
    let origin = typed();
    let service = Icap::start(|_| Verdict::Block);
    let gateway = Gateway::start(&format!(
        "{}[[rule]]\ncontent_type = [\"text/html\"]\n[[rule]]\naction = \"bypass\"\n",
        service.settings()
    ));
    assert!(ask(&gateway, &origin, "text/plain").ends_with("content"));
    assert!(ask(&gateway, &origin, "text/html").ends_with("blocked"));
    let asked = service.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].method, "RESPMOD");
}

/// Asks for a tunnel to `origin` and in it, in the clear, for `path` of `host`.
fn ask_as(gateway: &Gateway, origin: &Origin, host: &str, path: &str) -> String {
    let mut tcp = gateway.connect();
    let to = origin.address;
    write!(tcp, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").unwrap();
    let answer = read_until(&mut tcp, b"\r\n\r\n");
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    write!(tcp, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    String::from_utf8(read_to_end(&mut tcp)).unwrap()
}

#[test]
fn a_host_that_only_the_request_names_chooses_no_other_services() {
    let origin = typed();
    let (usual, light) = (Icap::start(|_| Verdict::Pass), Icap::start(|_| Verdict::Pass));
    let services = format!(
        "[[icap.service]]\nname = \"usual\"\nurl = \"icap://{}/u\"\n\
         [[icap.service]]\nname = \"light\"\nurl = \"icap://{}/l\"\n\
         [[icap.chain]]\nname = \"none\"\nservices = []\n\
         [[icap.chain]]\nname = \"light\"\nservices = [\"light\"]\n\
         [[icap.chain]]\nname = \"usual\"\nservices = [\"usual\"]\n",
        usual.address, light.address
    );
    let named =
        |chain: &str| format!("[[rule]]\nhost = [\"video.example\"]\nchain = \"{chain}\"\n");
    let own = |chain: &str| format!("[[rule]]\nhost = [\"127.0.0.1\"]\nchain = \"{chain}\"\n");
    for (rules, of_usual, of_light) in [
        (named("light") + &own("usual"), 1, 0),
        (named("none") + &own("usual"), 1, 0),
        (own("usual"), 1, 0),
        // A chain is stricter than none, whoever names it.
        (named("light") + &own("none"), 0, 1),
    ] {
        let default = "[[icap.chain]]\nname = \"default\"\nservices = []\n";
        let gateway = Gateway::start(&format!("{services}{default}{rules}"));
        let seen = || [&usual, &light].map(|s| s.asked().len());
        let before = seen();
        let answer = ask_as(&gateway, &origin, "video.example", "/text/html");
        assert!(answer.ends_with("content"), "{answer}");
        // Request and response.
        let expected = [before[0] + 2 * of_usual, before[1] + 2 * of_light];
        assert_eq!(seen(), expected, "{rules}");
    }

    // Of two types, one that no service is asked about does not hide the other.
    let gateway = Gateway::start(&format!(
        "{services}[[rule]]\ncontent_type = [\"video/*\"]\nchain = \"none\"\n\
         [[rule]]\nchain = \"usual\"\n"
    ));
    let before = usual.asked().len();
    assert!(ask(&gateway, &origin, "video/mp4+text/html").ends_with("content"));
    assert!(ask(&gateway, &origin, "text/html+video/mp4").ends_with("content"));
    assert_eq!(usual.asked().len(), before + 4);
}
