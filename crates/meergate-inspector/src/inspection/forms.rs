//! Forms in requests (`multipart/form-data`, RFC 7578), which Suricata takes apart so that `file.data` and `file.name`
//! have the files in them. Servers take them apart as well, and not all in the same way: here it is made sure that there
//! is one way to read a form, and what the engine has not among its files is counted.

use http_wire::RequestHead;
use memchr::memmem::Finder;

use crate::inspection::aside::{is_other_charset, names_other_charset};
use crate::inspection::parameters::Parameters;
use crate::inspection::refusal::{Ambiguity, Refusal};
use crate::settings::Policy;

/// The longest line of a part's head with its CR: beyond, Suricata may skip it (`MIME_HEADER_MAX_LINE` of `mime.rs`).
const LONGEST_LINE: usize = 4096;

/// The field of a form whose value is the charset of the others (RFC 7578 section 4.6).
const CHARSET: &[u8] = b"_charset_";

/// The longest boundary that Suricata takes (`RS_MIME_MAX_TOKEN_LEN`).
const LONGEST_BOUNDARY: usize = 255;

/// Reads a form along with the engine.
pub(crate) struct Form {
    ambiguous: Policy,
    /// Finds `--` and the boundary; none once the form can be read in two ways.
    delimiter: Option<Finder<'static>>,
    /// Not of forms: parts without a name are more than the fields of one.
    is_mixed: bool,
    part: Part,
    /// The beginning of the line under way.
    line: Vec<u8>,
    /// Bytes of it, all of them.
    length: u64,
    /// The last of them, as many as may begin a delimiter.
    tail: Vec<u8>,
    /// Whether its last byte is a CR.
    after_cr: bool,
    /// Whether the line before it ended in CRLF. Before the first one it did.
    after_crlf: bool,
    head: PartHead,
    /// All of it is text that is not written as in ASCII, of parts that do not say otherwise.
    is_text_otherwise: bool,
    /// Bytes of it so far.
    read: u64,
    /// Bytes that were told of.
    told: u64,
    /// Bytes that were not told of, of content that the engine has not among its files.
    unseen: u64,
    /// The end of the last line, which is content if another one follows.
    owed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The first line of content.
    Begin,
    Content,
    /// The fields of a part.
    Head,
    /// Before the first boundary, and behind the last one.
    Outside,
}

/// What the head of a part says.
#[derive(Clone, Copy, Default)]
struct PartHead {
    has_disposition: bool,
    has_kind: bool,
    has_encoding: bool,
    has_content_encoding: bool,
    /// The engine takes the part for a file.
    is_file: bool,
    /// A server may take it for one.
    may_be_file: bool,
    /// It has parts of its own.
    is_nested: bool,
    /// A server may decode it.
    is_coded: bool,
    /// It is compressed, to a server that looks at such fields here.
    is_packed: bool,
    /// It is text that is not written as in ASCII.
    is_text_otherwise: bool,
    /// It is the charset of the form.
    is_charset: bool,
}

impl Form {
    /// Of a request whose body the engine takes for a form.
    ///
    /// # Errors
    /// It can be read in two ways, and the settings say no.
    pub(crate) fn of(head: &RequestHead, ambiguous: Policy) -> Result<Option<Self>, Refusal> {
        let kinds: Vec<&[u8]> = head.all("Content-Type").map(|field| field.value).collect();
        // Of other methods the engine takes the body for one file.
        if head.method() != b"POST" {
            return Ok(None);
        }
        let is_mixed = !kinds.iter().any(|kind| starts_with(kind, b"multipart/form-data"));
        let mut form = Self {
            // What is no form holds no files as servers of forms know them, and some of it comes with
            // other lines (streams of pictures).
            ambiguous: if is_mixed { Policy::Pass } else { ambiguous },
            delimiter: None,
            is_mixed,
            part: Part::Outside,
            line: Vec::new(),
            length: 0,
            tail: Vec::new(),
            after_cr: false,
            after_crlf: true,
            head: PartHead::default(),
            is_text_otherwise: false,
            read: 0,
            told: 0,
            unseen: 0,
            owed: 0,
        };
        match delimiter(&kinds) {
            Ok(None) => Ok(None),
            Ok(Some(delimiter)) => {
                let delimiter = Some(Finder::new(&delimiter).into_owned());
                Ok(Some(Self { delimiter, ..form }))
            }
            Err(ambiguity) => form.give_up(ambiguity).map(|()| Some(form)),
        }
    }

    /// Reads on; returns how many bytes of content the engine has not among its files.
    ///
    /// # Errors
    /// The form can be read in two ways, and the settings say no.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<u64, Refusal> {
        self.read += bytes.len() as u64;
        while let Some(delimiter) = self.delimiter.take() {
            if bytes.is_empty() {
                self.delimiter = Some(delimiter);
                break;
            }
            let end = memchr::memchr(b'\n', bytes);
            let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let mut read = self.grow(line, &delimiter);
            if end.is_some() {
                read = read.and_then(|()| self.end_of_line(delimiter.needle()));
            }
            match read {
                Ok(()) => (self.delimiter, bytes) = (Some(delimiter), rest),
                Err(ambiguity) => {
                    self.give_up(ambiguity)?;
                    // With what came of this line before.
                    self.unseen += self.length - line.len() as u64;
                }
            }
        }
        self.unseen += bytes.len() as u64;
        Ok(self.tell())
    }

    /// The form is over; as [`read`](Self::read).
    pub(crate) fn finish(&mut self) -> u64 {
        if let Some(delimiter) = self.delimiter.take()
            && matches!(self.part, Part::Begin | Part::Content)
        {
            self.head.is_charset &= !self.line.starts_with(delimiter.needle());
            self.at_content(false);
        }
        self.tell()
    }

    fn tell(&mut self) -> u64 {
        let unseen = std::mem::take(&mut self.unseen);
        let unseen =
            if self.is_text_otherwise { self.read.saturating_sub(self.told) } else { unseen };
        self.told += unseen;
        unseen
    }

    fn give_up(&mut self, ambiguity: Ambiguity) -> Result<(), Refusal> {
        match self.ambiguous {
            Policy::Block => Err(Refusal::Form(ambiguity)),
            Policy::Pass => Ok(()),
        }
    }

    /// More of the line under way, which is kept as far as it matters.
    fn grow(&mut self, bytes: &[u8], delimiter: &Finder<'_>) -> Result<(), Ambiguity> {
        let Some(&last) = bytes.last() else { return Ok(()) };
        let is_stray = self.is_stray(bytes, delimiter);
        let room = (LONGEST_LINE + 1).saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len() as u64;
        self.after_cr = last == b'\r';
        if is_stray {
            return Err(Ambiguity::Delimiter);
        }
        let is_long = self.part == Part::Head && self.length > LONGEST_LINE as u64;
        if is_long { Err(Ambiguity::Long) } else { Ok(()) }
    }

    /// Whether a delimiter is in the line that goes on with `bytes`, but not at its beginning. Some servers find it
    /// there.
    fn is_stray(&mut self, bytes: &[u8], delimiter: &Finder<'_>) -> bool {
        let most = delimiter.needle().len() - 1;
        let before = self.length - self.tail.len() as u64;
        self.tail.extend_from_slice(&bytes[..bytes.len().min(most)]);
        let across = delimiter.find(&self.tail[usize::from(before == 0)..]).is_some();
        let within = bytes.get(usize::from(self.length == 0)..);
        let is_stray = across || within.is_some_and(|bytes| delimiter.find(bytes).is_some());
        if bytes.len() > most {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - most..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(most));
        }
        is_stray
    }

    fn end_of_line(&mut self, delimiter: &[u8]) -> Result<(), Ambiguity> {
        let in_crlf = self.after_cr;
        if in_crlf && self.line.len() as u64 == self.length {
            self.line.pop();
        }
        match self.part {
            Part::Head if !in_crlf => return Err(Ambiguity::Line),
            Part::Head => self.at_field()?,
            Part::Begin | Part::Content | Part::Outside => self.at_line(delimiter, in_crlf)?,
        }
        self.line.clear();
        self.tail.clear();
        (self.length, self.after_cr, self.after_crlf) = (0, false, in_crlf);
        Ok(())
    }

    /// A line that is no part's field.
    fn at_line(&mut self, delimiter: &[u8], in_crlf: bool) -> Result<(), Ambiguity> {
        let Some(rest) = self.line.strip_prefix(delimiter) else {
            return match self.part {
                Part::Outside if !in_crlf && self.length > 0 => Err(Ambiguity::Line),
                Part::Outside | Part::Head => Ok(()),
                Part::Begin | Part::Content => {
                    self.at_content(in_crlf);
                    self.part = Part::Content;
                    Ok(())
                }
            };
        };
        let (part, is_last) = match rest.trim_ascii_end() {
            b"" => (Part::Head, false),
            b"--" => (Part::Outside, true),
            _ => return Err(Ambiguity::Delimiter),
        };
        if self.part == Part::Begin {
            return Err(Ambiguity::Delimiter);
        }
        if !self.after_crlf || !in_crlf && !is_last {
            return Err(Ambiguity::Line);
        }
        (self.part, self.head, self.owed) = (part, PartHead::default(), 0);
        Ok(())
    }

    /// The line under way is content.
    fn at_content(&mut self, in_crlf: bool) {
        let head = &mut self.head;
        head.is_text_otherwise |= self.part == Part::Begin
            && (self.line.starts_with(b"\xfe\xff") || self.line.starts_with(b"\xff\xfe"));
        self.is_text_otherwise |=
            head.is_charset && !self.line.is_empty() && is_other_charset(&self.line);
        let PartHead { is_file, may_be_file, is_nested, .. } = self.head;
        let PartHead { is_coded, is_packed, is_text_otherwise, .. } = self.head;
        if is_coded
            || is_packed
            || is_text_otherwise
            || !is_file && (may_be_file || is_nested || self.is_mixed)
        {
            self.unseen += self.owed + self.length - u64::from(in_crlf);
            self.owed = 1 + u64::from(in_crlf);
        }
    }

    fn at_field(&mut self) -> Result<(), Ambiguity> {
        if self.line.is_empty() {
            self.part = Part::Begin;
            return Ok(());
        }
        let is_folded = self.line.first().is_some_and(u8::is_ascii_whitespace);
        if is_folded || ends_lines(&self.line) {
            return Err(Ambiguity::Line);
        }
        let colon = memchr::memchr(b':', &self.line).ok_or(Ambiguity::Field)?;
        let (name, value) = (&self.line[..colon], self.line[colon + 1..].trim_ascii());
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            return Err(Ambiguity::Line);
        }
        // Some servers look at how a name begins.
        const DISPOSITION: &[u8] = b"Content-Disposition";
        if starts_with(name, DISPOSITION) && name.len() > DISPOSITION.len() {
            return Err(Ambiguity::Field);
        }
        let head = &mut self.head;
        let was_there = if name.eq_ignore_ascii_case(b"Content-Disposition") {
            let [plain, extended] = file_names(value)?;
            head.is_file = plain.is_some_and(|name| !name.is_empty());
            head.may_be_file = plain.or(extended).is_some();
            head.is_charset = Parameters::of(value)
                .flatten()
                .any(|(name, value)| name == b"name" && value.eq_ignore_ascii_case(CHARSET));
            self.unseen += extended.map_or(0, <[u8]>::len) as u64;
            &mut head.has_disposition
        } else if name.eq_ignore_ascii_case(b"Content-Type") {
            head.is_nested = starts_with(value, b"multipart/");
            head.is_text_otherwise = names_other_charset(value);
            &mut head.has_kind
        } else if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") {
            let plain: [&[u8]; 3] = [b"7bit", b"8bit", b"binary"];
            head.is_coded = !plain.iter().any(|plain| value.eq_ignore_ascii_case(plain));
            &mut head.has_encoding
        } else if name.eq_ignore_ascii_case(b"Content-Encoding") {
            // Forms have no such field, and some servers decode all the same.
            head.is_packed = !value.eq_ignore_ascii_case(b"identity");
            &mut head.has_content_encoding
        } else {
            return Ok(());
        };
        if std::mem::replace(was_there, true) { Err(Ambiguity::Field) } else { Ok(()) }
    }
}

/// What parts the parts of a message with these Content-Types; nothing if the engine takes it for one file.
fn delimiter(kinds: &[&[u8]]) -> Result<Option<Vec<u8>>, Ambiguity> {
    let mut boundary = None;
    for kind in kinds {
        let is_multipart = starts_with(kind, b"multipart/");
        let lower = kind.to_ascii_lowercase();
        if !is_multipart && memchr::memmem::find(&lower, b"boundary").is_none() {
            continue;
        }
        // The engine looks for a boundary whatever the type, and of several in all of them.
        if !is_multipart || kinds.len() > 1 {
            return Err(Ambiguity::Boundary);
        }
        for parameter in Parameters::of(kind) {
            let (name, value) = parameter.ok_or(Ambiguity::Boundary)?;
            if starts_with(name, b"boundary") {
                let is_plain = !value.is_empty()
                    && value.iter().all(is_of_boundary)
                    && value.trim_ascii().len() == value.len();
                let is_one = name.len() == b"boundary".len() && is_plain;
                if !is_one || boundary.replace((name, value)).is_some() {
                    return Err(Ambiguity::Boundary);
                }
            }
        }
    }
    Ok(boundary
        .filter(|(name, value)| *name == b"boundary" && value.len() <= LONGEST_BOUNDARY)
        .map(|(_, boundary)| [b"--", boundary].concat()))
}

/// The name of a file in a Content-Disposition as the engine reads it, and the one for servers that read `filename*`
/// (RFC 8187), which does not belong into a form, but some clients send it.
fn file_names(disposition: &[u8]) -> Result<[Option<&[u8]>; 2], Ambiguity> {
    let [mut plain, mut extended] = [None; 2];
    for parameter in Parameters::of(disposition) {
        let (name, value) = parameter.ok_or(Ambiguity::Name)?;
        if holds_file_name(value) {
            return Err(Ambiguity::Name);
        }
        let twice = match name {
            b"filename" => plain.replace(value).is_some(),
            b"filename*" => extended.replace(value).is_some(),
            _ => starts_with(name, b"filename"),
        };
        if twice {
            return Err(Ambiguity::Name);
        }
    }
    Ok([plain, extended])
}

/// Whether a byte may be in a boundary: what RFC 2046 section 5.1.1 allows, and what clients use besides (`*****`), but not
/// what servers take off the ends (`<b>`) or take for the end of a parameter.
fn is_of_boundary(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b';' | b'<' | b'>' | b'\\')
}

/// Whether a line of a part's head holds what ends a line to some reader: control characters, or U+0085, U+2028 and
/// U+2029 in UTF-8.
fn ends_lines(line: &[u8]) -> bool {
    let ends = |bytes: &[u8]| {
        matches!(bytes, [0xc2, 0x85, ..] | [0xe2, 0x80, 0xa8 | 0xa9, ..])
            || matches!(bytes, [byte, ..] if *byte != b'\t' && byte.is_ascii_control())
    };
    (0..line.len()).any(|at| ends(&line[at..]))
}

/// Whether what is a parameter's value would be the name of a file to who does not look at quotes.
fn holds_file_name(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    memchr::memmem::find_iter(&lower, b"filename").any(|at| {
        let rest = lower[at + b"filename".len()..].trim_ascii_start();
        matches!(rest, [b'=' | b'*', ..])
    })
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests;
