//! Why the program could not start (or reload), said so that an operator can act on it.

use std::fmt;

/// A start that failed: what, where, and what to do about it, on one line.
#[derive(Debug)]
pub struct StartError {
    what: String,
    place: String,
    advice: String,
}

impl StartError {
    /// `what` went wrong, at `place` (a file and line, an address, a flag), and the `advice`.
    pub fn new(
        what: impl Into<String>,
        place: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { what: one_line(what), place: one_line(place), advice: one_line(advice) }
    }

    /// What went wrong.
    pub fn what(&self) -> &str {
        &self.what
    }
}

/// `meergate: <what>: <where>: <what to do>`, without the program's name.
impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.what, self.place, self.advice)
    }
}

impl std::error::Error for StartError {}

fn one_line(text: impl Into<String>) -> String {
    let text = text.into();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
