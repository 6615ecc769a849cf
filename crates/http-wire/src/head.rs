//! The head of a request or response, parsed and kept byte for byte.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{Error, ErrorKind};
use crate::facts::Facts;
use crate::field::{Field, Fields, HOP_BY_HOP, line_end, tokens};
use crate::syntax;
use crate::target::{Authority, TargetForm};

/// Bounds of one message head. Both are checked while the head arrives.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest head in bytes, start line and final empty line included.
    pub max_head: usize,
    /// Most field lines.
    pub max_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_head: 64 * 1024, max_fields: 500 }
    }
}

/// The HTTP versions that this crate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// The head of a request, byte for byte. Cheap to clone: one reference count.
#[derive(Clone, Debug)]
pub struct RequestHead(Arc<Parsed<RequestLine>>);

impl RequestHead {
    /// Takes one head off the front of `buf`; `None` while it is incomplete, with `buf` kept.
    /// One empty line before the request line is skipped (RFC 9112 section 2.2).
    ///
    /// # Errors
    /// What is not strictly well formed, see [`ErrorKind`]; `buf` is of no further use then.
    pub fn parse(buf: &mut BytesMut, limits: &Limits) -> Result<Option<Self>, Error> {
        // Skip the empty line only together with a complete head. If we took it early, the next
        // read could skip a second one.
        let skipped = if buf.starts_with(b"\r\n") { 2 } else { 0 };
        let Some(scan) = scan(&buf[skipped..], limits, request_line)? else { return Ok(None) };
        buf.advance(skipped);
        Ok(Some(Self(Parsed::of(buf.split_to(scan.end).freeze(), scan))))
    }

    /// Reads `bytes` as exactly one head.
    ///
    /// # Errors
    /// As [`RequestHead::parse`], and [`ErrorKind::NotOneHead`].
    pub fn from_bytes(bytes: Bytes, limits: &Limits) -> Result<Self, Error> {
        let scan = exactly_one(&bytes, limits, request_line)?;
        Ok(Self(Parsed::of(bytes, scan)))
    }

    /// The whole head, with the empty line that ends it.
    pub fn bytes(&self) -> &Bytes {
        &self.0.raw.bytes
    }

    /// The method, case kept.
    pub fn method(&self) -> &[u8] {
        &self.0.raw.bytes[..self.0.start.method_end]
    }

    /// The request target as written.
    pub fn target(&self) -> &[u8] {
        &self.0.raw.bytes[self.0.start.method_end + 1..self.0.start.target_end]
    }

    /// The target, taken apart.
    ///
    /// # Errors
    /// [`ErrorKind::Target`]: in none of the four forms of RFC 9112 section 3.2.
    pub fn target_form(&self) -> Result<TargetForm<'_>, Error> {
        TargetForm::parse(self.method(), self.target())
    }

    /// The version in the request line.
    pub fn version(&self) -> Version {
        self.0.start.version
    }

    /// What the Host field says. `None` only for HTTP/1.0.
    ///
    /// # Errors
    /// [`ErrorKind::Host`]: missing in HTTP/1.1, repeated, empty or malformed.
    pub fn host(&self) -> Result<Option<Authority<'_>>, Error> {
        match self.0.raw.facts.hosts {
            0 if self.0.start.version == Version::Http10 => Ok(None),
            1 => match self.field("Host") {
                Some(host) => Authority::parse(host.value).map(Some),
                None => Err(Error::new(ErrorKind::Host)),
            },
            _ => Err(Error::new(ErrorKind::Host)),
        }
    }

    /// Whether the client will send another request on this connection (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        self.0.raw.keep_alive(self.0.start.version)
    }

    /// Whether `Connection` lists `upgrade`, as a request for another protocol must.
    pub fn connection_upgrade(&self) -> bool {
        self.0.raw.facts.upgrade
    }

    /// Whether `name` concerns this connection only: see [`HOP_BY_HOP`].
    pub fn is_hop_by_hop(&self, name: &[u8]) -> bool {
        self.0.raw.is_hop_by_hop(name)
    }

    /// The names that concern this connection only: [`HOP_BY_HOP`] and what `Connection` lists.
    pub fn hop_by_hop(&self) -> impl Iterator<Item = &[u8]> {
        self.0.raw.hop_by_hop()
    }

    /// All field lines in order.
    pub fn fields(&self) -> Fields<'_> {
        self.0.raw.fields()
    }

    /// The first field of that name, without regard to case.
    pub fn field(&self, name: impl AsRef<[u8]>) -> Option<Field<'_>> {
        self.0.raw.all(name.as_ref()).next()
    }

    /// All fields of that name, without regard to case.
    pub fn all<'a>(
        &'a self,
        name: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> impl Iterator<Item = Field<'a>> {
        self.0.raw.all(name.as_ref())
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.0.raw.facts
    }

    pub(crate) fn raw(&self) -> &Raw {
        &self.0.raw
    }
}

/// The head of a response, byte for byte. Cheap to clone: one reference count.
#[derive(Clone, Debug)]
pub struct ResponseHead(Arc<Parsed<StatusLine>>);

impl ResponseHead {
    /// Takes one head off the front of `buf`; `None` while it is incomplete, with `buf` kept.
    ///
    /// # Errors
    /// What is not strictly well formed, see [`ErrorKind`]; `buf` is of no further use then.
    pub fn parse(buf: &mut BytesMut, limits: &Limits) -> Result<Option<Self>, Error> {
        // What speaks another protocol may never end a line.
        let start = b"HTTP/1.";
        let common = buf.len().min(start.len());
        if buf[..common] != start[..common] && !buf.starts_with(b"HTTP/") {
            return Err(Error::at(ErrorKind::StatusLine, 0));
        }
        let Some(scan) = scan(buf, limits, status_line)? else { return Ok(None) };
        Ok(Some(Self(Parsed::of(buf.split_to(scan.end).freeze(), scan))))
    }

    /// Reads `bytes` as exactly one head.
    ///
    /// # Errors
    /// As [`ResponseHead::parse`], and [`ErrorKind::NotOneHead`].
    pub fn from_bytes(bytes: Bytes, limits: &Limits) -> Result<Self, Error> {
        let scan = exactly_one(&bytes, limits, status_line)?;
        Ok(Self(Parsed::of(bytes, scan)))
    }

    /// The whole head, with the empty line that ends it.
    pub fn bytes(&self) -> &Bytes {
        &self.0.raw.bytes
    }

    /// The status code, 100 to 999.
    pub fn status(&self) -> u16 {
        self.0.start.status
    }

    /// The reason phrase; often empty.
    pub fn reason(&self) -> &[u8] {
        self.0.raw.bytes.get(13..self.0.raw.fields_at - 2).unwrap_or_default()
    }

    /// The version in the status line.
    pub fn version(&self) -> Version {
        self.0.start.version
    }

    /// Whether the server will take another request on this connection (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        self.0.raw.keep_alive(self.0.start.version)
    }

    /// Whether `name` concerns this connection only: see [`HOP_BY_HOP`].
    pub fn is_hop_by_hop(&self, name: &[u8]) -> bool {
        self.0.raw.is_hop_by_hop(name)
    }

    /// The names that concern this connection only: [`HOP_BY_HOP`] and what `Connection` lists.
    pub fn hop_by_hop(&self) -> impl Iterator<Item = &[u8]> {
        self.0.raw.hop_by_hop()
    }

    /// All field lines in order.
    pub fn fields(&self) -> Fields<'_> {
        self.0.raw.fields()
    }

    /// The first field of that name, without regard to case.
    pub fn field(&self, name: impl AsRef<[u8]>) -> Option<Field<'_>> {
        self.0.raw.all(name.as_ref()).next()
    }

    /// All fields of that name, without regard to case.
    pub fn all<'a>(
        &'a self,
        name: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> impl Iterator<Item = Field<'a>> {
        self.0.raw.all(name.as_ref())
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.0.raw.facts
    }

    pub(crate) fn raw(&self) -> &Raw {
        &self.0.raw
    }
}

/// A head as it was read, shared by its clones: heads are handed on often, and kept meanwhile.
#[derive(Debug)]
struct Parsed<S> {
    start: S,
    raw: Raw,
}

impl<S> Parsed<S> {
    fn of(bytes: Bytes, scan: Scan<S>) -> Arc<Self> {
        let raw = Raw { bytes, fields_at: scan.fields_at, facts: scan.facts };
        Arc::new(Self { start: scan.start, raw })
    }
}

/// What both kinds of head share. The position of each field is not kept: finding a line again in
/// checked bytes costs less than an allocation a head.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) bytes: Bytes,
    pub(crate) fields_at: usize,
    facts: Facts,
}

impl Raw {
    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields::new(&self.bytes[self.fields_at..])
    }

    /// The fields of that name, without regard to case.
    fn all<'a, 'n>(&'a self, name: &'n [u8]) -> impl Iterator<Item = Field<'a>> + use<'a, 'n> {
        let fields = match self.facts.may_have(name) {
            true => self.fields(),
            false => Fields::new(&[]),
        };
        fields.filter(move |f| f.is(name))
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.facts.close && (version == Version::Http11 || self.facts.keep_alive)
    }

    pub(crate) fn hop_by_hop(&self) -> impl Iterator<Item = &[u8]> {
        let listed = self.all(b"Connection").flat_map(|f| tokens(f.value));
        HOP_BY_HOP.into_iter().chain(listed)
    }

    fn is_hop_by_hop(&self, name: &[u8]) -> bool {
        self.hop_by_hop().any(|h| h.eq_ignore_ascii_case(name))
    }
}

struct Scan<S> {
    start: S,
    fields_at: usize,
    end: usize,
    facts: Facts,
}

type StartLine<S> = fn(&[u8]) -> Result<S, Error>;

fn exactly_one<S>(bytes: &[u8], limits: &Limits, start: StartLine<S>) -> Result<Scan<S>, Error> {
    match scan(bytes, limits, start)? {
        Some(scan) if scan.end == bytes.len() => Ok(scan),
        _ => Err(Error::new(ErrorKind::NotOneHead)),
    }
}

/// One pass over the head. An incomplete head is read again from its start when more has come:
/// most arrive whole, and the limit bounds what a dripping peer can make us read.
fn scan<S>(bytes: &[u8], limits: &Limits, start: StartLine<S>) -> Result<Option<Scan<S>>, Error> {
    let window = &bytes[..bytes.len().min(limits.max_head)];
    let cut_off =
        |kind| if bytes.len() >= limits.max_head { Err(Error::new(kind)) } else { Ok(None) };
    let Some(line) = line_end(window, 0)? else { return cut_off(ErrorKind::TargetTooLong) };
    let start = start(&window[..line])?;
    let fields_at = line + 2;
    let mut at = fields_at;
    let mut facts = Facts::default();
    let mut count = 0;
    loop {
        let rest = &window[at..];
        if rest.starts_with(b"\r\n") {
            return Ok(Some(Scan { start, fields_at, end: at + 2, facts }));
        }
        let Some(field) = Field::split(rest, at)? else { return cut_off(ErrorKind::HeadTooLong) };
        count += 1;
        if count > limits.max_fields {
            return Err(Error::at(ErrorKind::TooManyFields, at));
        }
        facts.note(&field);
        at += field.line.len();
    }
}

#[derive(Debug)]
struct RequestLine {
    method_end: usize,
    target_end: usize,
    version: Version,
}

fn request_line(line: &[u8]) -> Result<RequestLine, Error> {
    let Some(method_end) = memchr::memchr(b' ', line) else {
        return Err(Error::at(ErrorKind::Method, 0));
    };
    if method_end > 32 || !syntax::is_token(&line[..method_end]) {
        return Err(Error::at(ErrorKind::Method, 0));
    }
    let target = method_end + 1;
    let Some(length) = memchr::memchr(b' ', &line[target..]) else {
        return Err(Error::at(ErrorKind::Version, line.len()));
    };
    let target_end = target + length;
    if !syntax::is_target(&line[target..target_end]) {
        return Err(Error::at(ErrorKind::Target, target));
    }
    let version = version(&line[target_end + 1..], target_end + 1)?;
    Ok(RequestLine { method_end, target_end, version })
}

#[derive(Debug)]
pub(crate) struct StatusLine {
    pub(crate) status: u16,
    pub(crate) version: Version,
}

pub(crate) fn status_line(line: &[u8]) -> Result<StatusLine, Error> {
    let bad = |at| Error::at(ErrorKind::StatusLine, at);
    let version = version(line.get(..8).ok_or_else(|| bad(0))?, 0)?;
    let [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = &line[8..] else {
        return Err(bad(8));
    };
    // The space before an empty reason is often left out.
    if !matches!(rest.first(), None | Some(b' ')) {
        return Err(bad(12));
    }
    if !syntax::is_value(rest) {
        return Err(Error::at(ErrorKind::ControlCharacter, 12));
    }
    let digit = |d: &u8| u16::from(d - b'0');
    Ok(StatusLine { status: digit(a) * 100 + digit(b) * 10 + digit(c), version })
}

fn version(text: &[u8], at: usize) -> Result<Version, Error> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Error::at(ErrorKind::Version, at))
        }
        _ => Err(Error::at(ErrorKind::StatusLine, at)),
    }
}
