//! Field lines as servers write them, each read in one defined way.
//!
//! A line ends with LF, before which one CR is no part of it. A line that begins with a space or tab goes on with the
//! one before it. Control characters are spaces. A line whose name is not a token, once white space before its
//! colon is gone, is left out, and so is what goes on with it. NUL is an error: programs in C end a text there.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use crate::error::{Error, ErrorKind};
use crate::field::Field;
use crate::syntax;

/// A field as it is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Mended<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: Cow<'a, [u8]>,
    /// The whole line as it came, if it is well formed and still says the same.
    line: Option<&'a [u8]>,
}

impl<'a> Mended<'a> {
    /// `None`: it names no field. `raw` is the line with its end.
    fn of(line: &'a [u8], raw: &'a [u8]) -> Option<Self> {
        let colon = memchr::memchr(b':', line)?;
        let name = syntax::trim_end(&line[..colon]);
        if !syntax::is_token(name) {
            return None;
        }
        let value = without_controls(&line[colon + 1..]);
        let is_sound = matches!(Field::split(raw, 0), Ok(Some(_)));
        Some(Self { name, value, line: is_sound.then_some(raw) })
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Whether it is one of those.
    pub(crate) fn is_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }

    pub(crate) fn set(&mut self, value: Vec<u8>) {
        self.value = Cow::Owned(value);
        self.line = None;
    }

    fn go_on(&mut self, line: &[u8]) {
        let more = without_controls(line);
        let value = self.value.to_mut();
        if !value.is_empty() && !more.is_empty() {
            value.push(b' ');
        }
        value.extend_from_slice(&more);
        self.line = None;
    }

    pub(crate) fn write(&self, out: &mut BytesMut) {
        if let Some(line) = self.line {
            return out.put_slice(line);
        }
        out.put_slice(self.name);
        out.put_slice(if self.value.is_empty() { b":" } else { b": " });
        out.put_slice(&self.value);
        out.put_slice(b"\r\n");
    }
}

/// Reads the fields up to the empty line that ends them, and how long all of that is; `None` while it is incomplete.
/// `at` is where `rest` starts, for error messages.
///
/// # Errors
/// More than `max` lines that begin a field, or a NUL.
pub(crate) fn read(
    rest: &[u8],
    at: usize,
    max: usize,
) -> Result<Option<(Vec<Mended<'_>>, usize)>, Error> {
    let mut fields: Vec<Mended<'_>> = Vec::new();
    let (mut count, mut start) = (0, 0);
    // Whether the line before is the last of `fields`, and not one that is left out.
    let mut is_kept = false;
    while let Some((line, length)) = next(&rest[start..]) {
        let raw = &rest[start..start + length];
        if line.is_empty() {
            return Ok(Some((fields, start + length)));
        }
        if let Some(nul) = memchr::memchr(0, line) {
            return Err(Error::at(ErrorKind::ControlCharacter, at + start + nul));
        }
        match (line, fields.last_mut()) {
            ([b' ' | b'\t', ..], Some(last)) if is_kept => last.go_on(line),
            ([b' ' | b'\t', ..], _) => {}
            _ => {
                count += 1;
                if count > max {
                    return Err(Error::at(ErrorKind::TooManyFields, at + start));
                }
                let field = Mended::of(line, raw);
                is_kept = field.is_some();
                fields.extend(field);
            }
        }
        start += length;
    }
    Ok(None)
}

/// The first line without its end, and its length with it.
pub(crate) fn next(rest: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'\n', rest)?;
    let line = &rest[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

/// Control characters as spaces, and no white space on either side.
pub(crate) fn without_controls(text: &[u8]) -> Cow<'_, [u8]> {
    if syntax::is_value(text) {
        return Cow::Borrowed(syntax::trim(text));
    }
    let clean: Vec<u8> =
        text.iter().map(|&byte| if syntax::is_value(&[byte]) { byte } else { b' ' }).collect();
    Cow::Owned(syntax::trim(&clean).to_vec())
}
