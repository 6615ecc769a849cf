//! Why a program cannot start, or not take new settings, said so that an operator can act on it.

use std::fmt;

/// What is wrong, where, and what to do about it, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    what: String,
    place: String,
    advice: String,
}

impl StartError {
    /// `what` went wrong, at `place` (a file and line, an address, a key or flag), and the `advice`. Line breaks
    /// become spaces.
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

/// `<what>: <where>: <what to do>`.
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

#[cfg(test)]
mod tests {
    use super::StartError;

    #[test]
    fn it_is_one_line_whatever_it_is_made_of() {
        let error = StartError::new("bad\n settings", "a.toml:3", "correct\tthe line\n");
        assert_eq!(error.to_string(), "bad settings: a.toml:3: correct the line");
        assert_eq!(error.what(), "bad settings");
    }
}
