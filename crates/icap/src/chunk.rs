//! The chunks of a body that arrives, taken apart.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use crate::fields;
use crate::request::decimal;
use crate::{Error, ErrorKind, Limits};

/// Takes the chunking off an ICAP body (RFC 3507 section 4.4.2), previews included.
///
/// It looks at bytes and says what they are; it keeps none and allocates none. The extensions
/// `ieof` and `use-original-body` are understood in any case and place, others are skipped.
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    state: State,
    preview: bool,
    scanned: usize,
    last: Last,
    max_line: usize,
    max_trailers: usize,
}

/// What the front of the input is: `skip` bytes of framing, then what `event` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes to take off the front of the input first.
    pub skip: usize,
    /// What comes after them.
    pub event: ChunkEvent,
}

/// What comes after the framing of a [`Step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEvent {
    /// The body is over.
    End {
        /// The last chunk said `ieof`: the preview held the whole body.
        ieof: bool,
        /// The last chunk said `use-original-body`: go on with the original body from this byte.
        use_original_body: Option<u64>,
        /// Where the trailer lines lie in the `skip` bytes; empty if there are none.
        trailers: Range<usize>,
    },
    /// So many bytes of data follow, at least one; take them off the input too.
    Data(usize),
    /// The input ends here: go on with more.
    NeedMore,
    /// The preview is over and the body is not: the sender waits for an answer. After
    /// [`ChunkDecoder::resume`] the rest is decoded.
    PreviewEnd,
}

/// As [`ChunkEvent`], for a buffer whose framing has been taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyEvent {
    /// The body is over.
    End {
        /// The last chunk said `ieof`: the preview held the whole body.
        ieof: bool,
        /// The last chunk said `use-original-body`: go on with the original body from this byte.
        use_original_body: Option<u64>,
        /// The trailer lines as they came, without the empty line; empty if there are none.
        trailers: Bytes,
    },
    /// So many bytes at the front of the buffer are data; take them off before the next call.
    Data(usize),
    /// The preview is over and the body is not.
    PreviewEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    PreviewEnd,
    Done,
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    ieof: bool,
    use_original_body: Option<u64>,
}

impl ChunkDecoder {
    /// A decoder at the start of a body; `preview` says that the first part is a preview, which a
    /// last chunk without `ieof` only interrupts.
    pub fn new(preview: bool, limits: &Limits) -> Self {
        Self {
            state: State::Size,
            preview,
            scanned: 0,
            last: Last::default(),
            max_line: limits.max_chunk_line,
            max_trailers: limits.max_trailers,
        }
    }

    /// Looks at `input`, the bytes that come next: what was taken off by earlier steps must not
    /// be in it, what was not must be.
    ///
    /// # Errors
    /// `Chunk` if a size is malformed or needs more than 64 bits, a chunk is longer than its
    /// size, or a size line or the trailers exceed their limit. The body is lost then.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, Error> {
        let mut skip = 0;
        loop {
            let rest = &input[skip..];
            let event = match self.state {
                State::Size => match self.size_line(rest)? {
                    Some(used) => {
                        skip += used;
                        continue;
                    }
                    None => ChunkEvent::NeedMore,
                },
                State::Data(_) if rest.is_empty() => ChunkEvent::NeedMore,
                State::Data(left) => {
                    let len = usize::try_from(left).map_or(rest.len(), |l| l.min(rest.len()));
                    let left = left - len as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    ChunkEvent::Data(len)
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        self.state = State::Size;
                        skip += 2;
                        continue;
                    }
                    [] | [b'\r'] => ChunkEvent::NeedMore,
                    _ => return Err(bad("a chunk longer than its size")),
                },
                State::Trailers => match self.trailers(rest)? {
                    None => ChunkEvent::NeedMore,
                    Some((lines, used)) => {
                        let trailers = skip..skip + lines;
                        skip += used;
                        self.end(trailers)
                    }
                },
                State::PreviewEnd => ChunkEvent::PreviewEnd,
                State::Done => self.end(skip..skip),
            };
            return Ok(Step { skip, event });
        }
    }

    /// As [`decode`](Self::decode), on a buffer: takes framing off its front. `None` if it ends
    /// before the next event.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<BodyEvent>, Error> {
        let Step { skip, event } = self.decode(buf)?;
        let event = match event {
            ChunkEvent::End { ieof, use_original_body, trailers } => {
                let trailers = Bytes::copy_from_slice(&buf[trailers]);
                Some(BodyEvent::End { ieof, use_original_body, trailers })
            }
            ChunkEvent::Data(len) => Some(BodyEvent::Data(len)),
            ChunkEvent::NeedMore => None,
            ChunkEvent::PreviewEnd => Some(BodyEvent::PreviewEnd),
        };
        buf.advance(skip);
        Ok(event)
    }

    /// Goes on after a preview's end, once 100 Continue was sent or received. Does nothing
    /// elsewhere.
    pub fn resume(&mut self) {
        if self.state == State::PreviewEnd {
            self.state = State::Size;
            self.preview = false;
        }
    }

    /// Whether the body is over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the decoder stands before a chunk, of which it has seen nothing.
    pub fn is_between_chunks(&self) -> bool {
        self.state == State::Size && self.scanned == 0
    }

    /// Whether the decoder stands at the end of a preview that did not hold the whole body.
    pub fn at_preview_end(&self) -> bool {
        self.state == State::PreviewEnd
    }

    fn size_line(&mut self, input: &[u8]) -> Result<Option<usize>, Error> {
        let Some(newline) = memchr::memchr(b'\n', &input[self.scanned..]) else {
            self.scanned = input.len();
            if input.len() > self.max_line {
                return Err(bad("a chunk size line longer than the limit"));
            }
            return Ok(None);
        };
        let end = self.scanned + newline;
        if end > self.max_line {
            return Err(bad("a chunk size line longer than the limit"));
        }
        let Some(line) = input[..end].strip_suffix(b"\r") else {
            return Err(bad("a chunk size line that ends in a bare LF"));
        };
        self.scanned = 0;
        let (size, extensions) = chunk_size(line)?;
        if size > 0 {
            self.state = State::Data(size);
        } else {
            self.last = last_chunk(extensions)?;
            self.state = State::Trailers;
        }
        Ok(Some(end + 1))
    }

    /// The length of the trailer lines, without and with the empty line.
    fn trailers(&mut self, input: &[u8]) -> Result<Option<(usize, usize)>, Error> {
        match input {
            [b'\r', b'\n', ..] => return Ok(Some((0, 2))),
            [] | [b'\r'] => return Ok(None),
            [b'\r' | b'\n', ..] => return Err(bad("no CRLF after the last chunk")),
            _ => {}
        }
        match fields::block_end(input, self.scanned) {
            Some(end) if end <= self.max_trailers => {
                self.scanned = 0;
                let lines = if input[..end].ends_with(b"\r\n") { end - 2 } else { end - 1 };
                Ok(Some((lines, end)))
            }
            None if input.len() <= self.max_trailers => {
                self.scanned = input.len();
                Ok(None)
            }
            _ => Err(bad("trailers longer than the limit")),
        }
    }

    fn end(&mut self, trailers: Range<usize>) -> ChunkEvent {
        if self.preview && !self.last.ieof && self.last.use_original_body.is_none() {
            self.state = State::PreviewEnd;
            return ChunkEvent::PreviewEnd;
        }
        self.state = State::Done;
        let Last { ieof, use_original_body } = self.last;
        ChunkEvent::End { ieof, use_original_body, trailers }
    }
}

/// The size and the extensions of a chunk size line.
fn chunk_size(line: &[u8]) -> Result<(u64, &[u8]), Error> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if !(1..=16).contains(&digits) {
        return Err(bad("a chunk size that is not 1 to 16 hexadecimal digits"));
    }
    let size = line[..digits].iter().fold(0u64, |size, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            _ => (digit | 0x20) - b'a' + 10,
        };
        size << 4 | u64::from(value)
    });
    // Some senders pad the size with blanks.
    let extensions = line[digits..].trim_ascii();
    if !extensions.is_empty() && extensions[0] != b';' {
        return Err(bad("a chunk size followed by something other than an extension"));
    }
    Ok((size, extensions))
}

/// What the extensions of a last chunk say.
fn last_chunk(extensions: &[u8]) -> Result<Last, Error> {
    let mut last = Last::default();
    for extension in split_extensions(extensions) {
        let (name, value) = match memchr::memchr(b'=', extension) {
            Some(equals) => (&extension[..equals], Some(extension[equals + 1..].trim_ascii())),
            None => (extension, None),
        };
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"ieof") {
            last.ieof = true;
        } else if name.eq_ignore_ascii_case(b"use-original-body") {
            let offset = value
                .map(|v| v.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(v))
                .and_then(decimal)
                .ok_or(bad("a use-original-body without a number"))?;
            if last.use_original_body.replace(offset).is_some() {
                return Err(bad("two use-original-body"));
            }
        }
    }
    Ok(last)
}

/// Splits at semicolons outside quotes.
fn split_extensions(extensions: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    extensions.split(move |&b| {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' => return !quoted,
            _ => {}
        }
        false
    })
}

fn bad(what: &'static str) -> Error {
    Error::new(ErrorKind::Chunk, what)
}
