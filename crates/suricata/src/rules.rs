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
    /// Those of them that drop what they match (`drop`, `reject`). With none, nothing is ever blocked. What a rate filter
    /// turns into a drop is not counted.
    pub dropping: u32,
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

/// Checks that the file can be read, holds something that looks like a rule, and that Suricata will not leave out a
/// part of it in silence. `DetectLoadSigFile`
///
/// 1. takes a missing or empty file, and then lets everything pass;
/// 2. reads a line that begins with a blank as a comment;
/// 3. leaves out a last rule that ends in a continuation, as in a file that was cut short.
///
/// With `tolerate` the latter two are warnings.
pub(crate) fn check_file(path: &Path, tolerate: bool) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::new(ErrorKind::Rules, reason));
    let cannot = |error: std::io::Error| {
        Error::new(
            ErrorKind::Rules,
            format!("cannot read the rule file {}: {error}{}", path.display(), remedy(&error)),
        )
        .with_source(error)
    };
    if fs::metadata(path).map_err(cannot)?.is_dir() {
        return refuse(format!("{} is a folder: name the rule files in it", path.display()));
    }
    let left_out = |number: u32, why: &str| {
        let reason = format!("{}:{number}: Suricata leaves this rule out: {why}", path.display());
        match tolerate {
            true => {
                tracing::warn!("{reason}");
                Ok(())
            }
            false => refuse(reason),
        }
    };
    let mut reader = BufReader::new(File::open(path).map_err(cannot)?);
    let (mut line, mut number, mut begun) = (Vec::new(), 0, None);
    let mut has_rule = false;
    while reader.read_until(b'\n', &mut line).map_err(cannot)? > 0 {
        number += 1;
        let text = line.trim_ascii();
        if begun.is_none() {
            if !text.is_empty() && matches!(line.first(), Some(b' ' | b'\t')) && text[0] != b'#' {
                left_out(number, "it begins with a blank, which makes it a comment")?;
            }
            if text.is_empty() || matches!(line.first(), Some(b'#' | b' ' | b'\t' | b'\r')) {
                line.clear();
                continue;
            }
        }
        has_rule = true;
        let start = begun.unwrap_or(number);
        begun = text.ends_with(b"\\").then_some(start);
        line.clear();
    }
    if let Some(start) = begun {
        left_out(start, "its last line ends in a backslash, so that there should be another one")?;
    }
    match has_rule {
        true => Ok(()),
        false => refuse(format!("the rule file {} holds no rule", path.display())),
    }
}

/// What to do about a file that is there and can't be read.
fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            ": it is there, but not for whom the engine runs as: see the owner and mode of the file and its folders, and \
             what a sandbox around the program may read"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.rules");
        fs::write(&path, text).unwrap();
        // Where bad rules are tolerated, only files without any are refused.
        assert_eq!(check_file(&path, true).is_ok(), text.contains("alert"), "{text:?}");
        check_file(&path, false).map_err(|error| error.to_string())
    }

    #[test]
    fn what_would_be_left_out_is_named() {
        for good in [
            "alert a\n",
            "alert a",
            "# c\n\n  \n\t# c\n # c \\\nalert a\r\n",
            "alert \\\n  a\nalert \\ \r\n b\n",
            "alert \\\n # b\n",
            "# c \\\nalert a\n# end \\",
        ] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for (bad, line) in [
            (" alert a\nalert b\n", 1),
            ("alert b\n\talert a\n", 2),
            ("alert b\n#\nalert \\\n a\n  alert c", 5),
            ("alert b\nalert \\", 2),
            ("alert b\nalert \\ \r\n a\\\n", 2),
        ] {
            let said = check(bad).unwrap_err();
            assert!(said.contains(&format!("my.rules:{line}: ")), "{bad:?}: {said}");
        }
        assert!(check("# nothing\n").is_err());
    }
}
