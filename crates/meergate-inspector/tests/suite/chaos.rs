//! Many clients at once, none of them tidy, while rules change, engines die and memory is short.
//!
//! Whatever happens: a planted signature never passes, and what passes is what was sent.
//! `MEERGATE_CHAOS_SECONDS` says how long each of the three lasts that have no end of their own; 6 by
//! default, 100 in `make test`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::common::{Client, Dice, EICAR, RULES, Reply, Request, Server, random};

#[derive(Default)]
struct Tally {
    passed: AtomicU64,
    blocked: AtomicU64,
    failed: AtomicU64,
    aborted: AtomicU64,
}

impl Tally {
    fn all(&self) -> [u64; 4] {
        [&self.passed, &self.blocked, &self.failed, &self.aborted].map(|n| n.load(Relaxed))
    }
}

fn seconds() -> Duration {
    let set = std::env::var("MEERGATE_CHAOS_SECONDS").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(set.unwrap_or(6))
}

/// Ends the clients, also when the test fails meanwhile.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Runs `clients` threads until the time is up; `meanwhile` is called over and over.
fn run(server: &Server, clients: u64, mut meanwhile: impl FnMut()) -> Arc<Tally> {
    let tally = Arc::new(Tally::default());
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let end_of_all = Stop(stop.clone());
        let threads: Vec<_> = (0..clients)
            .map(|seed| {
                let (tally, stop) = (tally.clone(), stop.clone());
                let icap = server.icap();
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    let mut client = Client::connect(icap);
                    while !stop.load(Relaxed) {
                        if !transact(&mut client, &mut dice, &tally) {
                            client = Client::connect(icap);
                        }
                    }
                })
            })
            .collect();
        let end = Instant::now() + seconds();
        while Instant::now() < end && threads.iter().all(|t| !t.is_finished()) {
            meanwhile();
        }
        drop(end_of_all);
    });
    println!("passed, blocked, failed, aborted: {:?}", tally.all());
    tally
}

/// One transaction of a random kind. False if the connection is of no more use.
fn transact(client: &mut Client, dice: &mut Dice, tally: &Tally) -> bool {
    let most = if dice.below(20) == 0 { 2_000_000 } else { 20_000 };
    let mut body = random(dice.below(most));
    let planted = dice.below(3) == 0 && body.len() > EICAR.len();
    if planted {
        let at = dice.below(body.len() - EICAR.len());
        body[at..at + EICAR.len()].copy_from_slice(EICAR);
    }
    let framing = match dice.below(3) {
        0 => "Transfer-Encoding: chunked\r\n".to_owned(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let is_request = dice.below(2) == 0;
    let mut request = if is_request {
        Request::reqmod(format!("POST /x HTTP/1.1\r\nHost: www.test\r\n{framing}\r\n"))
    } else {
        let response = match dice.below(5) {
            0 => "HTTP/1.1 200 OK\r\nServer: until the end\r\n\r\n".to_owned(),
            _ => format!("HTTP/1.1 200 OK\r\n{framing}\r\n"),
        };
        Request::respmod("GET /x HTTP/1.1\r\nHost: www.test\r\n\r\n", response)
    };
    let piece = 1 + dice.below(70_000);
    request = request.chunks(body.chunks(piece));
    match dice.below(3) {
        0 => request = request.connection(&format!("c{}", dice.below(50))),
        1 => request = request.field("X-Client-IP", &format!("10.0.0.{}", dice.below(20))),
        _ => {}
    }
    if dice.below(2) == 0 {
        request = request.allow_204();
    }
    let bytes = request.bytes(client.base());
    if dice.below(25) == 0 {
        client.abort_after(&bytes[..dice.below(bytes.len())]);
        tally.aborted.fetch_add(1, Relaxed);
        return false;
    }
    let reply = client.exchange(bytes, 1 + dice.below(100_000));
    judge(&reply, planted, is_request, &body, tally);
    !reply.broken && reply.field("Connection").is_none()
}

fn judge(reply: &Reply, planted: bool, is_request: bool, body: &[u8], tally: &Tally) {
    let blocked = reply.field("X-Response-Info") == Some("blocked");
    if reply.broken || !matches!(reply.status, 200 | 204) {
        tally.failed.fetch_add(1, Relaxed);
    } else if planted {
        assert!(blocked, "EICAR has passed: {}", reply.head);
        let sid = if is_request { "1000002" } else { "1000001" };
        assert_eq!(reply.field("X-Signature-Id"), Some(sid));
        tally.blocked.fetch_add(1, Relaxed);
    } else {
        assert!(!blocked, "a clean body is blocked: {}", reply.head);
        if reply.status == 200 {
            assert!(reply.body == body, "{} bytes became {}", body.len(), reply.body.len());
        }
        tally.passed.fetch_add(1, Relaxed);
    }
}

#[test]
fn while_rules_are_reloaded_nothing_fails() {
    let server = Server::start(&[]);
    let mut reloads = 0;
    let tally = run(&server, 8, || {
        reloads += 1;
        fs::write(server.rules(), format!("{RULES}# change {reloads}\n")).unwrap();
        server.signal("-HUP");
        server.wait_metric("reloads_total", reloads);
    });
    let [passed, blocked, failed, aborted] = tally.all();
    assert!(passed > 0 && blocked > 0 && reloads > 0);
    let counted = |outcome| server.metric(&format!("transactions_total{{outcome=\"{outcome}\"}}"));
    // A late hit is a cut, and counts as failed here.
    let cut = counted("cut");
    assert!(failed <= cut, "{failed} failed, and only {cut} for a reason");
    // Of those that were broken off, the server may have seen none, a part, or all.
    let unheard = [
        counted("blocked") - blocked,
        counted("passed") - passed,
        counted("aborted"),
        cut - failed,
    ];
    assert!(unheard.iter().sum::<u64>() <= aborted, "{unheard:?} of {aborted}");
    assert_eq!(server.metric("transactions_total{outcome=\"failed\"}"), 0);
    server.wait_metric("rings", 0);
    assert_eq!(server.metric("held_bytes"), 0);
}

#[test]
fn while_engines_die_nothing_passes_unseen() {
    let server = Server::start(&[]);
    let mut kills = 0;
    let tally = run(&server, 8, || {
        std::thread::sleep(Duration::from_millis(300));
        server.kill_engine(["-ABRT", "-KILL", "-TERM"][kills % 3]);
        kills += 1;
        server.wait_metric("engine_restarts_total", kills as u64);
    });
    let [passed, blocked, failed, _] = tally.all();
    assert!(passed > 0 && blocked > 0 && failed > 0 && kills > 0);
}

#[test]
fn while_memory_is_short_nothing_passes_unseen() {
    let settings = "[suricata]\n\
        \"flow.memcap\" = \"400kb\"\n\"flow.hash-size\" = \"256\"\n\"flow.prealloc\" = \"8\"\n\
        \"stream.memcap\" = \"300kb\"\n\"stream.prealloc-sessions\" = \"8\"\n\
        \"stream.reassembly.memcap\" = \"1mb\"\n";
    let server = Server::with_settings(settings, &[]);
    let tally = run(&server, 16, || std::thread::sleep(Duration::from_millis(100)));
    let [passed, blocked, ..] = tally.all();
    assert!(passed + blocked > 0);
}

#[test]
fn a_thousand_connections_at_once() {
    let server = Server::start(&[]);
    let mut clients: Vec<_> = (0..1_000).map(|_| server.connect()).collect();
    let tally = Tally::default();
    let mut dice = Dice::new(7);
    for _ in 0..2 {
        let wanted: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let planted = dice.below(4) == 0;
                let body = if planted { EICAR.to_vec() } else { random(dice.below(3_000)) };
                let bytes = Request::get("/x", &body).allow_204().bytes(client.base());
                client.send(&bytes);
                (planted, body)
            })
            .collect();
        for (client, (planted, body)) in clients.iter_mut().zip(&wanted) {
            judge(&client.reply(), *planted, false, body, &tally);
        }
    }
    let [passed, blocked, failed, _] = tally.all();
    assert_eq!((passed + blocked, failed), (2_000, 0));
}
