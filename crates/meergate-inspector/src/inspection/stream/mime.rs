//! What a mail is made of, as its readers read it.
//!
//! The engine's reader (`rust/src/mime/smtp.rs`) is simpler than those of clients: it knows one boundary at a time and looks
//! for it in bodies only, takes only some codings for what they are, and drops what it does not expect. Where clients agree
//! on what they read, the engine is shown that in a way that it reads, too; where they may not, the mail is at fault.

mod codings;
mod fields;

use std::mem;

use self::codings::{Base64, Coding, is_encoded_text, quoted_printable};
use self::fields::{ContentType, Field, Fields};
use crate::inspection::refusal::MailFault;

/// Multiparts in each other; nobody has as many.
const DEEPEST: usize = 64;

/// Reads a mail line by line.
#[derive(Debug, Default)]
pub(super) struct Mime {
    place: Place,
    fields: Fields,
    /// Of the multiparts that are open, the innermost at the end.
    open: Vec<Multipart>,
    coding: Coding,
    base64: Base64,
    /// Somebody shows the body.
    is_leaf: bool,
    /// It began with an empty line, or in the midst of a head: others look for fields in its first lines.
    is_headless: bool,
    has_begun: bool,
    /// The head is that of a part of a digest, not of a mail within.
    is_in_digest: bool,
}

/// Where the next line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    Body,
    /// Behind the end of a multipart. The engine takes it for the head of a part.
    Epilogue,
    #[default]
    Head,
}

#[derive(Debug)]
struct Multipart {
    boundary: Vec<u8>,
    /// Parts are mails, if they do not say something else (RFC 2046 section 5.1.5).
    is_digest: bool,
}

/// A line that delimits parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delimiter {
    /// Of which of the multiparts.
    of: usize,
    is_last: bool,
}

impl Mime {
    /// Reads a line, with the LF that ends it, and says what the engine is to be shown in its place, if not the line itself.
    ///
    /// # Errors
    /// Not all read it in the same way.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<Vec<u8>>, MailFault> {
        // As servers pass it on (RFC 5321 section 4.5.2).
        let read = line.strip_prefix(b".").unwrap_or(line);
        let is_dotted = read.len() < line.len();
        let text = read.strip_suffix(b"\n").unwrap_or(read);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if let Some(delimiter) = self.delimiter(text)? {
            return match is_dotted {
                true => Err(MailFault::Boundary),
                false => self.delimit(delimiter, line),
            };
        }
        match self.place {
            Place::Head if is_dotted => Err(MailFault::Head),
            Place::Head if text.is_empty() => self.head_ends(line),
            Place::Head if self.fields.line(text)? => Ok(None),
            Place::Head => {
                // To some the body has begun, and whatever fields follow are none.
                let head = self.head_ends(b"\r\n")?.unwrap_or_else(|| b"\r\n".to_vec());
                self.is_headless = true;
                let first = self.line(line)?;
                Ok(Some([&head, first.as_deref().unwrap_or(line)].concat()))
            }
            Place::Epilogue => match Field::of(text) {
                // The engine would go by it.
                Some(_) => Err(MailFault::Head),
                None => {
                    if text.is_empty() {
                        self.place = Place::Body;
                    }
                    Ok(None)
                }
            },
            Place::Body => self.body(line, read, text),
        }
    }

    /// The mail ends.
    ///
    /// # Errors
    /// As for [`line`](Self::line).
    pub(super) fn end(&mut self) -> Result<(), MailFault> {
        // Only at a boundary the engine decodes what is left.
        match self.coding == Coding::Base64 && self.is_leaf && self.base64.is_in_the_midst() {
            true => Err(MailFault::Coding),
            false => Ok(()),
        }
    }

    fn body(
        &mut self,
        line: &[u8],
        read: &[u8],
        text: &[u8],
    ) -> Result<Option<Vec<u8>>, MailFault> {
        if self.is_headless && Field::of(text).is_some() {
            return Err(MailFault::Head);
        }
        self.is_headless &= !text.is_empty();
        if !self.is_leaf {
            return Ok(None);
        }
        let is_dotted = read.len() < line.len();
        match self.coding {
            Coding::Base64 if is_dotted => Err(MailFault::Coding),
            Coding::Base64 => self.base64.line(text).map(|()| None),
            Coding::Plain if is_encoded_text(text) => Err(MailFault::Coding),
            // A dot that is doubled can't be shown otherwise: alone it would end the mail.
            Coding::Plain => Ok((is_dotted && !read.starts_with(b".")).then(|| read.to_vec())),
            Coding::QuotedPrintable => Ok(quoted_printable(read, is_dotted)),
        }
    }

    /// Whether the line delimits parts, to somebody who may know any of the multiparts that are open.
    fn delimiter(&self, text: &[u8]) -> Result<Option<Delimiter>, MailFault> {
        if self.open.is_empty() {
            return Ok(None);
        }
        // A bare CR ends a line for some.
        let bare = text.iter().position(|&b| b == b'\r').map(|at| &text[at + 1..]);
        if bare.is_some_and(|rest| rest.windows(2).any(|pair| pair == b"--")) {
            return Err(MailFault::Boundary);
        }
        let Some(text) = text.strip_prefix(b"--") else { return Ok(None) };
        let mut of_none = None;
        for (of, multipart) in self.open.iter().enumerate().rev() {
            let Some(rest) = text.strip_prefix(&*multipart.boundary) else { continue };
            let (rest, is_last) = match rest.strip_prefix(b"--") {
                Some(rest) => (rest, true),
                None => (rest, false),
            };
            if rest.trim_ascii().is_empty() {
                // The engine, and some others, look at its beginning only.
                return match of_none {
                    Some(fault) => Err(fault),
                    None => Ok(Some(Delimiter { of, is_last })),
                };
            }
            of_none = Some(MailFault::Boundary);
        }
        of_none.map_or(Ok(None), Err)
    }

    /// A part ends, or the preamble.
    fn delimit(&mut self, delimiter: Delimiter, line: &[u8]) -> Result<Option<Vec<u8>>, MailFault> {
        let mut shown = Vec::new();
        // The engine looks for it in bodies only,
        if self.place != Place::Body {
            shown.extend_from_slice(b"\r\n");
        }
        // and knows the innermost multipart only.
        while self.open.len() > delimiter.of + 1 {
            if let Some(unended) = self.open.pop() {
                shown.extend_from_slice(&[b"--", &unended.boundary[..], b"--\r\n\r\n"].concat());
            }
        }
        if delimiter.is_last {
            self.open.pop();
        }
        self.place = if delimiter.is_last { Place::Epilogue } else { Place::Head };
        self.is_in_digest = self.open.last().is_some_and(|multipart| multipart.is_digest);
        self.fields = Fields::default();
        (self.coding, self.base64, self.is_leaf) = (Coding::Plain, Base64::default(), false);
        Ok((!shown.is_empty()).then(|| [&shown, line].concat()))
    }

    /// The head of the mail, of a part or of a mail within has ended.
    fn head_ends(&mut self, line: &[u8]) -> Result<Option<Vec<u8>>, MailFault> {
        let fields = mem::take(&mut self.fields);
        self.is_headless = !mem::replace(&mut self.has_begun, true) && fields.is_empty();
        let coding = fields.coding()?;
        let is_in_digest = mem::take(&mut self.is_in_digest);
        let (content, said) = match fields.content_type()? {
            Some(content) => (content, None),
            None if is_in_digest => {
                (ContentType::Mail, Some(&b"Content-Type: message/rfc822\r\n"[..]))
            }
            // Without any field the engine takes a part for no file, but for the mail's own.
            None if fields.is_empty() => {
                (ContentType::Leaf, Some(&b"Content-Type: text/plain\r\n"[..]))
            }
            None => (ContentType::Leaf, None),
        };
        match content {
            ContentType::Multipart { boundary, is_digest } => {
                if self.open.len() == DEEPEST {
                    return Err(MailFault::Deep);
                }
                // Of which of them it then is, not all say alike.
                if self.open.iter().any(|outer| outer.boundary == boundary) {
                    return Err(MailFault::Boundary);
                }
                self.open.push(Multipart { boundary, is_digest });
                self.place = Place::Body;
            }
            // What is coded is no mail to some, and the engine decodes none.
            ContentType::Mail if coding != Coding::Plain => return Err(MailFault::Coding),
            ContentType::Mail => {}
            ContentType::Leaf => {
                (self.place, self.coding, self.is_leaf) = (Place::Body, coding, true);
            }
        }
        Ok(said.map(|said| [said, line].concat()))
    }
}
