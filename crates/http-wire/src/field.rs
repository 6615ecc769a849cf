//! Header fields, one by one.

use crate::error::{Error, ErrorKind};
use crate::syntax;

/// Fields that concern one connection only, whether or not `Connection` lists them
/// (RFC 9110 section 7.6.1, and the `Proxy-Authentic…` pair of RFC 2616 section 13.5.1).
pub const HOP_BY_HOP: [&[u8]; 8] = [
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Authenticate",
    b"Proxy-Authorization",
    b"Proxy-Connection",
    b"TE",
    b"Transfer-Encoding",
    b"Upgrade",
];

/// One field line of a head or of trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as it came; compare it without case ([`Field::is`]).
    pub name: &'a [u8],
    /// The value without the white space around it.
    pub value: &'a [u8],
    /// The whole line as it came, CRLF included.
    pub line: &'a [u8],
}

impl<'a> Field<'a> {
    /// Whether the name is `name`, without regard to case.
    pub fn is(&self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        // Mostly it is spelled the same.
        self.name == name || self.name.eq_ignore_ascii_case(name)
    }

    /// Splits one line off `rest`. `Ok(None)`: no complete line yet. `at` is where `rest` starts,
    /// for error messages. An empty line is the caller's to handle first.
    pub(crate) fn split(rest: &'a [u8], at: usize) -> Result<Option<Self>, Error> {
        let colon = syntax::token_length(rest);
        if colon > 0 && rest.get(colon) == Some(&b':') {
            let value = colon + 1;
            let end = value + syntax::value_length(&rest[value..]);
            if rest[end..].starts_with(b"\r\n") {
                let value = syntax::trim(&rest[value..end]);
                return Ok(Some(Self { name: &rest[..colon], value, line: &rest[..end + 2] }));
            }
        }
        // It is not well formed, unless it is not there yet.
        let Some(end) = line_end(rest, at)? else { return Ok(None) };
        Err(match (rest.first(), rest[..end].get(colon)) {
            (Some(b' ' | b'\t'), _) => Error::at(ErrorKind::Fold, at),
            (_, Some(b':')) if colon > 0 => Error::at(ErrorKind::ControlCharacter, at + colon + 1),
            _ => Error::at(ErrorKind::FieldName, at),
        })
    }
}

/// Length of the line that `rest` starts with, without its CRLF; `None` while it is incomplete.
pub(crate) fn line_end(rest: &[u8], at: usize) -> Result<Option<usize>, Error> {
    match memchr::memchr2(b'\r', b'\n', rest) {
        None => Ok(None),
        Some(i) if rest[i] == b'\n' => Err(Error::at(ErrorKind::BareLineEnd, at + i)),
        Some(i) => match rest.get(i + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some(i)),
            Some(_) => Err(Error::at(ErrorKind::BareLineEnd, at + i)),
        },
    }
}

/// Iterates over field lines that have been checked before.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Over raw field lines, each ended by CRLF, as in [`ChunkEvent::End`](crate::ChunkEvent).
    /// Stops at an empty line, or at the first line that is not well formed.
    pub fn new(lines: &'a [u8]) -> Self {
        Self { rest: lines }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        // The lines were checked when they came in: the structure is all that is looked for here.
        let end = memchr::memchr(b'\n', self.rest)? + 1;
        let (line, rest) = self.rest.split_at(end);
        let content = line.strip_suffix(b"\r\n")?;
        let colon = memchr::memchr(b':', content)?;
        self.rest = rest;
        Some(Field { name: &content[..colon], value: syntax::trim(&content[colon + 1..]), line })
    }
}

/// The members of a comma-separated list, trimmed, without empty ones (RFC 9110 section 5.6.1).
/// For lists of tokens: quoted commas are not recognised.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(syntax::trim).filter(|t| !t.is_empty())
}

/// Values that some servers wrongly put into `Content-Encoding`: charsets, MIME encodings and
/// others. They mean no coding. Not every charset is there, only what is met.
const NO_CODINGS: [&str; 17] = [
    "7bit",
    "8bit",
    "amz-1.0",
    "ascii",
    "binary",
    "identity",
    "iso-8859-1",
    "iso-8859-15",
    "none",
    "null",
    "plain",
    "text",
    "us-ascii",
    "utf-8",
    "utf8",
    "windows-1251",
    "windows-1252",
];

/// Whether a member of `Content-Encoding` says that nothing is coded: no client has a decoder of that
/// name. That holds for the whole list only if it does for all members: beside a coding, some clients
/// pass over such a name, others decode nothing.
pub fn names_no_coding(token: &[u8]) -> bool {
    NO_CODINGS.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(token))
}

/// What clients of AWS write in `Content-Encoding` of content that they send in signed chunks. It is a
/// framing and no coding: the content's bytes are there as they are, with lines in between.
pub const AWS_CHUNKED: &[u8] = b"aws-chunked";
