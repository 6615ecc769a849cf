//! What must be found is found, however the stream is cut, and what is clean passes.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::io::Write as _;
use std::sync::LazyLock;

use common::{
    EICAR, Lab, Random, chunked, exchange, feed_pieces, get, noise, response, sid, tuple, tuple6,
    with_length,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use suricata::{Direction, Expect, SEAM_BEFORE, Seam, Verdict};

static LAB: LazyLock<Lab> = LazyLock::new(|| Lab::start(common::RULES, |config| config));

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn eicar_is_found_in_every_framing_and_a_clean_body_passes() {
    LAB.run(|worker| {
        let until_close = response("Connection: close", EICAR);
        let decoded =
            response(&format!("Content-Encoding: gzip\r\nContent-Length: {}", EICAR.len()), EICAR);
        let cases = [with_length(EICAR), chunked(EICAR, 7), decoded, until_close];
        for (number, message) in cases.iter().enumerate() {
            for tuple in [tuple(1000), tuple6(1000)] {
                for size in [1, 64, 100_000] {
                    let verdict = exchange(worker, tuple, &get("/"), message, size).unwrap();
                    assert_eq!(sid(&verdict), Some(1_000_001), "case {number}, pieces of {size}");
                }
            }
        }
        for message in
            [with_length(b"hello"), chunked(b"hello", 2), response("Connection: close", b"hello")]
        {
            let verdict = exchange(worker, tuple(1001), &get("/"), &message, 3).unwrap();
            assert_eq!(verdict, Verdict::Pass);
        }
    });
}

#[test]
fn the_drop_comes_with_the_last_byte_of_the_match_wherever_the_stream_is_cut() {
    LAB.run(|worker| {
        let message = with_length(&[EICAR, b" and more"].concat());
        let end = message.len() - b" and more".len();
        for cut in 1..message.len() {
            let mut flow = worker.open(tuple(2000), None).unwrap();
            let request = worker.feed(&mut flow, Direction::ToServer, &get("/")).unwrap();
            assert_eq!(request, Verdict::Pass);
            let (first, second) = message.split_at(cut);
            let one = worker.feed(&mut flow, Direction::ToClient, first).unwrap();
            assert_eq!(one.is_drop(), cut >= end, "cut at {cut} of {end}");
            let two = worker.feed(&mut flow, Direction::ToClient, second).unwrap();
            assert_eq!(sid(&two), Some(1_000_001), "cut at {cut}");
            let _ = worker.close(flow).unwrap();
        }
    });
}

#[test]
fn random_cuts_give_the_verdict_of_one_piece() {
    LAB.run(|worker| {
        let mut random = Random(0x5eed);
        for case in 0..300_u64 {
            let len = random.below(200_000);
            let mut body = noise(len, case);
            let planted = case % 3 == 0;
            if planted {
                let at = random.below(len + 1);
                body.splice(at..at, EICAR.iter().copied());
            }
            let message = match random.below(2) {
                0 => with_length(&body),
                _ => chunked(&body, 1 + random.below(10_000)),
            };
            let tuple = if random.below(2) == 0 { tuple(3000) } else { tuple6(3000) };
            let whole = exchange(worker, tuple, &get("/"), &message, usize::MAX).unwrap();
            assert_eq!(sid(&whole), planted.then_some(1_000_001), "case {case} in one piece");

            let mut flow = worker.open(tuple, None).unwrap();
            flow.expect(Expect::Http1);
            let _ = worker.feed(&mut flow, Direction::ToServer, &get("/")).unwrap();
            let most = 1 + random.below(20_000);
            let mut rest = &message[..];
            let mut verdict = Verdict::Pass;
            while !rest.is_empty() && !verdict.is_drop() {
                let (piece, after) = rest.split_at((1 + random.below(most)).min(rest.len()));
                verdict = worker.feed(&mut flow, Direction::ToClient, piece).unwrap();
                rest = after;
            }
            let at_the_end = worker.close(flow).unwrap();
            let verdict = if verdict.is_drop() { verdict } else { at_the_end };
            assert_eq!(sid(&verdict), sid(&whole), "case {case} in pieces of up to {most}");
        }
    });
}

#[test]
fn eicar_deep_in_a_large_body_is_found_and_nothing_after_it_is_passed() {
    LAB.run(|worker| {
        let mut body = noise(10 << 20, 1);
        let at = 5 << 20;
        body[at..at + EICAR.len()].copy_from_slice(EICAR);
        let message = with_length(&body);
        let head = message.len() - body.len();
        for size in [1460, 4096, 65_495, 1 << 20] {
            let mut flow = worker.open(tuple(4000), None).unwrap();
            let _ = worker.feed(&mut flow, Direction::ToServer, &get("/large")).unwrap();
            let (verdict, fed) =
                feed_pieces(worker, &mut flow, Direction::ToClient, message.chunks(size)).unwrap();
            assert_eq!(sid(&verdict), Some(1_000_001), "pieces of {size}");
            let match_ends = head + at + EICAR.len();
            assert!(fed >= match_ends && fed < match_ends + size, "pieces of {size}: {fed}");
            let again = worker.feed(&mut flow, Direction::ToClient, b"more").unwrap();
            assert_eq!(sid(&again), Some(1_000_001));
            let _ = worker.close(flow).unwrap();
        }
    });
}

#[test]
fn requests_are_inspected_as_responses_are() {
    LAB.run(|worker| {
        let upload = |body: &[u8]| {
            let mut message = format!(
                "POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            message.extend_from_slice(body);
            message
        };
        let deep = [&noise(1 << 20, 2)[..], EICAR, &noise(1 << 20, 3)].concat();
        for body in [EICAR, &deep] {
            for size in [999, 65_495] {
                let mut flow = worker.open(tuple(5000), None).unwrap();
                let message = upload(body);
                let (verdict, _) =
                    feed_pieces(worker, &mut flow, Direction::ToServer, message.chunks(size))
                        .unwrap();
                assert_eq!(sid(&verdict), Some(1_000_002));
                let _ = worker.close(flow).unwrap();
            }
        }
        let verdict = exchange(worker, tuple(5001), &get("/forbidden/x"), b"", 1).unwrap();
        assert_eq!(sid(&verdict), Some(1_000_003));
    });
}

#[test]
fn an_alert_that_does_not_drop_is_told_and_passes() {
    LAB.run(|worker| {
        let mut flow = worker.open(tuple(5100), None).unwrap();
        let verdict = worker.feed(&mut flow, Direction::ToServer, &get("/noted")).unwrap();
        assert_eq!(verdict, Verdict::Pass);
        let alerts = worker.alerts().map(|alert| (alert.sid(), alert.drops())).collect::<Vec<_>>();
        assert_eq!(alerts, [(1_000_004, false)]);
        let _ = worker.feed(&mut flow, Direction::ToClient, &with_length(b"x")).unwrap();
        assert_eq!(worker.alerts().count(), 0);
        let _ = worker.close(flow).unwrap();
    });
}

#[test]
fn a_drop_names_its_rule() {
    LAB.run(|worker| {
        let verdict = exchange(worker, tuple(5200), &get("/"), &with_length(EICAR), 1000).unwrap();
        let Verdict::Drop(dropped) = verdict else { panic!("passed") };
        let signature = dropped.signature.unwrap();
        assert_eq!((signature.gid, signature.sid, signature.rev), (1, 1_000_001, 3));
        assert_eq!(signature.message, "EICAR in a response");
        assert_eq!(signature.category, "A Network Trojan was detected");
        assert!(dropped.reason.is_rule(), "{}", dropped.reason);
        assert_eq!(dropped.reason, suricata::DropReason::RULES);
    });
}

#[test]
fn later_transactions_of_a_kept_connection_are_inspected() {
    LAB.run(|worker| {
        let mut flow = worker.open(tuple(6000), None).unwrap();
        flow.expect(Expect::Http1);
        for round in 0..200 {
            let request = worker.feed(&mut flow, Direction::ToServer, &get("/page")).unwrap();
            assert_eq!(request, Verdict::Pass, "round {round}");
            let body = noise(1000 + round, 5);
            let clean = worker.feed(&mut flow, Direction::ToClient, &with_length(&body)).unwrap();
            assert_eq!(clean, Verdict::Pass, "round {round}");
        }
        assert_eq!(flow.app_protocol(), Some("http"));
        let _ = worker.feed(&mut flow, Direction::ToServer, &get("/page")).unwrap();
        let verdict = worker.feed(&mut flow, Direction::ToClient, &with_length(EICAR)).unwrap();
        assert_eq!(sid(&verdict), Some(1_000_001));
        let _ = worker.close(flow).unwrap();
    });
}

#[test]
fn flows_with_one_tuple_do_not_share_a_fate() {
    LAB.run(|worker| {
        let mut flows =
            (0..1000).map(|_| worker.open(tuple(7000), None).unwrap()).collect::<Vec<_>>();
        for flow in &mut flows {
            let verdict = worker.feed(flow, Direction::ToServer, &get("/")).unwrap();
            assert_eq!(verdict, Verdict::Pass);
        }
        let dirty = with_length(EICAR);
        let clean = with_length(&[b'.'; 68]);
        let (head, tail) = (dirty.len() / 2, dirty.len());
        let mut verdicts = vec![Verdict::Pass; flows.len()];
        for range in [0..head, head..tail] {
            for (number, flow) in flows.iter_mut().enumerate() {
                let message = if number % 3 == 0 { &dirty } else { &clean };
                verdicts[number] =
                    worker.feed(flow, Direction::ToClient, &message[range.clone()]).unwrap();
            }
        }
        for (number, verdict) in verdicts.iter().enumerate() {
            assert_eq!(sid(verdict), (number % 3 == 0).then_some(1_000_001), "flow {number}");
        }
        for flow in flows {
            let _ = worker.close(flow).unwrap();
        }
    });
}

#[test]
fn a_tuple_is_used_again_after_a_clean_end_and_after_a_drop() {
    LAB.run(|worker| {
        let mut random = Random(77);
        for round in 0..5000 {
            let planted = random.below(2) == 0;
            let body: &[u8] = if planted { EICAR } else { b"clean" };
            let verdict =
                exchange(worker, tuple(8000), &get("/"), &with_length(body), 1000).unwrap();
            assert_eq!(sid(&verdict), planted.then_some(1_000_001), "round {round}");
        }
    });
}

#[test]
fn raw_bytes_of_any_protocol_are_inspected() {
    LAB.run(|worker| {
        let tuple =
            suricata::Tuple::new(([10, 0, 0, 1], 4000).into(), ([10, 0, 0, 2], 2525).into())
                .unwrap();
        for size in [1, 4, 100] {
            let mut flow = worker.open(tuple, None).unwrap();
            let (verdict, _) = feed_pieces(
                worker,
                &mut flow,
                Direction::ToServer,
                b"\x00\x01 the swordfish".chunks(size),
            )
            .unwrap();
            assert_eq!(sid(&verdict), Some(1_000_005), "pieces of {size}");
            let _ = worker.close(flow).unwrap();
        }
    });
}

/// A rule for the bytes of a stream does not see the lines of chunks that whoever feeds has made.
#[test]
fn raw_bytes_are_inspected_across_seams() {
    let (marker, begun): (&[u8], &[u8]) = (b"the swordfish", b"PUT /u HTTP/1.1\r\n");
    let tuple =
        suricata::Tuple::new(([10, 0, 0, 1], 4001).into(), ([10, 0, 0, 2], 2525).into()).unwrap();
    LAB.run(move |worker| {
        for size in 1..9 {
            for (joined, filler) in [(true, 0), (true, 65_000), (false, 0)] {
                let mut flow = worker.open(tuple, None).unwrap();
                let head = [begun, b"Host: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"].concat();
                let mut fed = worker.feed_message(&mut flow, Direction::ToServer, &[&head], 0);
                let body = [&noise(size + filler, 3)[..], marker].concat();
                let first = &body[..size + filler];
                let mut before = Vec::new();
                for chunk in [first].into_iter().chain(marker.chunks(size)) {
                    assert_eq!(fed.unwrap(), Verdict::Pass, "pieces of {size}");
                    let line = format!("{:x}\r\n", chunk.len()).into_bytes();
                    let last = &before[before.len() - SEAM_BEFORE.min(before.len())..];
                    let seam = (joined && !before.is_empty())
                        .then_some(Seam { before: last, framing: line.len() });
                    let parts = [&line[..], chunk, b"\r\n"];
                    fed = worker.feed_chunk(
                        &mut flow,
                        Direction::ToServer,
                        seam,
                        &parts,
                        chunk.len(),
                    );
                    before.extend_from_slice(chunk);
                    if matches!(&fed, Ok(verdict) if verdict.is_drop()) {
                        break;
                    }
                }
                let expected = joined.then_some(1_000_005);
                assert_eq!(sid(&fed.unwrap()), expected, "pieces of {size} behind {filler}");
                let _ = worker.close(flow);
            }
        }
    });
}

#[test]
fn a_stream_that_the_engine_does_not_recognise_as_what_it_is_is_an_error() {
    LAB.run(|worker| {
        let mut flow = worker.open(tuple(9000), None).unwrap();
        let _ = worker.feed(&mut flow, Direction::ToServer, b"\x01\x02 not http\r\n\r\n").unwrap();
        flow.expect(Expect::Http1);
        let error = worker.check_protocol(&mut flow).unwrap_err();
        assert_eq!(error.kind(), suricata::ErrorKind::InspectionFailed, "{error}");
        // And it stays one.
        let error = worker.feed(&mut flow, Direction::ToClient, b"x").unwrap_err();
        assert_eq!(error.kind(), suricata::ErrorKind::InspectionFailed, "{error}");
    });
}

#[test]
fn a_flow_that_is_merely_dropped_is_closed_by_its_worker() {
    LAB.run(|worker| {
        let before = worker.stats().orphans;
        drop(worker.open(tuple(9100), None).unwrap());
        worker.idle().unwrap();
        assert_eq!(worker.stats().orphans, before + 1);
    });
}

/// Who feeds decodes, as the documentation says: the engine's own decoder reads otherwise than clients do.
#[test]
fn the_engine_does_not_decode() {
    LAB.run(|worker| {
        let zipped = gzip(&EICAR.repeat(2));
        // What does not shrink is stored as it is, and would be found.
        assert!(!zipped.windows(EICAR.len()).any(|window| window == EICAR));
        let message = response(
            &format!("Content-Encoding: gzip\r\nContent-Length: {}", zipped.len()),
            &zipped,
        );
        let verdict = exchange(worker, tuple(9200), &get("/"), &message, usize::MAX).unwrap();
        assert_eq!(verdict, Verdict::Pass);
    });
}

#[test]
fn two_contents_some_kilobytes_apart_are_found_deep_in_a_body_of_small_pieces() {
    LAB.run(|worker| {
        let gap = noise(6000, 8);
        let body =
            [&noise(300_000, 6)[..], b"first-half", &gap, b"second-half", &noise(5000, 7)].concat();
        for size in [100, 1460, 65_495] {
            let verdict =
                exchange(worker, tuple(9300), &get("/"), &with_length(&body), size).unwrap();
            assert_eq!(sid(&verdict), Some(1_000_006), "pieces of {size}");
            let verdict =
                exchange(worker, tuple(9301), &get("/"), &chunked(&body, 512), size).unwrap();
            assert_eq!(sid(&verdict), Some(1_000_006), "chunked, pieces of {size}");
        }
    });
}
