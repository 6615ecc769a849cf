//! Rule files: checked before the engine reads them, reported on after.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// How a rule set was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleStats {
    /// Rules in force. The engine's own check is not counted.
    pub good: u32,
    /// Rules that do not parse.
    pub bad: u32,
    /// Rules that ask for a feature which this engine lacks (`requires`).
    pub skipped: u32,
    /// 1 for the rules of the start; one more with every reload.
    pub version: u64,
    /// How long loading took.
    pub took: Duration,
    /// The first hundred of those that do not parse.
    pub bad_rules: Vec<BadRule>,
    /// The first sixteen of Suricata's other errors while it read them, such as a line of the threshold file or of a data
    /// set that does not parse: what it says is then not in force. None unless bad rules are
    /// [tolerated](crate::EngineConfig::tolerate_bad_rules).
    pub errors: Vec<String>,
}

/// A rule that does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadRule {
    /// The file.
    pub file: PathBuf,
    /// The line at which the rule begins, counted from 1.
    pub line: u32,
    /// What Suricata has against it; may be empty.
    pub reason: String,
    /// The rule's text.
    pub rule: String,
}

impl fmt::Display for BadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = if self.reason.is_empty() { "does not parse" } else { &self.reason };
        write!(f, "{}:{}: {reason}", self.file.display(), self.line)
    }
}

/// Checks that the file can be read and holds something that looks like a rule: Suricata shrugs at a missing or empty
/// file, and then lets everything pass.
pub(crate) fn check_file(path: &Path) -> Result<(), Error> {
    let cannot = |error: std::io::Error| {
        Error::new(
            ErrorKind::Rules,
            format!("cannot read the rule file {}: {error}", path.display()),
        )
        .with_source(error)
    };
    if fs::metadata(path).map_err(cannot)?.is_dir() {
        return Err(Error::new(
            ErrorKind::Rules,
            format!("{} is a folder: name the rule files in it", path.display()),
        ));
    }
    let mut reader = BufReader::new(File::open(path).map_err(cannot)?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(cannot)? > 0 {
        let text = line.trim_ascii();
        if !text.is_empty() && text.first() != Some(&b'#') {
            return Ok(());
        }
        line.clear();
    }
    Err(Error::new(ErrorKind::Rules, format!("the rule file {} holds no rule", path.display())))
}
