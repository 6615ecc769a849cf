//! ICAP header fields, in their order.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::fields::{self, Span};
use crate::{Error, ErrorKind, Limits};

/// ICAP header fields: in their order, names compared without case, kept as spans over one
/// buffer.
///
/// Parsing is tolerant where nothing can be misread: folded lines are joined (line ends become
/// spaces), a bare LF ends a line, values may hold bytes above ASCII.
#[derive(Clone, Default)]
pub struct Headers {
    pub(crate) text: BytesMut,
    pub(crate) spans: Vec<Span>,
}

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses a block of field lines, as the trailers of a body are; an empty line ends it early.
    ///
    /// # Errors
    /// `Header` if a line is malformed, `HeadTooLarge` if there are more fields than
    /// `limits.max_fields`.
    pub fn parse_lines(lines: &[u8], limits: &Limits) -> Result<Self, Error> {
        let mut headers = Self { text: BytesMut::from(lines), spans: Vec::new() };
        fields::parse(&mut headers.text, 0, &mut headers.spans, limits)?;
        Ok(headers)
    }

    /// The first value of the field `name`, without surrounding blanks.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The first value of the field `name` if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// All values of the field `name`, in order.
    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let name = name.as_bytes();
        // Most are sorted out by the length, without a look at the text.
        let is_named = move |(from, to): (u32, u32)| {
            (to - from) as usize == name.len() && self.slice((from, to)).eq_ignore_ascii_case(name)
        };
        self.spans.iter().filter(move |span| is_named(span.name)).map(|span| self.slice(span.value))
    }

    /// The elements of the comma-separated lists of all fields `name`, without blanks and empty
    /// ones.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.all(name)
            .flat_map(|value| value.split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// Whether the lists of the fields `name` hold `element`, without regard to case.
    pub fn list_contains(&self, name: &str, element: &str) -> bool {
        self.list(name).any(|e| e.eq_ignore_ascii_case(element.as_bytes()))
    }

    /// Every field as name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| (self.slice(span.name), self.slice(span.value)))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Appends a field; others of the same name stay.
    ///
    /// # Errors
    /// `Header` if `name` is not a token or `value` holds a control character: so that no value
    /// can pretend to be another field.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let value = value.as_ref().trim_ascii();
        if !fields::is_token(name.as_bytes()) {
            return Err(Error::new(ErrorKind::Header, "a header name must be a token"));
        }
        if !fields::is_value(value) {
            return Err(Error::new(
                ErrorKind::Header,
                "a header value must not hold control characters",
            ));
        }
        let name = self.append(name.as_bytes());
        let value = self.append(value);
        self.spans.push(Span { name, value });
        Ok(())
    }

    /// Appends a field in place of all others of the same name.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.remove(name);
        self.push(name, value)
    }

    /// Removes all fields `name`.
    pub fn remove(&mut self, name: &str) {
        let text = &self.text;
        self.spans.retain(|span| {
            let (from, to) = span.name;
            !text[from as usize..to as usize].eq_ignore_ascii_case(name.as_bytes())
        });
    }

    /// Removes all fields, keeping the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }

    /// Writes the fields as lines, without an empty one.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.encode_except("", out);
    }

    /// Writes all fields but those called `name`.
    pub(crate) fn encode_except(&self, name: &str, out: &mut impl BufMut) {
        let skipped = name.as_bytes();
        for (name, value) in self.iter().filter(|(n, _)| !n.eq_ignore_ascii_case(skipped)) {
            out.put_slice(name);
            out.put_slice(b": ");
            out.put_slice(value);
            out.put_slice(b"\r\n");
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> (u32, u32) {
        let from = self.text.len() as u32;
        self.text.extend_from_slice(bytes);
        (from, self.text.len() as u32)
    }

    pub(crate) fn slice(&self, (from, to): (u32, u32)) -> &[u8] {
        &self.text[from as usize..to as usize]
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))),
            )
            .finish()
    }
}
