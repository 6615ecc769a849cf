//! One client may fill its share, and the others are served and inspected as before.

use crate::common::{Client, EICAR, Request, Server, chunked, random};

const SETTINGS: &str = "workers = 1
[limits]
max_connections = 40
max_flows = 40
per_client_percent = 25
";
/// A quarter of each.
const SHARE: usize = 10;

fn of(client: &str, request: Request) -> Request {
    request.field("X-Client-IP", client)
}

/// A transaction of this client whose body stops half-way, once the server has held some of it.
fn stalled(server: &Server, client: &str) -> Client {
    let mut connection = server.connect();
    let body = random(400_000);
    let request = of(client, Request::get("/stalled", &body));
    connection.send(&request.head(connection.base()));
    connection.send(&chunked(&body[..200_000]));
    connection
}

#[test]
fn a_client_that_takes_all_it_can_leaves_the_others_served_and_inspected() {
    let server = Server::with_settings(SETTINGS, &[]);
    let (greedy, other) = ("10.0.0.1", "10.0.0.2");

    // Another client's request is there before, and waits for its response on its flow.
    let mut connection = server.connect();
    let head = "GET /kept HTTP/1.1\r\nHost: www.test\r\n\r\n";
    let kept = of(other, Request::reqmod(head)).connection("kept").allow_204();
    connection.ask(&kept).assert_unmodified();

    // Flows that wait for what never comes, three times as many as fit.
    let mut flood = server.connect();
    for n in 0..3 * SHARE {
        let id = format!("flood-{n}");
        let request = of(greedy, Request::reqmod(head)).connection(&id).allow_204();
        flood.ask(&request).assert_unmodified();
    }
    assert_eq!(server.metric("flows_unkept_total"), 2 * SHARE as u64);
    assert_eq!(server.metric("flows_displaced_total"), 0);

    // The longest heads, and bodies that stop half-way.
    let long = format!("GET /{} HTTP/1.1\r\nHost: www.test\r\n\r\n", "a".repeat(120_000));
    flood.ask(&of(greedy, Request::reqmod(long)).allow_204()).assert_unmodified();
    let bodies: Vec<_> = (0..SHARE).map(|_| stalled(&server, greedy)).collect();
    server.wait_until("bodies under way", || server.metric("held_bytes") == SHARE as u64 * 200_000);
    let refused = flood.ask(&of(greedy, Request::get("/more", b"more")));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(server.metric("over_share_total"), 1);
    assert_eq!(server.metric("transactions_total{outcome=\"failed\"}"), 1);

    // The others do not notice.
    let mut connection = server.connect();
    for client in [other, "2001:db8::1"] {
        let clean = random(100_000);
        connection.ask(&of(client, Request::get("/clean", &clean))).assert_passed(&clean);
        connection.ask(&of(client, Request::get("/eicar", EICAR))).assert_blocked(1_000_001);
    }
    let opened = server.metric("flows_opened_total");
    let kept = of(other, Request::get("/kept", b"kept")).connection("kept").allow_204();
    connection.ask(&kept).assert_unmodified();
    assert_eq!(server.metric("flows_opened_total"), opened, "its flow was still there");

    // What is given back can be had again.
    drop(bodies);
    server.wait_metric("held_bytes", 0);
    server.wait_until("room", || {
        let mut again = server.connect();
        again.ask(&of(greedy, Request::get("/again", b"again")).allow_204()).status == 204
    });
    let mut again = server.connect();
    again.ask(&of(greedy, Request::get("/eicar", EICAR))).assert_blocked(1_000_001);
}

#[test]
fn the_addresses_of_one_ipv6_network_share() {
    let server = Server::with_settings(SETTINGS, &[]);
    let bodies: Vec<_> = (0..SHARE).map(|n| stalled(&server, &format!("2001:db8::{n}"))).collect();
    server.wait_until("bodies under way", || server.metric("held_bytes") == SHARE as u64 * 200_000);
    let mut connection = server.connect();
    let more = Request::get("/more", b"more").allow_204();
    let refused = connection.ask(&of("2001:db8::ffff:1", more.clone()));
    assert_eq!(refused.status, 503, "{refused:?}");
    let mut connection = server.connect();
    connection.ask(&of("2001:db8:0:1::1", more)).assert_unmodified();
    drop(bodies);
}
