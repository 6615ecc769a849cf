//! The engine's process may end in any way: nothing passes, nobody is refused, and a new one
//! serves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::common::{Client, EICAR, Request, Server, chunked, contains, random};

const RESTARTS: &str = "engine_restarts_total";

#[test]
fn a_crash_fails_what_is_in_flight_and_a_new_engine_serves() {
    let server = Server::start(&["--hold", "0"]);
    for (round, signal) in (1..).zip(["-ABRT", "-SEGV", "-BUS", "-KILL"]) {
        let mut in_flight = server.connect();
        let body = random(200_000);
        let request = Request::get("/flight", &body);
        let head = request.head(in_flight.base());
        in_flight.send(&head);
        in_flight.send(&chunked(&body[..100_000]));
        in_flight.body_so_far(100_000);
        server.kill_engine(signal);
        assert!(in_flight.is_closed(), "the transfer goes on without an engine");
        // This one comes while there is no engine, and waits.
        let mut waiting = server.connect();
        waiting.ask(&Request::get("/eicar", EICAR)).assert_blocked(1_000_001);
        waiting.ask(&Request::get("/clean", b"clean")).assert_passed(b"clean");
        assert_eq!(server.metric(RESTARTS), round);
    }
    assert!(server.stop().success());
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// `MEERGATE_CRASHES` says how many; 3 by default.
#[test]
fn crashes_under_load_pass_nothing_and_leave_the_supervisor_as_it_was() {
    let crashes = std::env::var("MEERGATE_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let server = Server::start(&[]);
    let stop = AtomicBool::new(false);
    let blocked = AtomicU64::new(0);
    let mut memory = Vec::new();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (icap, stop, blocked) = (server.icap(), &stop, &blocked);
            scope.spawn(move || {
                let body = [&random(30_000 * n), EICAR].concat();
                let mut client = Client::connect(icap);
                while !stop.load(Relaxed) {
                    let reply = client.ask(&Request::get("/eicar", &body));
                    if reply.broken {
                        assert!(!contains(&reply.body, EICAR), "EICAR has passed");
                        client = Client::connect(icap);
                    } else {
                        reply.assert_blocked(1_000_001);
                        blocked.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let _stop = OnDrop(|| stop.store(true, Relaxed));
        for _ in 0..=crashes {
            let before = blocked.load(Relaxed);
            server.wait_until("service", || blocked.load(Relaxed) > before + 20);
            memory.push(server.supervisor_memory());
            if memory.len() <= crashes {
                let dying = server.engine();
                server.kill_engine("-SEGV");
                server.wait_until("another engine", || server.engine() != dying);
            }
        }
    });
    println!("supervisor, KiB: {memory:?}; {} blocked", blocked.load(Relaxed));
    let most = memory[0] + (1 << 10);
    assert!(memory.iter().all(|now| *now < most), "the supervisor grows: {memory:?} KiB");
    assert_eq!(server.metric(RESTARTS), crashes as u64);
}

#[test]
fn a_hanging_engine_is_ended() {
    let server = Server::with_settings("[limits]\nhang_timeout = 2\n", &[]);
    server.stop_engine();
    server.connect().ask(&Request::get("/eicar", EICAR)).assert_blocked(1_000_001);
    assert_eq!(server.metric(RESTARTS), 1);
}

#[test]
fn an_engine_that_is_too_large_is_ended() {
    let settings = "[limits]\nengine_memory = 1_000_000\n";
    let server = Server::unready(crate::common::RULES, settings, &[]);
    server.wait_log("too large");
}

#[test]
fn without_its_supervisor_the_engine_does_not_go_on() {
    let server = Server::start(&["--hold", "0"]);
    let mut client = server.connect();
    let body = random(200_000);
    let request = Request::get("/flight", &body);
    let head = request.head(client.base());
    client.send(&head);
    client.send(&chunked(&body[..100_000]));
    client.body_so_far(100_000);
    server.signal("-KILL");
    assert!(client.is_closed());
}

#[test]
fn connections_wait_for_an_engine_that_is_still_starting() {
    // As many rules as take a moment to load.
    let mut rules = crate::common::RULES.to_owned();
    for n in 0..3_000 {
        rules += &format!(
            "drop http any any -> any any (msg:\"r{n}\"; file.data; content:\"word-{n}-{n}\"; pcre:\"/w{n}[a-z]+x/\"; sid:{};)\n",
            2_000_000 + n
        );
    }
    let server = Server::unready(&rules, "", &[]);
    let mut client = server.connect();
    client.ask(&Request::get("/eicar", EICAR)).assert_blocked(1_000_001);
}

#[test]
fn stopping_finishes_what_is_in_flight() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let body = random(10_000);
    let request = Request::get("/flight", &body);
    let head = request.head(client.base());
    client.send(&head);
    client.send(&chunked(&body[..5_000]));
    server.wait_metric("connections", 1);
    server.signal("-TERM");
    server.wait_log("stopping");
    client.send(&chunked(&body[5_000..]));
    client.send(b"0\r\n\r\n");
    client.reply().assert_passed(&body);
    assert!(client.is_closed());
}

#[test]
fn an_update_of_the_program_does_not_keep_the_engine_from_being_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("meergate-inspector");
    std::fs::copy(env!("CARGO_BIN_EXE_meergate-inspector"), &program).unwrap();
    let server = Server::of_program(&program, &[]);
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "another version").unwrap();
    server.kill_engine("-KILL");
    server.connect().ask(&Request::get("/eicar", EICAR)).assert_blocked(1_000_001);
}
