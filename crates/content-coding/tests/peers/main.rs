//! Whatever clients make of a stream, the decoder has written it before, or the client did not get
//! that far.
//!
//! Contents at random go through the decoder. What it calls settled goes to Python, node, Go, Java
//! and curl, which decode it in their ways: none may read anything that the decoder had not
//! written by then. `MEERGATE_CONTENTS` says how many contents, `MEERGATE_SEED` which ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]
#![allow(unreachable_pub, reason = "a test of several files")]

mod clients;
mod contents;
mod curl;
mod damage;
mod released;

use std::path::Path;
use std::{env, fs, thread};

use clients::{Client, Reading};
use content_coding::Codings;
use contents::{Content, MARKER};
use curl::Message;
use fastrand::Rng;
use released::Released;

const CONTENTS: u64 = 3000;
const BATCH: u64 = 200;

#[test]
fn no_client_reads_what_the_decoder_had_not_written() {
    let number = |name| env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let count = number("MEERGATE_CONTENTS").unwrap_or(CONTENTS);
    let seed = number("MEERGATE_SEED").unwrap_or(1);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("peers-{seed}"));
    // What a run that was stopped has left would be taken for what clients read.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut clients = Client::all(&folder);
    let mut counts = Counts::default();
    for first in (0..count).step_by(BATCH as usize) {
        let batch: Vec<_> = (first..count.min(first + BATCH))
            .map(|number| {
                let mut random = Rng::with_seed(seed << 32 | number);
                let content = Content::any(&mut random);
                let codings = Codings::parse(content.fields.iter().map(String::as_bytes)).unwrap();
                let released = Released::of(codings, &content.coded, &mut random);
                (number, content, released)
            })
            .collect();
        let readings = readings(&batch, &mut clients, &folder);
        for ((number, content, released), readings) in batch.iter().zip(&readings) {
            counts.check(&format!("{seed}, {number}"), content, released, readings);
        }
    }
    println!("{counts:?}");
    fs::remove_dir_all(&folder).unwrap();
    // The test sees something.
    assert!(counts.whole > count / 5 && counts.refused > count / 20);
    assert!(counts.markers > count / 2, "{counts:?}");
}

/// Of each content of the batch, by everyone.
fn readings(
    batch: &[(u64, Content, Released)],
    clients: &mut [Client],
    folder: &Path,
) -> Vec<Vec<Reading>> {
    let mut all: Vec<Vec<Reading>> = thread::scope(|scope| {
        let each: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let read_all = move || batch.iter().map(|(_, _, one)| client.read(one)).collect();
                scope.spawn(read_all)
            })
            .collect();
        let mut all: Vec<Vec<Reading>> = batch.iter().map(|_| Vec::new()).collect();
        for client in each {
            let readings: Vec<Vec<Reading>> = client.join().unwrap();
            all.iter_mut().zip(readings).for_each(|(all, more)| all.extend(more));
        }
        all
    });
    let messages: Vec<_> = batch
        .iter()
        .map(|(_, content, released)| Message { fields: &content.fields, pieces: &released.pieces })
        .collect();
    let by_curl = curl::read_all(&messages, folder);
    all.iter_mut().zip(by_curl).for_each(|(all, reading)| all.push(reading));
    all
}

#[derive(Debug, Default)]
struct Counts {
    /// Contents that were decoded to their end.
    whole: u64,
    /// Contents with an error.
    refused: u64,
    /// Readings in which the marker was found.
    markers: u64,
}

impl Counts {
    fn check(&mut self, which: &str, content: &Content, released: &Released, all: &[Reading]) {
        let fail = |what: &str| {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("failed-content");
            fs::write(&file, &content.coded).unwrap();
            let (fields, error) = (&content.fields, &released.error);
            panic!("{what}: {fields:?} (seed {which}, {error:?}), see {}", file.display());
        };
        self.whole += u64::from(released.whole);
        self.refused += u64::from(released.error.is_some());
        if content.honest {
            if released.error.is_some() {
                fail("an honest content is refused");
            }
            if !content.plain.starts_with(&released.shown) {
                fail("an honest content is read as another");
            }
        }
        for Reading { by, read } in all {
            if !released.shown.starts_with(read) {
                fail(&format!("{by} read {} bytes otherwise or more", read.len()));
            }
            self.markers += u64::from(read.windows(MARKER.len()).any(|found| found == MARKER));
            if content.honest && released.whole && by.ends_with("urllib3") && *read != content.plain
            {
                fail(&format!("{by} does not read an honest content"));
            }
        }
    }
}
