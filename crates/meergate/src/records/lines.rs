//! A file of JSON lines, written by a thread of its own so that no connection waits for the disk.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use start_error::StartError;

use crate::files;
use crate::metrics::{LogLabels, Metrics};
use crate::records::{Losses, Lost, Records};
use crate::words::LogName;

/// Lines that may wait for the disk; more are lost, and counted.
const QUEUE: usize = 16 * 1024;

/// A file of JSON lines. What is written before it is dropped reaches the file.
#[derive(Debug)]
pub struct Lines {
    queue: Option<SyncSender<Entry>>,
    writer: Option<JoinHandle<()>>,
    lost: Counter,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    Reopen,
}

impl Lines {
    /// Opens `path` for appending; made with mode 0640 if it does not exist. `name` labels the
    /// metric of lost lines.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread can be started.
    pub fn open(path: &Path, name: LogName, metrics: &Metrics) -> Result<Self, StartError> {
        let refuse = |e: std::io::Error| {
            StartError::new(
                format!("cannot write the {name} log ({e})"),
                path.display().to_string(),
                "name a file in a directory that this user may write to",
            )
        };
        let file = append_to(path).map_err(refuse)?;
        let (queue, entries) = sync_channel(QUEUE);
        let path = path.to_owned();
        let lost = metrics.log_lines_lost.get_or_create(&LogLabels { log: name }).clone();
        let losses = Losses::of(format!("the {name} log {}", path.display()), lost.clone());
        let writer = thread::Builder::new()
            .name(format!("log-{name}"))
            .spawn(move || write_all(&path, file, &entries, losses))
            .map_err(refuse)?;
        Ok(Self { queue: Some(queue), writer: Some(writer), lost })
    }

    /// Appends `record` as one line. Never waits: when the queue is full, the line is lost and counted.
    pub fn write(&self, record: &impl Serialize) {
        match serde_json::to_vec(record) {
            Ok(mut line) => {
                line.push(b'\n');
                self.send(Entry::Line(line));
            }
            Err(_) => drop(self.lost.inc()),
        }
    }

    /// Opens the file's path anew, after something else has moved the file away.
    pub fn reopen(&self) {
        self.send(Entry::Reopen);
    }

    fn send(&self, entry: Entry) {
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(entry).is_err()) {
            self.lost.inc();
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn append_to(path: &Path) -> std::io::Result<File> {
    files::open(OpenOptions::new().append(true), path, 0o640)
}

fn write_all(path: &Path, file: File, entries: &Receiver<Entry>, mut losses: Losses) {
    let mut file = Records::new(file);
    while let Ok(first) = entries.recv() {
        let mut next = Some(first);
        // All that waits goes out in one write.
        while let Some(entry) = next {
            let done = match entry {
                Entry::Line(line) => file.push(&line),
                Entry::Reopen => file.flush().and_then(|()| reopen(&mut file, path)),
            };
            note(done, &mut file, &mut losses);
            next = entries.try_recv().ok();
        }
        let done = file.flush();
        note(done, &mut file, &mut losses);
    }
}

fn reopen(file: &mut Records, path: &Path) -> Result<(), Lost> {
    // The former one is gone on with if there is no other.
    let opened = append_to(path).map_err(|error| Lost { records: 0, is_torn: false, error })?;
    *file = Records::new(opened);
    Ok(())
}

fn note(done: Result<(), Lost>, file: &mut Records, losses: &mut Losses) {
    let Err(lost) = done else { return };
    losses.note(&lost);
    if lost.is_torn {
        file.end_torn_line();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_reach_the_file_before_the_drop_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        let metrics = Metrics::new();
        let lines = Lines::open(&path, LogName::Transactions, &metrics).unwrap();
        for n in 0..1000 {
            lines.write(&json!({ "n": n }));
        }
        drop(lines);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert_eq!(text.lines().last(), Some(r#"{"n":999}"#));
    }

    #[test]
    fn a_moved_file_is_left_alone_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        let lines = Lines::open(&path, LogName::Transactions, &Metrics::new()).unwrap();
        lines.write(&json!(1));
        // The writer takes entries in order, so the first line is flushed before the reopening.
        std::fs::rename(&path, dir.path().join("old.json")).unwrap();
        lines.reopen();
        lines.write(&json!(2));
        drop(lines);
        assert_eq!(std::fs::read_to_string(dir.path().join("old.json")).unwrap(), "1\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2\n");
    }

    #[test]
    fn an_impossible_place_is_an_error() {
        let e = Lines::open(Path::new("/nonexistent/x"), LogName::Connections, &Metrics::new());
        assert!(e.unwrap_err().to_string().contains("/nonexistent/x"));
    }
}
