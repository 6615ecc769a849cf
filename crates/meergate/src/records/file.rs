//! Files to which records are appended whole or not at all, however full the disk is.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

/// Bytes that are written at once.
const ROOM: usize = 64 * 1024;
/// How often losses are told of while they go on.
const AGAIN: Duration = Duration::from_secs(60);

/// A file of records. What was pushed is in it once it has been flushed.
#[derive(Debug)]
pub(crate) struct Records {
    file: File,
    waiting: Vec<u8>,
    /// Where records end in `waiting`.
    ends: Vec<usize>,
}

/// Records that are not in the file.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) records: u64,
    /// A part of one is in the file, and could not be taken back.
    pub(crate) is_torn: bool,
    pub(crate) error: io::Error,
}

impl Lost {
    /// One record, of which nothing was written.
    pub(crate) fn one(error: io::Error) -> Self {
        Self { records: 1, is_torn: false, error }
    }
}

impl Records {
    /// For a file that was opened for appending.
    pub(crate) fn new(file: File) -> Self {
        Self { file, waiting: Vec::with_capacity(ROOM), ends: Vec::new() }
    }

    pub(crate) fn push(&mut self, record: &[u8]) -> Result<(), Lost> {
        self.waiting.extend_from_slice(record);
        self.ends.push(self.waiting.len());
        match self.waiting.len() < ROOM {
            true => Ok(()),
            false => self.flush(),
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Lost> {
        let (written, result) = write(&mut self.file, &self.waiting);
        let whole = self.ends.partition_point(|end| *end <= written);
        let surplus = written - whole.checked_sub(1).map_or(0, |last| self.ends[last]);
        let records = (self.ends.len() - whole) as u64;
        self.ends.clear();
        self.waiting.clear();
        // One long record is not to take its room for ever.
        self.waiting.shrink_to(ROOM);
        result.map_err(|error| {
            let is_torn = surplus > 0 && self.take_back(surplus as u64).is_err();
            Lost { records, is_torn, error }
        })
    }

    /// Ends a torn line, so that the next one is whole.
    pub(crate) fn end_torn_line(&mut self) {
        self.waiting.push(b'\n');
    }

    fn take_back(&self, surplus: u64) -> io::Result<()> {
        // Others may have shortened it meanwhile, as some do that rotate logs.
        let length = self.file.metadata()?.len();
        self.file.set_len(length.saturating_sub(surplus))
    }
}

/// Writes as much as goes; how much it was.
fn write(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (written, Err(e)),
        }
    }
    (written, Ok(()))
}

/// Counts what is lost, and says so, but not for each.
#[derive(Debug)]
pub(crate) struct Losses {
    what: String,
    counter: Counter,
    untold: u64,
    told: Option<Instant>,
}

impl Losses {
    /// `what` can't be written, as the log will call it.
    pub(crate) fn of(what: String, counter: Counter) -> Self {
        Self { what, counter, untold: 0, told: None }
    }

    pub(crate) fn note(&mut self, lost: &Lost) {
        self.counter.inc_by(lost.records);
        self.untold += lost.records;
        if self.told.is_none_or(|told| told.elapsed() >= AGAIN) {
            let Self { what, untold, .. } = &self;
            tracing::error!(error = %lost.error, lost = untold, "{what} cannot be written");
            (self.told, self.untold) = (Some(Instant::now()), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn what_a_full_device_does_not_take_is_lost_whole() {
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut records = Records::new(full);
        records.push(b"one\n").unwrap();
        records.push(b"two\n").unwrap();
        let lost = records.flush().unwrap_err();
        assert_eq!((lost.records, lost.is_torn), (2, false));
        records.flush().unwrap();
        let mut large = 0;
        let lost = loop {
            large += 1;
            if let Err(lost) = records.push(&[b'x'; 1000]) {
                break lost;
            }
        };
        assert_eq!(lost.records, large);
    }
}
