//! What either side refuses, one rule at a time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use icap_stream::{
    Answer, Command, Dropped, Error, ErrorKind, Fields, Gateway, Inspector, Mark, Offer, Phase,
    Reason, Way, Window,
};

fn frame(code: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![code, flags, 0, 0];
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame
}

/// What an inspector with the default window says to these frames: of the first that it refuses
/// what is wrong, and where.
fn inspect(frames: &[Vec<u8>]) -> Result<Inspector, (ErrorKind, u64)> {
    let mut inspector = Inspector::new(Window::DEFAULT);
    let bytes = frames.concat();
    let mut input = &bytes[..];
    loop {
        match inspector.read(&mut input) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(inspector),
            Err(error) => return Err((error.kind(), error.at())),
        }
    }
}

/// The same of a gateway that has shown ten bytes to the server.
fn hear(frames: &[Vec<u8>]) -> Result<Gateway, (ErrorKind, u64)> {
    let mut gateway = Gateway::new(Window::DEFAULT);
    gateway.data(Way::ToServer, b"0123456789", Mark::NONE, &mut Vec::new()).unwrap();
    let bytes = frames.concat();
    let mut input = &bytes[..];
    loop {
        match gateway.read(&mut input) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(gateway),
            Err(error) => return Err((error.kind(), error.at())),
        }
    }
}

fn pass(offset: u64) -> Vec<u8> {
    frame(129, 0, &offset.to_be_bytes())
}

fn drop(offset: u64, phase: u32) -> Vec<u8> {
    frame(130, 0, &[&offset.to_be_bytes()[..], &phase.to_be_bytes(), b"Reason: rules\n"].concat())
}

#[test]
fn unknown_types_are_refused_unless_they_may_be_ignored() {
    for code in [0, 7, 63, 128, 129, 135, 136, 191] {
        assert_eq!(inspect(&[frame(code, 0, b"")]).unwrap_err(), (ErrorKind::UnknownFrame, 0));
    }
    for code in [0, 1, 6, 63, 128, 136, 191] {
        assert_eq!(hear(&[frame(code, 0, b"")]).unwrap_err(), (ErrorKind::UnknownFrame, 0));
    }
    for code in [64, 127, 192, 255] {
        let ignored = frame(code, 255, &[0; 65_536]);
        assert_eq!(
            inspect(&[ignored.clone(), frame(0, 0, b"")]).unwrap_err(),
            (ErrorKind::UnknownFrame, 65_544)
        );
        assert!(hear(&[ignored, pass(10)]).is_ok());
        assert_eq!(inspect(&[frame(code, 0, &[0; 65_537])]).unwrap_err(), (ErrorKind::Length, 0));
    }
}

#[test]
fn a_length_is_refused_before_its_bytes_have_come() {
    let mut inspector = Inspector::new(Window::MAX);
    let header = [1, 0, 0, 0, 0, 1, 0, 1];
    assert_eq!(inspector.read(&mut &header[..]).unwrap_err().kind(), ErrorKind::Length);
    let mut inspector = Inspector::new(Window::MAX);
    let header = [4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(inspector.read(&mut &header[..]).unwrap_err().kind(), ErrorKind::Length);
    for (code, len) in [(129, 7), (129, 9), (130, 11), (134, 1), (131, 8_193)] {
        assert_eq!(hear(&[frame(code, 0, &vec![b'a'; len])]).unwrap_err(), (ErrorKind::Length, 0));
    }
}

#[test]
fn streams_and_flags_that_nobody_knows_are_refused() {
    let mut other = frame(1, 0, b"x");
    other[3] = 1;
    assert_eq!(inspect(&[other]).unwrap_err(), (ErrorKind::UnknownFrame, 0));
    for (code, flags) in [(1, 8), (2, 4), (3, 1), (4, 128), (5, 1), (6, 2)] {
        assert_eq!(inspect(&[frame(code, flags, b"")]).unwrap_err(), (ErrorKind::Flags, 0));
    }
    assert_eq!(hear(&[frame(129, 2, &[0; 8])]).unwrap_err(), (ErrorKind::Flags, 0));
}

#[test]
fn an_offset_neither_goes_back_nor_past_what_was_sent() {
    assert_eq!(hear(&[pass(10)]).unwrap().cleared(Way::ToServer), 10);
    assert_eq!(hear(&[pass(4), pass(4), pass(5)]).unwrap().cleared(Way::ToServer), 5);
    assert_eq!(hear(&[pass(4), pass(3)]).unwrap_err(), (ErrorKind::Offset, 16));
    assert_eq!(hear(&[pass(11)]).unwrap_err(), (ErrorKind::Offset, 0));
    assert_eq!(hear(&[frame(129, 1, &[0, 0, 0, 0, 0, 0, 0, 1])]).unwrap_err().0, ErrorKind::Offset);
    // An end that was not sent.
    assert_eq!(hear(&[frame(129, 4, &10u64.to_be_bytes())]).unwrap_err(), (ErrorKind::Offset, 0));
    assert_eq!(hear(&[drop(11, 0)]).unwrap_err(), (ErrorKind::Offset, 0));
    assert_eq!(hear(&[pass(4), drop(3, 0)]).unwrap_err(), (ErrorKind::Offset, 16));
    assert_eq!(hear(&[drop(10, 1)]).unwrap_err(), (ErrorKind::Offset, 0));
}

#[test]
fn nothing_is_cleared_behind_a_drop_or_a_failure() {
    let gateway = hear(&[pass(2), drop(5, 0)]).unwrap();
    assert!(gateway.is_condemned());
    assert_eq!((gateway.cleared(Way::ToServer), gateway.room(Way::ToServer)), (5, 0));
    assert_eq!(hear(&[drop(5, 0), pass(6)]).unwrap_err().0, ErrorKind::Sequence);
    assert_eq!(hear(&[drop(5, 0), drop(5, 0)]).unwrap_err().0, ErrorKind::Sequence);
    let fail = frame(131, 0, b"the engine stopped");
    assert_eq!(hear(&[fail.clone(), pass(6)]).unwrap_err().0, ErrorKind::Sequence);
    let mut gateway = hear(&[fail]).unwrap();
    let error = gateway.data(Way::ToServer, b"x", Mark::NONE, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sequence);
    assert!(gateway.end_of_input().is_ok());
}

#[test]
fn a_stream_that_stops_short_is_an_error() {
    assert_eq!(hear(&[pass(10)]).unwrap().end_of_input().unwrap_err().kind(), ErrorKind::Truncated);
    let data = frame(1, 0, b"x");
    let end = inspect(std::slice::from_ref(&data)).unwrap().end_of_input();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::Truncated);
    // The client is done and its end passed; the server is not.
    let mut inspector = inspect(&[frame(1, 4, b"x")]).unwrap();
    inspector.pass(Way::ToServer).unwrap();
    assert!(inspector.end_of_input().is_err());
    // After a cancel nothing is missing.
    assert!(inspect(&[data.clone(), frame(6, 0, b"reset")]).unwrap().end_of_input().is_ok());
    assert_eq!(inspect(&[frame(6, 0, b""), data]).unwrap_err(), (ErrorKind::Sequence, 8));
    // But for half a frame.
    let mut inspector = Inspector::new(Window::DEFAULT);
    let bytes = [frame(6, 0, b""), vec![5]].concat();
    let mut input = &bytes[..];
    assert_eq!(inspector.read(&mut input).unwrap(), Some(Command::Cancel("")));
    assert_eq!(inspector.read(&mut input).unwrap(), None);
    assert_eq!(inspector.end_of_input().unwrap_err().kind(), ErrorKind::Truncated);
}

#[test]
fn an_end_is_an_end() {
    let over = frame(1, 4, b"x");
    for late in [frame(1, 0, b"y"), frame(1, 4, b""), frame(2, 0, b"y")] {
        assert_eq!(inspect(&[over.clone(), late]).unwrap_err(), (ErrorKind::Sequence, 9));
    }
    let phase = frame(3, 0, b"Reason: next-mail\n");
    assert_eq!(inspect(&[over, phase]).unwrap_err(), (ErrorKind::Sequence, 9));
    assert_eq!(inspect(&[frame(1, 0, b"")]).unwrap_err(), (ErrorKind::Length, 0));
}

#[test]
fn both_directions_end_each_for_itself() {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut gateway = Gateway::new(Window::DEFAULT);
    let mut inspector = Inspector::new(Window::DEFAULT);
    gateway.data(Way::ToServer, b"ask", Mark::END, &mut up).unwrap();
    let mut input = &up[..];
    assert!(inspector.read(&mut input).unwrap().is_some());
    inspector.pass(Way::ToServer).unwrap();
    inspector.report(&mut down);
    assert_eq!(gateway.read(&mut &down[..]).unwrap(), Some(Answer::Passed(Way::ToServer)));
    assert!(gateway.end_cleared(Way::ToServer) && !gateway.is_complete());
    assert!(gateway.finish().is_err());
    (up, down) = (Vec::new(), Vec::new());
    gateway.data(Way::ToClient, b"", Mark::END, &mut up).unwrap();
    assert!(inspector.read(&mut &up[..]).unwrap().is_some());
    inspector.pass(Way::ToClient).unwrap();
    inspector.report(&mut down);
    assert_eq!(gateway.read(&mut &down[..]).unwrap(), Some(Answer::Passed(Way::ToClient)));
    assert!(gateway.is_complete() && inspector.is_complete());
    gateway.finish().unwrap();
    inspector.end_of_input().unwrap();
    gateway.end_of_input().unwrap();
}

#[test]
fn a_body_may_end_before_the_verdict_and_that_is_still_awaited() {
    let ended = || {
        let mut gateway = Gateway::new(Window::DEFAULT);
        let mut out = Vec::new();
        gateway.data(Way::ToServer, b"x", Mark::END, &mut out).unwrap();
        assert!(gateway.end_body().is_err(), "one direction goes on");
        gateway.data(Way::ToClient, b"", Mark::END, &mut out).unwrap();
        gateway.end_body().unwrap();
        assert!(gateway.ping(&mut out).is_err() && gateway.room(Way::ToServer) == 0);
        assert!(gateway.finish().is_err() && gateway.end_of_input().is_err());
        gateway
    };
    let mut gateway = ended();
    let passed = |way: u8, offset: u64| frame(129, way | 4, &offset.to_be_bytes());
    assert!(gateway.read(&mut &passed(1, 0)[..]).unwrap().is_some());
    assert!(gateway.finish().is_err() && gateway.end_of_input().is_err());
    assert!(gateway.read(&mut &passed(0, 1)[..]).unwrap().is_some());
    assert!(gateway.finish().is_ok() && gateway.end_of_input().is_ok());

    let mut dropped = ended();
    assert!(dropped.read(&mut &drop(0, 0)[..]).unwrap().is_some());
    assert!(dropped.end_of_input().is_ok() && dropped.finish().is_ok());

    // Nobody is to be told that no verdict is wanted any more.
    let (mut cancelled, mut out) = (ended(), Vec::new());
    cancelled.cancel("gone", &mut out).unwrap();
    assert!(out.is_empty() && cancelled.finish().is_ok());
}

#[test]
fn what_is_kept_is_not_passed_and_its_end_neither() {
    let mut inspector = inspect(&[frame(1, 0, b"a line\nand"), frame(1, 4, b" more")]).unwrap();
    inspector.pass_but(Way::ToServer, 8).unwrap();
    let mut out = Vec::new();
    assert!(inspector.report(&mut out));
    assert_eq!(out, pass(7));
    assert!(!inspector.is_complete());
    inspector.pass(Way::ToServer).unwrap();
    out.clear();
    assert!(inspector.report(&mut out));
    assert_eq!(out, frame(129, 4, &15u64.to_be_bytes()));
}

#[test]
fn a_phase_waits_for_the_verdict_on_the_last() {
    let data = frame(1, 0, b"x");
    let phase = frame(3, 0, b"Reason: next-mail\n");
    assert_eq!(inspect(&[data.clone(), phase.clone()]).unwrap_err(), (ErrorKind::Sequence, 9));
    let mut gateway = hear(&[]).unwrap();
    let error = gateway.phase(&Phase::new(Reason::NextMail), &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sequence);
    // A drop is one.
    let mut inspector = inspect(&[data]).unwrap();
    inspector.drop(Way::ToServer, &Dropped::default(), &mut Vec::new()).unwrap();
    let mut input = &phase[..];
    assert!(matches!(inspector.read(&mut input), Ok(Some(Command::Phase(_)))));
    let mut gateway = hear(&[drop(3, 0)]).unwrap();
    gateway.phase(&Phase::new(Reason::Blocked), &mut Vec::new()).unwrap();
    // The seven bytes that were dropped count, and stay where they are.
    assert_eq!((gateway.cleared(Way::ToServer), gateway.sent(Way::ToServer)), (10, 10));
    // The end of the flow before is told late, and does not concern this one.
    let late = drop(10, 0);
    let answer = gateway.read(&mut &late[..]).unwrap();
    assert!(matches!(answer, Some(Answer::Dropped { late: true, .. })));
    assert!(!gateway.is_condemned());
}

#[test]
fn a_ping_is_answered_once() {
    let ping = frame(5, 0, b"");
    assert_eq!(inspect(&[ping.clone(), ping]).unwrap_err(), (ErrorKind::Sequence, 8));
    assert_eq!(hear(&[frame(134, 0, b"")]).unwrap_err(), (ErrorKind::Sequence, 0));
    let mut gateway = hear(&[]).unwrap();
    let mut up = Vec::new();
    assert!(gateway.ping(&mut up).unwrap());
    assert!(!gateway.ping(&mut up).unwrap());
    assert_eq!(up.len(), 8);
    let pong = frame(134, 0, b"");
    assert_eq!(gateway.read(&mut &pong[..]).unwrap(), Some(Answer::Pong));
    assert!(gateway.ping(&mut up).unwrap());
}

#[test]
fn fields_are_what_they_say() {
    for bad in [
        &b"no colon\n"[..],
        b": nameless\n",
        b"a b: c\n",
        b"a: b",
        b"a: \xff\n",
        b"a: \x01\n",
        b"a: b\r\n",
        b"\n",
    ] {
        assert_eq!(inspect(&[frame(4, 0, bad)]).unwrap_err().0, ErrorKind::Fields, "{bad:?}");
    }
    assert_eq!(inspect(&[frame(4, 0, &b"a:b\n".repeat(65))]).unwrap_err().0, ErrorKind::Fields);
    assert!(inspect(&[frame(4, 0, &b"a:b\n".repeat(64))]).is_ok());
    for bad in [
        &b""[..],
        b"Reason: whim\n",
        b"Reason: reload\nTuple: 10.0.0.1:1\n",
        b"Reason: reload\nTuple: 10.0.0.1:1 mail:25\n",
    ] {
        assert_eq!(inspect(&[frame(3, 0, bad)]).unwrap_err().0, ErrorKind::Fields, "{bad:?}");
    }
    assert_eq!(hear(&[frame(132, 0, b"Message: x\n")]).unwrap_err().0, ErrorKind::Fields);
    assert_eq!(hear(&[frame(132, 0, b"Signature-Id: x\n")]).unwrap_err().0, ErrorKind::Fields);
    assert_eq!(hear(&[frame(133, 0, b"smtp\n")]).unwrap_err().0, ErrorKind::Fields);
    let mut fields = Fields::new();
    assert!(fields.push("a b", "c").is_err());
    fields.push("Long", &"ü".repeat(5_000)).unwrap();
    assert_eq!(fields.value("long").unwrap().len(), 1_024);
    let full = (0..100).map(|_| fields.push("Long", &"ü".repeat(600))).find_map(Result::err);
    assert_eq!(full.unwrap().kind(), ErrorKind::Fields);
}

#[test]
fn a_phase_keeps_what_it_says() {
    let phase = Phase {
        proto: Some("ftp-data".to_owned()),
        reason: Reason::Reload,
        transaction: Some("t-1".to_owned()),
        tuple: Some(("[2001:db8::1]:4000".parse().unwrap(), "[2001:db8::2]:20".parse().unwrap())),
    };
    let mut up = Vec::new();
    Gateway::new(Window::DEFAULT).phase(&phase, &mut up).unwrap();
    let mut inspector = Inspector::new(Window::DEFAULT);
    assert_eq!(inspector.read(&mut &up[..]).unwrap(), Some(Command::Phase(phase)));
}

#[test]
fn offers_are_read_strictly() {
    let parse = |value: &str| Offer::parse(value).map_err(|error: Error| error.kind());
    assert_eq!(parse("raw-heads, decodes=br+gzip, hold=1048576"), Ok(None));
    let offer = Offer { version: 1, window: Window::DEFAULT, streams: None };
    assert_eq!(parse("raw-heads, stream=1"), Ok(Some(offer)));
    let offer = Offer { version: 3, window: Window::new(100).unwrap(), streams: Some(5_000) };
    assert_eq!(parse("stream=3 , window= 100,streams=5000, release"), Ok(Some(offer)));
    assert_eq!(parse(&format!("hold=1, {offer}")), Ok(Some(offer)));
    for bad in [
        "stream=0",
        "stream=x",
        "stream=",
        "stream=1, stream=1",
        "stream=1, window=0",
        "stream=1, window=16777217",
        "stream=1, window=1, window=2",
        "stream=1, streams=4294967296",
    ] {
        assert_eq!(parse(bad), Err(ErrorKind::Offer), "{bad}");
    }
}
