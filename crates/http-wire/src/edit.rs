//! Changes to a head that leave the rest of it byte for byte.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, ErrorKind};
use crate::field::{Field, Fields};
use crate::head::{Limits, Raw, RequestHead, ResponseHead};
use crate::syntax;

/// Changes to a head. Lines that no change names stay byte for byte and in place.
#[derive(Debug)]
pub struct HeadEdit {
    source: Bytes,
    start: Option<Bytes>,
    fields_at: usize,
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    Kept(Range<usize>),
    New { name: Vec<u8>, value: Vec<u8> },
}

impl HeadEdit {
    fn of(raw: &Raw) -> Self {
        let mut at = raw.fields_at;
        let lines = raw.fields().map(|f| {
            let start = at;
            at += f.line.len();
            Line::Kept(start..at)
        });
        Self {
            lines: lines.collect(),
            source: raw.bytes.clone(),
            start: None,
            fields_at: raw.fields_at,
        }
    }

    fn with_start(start: Bytes) -> Self {
        Self { source: Bytes::new(), start: Some(start), fields_at: 0, lines: Vec::new() }
    }

    /// Removes all fields of that name.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> &mut Self {
        let name = name.as_ref();
        self.remove_if(|n, _| n.eq_ignore_ascii_case(name))
    }

    /// Removes the fields for which `condition(name, value)` holds.
    pub fn remove_if(&mut self, mut condition: impl FnMut(&[u8], &[u8]) -> bool) -> &mut Self {
        let Self { lines, source, .. } = self;
        lines.retain(|line| {
            let (name, value) = line.parts(source);
            !condition(name, value)
        });
        self
    }

    /// Gives `name` exactly one value: in the place of the first field of that name, else at the end.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        let name = name.as_ref();
        let Self { lines, source, .. } = self;
        let place = lines.iter().position(|l| l.parts(source).0.eq_ignore_ascii_case(name));
        let Some(place) = place else { return self.append(name, value) };
        let mut index = 0;
        lines.retain(|line| {
            index += 1;
            index - 1 <= place || !line.parts(source).0.eq_ignore_ascii_case(name)
        });
        lines[place] = Line::new(name, value.as_ref());
        self
    }

    /// Adds a field at the end.
    pub fn append(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.lines.push(Line::new(name.as_ref(), value.as_ref()));
        self
    }

    /// Adds a field before all others.
    pub fn prepend(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.lines.insert(0, Line::new(name.as_ref(), value.as_ref()));
        self
    }

    /// Replaces the start line (given without its CRLF).
    pub fn start_line(&mut self, line: impl AsRef<[u8]>) -> &mut Self {
        self.start = Some(Bytes::copy_from_slice(line.as_ref()));
        self
    }

    /// A value with a whole second line in it would pass for two well formed lines.
    fn check(&self) -> Result<(), Error> {
        let sound = |line: &Line| match line {
            Line::Kept(_) => true,
            Line::New { name, value } => syntax::is_token(name) && syntax::is_value(value),
        };
        let start = self.start.as_ref().is_none_or(|line| syntax::is_value(line));
        match start && self.lines.iter().all(sound) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::ControlCharacter)),
        }
    }

    fn bytes(&self) -> Bytes {
        let start = self.start.as_ref();
        let mut room = start.map_or(self.fields_at, |s| s.len() + 2) + 2;
        for line in &self.lines {
            room += match line {
                Line::Kept(range) => range.len(),
                Line::New { name, value } => name.len() + value.len() + 4,
            };
        }
        let mut out = BytesMut::with_capacity(room);
        match start {
            Some(line) => {
                out.put_slice(line);
                out.put_slice(b"\r\n");
            }
            None => out.put_slice(&self.source[..self.fields_at]),
        }
        for line in &self.lines {
            match line {
                Line::Kept(range) => out.put_slice(&self.source[range.clone()]),
                Line::New { name, value } => {
                    out.put_slice(name);
                    out.put_slice(b": ");
                    out.put_slice(value);
                    out.put_slice(b"\r\n");
                }
            }
        }
        out.put_slice(b"\r\n");
        out.freeze()
    }
}

impl Line {
    fn new(name: &[u8], value: &[u8]) -> Self {
        Self::New { name: name.to_vec(), value: value.to_vec() }
    }

    fn parts<'a>(&'a self, source: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        match self {
            Self::Kept(range) => match Fields::new(&source[range.clone()]).next() {
                Some(Field { name, value, .. }) => (name, value),
                None => (&[], &[]),
            },
            Self::New { name, value } => (name, value),
        }
    }
}

macro_rules! edit {
    ($edit:ident, $head:ident, $what:literal) => {
        #[doc = concat!("Changes to a ", $what, " head; see [`HeadEdit`].")]
        #[derive(Debug)]
        pub struct $edit(HeadEdit);

        impl $edit {
            /// The changed head, checked as strictly as one from the wire.
            ///
            /// # Errors
            /// A name or value that would not be well formed, such as one with a line end in it.
            pub fn build(&self) -> Result<$head, Error> {
                self.0.check()?;
                let bytes = self.0.bytes();
                let limits = Limits { max_head: bytes.len() + 1, max_fields: usize::MAX };
                $head::from_bytes(bytes, &limits)
            }
        }

        impl std::ops::Deref for $edit {
            type Target = HeadEdit;
            fn deref(&self) -> &HeadEdit {
                &self.0
            }
        }

        impl std::ops::DerefMut for $edit {
            fn deref_mut(&mut self) -> &mut HeadEdit {
                &mut self.0
            }
        }

        impl $head {
            /// Starts to change this head; the original is kept.
            pub fn edit(&self) -> $edit {
                $edit(HeadEdit::of(self.raw()))
            }
        }
    };
}

edit!(RequestEdit, RequestHead, "request");
edit!(ResponseEdit, ResponseHead, "response");

impl RequestHead {
    /// Starts a head from nothing: `METHOD target HTTP/1.1` and no fields.
    pub fn start(method: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> RequestEdit {
        let line = [method.as_ref(), target.as_ref(), b"HTTP/1.1"].join(&b' ');
        RequestEdit(HeadEdit::with_start(line.into()))
    }
}

impl RequestEdit {
    /// Replaces the request target; method and version stay.
    pub fn target(&mut self, target: impl AsRef<[u8]>) -> &mut Self {
        let line: &[u8] = match &self.0.start {
            Some(line) => line,
            None => &self.0.source[..self.0.fields_at.saturating_sub(2)],
        };
        let mut parts = line.splitn(3, |&b| b == b' ');
        let method = parts.next().unwrap_or_default();
        let version = parts.nth(1).unwrap_or_default();
        let line = [method, target.as_ref(), version].join(&b' ');
        self.0.start = Some(line.into());
        self
    }
}

impl ResponseHead {
    /// Starts a head from nothing: `HTTP/1.1 status reason` and no fields.
    pub fn start(status: u16, reason: &str) -> ResponseEdit {
        ResponseEdit(HeadEdit::with_start(format!("HTTP/1.1 {status} {reason}").into()))
    }
}
