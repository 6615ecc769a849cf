//! Fields: `Name: value` lines, as several frames carry them.

use crate::frame::MAX_FIELDS;
use crate::{Error, ErrorKind};

/// The most fields of one frame.
const MAX_COUNT: usize = 64;
/// The most bytes of one value that is made here; of longer ones the rest is left out.
const MAX_VALUE: usize = 1_024;

/// Names with values, in order. Names are tokens as in HTTP, of any case; values are UTF-8 without
/// control characters, blanks at both ends aside. Each line ends with a line feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    text: String,
    count: usize,
}

impl Fields {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field. What is not allowed in a value becomes a blank, and more of it than 1,024
    /// bytes is left out: so that a verdict can always be written down.
    ///
    /// # Errors
    /// `Fields`, if the name is no token or there is no more room (8 KiB, 64 fields).
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let refused = |what| Err(Error::new(ErrorKind::Fields, 0, what));
        if !is_token(name) {
            return refused("a name that is no token");
        }
        let value = value.trim();
        let value = cut(value);
        if self.count == MAX_COUNT || self.text.len() + name.len() + value.len() + 3 > MAX_FIELDS {
            return refused("more than 64 fields or 8 KiB");
        }
        self.text.push_str(name);
        self.text.push_str(": ");
        self.text.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
        self.text.push('\n');
        self.count += 1;
        Ok(())
    }

    /// The value of the first field of that name, in any case.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.split_once(':')).map(|(n, v)| (n, v.trim()))
    }

    /// As they are sent.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// As they came, from a payload whose length was checked.
    pub(crate) fn parse(payload: &[u8], at: u64) -> Result<Self, Error> {
        let refused = |what| Error::new(ErrorKind::Fields, at, what);
        let text = text(payload, at)?;
        let mut count = 0;
        for line in text.split_terminator('\n') {
            let (name, value) = line.split_once(':').ok_or(refused("a line without a colon"))?;
            if !is_token(name) {
                return Err(refused("a name that is no token"));
            }
            if value.chars().any(char::is_control) {
                return Err(refused("a control character in a value"));
            }
            count += 1;
            if count > MAX_COUNT {
                return Err(refused("more than 64 fields"));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(refused("a line that does not end"));
        }
        Ok(Self { text: text.to_owned(), count })
    }

    /// The value of a field that must be there.
    pub(crate) fn required(&self, name: &str, at: u64) -> Result<&str, Error> {
        self.value(name).ok_or(Error::new(
            ErrorKind::Fields,
            at,
            "a field that must be there lacks",
        ))
    }
}

/// A payload that is text.
pub(crate) fn text(payload: &[u8], at: u64) -> Result<&str, Error> {
    str::from_utf8(payload).map_err(|_| Error::new(ErrorKind::Fields, at, "not UTF-8"))
}

/// What can be sent as a text of one line: as long as a field's value.
pub(crate) fn line(value: &str) -> String {
    cut(value).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text of one line that came.
pub(crate) fn parse_line(payload: &[u8], at: u64) -> Result<&str, Error> {
    let text = text(payload, at)?;
    match text.chars().any(char::is_control) {
        true => Err(Error::new(ErrorKind::Fields, at, "a control character in a text")),
        false => Ok(text),
    }
}

/// As much of a value as may be sent.
fn cut(value: &str) -> &str {
    let mut len = value.len().min(MAX_VALUE);
    while !value.is_char_boundary(len) {
        len -= 1;
    }
    &value[..len]
}

fn is_token(name: &str) -> bool {
    let other = b"!#$%&'*+-.^_`|~";
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || other.contains(&b))
}
