//! Fields of a mail, or of a part of one, that say how its body is to be read.

use super::codings::Coding;
use crate::inspection::refusal::MailFault;

/// Bytes of such a field at most.
const LONGEST: usize = 8 << 10;
/// Bytes of a boundary at most; RFC 2046 section 5.1.1 has 70.
const LONGEST_BOUNDARY: usize = 250;
const MULTIPART: &[u8] = b"multipart/";

/// What a body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    Leaf,
    /// A mail within a mail.
    Mail,
    Multipart {
        boundary: Vec<u8>,
        is_digest: bool,
    },
}

/// The fields that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Coding,
    Type,
}

impl Field {
    /// Which of them a line begins, for the most lenient reader.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        let colon = memchr::memchr(b':', line)?;
        let name = line[..colon].trim_ascii();
        if name.eq_ignore_ascii_case(b"content-type") {
            Some(Self::Type)
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            Some(Self::Coding)
        } else {
            None
        }
    }
}

/// A value, its lines joined as clients do and as the engine does.
#[derive(Debug, Default)]
struct Value {
    read: Vec<u8>,
    engine: Vec<u8>,
}

/// The head so far.
#[derive(Debug, Default)]
pub(super) struct Fields {
    content_type: Option<Value>,
    coding: Option<Value>,
    /// Whose lines go on.
    last: Option<Field>,
    has_begun: bool,
    has_field: bool,
}

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        !self.has_field
    }

    /// Reads a line that is not empty, and says whether it is one of a head.
    ///
    /// # Errors
    /// Not to all.
    pub(super) fn line(&mut self, text: &[u8]) -> Result<bool, MailFault> {
        // Lines to some, and ends to others.
        if text.iter().any(|b| matches!(b, 0 | b'\r')) {
            return Err(MailFault::Head);
        }
        if let [b' ' | b'\t', rest @ ..] = text {
            return match self.has_begun {
                // The engine may take it for a field.
                _ if !self.has_field && Field::of(text).is_some() => Err(MailFault::Head),
                true => self.goes_on(text, rest).map(|()| true),
                false => Ok(false),
            };
        }
        let is_first = !self.has_begun;
        let name = text.split(|&b| b == b':').next().unwrap_or_default();
        let is_field = name.len() < text.len() && name.iter().all(u8::is_ascii_graphic);
        self.last = Field::of(text);
        if let Some(field) = self.last {
            let slot = self.slot(field);
            if slot.is_some() || !is_field {
                return Err(MailFault::Head);
            }
            let value = &text[name.len() + 1..];
            *slot = Some(Value { read: value.to_vec(), engine: value.trim_ascii_start().to_vec() });
        }
        // What is a blank, and what ends a value, readers do not agree on.
        if self.last.is_some() && has_control(text) {
            return Err(MailFault::Head);
        }
        // Some systems put their own line before a mail.
        let is_envelope = is_first && (text.starts_with(b"From ") || text.starts_with(b">From "));
        self.has_field |= is_field;
        self.has_begun |= is_field || is_envelope;
        Ok(is_field || is_envelope)
    }

    fn goes_on(&mut self, read: &[u8], engine: &[u8]) -> Result<(), MailFault> {
        let Some(value) = self.last.and_then(|field| self.slot(field).as_mut()) else {
            return Ok(());
        };
        if has_control(read) || value.read.len() + read.len() > LONGEST {
            return Err(MailFault::Head);
        }
        value.read.extend_from_slice(read);
        value.engine.extend_from_slice(engine);
        Ok(())
    }

    fn slot(&mut self, field: Field) -> &mut Option<Value> {
        match field {
            Field::Coding => &mut self.coding,
            Field::Type => &mut self.content_type,
        }
    }

    /// In which coding the body is.
    ///
    /// # Errors
    /// It is not one that all clients and the engine undo in the same way.
    pub(super) fn coding(&self) -> Result<Coding, MailFault> {
        let Some(value) = &self.coding else { return Ok(Coding::Plain) };
        let read = coding(&value.read)?;
        match read == coding(&value.engine)? {
            true => Ok(read),
            false => Err(MailFault::Coding),
        }
    }

    /// What the body is; `None` if nothing says it.
    ///
    /// # Errors
    /// Not all clients take it for the same, or not the engine.
    pub(super) fn content_type(&self) -> Result<Option<ContentType>, MailFault> {
        let Some(Value { read, engine }) = &self.content_type else { return Ok(None) };
        let (read, engine) = (read.trim_ascii(), engine.trim_ascii());
        let name = read.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        if !begins(name, MULTIPART) {
            // Some look behind a comment, and the engine for a boundary whatever the type is.
            let is_other =
                contains(name, b"multipart") || boundaries(read) + boundaries(engine) > 0;
            let is_mail = begins(name, b"message/");
            return match () {
                () if is_other || is_mail != begins(engine, b"message/") => {
                    Err(MailFault::Boundary)
                }
                () if begins(name, b"message/partial") => Err(MailFault::Part),
                () if is_mail => Ok(Some(ContentType::Mail)),
                () => Ok(Some(ContentType::Leaf)),
            };
        }
        let boundary = boundary(read).ok_or(MailFault::Boundary)?;
        if self::boundary(engine) != Some(boundary) {
            return Err(MailFault::Boundary);
        }
        let is_digest = begins(name, b"multipart/digest");
        Ok(Some(ContentType::Multipart { boundary: boundary.to_vec(), is_digest }))
    }
}

/// What all take a value for. The engine is helped where a comment or a parameter stands behind the name (the shim's `mail.c`).
fn coding(value: &[u8]) -> Result<Coding, MailFault> {
    let value = value.trim_ascii();
    for (name, coding) in
        [(&b"base64"[..], Coding::Base64), (b"quoted-printable", Coding::QuotedPrintable)]
    {
        let rest = value.get(name.len()..).unwrap_or_default();
        let behind = rest.trim_ascii_start();
        if begins(value, name) && matches!(behind.first(), None | Some(b'(' | b';')) {
            let has_blank = behind.len() < rest.len();
            // A comment may go on with something else than nothing.
            let is_over = behind.is_empty() || behind[0] == b';' || behind.ends_with(b")");
            return match is_over && (has_blank || !behind.is_empty() || rest.is_empty()) {
                true => Ok(coding),
                false => Err(MailFault::Coding),
            };
        }
    }
    // Letters alone: in quotes, behind a comment, with a dot or a prefix, somebody takes it for what it looks like.
    let letters: Vec<u8> =
        value.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    let others: [&[u8]; 6] = [b"base64", b"quoted", b"printable", b"uu", b"yenc", b"binhex"];
    match others.iter().any(|other| contains(&letters, other)) {
        true => Err(MailFault::Coding),
        false => Ok(Coding::Plain),
    }
}

/// The boundary, if it is given in the one way that everybody reads: parameters without comments, without quotes that are
/// escaped, each with a value, and one of that name (RFC 2231 has more).
fn boundary(value: &[u8]) -> Option<&[u8]> {
    let at = memchr::memchr(b';', value)?;
    let (name, mut rest) = value.split_at(at);
    if boundaries(value) != 1 || name.iter().any(|b| matches!(b, b'"' | b'(' | b'\\')) {
        return None;
    }
    let mut found = None;
    while let [b';', behind @ ..] = rest {
        let text = behind.trim_ascii_start();
        if text.is_empty() {
            break;
        }
        let equals = memchr::memchr(b'=', text)?;
        let name = &text[..equals];
        let given = &text[equals + 1..];
        let is_token = |b: &u8| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?".contains(b);
        if name.is_empty() || !name.trim_ascii_end().iter().all(is_token) {
            return None;
        }
        let argument = match given {
            [b'"', quoted @ ..] => {
                let end =
                    memchr::memchr2(b'"', b'\\', quoted).filter(|&end| quoted[end] == b'"')?;
                rest = quoted[end + 1..].trim_ascii_start();
                &quoted[..end]
            }
            _ => {
                let end = memchr::memchr(b';', given).unwrap_or(given.len());
                rest = &given[end..];
                let token = given[..end].trim_ascii_end();
                // A blank, a quote or a comment ends it for some.
                token
                    .iter()
                    .all(|b| b.is_ascii_graphic() && !b"\"()\\".contains(b))
                    .then_some(token)?
            }
        };
        if name.trim_ascii_end().eq_ignore_ascii_case(b"boundary") {
            found = Some(argument);
        }
    }
    let is_fine = |boundary: &&[u8]| {
        (1..=LONGEST_BOUNDARY).contains(&boundary.len())
            && !boundary.starts_with(b" ")
            && !boundary.ends_with(b" ")
            && boundary.iter().all(|b| matches!(b, b' '..=b'~'))
    };
    found.filter(|_| rest.is_empty() || rest[0] == b';').filter(is_fine)
}

/// How often somebody may find a boundary.
fn boundaries(value: &[u8]) -> usize {
    const NAME: &[u8] = b"boundary";
    let places =
        value.windows(NAME.len()).enumerate().filter(|(_, part)| part.eq_ignore_ascii_case(NAME));
    let is_given = |at: usize| {
        matches!(value[at + NAME.len()..].trim_ascii_start().first(), Some(b'=' | b'*'))
    };
    places.filter(|(at, _)| is_given(*at)).count()
}

fn begins(text: &[u8], with: &[u8]) -> bool {
    text.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with))
}

fn has_control(text: &[u8]) -> bool {
    text.iter().any(|b| b.is_ascii_control() && *b != b'\t')
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|part| part.eq_ignore_ascii_case(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_read_where_all_read_the_same() {
        for (value, expected) in [
            ("multipart/mixed; boundary=QQ", Some("QQ")),
            ("multipart/mixed; BOUNDARY =\"Q Q\"; x=y;", Some("Q Q")),
            (
                "multipart/signed; protocol=\"a/b\"; micalg=pgp-sha256;\tboundary=\"=_x?':(),\"",
                Some("=_x?':(),"),
            ),
            (
                "multipart/related; type=\"multipart/alternative\"; boundary=\"--boundary_1\" ;",
                Some("--boundary_1"),
            ),
            ("multipart/mixed", None),
            ("multipart/mixed; boundary= QQ", None),
            ("multipart/mixed; boundary=\"Q\\Q\"", None),
            ("multipart/mixed; boundary=\"QQ \"", None),
            ("multipart/mixed; boundary=\"\"", None),
            ("multipart/mixed; boundary=Q Q", None),
            ("multipart/mixed; boundary=QQ (x)", None),
            ("multipart/mixed; (x) boundary=QQ", None),
            ("multipart/mixed (x); boundary=QQ", None),
            ("multipart/mixed; boundary=QQ; boundary=XX", None),
            ("multipart/mixed; boundary*=us-ascii''QQ", None),
            ("multipart/mixed; boundary*0=Q; boundary*1=Q", None),
            ("multipart/mixed; x; boundary=QQ", None),
            ("multipart/mixed;; boundary=QQ", None),
            ("multipart/mixed; x=\"y\"z; boundary=QQ", None),
            ("multipart/mixed; x=\"boundary=XX\"; boundary=QQ", None),
            ("multipart/mixed; xboundary=QQ", None),
            ("multipart/mixed; boundary=\"QQ\"z", None),
        ] {
            assert_eq!(boundary(value.as_bytes()), expected.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn codings_are_what_all_take_them_for() {
        use Coding::*;
        for (value, expected) in [
            ("base64", Some(Base64)),
            (" Base64 (as ever)", Some(Base64)),
            ("BASE64; x=y", Some(Base64)),
            ("quoted-printable ", Some(QuotedPrintable)),
            ("7bit", Some(Plain)),
            ("8-bit (text)", Some(Plain)),
            ("utf-8", Some(Plain)),
            ("", Some(Plain)),
            ("(x) base64", None),
            ("\"base64\"", None),
            ("base64.", None),
            ("x-base64", None),
            ("base64, 7bit", None),
            ("base64 7bit", None),
            ("base 64", None),
            ("base64 (x) 7bit", None),
            ("x-uuencode", None),
            ("quoted printable", None),
        ] {
            assert_eq!(coding(value.as_bytes()).ok(), expected, "{value}");
        }
    }
}
