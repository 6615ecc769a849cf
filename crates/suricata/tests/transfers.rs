//! Files outside HTTP/1: `file.data` sees their first bytes when they come, and what lies across two parts.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use common::{Lab, sid};
use suricata::{Direction, Expect, Tuple, Verdict};

const RULES: &str = "drop ftp-data any any -> any any (msg:\"planted\"; file.data; content:\"EVILMARK\"; sid:1;)\n\
    alert ftp any any -> any any (msg:\"control\"; ftp.command; content:\"RETR\"; sid:2;)\n";

#[test]
fn small_files_of_ftp_and_what_lies_across_two_pieces_are_seen() {
    let lab = Lab::start(RULES, |config| config);
    for (number, (before, after, cut)) in
        [(0, 0, 1000), (2000, 0, 100), (20_000, 3000, 7), (60_000, 100, 1000), (200_000, 5, 1460)]
            .into_iter()
            .enumerate()
    {
        let verdict = lab.run(move |worker| {
            let port = 2000 + number as u16;
            let at = |port| ([198, 51, 100, 9], port).into();
            let control = Tuple::new(([10, 1, 2, 3], port).into(), at(21)).unwrap();
            let mut flow = worker.open(control, None).unwrap();
            flow.expect(Expect::Any);
            let passive = format!("227 Entering Passive Mode (198,51,100,9,40,{number})\r\n");
            for (direction, line) in [
                (Direction::ToClient, "220 ready\r\n"),
                (Direction::ToServer, "USER a\r\n"),
                (Direction::ToClient, "230 in\r\n"),
                (Direction::ToServer, "PASV\r\n"),
                (Direction::ToClient, &passive),
                (Direction::ToServer, "RETR x\r\n"),
                (Direction::ToClient, "150 here\r\n"),
            ] {
                assert!(!worker.feed(&mut flow, direction, line.as_bytes()).unwrap().is_drop());
            }
            let data = Tuple::new(
                ([10, 1, 2, 3], 3000 + number as u16).into(),
                at(40 * 256 + number as u16),
            );
            let mut transfer = worker.open(data.unwrap(), None).unwrap();
            transfer.expect(Expect::Any);
            let file = [&vec![b'.'; before][..], b"EVILMARK", &vec![b'.'; after]].concat();
            let mut verdict = Verdict::Pass;
            let mut seen = 0;
            for piece in file.chunks(cut) {
                verdict = worker.feed(&mut transfer, Direction::ToClient, piece).unwrap();
                seen += piece.len();
                if verdict.is_drop() {
                    break;
                }
            }
            // At once, before anything behind it came.
            assert!(seen < before + 8 + cut, "{seen}");
            let _ = (worker.close(transfer), worker.close(flow));
            verdict
        });
        assert_eq!(sid(&verdict), Some(1), "{before} bytes before, in pieces of {cut}");
    }
}
