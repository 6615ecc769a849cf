//! Heads of responses as servers send them: read in one defined way and written anew, so that whoever gets them after us
//! reads nothing else. See [`ResponseHead::parse_lenient`].

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{Error, ErrorKind};
use crate::facts::KEPT;
use crate::field::tokens;
use crate::head::{Limits, ResponseHead, Version, status_line};
use crate::lines::{self, Mended};
use crate::syntax;

/// A head of a response, well formed whatever it was.
#[derive(Clone, Debug)]
pub struct Lenient {
    /// It can be read in one way only, and its framing is sound.
    pub head: ResponseHead,
    /// It is not what came. Its sender may think otherwise of where the message ends, so that nothing
    /// that follows the message is to be believed.
    pub is_mended: bool,
}

impl ResponseHead {
    /// As [`ResponseHead::parse`], but a head that is not well formed is written anew, in these ways:
    ///
    /// - Lines end with LF, with or without a CR before it; white space before a colon is dropped; a line that
    ///   begins with white space goes on with the one before it; control characters are spaces; lines
    ///   without a name that is a token are left out.
    /// - White space between version and status is one space.
    /// - `Transfer-Encoding`: `chunked`, however often and of whatever version, is once, and of HTTP/1.1;
    ///   `identity` is nothing. Next to `chunked` a Content-Length is nothing (RFC 9112 section 6.3).
    /// - `Content-Length`: equal numbers are one, without zeros before it.
    /// - Status 1xx and 204: both are nothing.
    /// - `Connection` does not list fields whose removal would change the message's meaning.
    ///
    /// What is well formed stays byte for byte, line by line.
    ///
    /// # Errors
    /// NUL, lengths that are no numbers or differ, other transfer codings, other versions than HTTP/1.0 and 1.1, and
    /// what is no response; heads beyond the limits. `buf` is of no further use then.
    pub fn parse_lenient(buf: &mut BytesMut, limits: &Limits) -> Result<Option<Lenient>, Error> {
        let written = match Self::parse(buf, limits) {
            Ok(None) => return Ok(None),
            Ok(Some(head)) if head.framing(b"GET").is_ok() => {
                return Ok(Some(Lenient { head, is_mended: false }));
            }
            Ok(Some(head)) => mend(head.bytes(), limits)?.map(|(written, _)| written),
            Err(_) => match mend(buf, limits)? {
                None => return Ok(None),
                Some((written, length)) => {
                    buf.advance(length);
                    Some(written)
                }
            },
        };
        let written = written.ok_or_else(|| Error::new(ErrorKind::NotOneHead))?;
        strictly(written).map(|head| Some(Lenient { head, is_mended: true }))
    }

    /// Reads `bytes` as exactly one head, in the ways of [`ResponseHead::parse_lenient`].
    ///
    /// # Errors
    /// As there, and [`ErrorKind::NotOneHead`].
    pub fn from_bytes_lenient(bytes: Bytes, limits: &Limits) -> Result<Self, Error> {
        if let Ok(head) = Self::from_bytes(bytes.clone(), limits)
            && head.framing(b"GET").is_ok()
        {
            return Ok(head);
        }
        match mend(&bytes, limits)? {
            Some((written, length)) if length == bytes.len() => strictly(written),
            _ => Err(Error::new(ErrorKind::NotOneHead)),
        }
    }
}

/// Nothing of what was written is believed without a look.
fn strictly(written: Bytes) -> Result<ResponseHead, Error> {
    let limits = Limits { max_head: written.len() + 1, max_fields: usize::MAX };
    let head = ResponseHead::from_bytes(written, &limits)?;
    head.framing(b"GET")?;
    Ok(head)
}

/// The head that `bytes` begin with, written anew, and how long it was; `None` while it is incomplete.
fn mend(bytes: &[u8], limits: &Limits) -> Result<Option<(Bytes, usize)>, Error> {
    let start = b"HTTP/1.";
    let common = bytes.len().min(start.len());
    if bytes[..common] != start[..common] {
        return Err(Error::at(ErrorKind::StatusLine, 0));
    }
    let window = &bytes[..bytes.len().min(limits.max_head)];
    let incomplete = || match bytes.len() >= limits.max_head {
        true => Err(Error::new(ErrorKind::HeadTooLong)),
        false => Ok(None),
    };
    let Some((line, fields_at)) = lines::next(window) else { return incomplete() };
    let mut start = Start::of(line)?;
    let Some((mut fields, length)) =
        lines::read(&window[fields_at..], fields_at, limits.max_fields)?
    else {
        return incomplete();
    };
    keep_framing_fields(&mut fields);
    if start.has_no_content() {
        fields.retain(|field| !field.is_any(&["Content-Length", "Transfer-Encoding"]));
    } else if is_chunked(&fields)? {
        start.version = Version::Http11;
        one_coding(&mut fields);
    } else {
        fields.retain(|field| !field.is("Transfer-Encoding"));
        one_length(&mut fields)?;
    }
    let mut out = BytesMut::with_capacity(fields_at + length + 3 * fields.len());
    start.write(&mut out);
    for field in &fields {
        field.write(&mut out);
    }
    out.put_slice(b"\r\n");
    Ok(Some((out.freeze(), fields_at + length)))
}

/// The status line.
struct Start<'a> {
    version: Version,
    status: u16,
    /// The status as it came, and what follows it.
    rest: Cow<'a, [u8]>,
}

impl<'a> Start<'a> {
    fn of(line: &'a [u8]) -> Result<Self, Error> {
        if let Some(nul) = memchr::memchr(0, line) {
            return Err(Error::at(ErrorKind::ControlCharacter, nul));
        }
        let bad = || Error::at(ErrorKind::StatusLine, 8);
        let (version, after) = line.split_at_checked(8).ok_or_else(bad)?;
        if !matches!(after.first(), Some(b' ' | b'\t')) {
            return Err(bad());
        }
        let rest = lines::without_controls(after);
        // A line with just these two has neither white space nor control characters to be mistaken.
        let checked = status_line(&[version, b" ", &rest].concat())?;
        Ok(Self { version: checked.version, status: checked.status, rest })
    }

    fn has_no_content(&self) -> bool {
        matches!(self.status, 100..=199 | 204)
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(match self.version {
            Version::Http10 => b"HTTP/1.0 ",
            Version::Http11 => b"HTTP/1.1 ",
        });
        out.put_slice(&self.rest);
        out.put_slice(b"\r\n");
    }
}

/// Takes names out of `Connection` that would have framing removed with them.
fn keep_framing_fields(fields: &mut Vec<Mended<'_>>) {
    let is_kept = |token: &[u8]| KEPT.iter().any(|name| token.eq_ignore_ascii_case(name));
    fields.retain_mut(|field| {
        if !field.is("Connection") || !tokens(&field.value).any(is_kept) {
            return true;
        }
        let others: Vec<&[u8]> = tokens(&field.value).filter(|token| !is_kept(token)).collect();
        let others = others.join(&b", "[..]);
        let is_left = !others.is_empty();
        field.set(others);
        is_left
    });
}

fn is_chunked(fields: &[Mended<'_>]) -> Result<bool, Error> {
    const KNOWN: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
    let is = |token: &[u8], name: &[u8]| token.eq_ignore_ascii_case(name);
    let mut is_chunked = false;
    let named = fields.iter().filter(|field| field.is("Transfer-Encoding"));
    for token in named.flat_map(|field| tokens(&field.value)) {
        if is(token, b"chunked") {
            is_chunked = true;
        } else if KNOWN.iter().any(|name| is(token, name)) {
            return Err(Error::new(ErrorKind::UnknownCoding));
        } else if !is(token, b"identity") {
            return Err(Error::new(ErrorKind::TransferEncoding));
        }
    }
    Ok(is_chunked)
}

fn one_coding(fields: &mut Vec<Mended<'_>>) {
    fields.retain(|field| !field.is("Content-Length"));
    keep_first(fields, "Transfer-Encoding");
    if let Some(field) = fields.iter_mut().find(|field| field.is("Transfer-Encoding"))
        && !field.value.eq_ignore_ascii_case(b"chunked")
    {
        field.set(b"chunked".to_vec());
    }
}

fn one_length(fields: &mut Vec<Mended<'_>>) -> Result<(), Error> {
    let bad = || Error::new(ErrorKind::ContentLength);
    let mut length = None;
    for field in fields.iter().filter(|field| field.is("Content-Length")) {
        for number in field.value.split(|&byte| byte == b',').map(syntax::trim) {
            let zeros = number.iter().take_while(|&&byte| byte == b'0').count();
            let zeros = zeros.min(number.len().saturating_sub(1));
            let number = syntax::decimal(&number[zeros..]).ok_or_else(bad)?;
            if length.replace(number).is_some_and(|other| other != number) {
                return Err(bad());
            }
        }
    }
    keep_first(fields, "Content-Length");
    if let (Some(field), Some(length)) =
        (fields.iter_mut().find(|field| field.is("Content-Length")), length)
        && syntax::decimal(&field.value).is_none()
    {
        field.set(length.to_string().into_bytes());
    }
    Ok(())
}

fn keep_first(fields: &mut Vec<Mended<'_>>, name: &str) {
    let mut is_first = true;
    fields.retain(|field| !field.is(name) || std::mem::take(&mut is_first));
}
