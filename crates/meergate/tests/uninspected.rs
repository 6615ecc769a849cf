//! What no service has seen is counted to the byte, and in the record of its transaction, however
//! that ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers fail the test that calls them"
)]

mod program;
mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use program::Program;
use serde_json::{Value, json};
use support::h2::{handler, request, send, soon};
use support::icap::{Icap, Verdict};
use support::{Gateway, Origin, connect, read_to_end, read_until, wait_for};

/// Content bytes that a client has read before it goes.
const ENOUGH: usize = 256 * 1024;

const REQUEST_HEAD: &str = "POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
const REQUEST_TRAILERS: &str = "X-Sum: 1\r\n";
const RESPONSE_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n";
const RESPONSE_TRAILERS: &str = "X-Sum-Of-It: 22\r\n";

/// Bytes of the request and of the response that [`exchange`] sends, without what delimits them.
const REQUEST: u64 = (REQUEST_HEAD.len() + 5 + REQUEST_TRAILERS.len()) as u64;
const RESPONSE: u64 = (RESPONSE_HEAD.len() + 3 + RESPONSE_TRAILERS.len()) as u64;

fn origin() -> Origin {
    Origin::start(|asked| {
        asked.head();
        while !asked.seen().ends_with(b": 1\r\n\r\n") {
            if asked.read().is_none() {
                return;
            }
        }
        let answer = format!("{RESPONSE_HEAD}3\r\nabc\r\n0\r\n{RESPONSE_TRAILERS}\r\n");
        asked.stream.write_all(answer.as_bytes()).unwrap();
    })
}

/// One request and its response, with contents and trailers; the transaction's record.
fn exchange(gateway: &Gateway, origin: &Origin) -> Value {
    let mut stream = gateway.connect();
    let o = origin.address;
    write!(stream, "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\n\r\n").unwrap();
    read_until(&mut stream, b"\r\n\r\n");
    // At once: of a message that has not come whole the service is not offered a 204, and what it
    // sends back instead is without the trailers that it did not ask for.
    let request = format!("{REQUEST_HEAD}5\r\nhello\r\n0\r\n{REQUEST_TRAILERS}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    read_until(&mut stream, b": 22\r\n\r\n");
    let mut records = gateway.transactions(1);
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

fn unseen(gateway: &Gateway, reason: &str, direction: &str) -> u64 {
    gateway.metric(&format!(
        "meergate_uninspected_bytes_total{{reason=\"{reason}\",direction=\"{direction}\"}}"
    ))
}

/// Settings for one service with these keys, which everything goes to.
fn service(address: SocketAddr, keys: &str) -> String {
    format!(
        "[[icap.service]]\nname = \"s\"\nurl = \"icap://{address}/s\"\n{keys}\n\
         [[icap.chain]]\nname = \"default\"\nservices = [\"s\"]\n"
    )
}

#[test]
fn messages_that_no_service_took_part_in_are_counted_whole() {
    let icap = Icap::start(|_| Verdict::Pass);
    let with = |keys: &str| service(icap.address, keys);
    let chain = |rule: &str| {
        let service = with("");
        format!("{service}[[icap.chain]]\nname = \"none\"\nservices = []\n[[rule]]\n{rule}\n")
    };
    // A port that was free a moment ago may be that of another test by now; nobody serves this one.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let none = Some("no-service");
    for (settings, of_request, of_response) in [
        (with(""), None, None),
        (String::new(), none, none),
        (with("methods = [\"reqmod\"]"), None, none),
        (with("methods = [\"respmod\"]"), none, None),
        (with("monitor = true"), none, none),
        (with("only = [{ host = [\"b.test\"] }]"), none, none),
        (with("except = [{ content_type = [\"image/*\"] }]"), None, none),
        (with("only = [{ max_size = 2 }]"), none, none),
        (chain("chain = \"none\""), none, none),
        (chain("path = [\"/a\"]\naction = \"bypass\""), Some("bypass"), Some("bypass")),
        (service(nobody, "fail = \"open\""), Some("service-bypassed"), Some("service-bypassed")),
    ] {
        let gateway = Gateway::start(&settings);
        let record = exchange(&gateway, &origin());
        let mut reasons: Vec<_> = [of_request, of_response].into_iter().flatten().collect();
        reasons.dedup();
        let expected = if reasons.is_empty() { Value::Null } else { json!(reasons) };
        assert_eq!(record["uninspected"], expected, "{settings}\n{record}");
        for reason in ["no-service", "bypass", "service-bypassed"] {
            let bytes = |of, all| if of == Some(reason) { all } else { 0 };
            assert_eq!(
                (unseen(&gateway, reason, "to_server"), unseen(&gateway, reason, "to_client")),
                (bytes(of_request, REQUEST), bytes(of_response, RESPONSE)),
                "{reason}: {settings}"
            );
        }
        // Of contents alone.
        assert_eq!(
            (&record["bytes_to_server"], &record["bytes_to_client"]),
            (&json!(5), &json!(3))
        );
    }
}

#[test]
fn interim_responses_are_in_the_record() {
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let origin = Origin::answering(format!("{hints}HTTP/1.1 204 No Content\r\n\r\n"));
    let host = origin.address;
    let asked = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    gateway.ask(asked.as_bytes());
    assert_eq!(gateway.transactions(1)[0]["uninspected"], json!(["interim"]));
    assert_eq!(unseen(&gateway, "interim", "to_client"), hints.len() as u64);
}

#[test]
fn a_page_of_ours_is_not_uninspected() {
    let gateway = Gateway::start("[[rule]]\npath = [\"/a\"]\naction = \"bypass\"\n");
    // A port that was free a moment ago may be that of another test by now; nobody serves this one.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let request = format!("GET http://{nobody}/a HTTP/1.1\r\nHost: {nobody}\r\n\r\n");
    let mut stream = gateway.connect();
    stream.write_all(request.as_bytes()).unwrap();
    read_until(&mut stream, b"\r\n\r\n");
    let record = &gateway.transactions(1)[0];
    assert_eq!((&record["status"], &record["uninspected"]), (&json!(502), &Value::Null));
    assert_eq!(unseen(&gateway, "bypass", "to_client"), 0);
}

/// An HTTP/2 connection through the proxy that ends with the task.
async fn connection(
    gateway: &Gateway,
    origin: &support::h2::Origin,
) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let tls = support::h2::tls(gateway, origin, &[b"h2"]).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(64 << 20);
    let (sender, connection) = builder.handshake::<_, Bytes>(tls).await.unwrap();
    let task = tokio::spawn(async move { drop(connection.await) });
    (sender.ready().await.unwrap(), task)
}

/// Cuts the connection without a word.
async fn cut(task: tokio::task::JoinHandle<()>) {
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
}

fn only_record(gateway: &Gateway) -> Value {
    let mut records = gateway.transactions(1);
    assert_eq!(records.len(), 1, "{records:?}");
    let ended = "meergate_transactions_total{protocol=\"h2\",outcome=\"client-gone\"}";
    assert_eq!(gateway.metric(ended), 1);
    records.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_with_its_connection_is_counted() {
    // Much more than the windows on its way can hold.
    let film = handler(|_, mut respond| async move {
        let Ok(mut stream) = respond.send_response(http::Response::new(()), false) else { return };
        send(&mut stream, Bytes::from(vec![b'f'; 64 << 20]), true).await;
    });
    let origin = support::h2::Origin::start(1, film).await;
    let rule = "[[rule]]\npath = [\"/film\"]\naction = \"bypass\"\n";
    let (gateway, _dir) = support::h2::gateway(&origin, rule);
    let (mut sender, task) = connection(&gateway, &origin).await;
    let (response, _) = sender.send_request(request(&origin, "GET", "/film"), true).unwrap();
    let mut body = soon("the head", response).await.unwrap().into_body();
    let mut read = 0;
    while read < ENOUGH {
        let data = soon("content", body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read += data.len();
    }
    cut(task).await;
    let record = only_record(&gateway);
    assert_eq!(
        (&record["outcome"], &record["uninspected"], &record["status"]),
        (&json!("client-gone"), &json!(["bypass"]), &json!(200)),
    );
    let to_client = record["bytes_to_client"].as_u64().unwrap();
    assert!(to_client >= read as u64, "{record}");
    let counted = unseen(&gateway, "bypass", "to_client");
    assert!(counted > to_client && counted < to_client + 100, "{counted}: {record}");
    assert!(unseen(&gateway, "bypass", "to_server") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_cut_with_its_connection_is_counted() {
    let echo = handler(|request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            send(&mut stream, data, false).await;
        }
    });
    let origin = support::h2::Origin::start(1, echo).await;
    let icap = Icap::start(|_| Verdict::Pass);
    let (gateway, _dir) = support::h2::gateway(&origin, &icap.settings());
    let (mut sender, task) = connection(&gateway, &origin).await;
    wait_for("extended CONNECT", || sender.is_extended_connect_protocol_enabled().then_some(()));
    let mut asked = request(&origin, "CONNECT", "/chat");
    asked.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, mut stream) = sender.send_request(asked, false).unwrap();
    let mut body = soon("the head", response).await.unwrap().into_body();
    send(&mut stream, Bytes::from_static(b"frame"), false).await;
    assert_eq!(soon("an echo", body.data()).await.unwrap().unwrap(), "frame");
    cut(task).await;
    let record = only_record(&gateway);
    assert_eq!(
        (&record["outcome"], &record["uninspected"]),
        (&json!("client-gone"), &json!(["upgrade"])),
    );
    // The request's head was inspected, the response's was not.
    assert_eq!(unseen(&gateway, "upgrade", "to_server"), 5);
    let head = "HTTP/1.1 200 OK\r\n\r\n".len() as u64;
    assert!(unseen(&gateway, "upgrade", "to_client") >= head + 5);
}

#[test]
fn what_is_cut_when_the_program_ends_is_in_the_log() {
    let origin = Origin::start(|asked| {
        asked.head();
        asked.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst").unwrap();
        while asked.read().is_some() {}
    });
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("transactions.log");
    let mut program = Program::start(&format!(
        "log.transactions = {log:?}\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [limits]\nshutdown_timeout = \"1h\"\n"
    ));
    let mut stream: TcpStream = connect(program.at("proxy"));
    write!(stream, "GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address).unwrap();
    read_until(&mut stream, b"first");
    program.signal("TERM");
    program.wait_for_log("stopping", 1);
    program.signal("TERM");
    assert!(program.wait_for_end());
    read_to_end(&mut stream);
    let text = std::fs::read_to_string(&log).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&record["outcome"], &record["uninspected"], &record["bytes_to_client"]),
        (&json!("stopped"), &json!(["no-service"]), &json!(5)),
    );
}

/// Services before the one that changes a message have not seen what goes on.
#[test]
fn what_a_later_service_made_of_a_message_is_counted() {
    let first = Icap::start(|_| Verdict::Pass);
    let later = Icap::start(|message| {
        let mut other = message.body.clone();
        if let Some(last) = other.last_mut() {
            *last ^= 1;
        }
        let is_response = message.method == "RESPMOD";
        let path = message.heads.split(' ').nth(1).unwrap();
        match path.rsplit('/').next().unwrap() {
            "pass" => Verdict::Pass,
            "request" if !is_response => Verdict::Content(other),
            "response" if is_response => Verdict::Content(other),
            "longer" if is_response => Verdict::Content([&other[..], b"more"].concat()),
            "head" if is_response => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n";
                Verdict::Answer(head.to_owned(), message.body.clone())
            }
            "block" if is_response => Verdict::Block,
            _ => Verdict::Echo,
        }
    });
    let settings = |services: &str| {
        format!(
            "[[icap.service]]\nname = \"first\"\nurl = \"icap://{}/f\"\n\
             [[icap.service]]\nname = \"later\"\nurl = \"icap://{}/l\"\n\
             [[icap.chain]]\nname = \"default\"\nservices = [{services}]\n",
            first.address, later.address
        )
    };
    let origins = [
        "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            300_000,
            "a".repeat(300_000)
        ),
    ];
    for answer in origins {
        let origin = Origin::answering(answer);
        for (services, counts) in [("\"first\", \"later\"", true), ("\"later\", \"first\"", false)]
        {
            for (path, late) in [
                ("pass", None),
                ("same", None),
                ("request", Some("to_server")),
                ("response", Some("to_client")),
                ("longer", Some("to_client")),
                ("head", Some("to_client")),
                ("block", None),
            ] {
                let gateway = Gateway::start(&settings(services));
                let o = origin.address;
                let request = format!(
                    "POST http://{o}/{path} HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\
                     Content-Length: 3\r\n\r\nabc"
                );
                gateway.ask(request.as_bytes());
                let record = &gateway.transactions(1)[0];
                let late = late.filter(|_| counts);
                let reasons = if late.is_some() { json!(["late-change"]) } else { Value::Null };
                assert_eq!(record["uninspected"], reasons, "{services} {path}: {record}");
                for direction in ["to_server", "to_client"] {
                    let counted = unseen(&gateway, "late-change", direction) > 0;
                    assert_eq!(counted, late == Some(direction), "{services} {path}");
                }
            }
        }
    }
}

/// What stands in the place of a part, or of coded content, is neither.
#[test]
fn pages_of_services_are_no_parts_and_not_coded() {
    let icap = Icap::start(|message| match message.method == "RESPMOD" {
        true => Verdict::Block,
        false => Verdict::Pass,
    });
    for fields in
        ["206 Partial Content\r\nContent-Range: bytes 0-4/9", "200 OK\r\nContent-Encoding: x"]
    {
        let origin =
            Origin::answering(format!("HTTP/1.1 {fields}\r\nContent-Length: 5\r\n\r\nhello"));
        let settings = service(icap.address, "");
        let gateway = Gateway::start(&format!("{settings}[http]\nother_codings = \"pass\"\n"));
        let o = origin.address;
        let request = format!("GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n");
        assert!(String::from_utf8_lossy(&gateway.ask(request.as_bytes())).contains("blocked"));
        let record = &gateway.transactions(1)[0];
        assert_eq!(record["uninspected"], Value::Null, "{record}");
    }
}
