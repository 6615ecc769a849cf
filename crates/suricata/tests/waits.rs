//! Every wait for workers has an end. A process has one engine, so each case runs in a process of its own.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::task::Poll;

use common::{alone, write};
use suricata::{Engine, EngineConfig, ErrorKind, Verdict, Worker};

#[test]
fn a_seed_thrown_away_stops_the_others_instead_of_letting_them_wait() {
    if !alone("a_seed_thrown_away_stops_the_others_instead_of_letting_them_wait") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let (engine, mut seeds) = Engine::start(EngineConfig::new().rules([rules]).workers(2)).unwrap();
    drop(seeds.pop());
    let error = seeds.pop().unwrap().attach().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Stopped);
    engine.stop().unwrap();
}

#[test]
fn a_thread_that_would_wait_for_itself_is_told() {
    if !alone("a_thread_that_would_wait_for_itself_is_told") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let (engine, mut seeds) = Engine::start(EngineConfig::new().rules([rules])).unwrap();
    let mut worker = seeds.pop().unwrap().attach().unwrap();
    assert_eq!(engine.reload().unwrap_err().kind(), ErrorKind::Misuse);
    // Nothing has come of it.
    let dirty = common::with_length(common::EICAR);
    let verdict =
        common::exchange(&mut worker, common::tuple(1), &common::get("/"), &dirty, 99).unwrap();
    assert!(verdict.is_drop());
    assert_eq!(engine.stop().unwrap_err().kind(), ErrorKind::Misuse);
    drop(worker);
}

#[test]
fn one_thread_reloads_while_it_feeds() {
    if !alone("one_thread_reloads_while_it_feeds") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let (engine, mut seeds) = Engine::start(EngineConfig::new().rules([&rules])).unwrap();
    let mut worker = seeds.pop().unwrap().attach().unwrap();
    let reload = |worker: &mut Worker| {
        let mut reload = engine.begin_reload()?;
        assert_eq!(engine.begin_reload().unwrap_err().kind(), ErrorKind::Rules);
        loop {
            match reload.poll() {
                Poll::Ready(result) => return result,
                Poll::Pending => worker.idle()?,
            }
        }
    };
    let clean = common::with_length(b"x");
    let ask = |worker: &mut Worker, path| {
        common::exchange(worker, common::tuple(1), &common::get(path), &clean, 99)
    };
    assert_eq!(ask(&mut worker, "/new").unwrap(), Verdict::Pass);
    let new = "drop http any any -> any any (msg:\"new\"; http.uri; content:\"/new\"; sid:9;)\n";
    write(folder.path(), "my.rules", &format!("{}{new}", common::RULES));
    assert_eq!(reload(&mut worker).unwrap().good, 7);
    assert_eq!(common::sid(&ask(&mut worker, "/new").unwrap()), Some(9));
    write(folder.path(), "my.rules", "no rule\n");
    assert_eq!(reload(&mut worker).unwrap_err().kind(), ErrorKind::Rules);
    assert_eq!(common::sid(&ask(&mut worker, "/new").unwrap()), Some(9));

    // Of one that nobody waits for nobody knows the end.
    write(folder.path(), "my.rules", common::RULES);
    drop(engine.begin_reload().unwrap());
    assert_eq!(ask(&mut worker, "/").unwrap_err().kind(), ErrorKind::InspectionFailed);
    let ended = loop {
        worker.idle().unwrap();
        match reload(&mut worker) {
            // The one before is not over.
            Err(error) if error.kind() == ErrorKind::Rules => {}
            other => break other,
        }
    };
    assert_eq!(ended.unwrap().good, 6);
    assert_eq!(ask(&mut worker, "/new").unwrap(), Verdict::Pass);
    drop(worker);
    engine.stop().unwrap();
}

#[test]
fn seeds_attached_one_after_another_on_one_thread_give_up_in_the_end() {
    if !alone("seeds_attached_one_after_another_on_one_thread_give_up_in_the_end") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let config = EngineConfig::new().rules([rules]).workers(2);
    let (engine, seeds) =
        Engine::start(config.patience(std::time::Duration::from_millis(300))).unwrap();
    let kinds = seeds.into_iter().map(|seed| seed.attach().err().map(|error| error.kind()));
    let kinds = kinds.collect::<Vec<_>>();
    assert_eq!(kinds, [Some(ErrorKind::TimedOut), Some(ErrorKind::Stopped)]);
    engine.stop().unwrap();
}

#[test]
fn many_workers_feed_at_once() {
    if !alone("many_workers_feed_at_once") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    let (engine, seeds) = Engine::start(EngineConfig::new().rules([rules]).workers(4)).unwrap();
    // The first worker that is dropped stops the engine.
    let done = std::sync::Arc::new(std::sync::Barrier::new(seeds.len()));
    let feeders = seeds
        .into_iter()
        .map(|seed| {
            let done = std::sync::Arc::clone(&done);
            std::thread::spawn(move || {
                let mut worker = seed.attach().unwrap();
                for round in 0..500 {
                    let body = if round % 2 == 0 { common::EICAR } else { b"clean" };
                    let message = common::with_length(body);
                    // All workers use the same tuple.
                    let verdict = common::exchange(
                        &mut worker,
                        common::tuple(1),
                        &common::get("/"),
                        &message,
                        20,
                    )
                    .unwrap();
                    assert_eq!(common::sid(&verdict), (round % 2 == 0).then_some(1_000_001));
                }
                done.wait();
            })
        })
        .collect::<Vec<_>>();
    for feeder in feeders {
        feeder.join().unwrap();
    }
    engine.stop().unwrap();
}

#[test]
fn an_engine_that_gives_up_with_its_workers_at_the_door_lets_them_go_and_says_why() {
    if !alone("an_engine_that_gives_up_with_its_workers_at_the_door_lets_them_go_and_says_why") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = write(folder.path(), "my.rules", common::RULES);
    // Too few for the threads that there are: Suricata finds out when all of them wait for each other.
    let config = EngineConfig::new().rules([&rules]).workers(2).set("max-pending-packets", "8");
    let (engine, seeds) = Engine::start(config).unwrap();
    let (told, errors) = std::sync::mpsc::sync_channel(2);
    for seed in seeds {
        let told = told.clone();
        std::thread::spawn(move || told.send(seed.attach().err()).unwrap());
    }
    for _ in 0..2 {
        let error = errors.recv_timeout(std::time::Duration::from_secs(60)).expect("a word");
        let error = error.expect("an error");
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
        assert!(error.to_string().contains("max-pending-packets"), "{error}");
    }
    assert_eq!(engine.reload().unwrap_err().kind(), ErrorKind::Stopped);
    assert!(!engine.is_running());
    engine.stop().unwrap();
}
