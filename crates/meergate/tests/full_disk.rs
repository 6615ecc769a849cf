//! A disk that is full: what it does not take is lost whole, counted, and said.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;
mod support;

use std::fs;
use std::io::Write;
use std::path::Path;

use program::Program;
use support::{Origin, connect, read_to_end, wait_for};

const LOGS: [&str; 2] = ["connections", "transactions"];

fn metric(program: &Program, name: &str) -> usize {
    let text = program.console("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

fn ask(program: &Program, origin: &Origin) {
    let mut stream = connect(program.at("proxy"));
    let (url, host) = (origin.url("/"), origin.address);
    write!(stream, "GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_to_end(&mut stream).starts_with(b"HTTP/1.1 200 "));
}

/// The records of a log, each of which is whole.
fn records(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let whole = |line: &str| assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    text.lines().inspect(|line| whole(line)).count()
}

/// The packets of all captures, once their blocks are whole: what does not fit is there in part for a moment.
fn packets(folder: &Path) -> usize {
    let whole = || {
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let file = fs::read(entry.unwrap().path()).unwrap();
            let mut rest = &file[..];
            while !rest.is_empty() {
                let word =
                    |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().unwrap()));
                let length = word(4)? as usize;
                count += usize::from(word(0)? == 6);
                rest = rest.get(length..)?;
            }
        }
        Some(count)
    };
    wait_for("whole blocks", whole)
}

#[test]
fn what_a_full_disk_does_not_take_is_lost_whole_and_counted() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let dir = tempfile::tempdir().unwrap();
    let at = |name| dir.path().join(name);
    let captures = at("captures");
    fs::create_dir(&captures).unwrap();
    let program = Program::start_on_a_full_disk(&format!(
        "[log]\nconnections = {:?}\ntransactions = {:?}\n[capture]\nfolder = {captures:?}\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n[[rule]]\ncapture = true\n",
        at("connections"),
        at("transactions"),
    ));
    let lost =
        |log: &str| metric(&program, &format!("meergate_log_lines_lost_total{{log=\"{log}\"}}"));
    let packets_lost = || metric(&program, "meergate_capture_packets_lost_total");
    let mut asked = 0;
    while LOGS.iter().any(|log| lost(log) < 3) || packets_lost() < 3 {
        ask(&program, &origin);
        asked += 1;
        assert!(asked < 1000, "nothing is lost");
    }
    let complete = |asked: usize| {
        for log in LOGS {
            // What does not fit is there in part for a moment, until it is taken back.
            let lines = || fs::read_to_string(at(log)).unwrap().matches('\n').count();
            let is_done = || lost(log) + lines() == asked;
            wait_for("all records, in the file or lost", || is_done().then_some(()));
            assert_eq!(lost(log) + records(&at(log)), asked, "{log}");
        }
    };
    complete(asked);
    assert!(packets(&captures) > 0);
    for what in LOGS.map(|log| format!("the {log} log")).into_iter().chain(["captures".into()]) {
        let said = program.times_logged(&format!("{what} in /"))
            + program.times_logged(&format!("{what} /"));
        assert_eq!(said, 1, "{what}");
    }
    program.give_room();
    let before = LOGS.map(|log| (records(&at(log)), lost(log)));
    let packets_before = packets(&captures);
    for _ in 0..5 {
        ask(&program, &origin);
    }
    complete(asked + 5);
    for (log, (written, lost_before)) in LOGS.iter().zip(before) {
        assert_eq!((records(&at(log)), lost(log)), (written + 5, lost_before), "{log}");
    }
    wait_for("packets", || (packets(&captures) > packets_before).then_some(()));
}
