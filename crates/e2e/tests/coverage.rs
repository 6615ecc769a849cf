//! How much of a public rule set can match at all, by class, and for samples of each class that it does: shown to the
//! inspector as the gateway shows it. `docs/coverage.md` has the table; `MEERGATE_WRITE=1` writes it anew.

#[path = "coverage/rules.rs"]
mod rules;
#[path = "coverage/samples.rs"]
mod samples;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use e2e::Inspector;
use icap_client::{Chain, Mark, StreamEvent, Streams, TransactionInfo, Way};
use rules::{Class, Rule};
use samples::Sample;
use tempfile::TempDir;
use tokio::time::timeout;

/// Bounds how long a failing test hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const TABLE: &str = "docs/coverage.md";
const BEGIN: &str = "<!-- table: written by crates/e2e/tests/coverage.rs -->\n";

/// What has been tried of a class.
#[derive(Default)]
struct Tried {
    rules: usize,
    proven: usize,
    missed: Vec<u32>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_each_class_stop_what_they_are_about() {
    let shared = std::env::var_os("MEERGATE_SHARED")
        .map_or_else(|| e2e::programs::root().join("../shared"), PathBuf::from);
    let at = shared.join("data/et-open/emerging-2025-08.rules");
    let Ok(text) = fs::read_to_string(&at) else {
        println!("skipped: {} is not there (set MEERGATE_SHARED)", at.display());
        return;
    };
    let all = text.lines().filter_map(Rule::parse).collect::<Vec<_>>();
    assert_eq!(all.len(), text.lines().count(), "rules that cannot be read");
    let chosen = samples::choose(&all);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("my.rules");
    let lines = chosen.iter().map(|sample| sample.rule.as_str());
    fs::write(&file, lines.collect::<String>()).expect("rules");
    let inspector = Inspector::start(["--rules".as_ref(), file.as_os_str()]);
    let chain = Chain::from_urls(&[inspector.url()]).expect("a chain");

    // Several rules may be about the same bytes, and one of them drops: the events have all.
    let mut dropped = BTreeSet::new();
    for sample in &chosen {
        dropped.extend(show(&chain, sample).await.then_some(sample.sid));
    }
    let stopped = dropped.len();
    let mut alerted = BTreeSet::new();
    let ends = tokio::time::Instant::now() + PATIENCE;
    while chosen.iter().any(|sample| !alerted.contains(&sample.sid)) {
        let events = inspector.eve();
        let sids = events.iter().filter_map(|event| event["alert"]["signature_id"].as_u64());
        let before = alerted.len();
        alerted.extend(sids.filter_map(|sid| u32::try_from(sid).ok()));
        if alerted.len() == before && tokio::time::Instant::now() > ends - PATIENCE * 9 / 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut table = String::from(
        "| class | rules | can match | where | tried | dropped what they are about |\n|---|---|---|---|---|---|\n",
    );
    let (mut rules, mut matching, mut missed_of_all) = (0, 0, Vec::new());
    for class in Class::ALL {
        let count = all.iter().filter(|rule| rule.class == class).count();
        let mut tried = Tried::default();
        for sample in chosen.iter().filter(|sample| sample.class == class) {
            tried.rules += 1;
            match dropped.contains(&sample.sid) && alerted.contains(&sample.sid) {
                true => tried.proven += 1,
                false => tried.missed.push(sample.sid),
            }
        }
        let can = if class.can_match() { count } else { 0 };
        (rules, matching) = (rules + count, matching + can);
        let sample = match tried.rules {
            0 => "– | –".to_owned(),
            n => format!("{n} | {}", tried.proven),
        };
        let _ =
            writeln!(table, "| {} | {count} | {can} | {} | {sample} |", class.name(), class.by());
        println!("{}: missed {:?}", class.name(), tried.missed);
        missed_of_all.extend(tried.missed);
    }
    let share = matching as f64 * 100.0 / rules as f64;
    let _ = writeln!(
        table,
        "| all | {rules} | {matching} ({share:.1} %) | | {} | {} |",
        chosen.len(),
        chosen.len() - missed_of_all.len()
    );
    println!("{table}{stopped} stopped");
    // What neither of them is about is a sample that was not made well.
    assert!(missed_of_all.len() * 50 <= chosen.len(), "{missed_of_all:?}");
    let path = e2e::programs::root().join(TABLE);
    let page = fs::read_to_string(&path).expect("the page");
    let (head, written) = page.split_once(BEGIN).expect("where the table begins");
    if std::env::var_os("MEERGATE_WRITE").is_some() {
        fs::write(&path, format!("{head}{BEGIN}{table}")).expect("the page");
    } else {
        assert_eq!(written, table, "MEERGATE_WRITE=1 writes {TABLE} anew");
    }
}

/// Whether any of that is dropped.
async fn show(chain: &Chain, sample: &Sample) -> bool {
    let mut info = TransactionInfo::new("tcp", "c1", "t1");
    info.client = Some(([192, 0, 2, 7], sample.client_port).into());
    info.server = Some(([198, 51, 100, 9], sample.server_port).into());
    let authority = format!("server.example:{}", sample.server_port);
    let opened = timeout(PATIENCE, chain.stream(&info, &authority)).await;
    let mut streams = opened.expect("in time").expect("a stream").expect("somebody to inspect it");
    for (way, bytes) in &sample.steps {
        if !passes(&mut streams, *way, bytes).await {
            return true;
        }
    }
    false
}

async fn passes(streams: &mut Streams, way: Way, bytes: &[u8]) -> bool {
    streams.show(way, bytes, Mark::NONE).expect("shown");
    streams.ping().expect("asked");
    loop {
        match timeout(PATIENCE, streams.event()).await.expect("in time").expect("a verdict") {
            StreamEvent::Dropped(_) => return false,
            StreamEvent::Pong => return true,
            _ => {}
        }
    }
}
