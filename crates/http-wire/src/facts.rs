//! What framing and connection management need to know of a head's fields, gathered in the one
//! pass that checks them, so that asking later costs nothing.

use crate::error::ErrorKind;
use crate::field::{Field, tokens};
use crate::syntax;

/// The `Expect` field of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expectation {
    /// `100-continue`: the client waits for an interim response before it sends the content.
    Continue,
    /// None.
    #[default]
    None,
    /// Another one, or more than one: to be refused with 417.
    Unknown,
}

/// Names that `Connection` may list. Each is compared with each field, and real ones list three.
const MOST_LISTED: u8 = 64;

/// Fields whose removal, because `Connection` lists them, would change the message's meaning.
pub(crate) const KEPT: [&[u8]; 3] = [b"content-length", b"host", b"transfer-encoding"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Length {
    #[default]
    Absent,
    Bad,
    One(u64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Coding {
    #[default]
    Absent,
    Bad(ErrorKind),
    Chunked,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) length: Length,
    pub(crate) coding: Coding,
    pub(crate) expectation: Expectation,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// `Connection` lists a field whose removal would change the message's meaning, or too many.
    pub(crate) bad_connection: bool,
    pub(crate) hosts: u8,
    /// How many names `Connection` lists.
    listed: u8,
    /// The marks of all names, see [`mark`].
    names: u64,
}

impl Facts {
    /// Takes note of one field. First letter and length first: most fields are sorted out by them.
    pub(crate) fn note(&mut self, field: &Field<'_>) {
        self.names |= mark(field.name);
        match field.name {
            [b'H' | b'h', ..] if field.is("Host") => self.hosts = self.hosts.saturating_add(1),
            [b'E' | b'e', ..] if field.is("Expect") => self.note_expect(field.value),
            [b'C' | b'c', ..] if field.is("Connection") => self.note_connection(field.value),
            [b'C' | b'c', ..] if field.is("Content-Length") => {
                self.length = match (self.length, syntax::decimal(field.value)) {
                    (Length::Absent, Some(n)) => Length::One(n),
                    _ => Length::Bad,
                };
            }
            [b'T' | b't', ..] if field.is("Transfer-Encoding") => self.note_coding(field.value),
            _ => {}
        }
    }

    /// Whether there may be a field of that name. Most that are asked for are not there, and most of
    /// those need not be looked for.
    pub(crate) fn may_have(&self, name: &[u8]) -> bool {
        self.names & mark(name) != 0
    }

    fn note_expect(&mut self, value: &[u8]) {
        self.expectation = match self.expectation {
            Expectation::None if value.eq_ignore_ascii_case(b"100-continue") => {
                Expectation::Continue
            }
            _ => Expectation::Unknown,
        };
    }

    fn note_connection(&mut self, value: &[u8]) {
        for token in tokens(value) {
            self.listed = self.listed.saturating_add(1);
            self.bad_connection |= self.listed > MOST_LISTED;
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if KEPT.iter().any(|k| token.eq_ignore_ascii_case(k)) {
                self.bad_connection = true;
            }
        }
    }

    fn note_coding(&mut self, value: &[u8]) {
        const KNOWN: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
        self.coding = match self.coding {
            Coding::Absent if value.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
            Coding::Absent
                if tokens(value).any(|t| KNOWN.iter().any(|k| t.eq_ignore_ascii_case(k))) =>
            {
                Coding::Bad(ErrorKind::UnknownCoding)
            }
            _ => Coding::Bad(ErrorKind::TransferEncoding),
        };
    }
}

/// A hash of the name to one of 64 bits, the same for upper and lower case.
fn mark(name: &[u8]) -> u64 {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return 0 };
    let [first, last] = [first, last].map(|b| u32::from(b.to_ascii_lowercase()));
    let length = name.len() as u32 % u64::BITS;
    1 << ((first + 5 * last + 11 * length) % u64::BITS)
}
