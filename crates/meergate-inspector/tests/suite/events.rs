//! What becomes of events that can't be written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::{EICAR, Request, Server};

const LOST: &str = "event_lines_lost_total";

fn ask(server: &Server, id: &str) {
    let asked = Request::get("/x", EICAR).field("X-Transaction-Id", id);
    let reply = server.connect().ask(&asked);
    assert_eq!(reply.field("X-Response-Info"), Some("blocked"), "{id}");
}

fn length(file: &std::path::Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}

#[test]
fn what_a_full_disk_does_not_take_of_the_events_is_lost_whole_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let wrapper = folder.path().join("inspector");
    let program = env!("CARGO_BIN_EXE_meergate-inspector");
    // Without the signal, writing is an error.
    fs::write(&wrapper, format!("#!/bin/sh\ntrap '' XFSZ\nexec {program} \"$@\"\n")).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o700)).unwrap();
    let server = Server::of_program(&wrapper, &[]);
    let file = server.events();
    // The limit is for its log, too, which is to have room.
    while length(&file) < server.log().len() as u64 + (64 << 10) {
        ask(&server, "before-it");
    }
    assert_eq!(server.metric(LOST), 0);
    let limit = |bytes: &str| {
        let arguments = [&format!("--fsize={bytes}:unlimited"), "--pid", &server.engine()];
        assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
    };
    // Less than a line.
    limit(&(length(&file) + 100).to_string());
    while server.metric(LOST) < 20 {
        ask(&server, "meanwhile");
    }
    server.wait_log("cannot be written");
    assert_eq!(server.log().matches("cannot be written").count(), 1, "it is told once a minute");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.ends_with('\n') && text.lines().all(|line| line.ends_with('}')));
    // The program's own log has no room either.
    limit("1");
    let said = Command::new(program).arg("reload").arg("--control").arg(server.control()).output();
    assert!(said.unwrap().status.success());
    limit("unlimited");
    ask(&server, "after-it");
    server.wait_eve(|event| event.to_string().contains("after-it"));
    assert_eq!(server.metric("engine_restarts_total"), 0);
}

#[test]
fn events_that_have_no_file_are_counted() {
    let server = Server::start(&[]);
    let file = server.events();
    ask(&server, "before-it");
    server.wait_eve(|event| event.to_string().contains("before-it"));
    fs::rename(&file, file.with_extension("old")).unwrap();
    fs::create_dir(&file).unwrap();
    server.signal("-USR1");
    while server.metric(LOST) == 0 {
        ask(&server, "meanwhile");
    }
    fs::remove_dir(&file).unwrap();
    server.signal("-USR1");
    server.wait_until("a new file", || {
        ask(&server, "after-it");
        file.exists()
    });
    server.wait_eve(|event| event.to_string().contains("after-it"));
    assert_eq!(server.metric("engine_restarts_total"), 0);
}
