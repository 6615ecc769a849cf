//! What the engine's process may no longer do.

use std::fs;

use crate::common::{EICAR, RULES, Request, Server};

#[test]
fn the_engine_runs_confined() {
    let server = Server::start(&[]);
    let status = server.engine_status();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    server.connect().ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
    // Rules can be replaced under confinement, and events are written.
    let next = server.rules().with_extension("next");
    fs::write(
        &next,
        format!(
            "{RULES}drop http any any -> any any (msg:\"n\"; http.uri; content:\"/new\"; sid:7;)\n"
        ),
    )
    .unwrap();
    fs::rename(&next, server.rules()).unwrap();
    server.signal("-HUP");
    server.wait_metric("reloads_total", 1);
    server.connect().ask(&Request::get("/new", b"x")).assert_blocked(7);
    server.wait_eve(|e| e["event_type"] == "alert");
}

#[test]
fn confinement_can_be_switched_off() {
    let server = Server::with_settings("[sandbox]\nlandlock = false\nseccomp = false\n", &[]);
    assert!(server.engine_status().contains("Seccomp:\t0"));
    server.connect().ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
}
