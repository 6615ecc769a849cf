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
    /// `Connection` lists a field whose removal would change the message's meaning.
    pub(crate) bad_connection: bool,
    pub(crate) hosts: u8,
}

impl Facts {
    /// Takes note of one field. Length first: most fields are sorted out by it alone.
    pub(crate) fn note(&mut self, field: &Field<'_>) {
        match field.name.len() {
            4 if field.is("Host") => self.hosts = self.hosts.saturating_add(1),
            6 if field.is("Expect") => self.note_expect(field.value),
            10 if field.is("Connection") => self.note_connection(field.value),
            14 if field.is("Content-Length") => {
                self.length = match (self.length, syntax::decimal(field.value)) {
                    (Length::Absent, Some(n)) => Length::One(n),
                    _ => Length::Bad,
                };
            }
            17 if field.is("Transfer-Encoding") => self.note_coding(field.value),
            _ => {}
        }
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
        const KEPT: [&[u8]; 3] = [b"content-length", b"host", b"transfer-encoding"];
        for token in tokens(value) {
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
