//! Text files that somebody else writes: read whole, or not at all.
//!
//! A half-written file often parses. It then means something its author did not want. What tells
//! such a file: it changes while it is looked at, its last line has no end, or it is the beginning
//! of what it was before.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// For how long nobody may have written to a file that is taken for finished.
const REST: Duration = Duration::from_millis(500);

/// How long a file that is written to is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a file is not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cut {
    /// It is the beginning of what it was before.
    Beginning,
    /// Its last line has no end.
    Unended,
    /// It is not there, or may not be read.
    Unreadable(io::Error),
    /// It was written to for all the ten seconds that it was waited for.
    Unsettled,
}

impl Cut {
    /// What the operator may do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Beginning => {
                "complete it; if that is meant, add a line at its end, such as a comment"
            }
            Self::Unended => "complete it, and end its last line",
            Self::Unreadable(_) => "name a readable file",
            Self::Unsettled => "write it elsewhere, rename it, and try again",
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => {
                f.write_str("the file is only the beginning of what it was, as if it was cut")
            }
            Self::Unended => f.write_str("the file's last line has no end, as if it was cut"),
            Self::Unreadable(error) => write!(f, "the file cannot be read ({error})"),
            Self::Unsettled => f.write_str("the file is being written"),
        }
    }
}

impl std::error::Error for Cut {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::Beginning | Self::Unended | Self::Unsettled => None,
        }
    }
}

/// Reads the text file at `path`, which held `former` before. Blocks for half a second if the file is
/// younger, for ten at most. What is no regular file can be read once only, and is not waited for.
///
/// # Errors
/// It is not whole, as far as can be told.
pub fn read(path: &Path, former: Option<&[u8]>) -> Result<Vec<u8>, Cut> {
    let bytes = settled(path)?;
    if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
        return Err(Cut::Unended);
    }
    match former {
        Some(former) if is_beginning(&bytes, former) => Err(Cut::Beginning),
        _ => Ok(bytes),
    }
}

/// Whether `text` is some of the first lines of `former`, whatever blank ones follow.
fn is_beginning(text: &[u8], former: &[u8]) -> bool {
    let text = text.trim_ascii_end();
    let rest = former.trim_ascii_end().strip_prefix(text);
    rest.is_some_and(|rest| match rest.first() {
        None => false,
        Some(next) => text.is_empty() || next.is_ascii_whitespace(),
    })
}

fn settled(path: &Path) -> Result<Vec<u8>, Cut> {
    let began = Instant::now();
    let mut last = Look::at(path).map_err(Cut::Unreadable)?;
    while !last.rests() {
        if began.elapsed() > PATIENCE {
            return Err(Cut::Unsettled);
        }
        thread::sleep(REST);
        let look = Look::at(path).map_err(Cut::Unreadable)?;
        if look == last {
            break;
        }
        last = look;
    }
    Ok(last.bytes)
}

/// A file at one moment.
#[derive(PartialEq, Eq)]
struct Look {
    bytes: Vec<u8>,
    /// When it was written to; nothing if it is no regular file.
    modified: Option<SystemTime>,
}

impl Look {
    fn at(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // After reading: what is written meanwhile is then younger than what was read.
        let meta = file.metadata()?;
        let modified = if meta.is_file() { Some(meta.modified()?) } else { None };
        Ok(Self { bytes, modified })
    }

    /// Whether nobody has written to it lately. A time to come says nothing.
    fn rests(&self) -> bool {
        self.modified.is_none_or(|at| at.elapsed().is_ok_and(|age| age >= REST))
    }
}

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
