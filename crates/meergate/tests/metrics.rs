//! What the metrics page says of ICAP services.

mod support;

use support::icap::{Icap, Verdict};
use support::{Gateway, Origin};

#[test]
fn trailers_that_a_service_does_not_read_are_uninspected() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         2\r\nok\r\n0\r\nX-Total: 12\r\n\r\n",
    );
    let icap = Icap::start(|_| Verdict::Pass);
    let gateway = Gateway::start(&icap.settings());
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
         Connection: close, TE\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        origin.url("/"),
        origin.address
    );
    let answer = String::from_utf8(gateway.ask(request.as_bytes())).unwrap();
    assert!(answer.contains("X-Total: 12"), "{answer}");
    gateway.transactions(1);
    let uninspected = |direction| {
        let labels = format!("reason=\"trailers\",direction=\"{direction}\"");
        gateway.metric(&format!("meergate_uninspected_bytes_total{{{labels}}}"))
    };
    assert_eq!(uninspected("to_server"), "X-Sum: 1\r\n".len() as u64);
    assert_eq!(uninspected("to_client"), "X-Total: 12\r\n".len() as u64);
    let service = format!("{{service=\"icap://{}/test\"}}", icap.address);
    assert_eq!(gateway.metric(&format!("meergate_icap_passed_total{service}")), 2);
    assert_eq!(gateway.metric(&format!("meergate_icap_options_total{service}")), 1);
    assert_eq!(gateway.metric(&format!("meergate_icap_active{service}")), 0);
}
