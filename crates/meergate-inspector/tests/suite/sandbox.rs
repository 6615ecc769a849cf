//! What the engine's process may no longer do.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

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

#[test]
fn what_is_written_has_its_mode_whatever_the_umask() {
    for umask in ["000", "077"] {
        let dir = tempfile::tempdir().unwrap();
        let wrapper = dir.path().join("wrapper");
        let program = env!("CARGO_BIN_EXE_meergate-inspector");
        fs::write(&wrapper, format!("#!/bin/sh\numask {umask}\nexec {program} \"$@\"\n")).unwrap();
        fs::set_permissions(&wrapper, Permissions::from_mode(0o700)).unwrap();
        let listen = format!("unix:{}", dir.path().join("icap.sock").display());
        let server = Server::of_program(&wrapper, &["--listen", &listen]);
        server.connect().ask(&Request::get("/x", EICAR)).assert_blocked(1_000_001);
        server.wait_eve(|e| e["event_type"] == "alert");
        let rules = server.rules();
        let folder = rules.parent().unwrap();
        for (path, mode) in [
            (dir.path().join("icap.sock"), 0o660),
            (folder.join("control"), 0o600),
            (folder.join("events/eve.json"), 0o640),
        ] {
            let found = fs::metadata(&path).unwrap().mode() & 0o777;
            assert_eq!(found, mode, "{}, umask {umask}", path.display());
        }
    }
}
