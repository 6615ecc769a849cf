//! Where the content of a message ends.

use crate::error::{Error, ErrorKind};
use crate::facts::{Coding, Expectation, Length};
use crate::head::{RequestHead, ResponseHead, Version};

/// How the content of a message is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The chunked coding.
    Chunked,
    /// So many bytes follow. Zero is possible: the sender said so.
    Length(u64),
    /// There is no content, and nothing in the head speaks of any that follows.
    None,
    /// All that comes until the connection closes. Responses only.
    UntilClose,
}

impl RequestHead {
    /// How the content is delimited.
    ///
    /// # Errors
    /// Whatever another parser could see differently: see [`ErrorKind`]. Refuse the request and
    /// close the connection, since where the next one starts is unknown.
    pub fn framing(&self) -> Result<Framing, Error> {
        let framing = self.declared()?;
        if self.method() == b"CONNECT" && !matches!(framing, Framing::None | Framing::Length(0)) {
            return Err(Error::new(ErrorKind::ContentNotAllowed));
        }
        Ok(framing)
    }

    /// Whether the client waits for a 100 (Continue).
    ///
    /// # Errors
    /// [`ErrorKind::Expectation`] for any other expectation.
    pub fn expects_continue(&self) -> Result<bool, Error> {
        match self.facts().expectation {
            Expectation::Continue => Ok(self.version() == Version::Http11),
            Expectation::None => Ok(false),
            Expectation::Unknown => Err(Error::new(ErrorKind::Expectation)),
        }
    }

    fn declared(&self) -> Result<Framing, Error> {
        declared(
            self.facts().length,
            self.facts().coding,
            self.version(),
            self.facts().bad_connection,
        )
    }
}

impl ResponseHead {
    /// How the content is delimited, given the method of the request that this answers.
    ///
    /// # Errors
    /// Whatever another parser could see differently: see [`ErrorKind`]. Answer 502 and close the
    /// upstream connection.
    pub fn framing(&self, request_method: &[u8]) -> Result<Framing, Error> {
        let facts = self.facts();
        let declared = declared(facts.length, facts.coding, self.version(), facts.bad_connection)?;
        match self.status() {
            // Other parsers read on after a 204 that announces content; so nobody shall see one.
            100..=199 | 204 => match declared {
                Framing::None | Framing::Length(0) => Ok(Framing::None),
                _ => Err(Error::new(ErrorKind::ContentNotAllowed)),
            },
            304 => Ok(Framing::None),
            _ if request_method == b"HEAD" => Ok(Framing::None),
            200..=299 if request_method == b"CONNECT" => Ok(Framing::None),
            _ if declared == Framing::None => Ok(Framing::UntilClose),
            _ => Ok(declared),
        }
    }
}

fn declared(
    length: Length,
    coding: Coding,
    version: Version,
    bad_connection: bool,
) -> Result<Framing, Error> {
    if bad_connection {
        return Err(Error::new(ErrorKind::Connection));
    }
    match (length, coding) {
        (Length::Absent, Coding::Absent) => Ok(Framing::None),
        (Length::One(n), Coding::Absent) => Ok(Framing::Length(n)),
        (Length::Absent, Coding::Chunked) if version == Version::Http11 => Ok(Framing::Chunked),
        (Length::Absent, Coding::Chunked) => Err(Error::new(ErrorKind::TransferEncoding)),
        (Length::Absent, Coding::Bad(kind)) => Err(Error::new(kind)),
        (Length::Bad, Coding::Absent) => Err(Error::new(ErrorKind::ContentLength)),
        (_, _) => Err(Error::new(ErrorKind::LengthAndCoding)),
    }
}
