//! Why a program cannot start, or not take new settings, said so that an operator can act on it.

use std::fmt;

/// What is wrong, where, and what to do about it, on one line; and what else is, on others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    what: String,
    place: String,
    advice: String,
    /// Where in the text that is `place`.
    position: Option<(usize, usize)>,
    /// What else is wrong.
    others: Vec<Self>,
}

impl StartError {
    /// `what` went wrong, at `place` (a file and line, an address, a key or flag), and the `advice`. Line breaks
    /// become spaces.
    pub fn new(
        what: impl Into<String>,
        place: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            what: one_line(what),
            place: one_line(place),
            advice: one_line(advice),
            position: None,
            others: Vec::new(),
        }
    }

    /// `what` is wrong at a line and column, from 1, of the text `name`, and the `advice`.
    pub fn in_text(name: &str, position: (usize, usize), what: &str, advice: &str) -> Self {
        Self { position: Some(position), ..Self::new(what, name, advice) }
    }

    /// What is wrong, if anything is: the first of `errors`, with the others.
    ///
    /// # Errors
    /// There are some.
    pub fn none_of(errors: impl IntoIterator<Item = Self>) -> Result<(), Self> {
        let mut errors = errors.into_iter();
        match errors.next() {
            None => Ok(()),
            Some(first) => Err(first.with(errors)),
        }
    }

    /// This and `others`.
    #[must_use]
    pub fn with(mut self, others: impl IntoIterator<Item = Self>) -> Self {
        self.others.extend(others);
        self
    }

    /// What went wrong.
    pub fn what(&self) -> &str {
        &self.what
    }
}

/// `<what>: <where>: <what to do>`; of a place in a text `<file>:<line>:<column>: <what>; <what to do>`. A line each.
impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, place, advice, position, others } = self;
        match position {
            None => write!(f, "{what}: {place}: {advice}")?,
            Some((line, column)) => write!(f, "{place}:{line}:{column}: {what}; {advice}")?,
        }
        others.iter().try_for_each(|other| write!(f, "\n{other}"))
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

    #[test]
    fn several_are_a_line_each() {
        let first = StartError::in_text("a.toml", (3, 1), "an\nodd key", "take it out");
        let error = StartError::none_of([first, StartError::new("no", "b", "yes")]).unwrap_err();
        assert_eq!(error.to_string(), "a.toml:3:1: an odd key; take it out\nno: b: yes");
        assert_eq!(StartError::none_of([]), Ok(()));
    }
}
