//! What a reload of rules costs those who are served meanwhile: latency while one is under way,
//! and while none is, in one run.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use crate::interrupt;
use crate::load::icap::{Caller, Kind, Load};
use crate::peers::Inspector;
use crate::proc;

/// Before the first reload, and between each two.
const PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked whether the new rules are still being tried.
const GLANCE: Duration = Duration::from_millis(2);

/// What was in the way of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing.
    Quiet,
    /// A process of its own tries the new rules.
    Trial,
    /// The engine that serves loads them.
    Load,
}

/// From when on a phase lasted.
type Change = (Instant, Phase);

/// One transaction: when it began, and how long it took.
type Shot = (Instant, Duration);

/// Reloads `rules` so many times under the load of so many connections, and says what it cost.
///
/// # Errors
/// A reload is refused, or a transaction fails.
pub fn measure(rules: &Path, connections: usize, times: usize) -> Result<String, String> {
    let inspector = Inspector::start(rules);
    let load = Load {
        server: inspector.addr(),
        paths: ("/suricata".into(), "/suricata".into()),
        kind: Kind::Respmod,
        body: 1 << 10,
        preview: None,
        allow_204: true,
        tuple: Some(1),
        extra: String::new(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..connections.min(2))
        .map(|first| {
            let (load, stop) = (load.clone(), stop.clone());
            let mine: Vec<_> = (first..connections).step_by(2).collect();
            thread::spawn(move || press(&load, mine, &stop))
        })
        .collect();
    thread::sleep(PAUSE);
    let began = Instant::now();
    let cpu = proc::cpu_seconds(&[inspector.pid()]);
    let changes = reloads(&inspector, times);
    let seconds = began.elapsed().as_secs_f64();
    let cpu = proc::cpu_seconds(&[inspector.pid()]) - cpu;
    stop.store(true, Ordering::Relaxed);
    interrupt::check().map_err(|error| error.to_string())?;
    let mut shots = Vec::new();
    for thread in threads {
        shots.extend(thread.join().expect("a generator thread")?);
    }
    shots.retain(|(start, _)| *start >= began);
    let changes = changes?;
    let mut text = format!(
        "{connections} connections, {times} reloads in {seconds:.0} s, {:.0} transactions a second, \
         {cpu:.0} s of CPU, none failed\n",
        shots.len() as f64 / seconds
    );
    let quiet = report(&mut text, "no reload", &changes, &shots, &[Phase::Quiet]);
    let under_way = [Phase::Trial, Phase::Load];
    let during = report(&mut text, "reload", &changes, &shots, &under_way);
    report(&mut text, "  trial", &changes, &shots, &under_way[..1]);
    report(&mut text, "  load", &changes, &shots, &under_way[1..]);
    let _ = writeln!(text, "p99 during reloads: {:.2} times that of the rest", during / quiet);
    Ok(text)
}

fn press(load: &Load, mine: Vec<usize>, stop: &Arc<AtomicBool>) -> Result<Vec<Shot>, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    LocalSet::new().block_on(&runtime, async {
        let mut all = JoinSet::new();
        for number in mine {
            let (mut caller, stop) = (Caller::new(load.clone(), number), stop.clone());
            all.spawn_local(async move {
                let mut shots = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let done = caller.call().await?;
                    if !done.right {
                        return Err("a reply is not the expected one".to_owned());
                    }
                    shots.push((start, start.elapsed()));
                }
                Ok::<_, String>(shots)
            });
        }
        let mut shots = Vec::new();
        while let Some(one) = all.join_next().await {
            shots.extend(one.expect("a connection of the generator")?);
        }
        Ok(shots)
    })
}

fn reloads(inspector: &Inspector, times: usize) -> Result<Vec<Change>, String> {
    let mut changes = vec![(Instant::now(), Phase::Quiet)];
    for _ in 0..times {
        thread::sleep(PAUSE);
        changes.push((Instant::now(), Phase::Trial));
        let mut reload = inspector.reload();
        let mut tried = false;
        let mut loads = false;
        let ended = loop {
            thread::sleep(GLANCE);
            if let Some(status) = reload.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            let trying = proc::children(inspector.pid()) > 1;
            tried |= trying;
            if tried && !trying && !std::mem::replace(&mut loads, true) {
                changes.push((Instant::now(), Phase::Load));
            }
        };
        changes.push((Instant::now(), Phase::Quiet));
        interrupt::check().map_err(|error| error.to_string())?;
        if !ended.success() {
            return Err("a reload was refused".to_owned());
        }
    }
    thread::sleep(PAUSE);
    changes.push((Instant::now(), Phase::Quiet));
    Ok(changes)
}

/// A line about what began or ended in these phases; the 99th percentile in milliseconds.
fn report(
    text: &mut String,
    what: &str,
    changes: &[Change],
    shots: &[Shot],
    wanted: &[Phase],
) -> f64 {
    let phase = |at: Instant| {
        let after = changes.partition_point(|(begin, _)| *begin <= at);
        after.checked_sub(1).map_or(Phase::Quiet, |index| changes[index].1)
    };
    // What a reload met counts as its, at whichever end.
    let of = |(start, took): &Shot| match phase(*start) {
        Phase::Quiet => phase(*start + *took),
        reload => reload,
    };
    let mut micros: Vec<u128> = shots
        .iter()
        .filter(|shot| wanted.contains(&of(shot)))
        .map(|(_, took)| took.as_micros())
        .collect();
    micros.sort_unstable();
    let seconds: f64 = changes
        .windows(2)
        .filter(|pair| wanted.contains(&pair[0].1))
        .map(|pair| (pair[1].0 - pair[0].0).as_secs_f64())
        .sum();
    let at = |permille: usize| {
        let index = (micros.len() * permille / 1000).min(micros.len().saturating_sub(1));
        micros.get(index).map_or(0.0, |us| *us as f64 / 1000.0)
    };
    let _ = writeln!(
        text,
        "{what:10} {seconds:>6.1} s {:>8.0}/s  p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.1} ms",
        micros.len() as f64 / seconds,
        at(500),
        at(900),
        at(990),
        at(999),
        at(1000)
    );
    at(990)
}
