//! What the engine's process needs is bounded by its settings, not by what passes through.

use std::io::Write;

use crate::common::{Client, Request, Server, chunked, random};

#[test]
fn memory_is_flat_over_many_small_transactions() {
    let server = Server::start(&["--workers", "1"]);
    let mut client = server.connect();
    let request = Request::get("/small", &random(1_000)).allow_204().bytes(client.base());
    let mut round = |n: usize| {
        for _ in 0..n {
            client.send(&request);
            client.reply().assert_unmodified();
        }
        server.engine_memory()
    };
    let first = round(3_000);
    let second = round(6_000);
    // A leak of 1.6 KB a transaction would be 9.6 MB.
    assert!(second < first + 3_000_000, "{first} bytes, then {second}");
}

/// What bodies may need, as the settings have it: hold and 256 KiB for each connection.
const BODIES: u64 = (1 << 20) + (256 << 10);
/// What else a flow with a body under way may need, mostly in Suricata: reassembly, and what rules look back at.
const ENGINE: u64 = 1280 << 10;

/// The length of a body; `MEERGATE_BODY_MIB` sets another one.
fn body_len() -> usize {
    let mib = std::env::var("MEERGATE_BODY_MIB").ok().and_then(|text| text.parse().ok());
    mib.unwrap_or(24) << 20
}

#[test]
fn many_long_bodies_at_once_stay_within_their_bound() {
    const TRANSFERS: u64 = 64;
    let server = Server::start(&[]);
    let before = peak(&server);
    let len = body_len();
    // Its end does not meet its beginning where bodies are cut.
    let pattern = random(65_521).repeat(2);
    std::thread::scope(|scope| {
        for _ in 0..TRANSFERS {
            let client = server.connect();
            scope.spawn(|| transfer(client, len, &pattern));
        }
    });
    let most = peak(&server);
    let bound = before + TRANSFERS * (BODIES + ENGINE);
    println!("{before} bytes before, {most} at most, of {bound}");
    assert!(most < bound, "{before} bytes before, {most} at most, of {bound}");
    assert_eq!(server.metric("inspected_bytes_total"), TRANSFERS * len as u64);
}

/// The most memory that the engine's process has ever occupied, in bytes.
fn peak(server: &Server) -> u64 {
    let status = server.engine_status();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Sends a body and has it come back, byte for byte.
fn transfer(mut client: Client, len: usize, pattern: &[u8]) {
    let period = pattern.len() / 2;
    // From the head of a request of that length; the body is not made.
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
    let request = Request::respmod("GET /long HTTP/1.1\r\nHost: www.test\r\n\r\n", head).body(b"");
    client.send(&request.head(client.base()));
    let mut writer = client.writer();
    let writing = std::thread::spawn({
        let pattern = pattern.to_vec();
        move || {
            let mut sent = 0;
            while sent < len {
                let piece = (len - sent).min(32 << 10);
                let from = sent % period;
                writer.write_all(&chunked(&pattern[from..from + piece])).unwrap();
                sent += piece;
            }
            writer.write_all(b"0\r\n\r\n").unwrap();
        }
    });
    let mut received = client.body_so_far(0).len();
    while received < len {
        for piece in client.more_body(1).chunks(period) {
            let from = received % period;
            assert!(*piece == pattern[from..from + piece.len()], "another byte came back");
            received += piece.len();
        }
    }
    assert!(client.rest_of_body().is_empty());
    writing.join().unwrap();
}
