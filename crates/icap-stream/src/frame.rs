//! The framing: a header of eight bytes, and a payload whose length is checked before it is kept.

use bytes::BufMut;

use crate::{Error, ErrorKind};

/// Bytes of a frame's header: type, flags, stream (two), length (four), big endian.
pub const HEADER: usize = 8;
/// The most bytes of a stream that one frame carries.
pub const MAX_BYTES: usize = 65_536;
/// The most bytes of fields or text that one frame carries.
pub const MAX_FIELDS: usize = 8_192;

/// The frame is about what goes to the client; without it, to the server.
pub(crate) const TO_CLIENT: u8 = 1;
/// A unit of the protocol ends with this frame.
pub(crate) const UNIT: u8 = 2;
/// The direction ends with this frame.
pub(crate) const END: u8 = 4;

/// Memory for a frame that came in pieces is kept for the next one up to so much, in bytes.
const KEPT: usize = 4_096;

/// The types of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Data = 1,
    Replay = 2,
    Phase = 3,
    Note = 4,
    Ping = 5,
    Cancel = 6,
    Pass = 129,
    Drop = 130,
    Fail = 131,
    Alert = 132,
    Proto = 133,
    Pong = 134,
    Drain = 135,
}

/// Who reads the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Gateway,
    Inspector,
}

/// What a type of frame may look like.
struct Shape {
    flags: u8,
    least: usize,
    most: usize,
}

impl Kind {
    fn shape(self) -> Shape {
        let (flags, least, most) = match self {
            Self::Data => (TO_CLIENT | UNIT | END, 0, MAX_BYTES),
            Self::Replay => (TO_CLIENT | UNIT, 0, MAX_BYTES),
            Self::Phase | Self::Note | Self::Cancel => (0, 0, MAX_FIELDS),
            Self::Pass => (TO_CLIENT | END, 8, 8),
            Self::Drop => (TO_CLIENT, 12, 12 + MAX_FIELDS),
            Self::Fail | Self::Alert | Self::Proto => (0, 0, MAX_FIELDS),
            Self::Ping | Self::Pong | Self::Drain => (0, 0, 0),
        };
        Shape { flags, least, most }
    }

    /// The type with this number, if `reader` gets such frames.
    fn read_by(reader: Reader, code: u8) -> Option<Self> {
        let from_gateway =
            [Self::Data, Self::Replay, Self::Phase, Self::Note, Self::Ping, Self::Cancel];
        let from_inspector =
            [Self::Pass, Self::Drop, Self::Fail, Self::Alert, Self::Proto, Self::Pong, Self::Drain];
        let known: &[Self] = match reader {
            Reader::Gateway => &from_inspector,
            Reader::Inspector => &from_gateway,
        };
        known.iter().copied().find(|kind| *kind as u8 == code)
    }
}

/// Writes one frame. What is longer than the length's field, or than its type may be, is a mistake
/// of this crate's: callers split and check.
pub(crate) fn encode(kind: Kind, flags: u8, payload: &[&[u8]], out: &mut impl BufMut) -> u64 {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    debug_assert!(len <= kind.shape().most);
    out.put_u8(kind as u8);
    out.put_u8(flags);
    out.put_u16(0);
    out.put_u32(len as u32);
    for part in payload {
        out.put_slice(part);
    }
    (HEADER + len) as u64
}

/// A whole frame.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes before it.
    pub(crate) at: u64,
}

impl Frame<'_> {
    pub(crate) fn error(&self, kind: ErrorKind, what: &'static str) -> Error {
        Error::new(kind, self.at, what)
    }
}

/// Finds frames in bytes that come in any pieces. At most one frame is kept meanwhile.
#[derive(Debug)]
pub(crate) struct Decoder {
    reader: Reader,
    /// The beginning of a frame of which the rest is to come; after a call that returned it, all.
    pending: Vec<u8>,
    /// `pending` was returned, and is of no more use.
    returned: bool,
    /// Bytes to come of a frame that may be ignored.
    ignored: usize,
    /// Bytes taken in.
    taken: u64,
}

enum Header {
    Ignored(usize),
    Known(Kind, u8, usize),
}

impl Decoder {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader, pending: Vec::new(), returned: false, ignored: 0, taken: 0 }
    }

    /// Bytes taken in so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether nothing of a frame has come of which the rest is to come.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.ignored == 0 && (self.returned || self.pending.is_empty())
    }

    /// Takes the next frame off the front of `input`; `None` when more input is needed, all of it
    /// is taken then. A frame that lies in `input` whole is not copied.
    pub(crate) fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'s>>, Error> {
        if self.returned {
            self.returned = false;
            self.pending.clear();
            self.pending.shrink_to(KEPT);
        }
        let (kind, flags, at) = loop {
            if self.ignored > 0 {
                let ignored = self.take(self.ignored, input).len();
                self.ignored -= ignored;
                if self.ignored > 0 {
                    return Ok(None);
                }
            }
            if self.pending.is_empty()
                && let Some(header) = input.first_chunk()
            {
                match self.header(header, self.taken)? {
                    Header::Ignored(len) => {
                        self.ignored = HEADER + len;
                        continue;
                    }
                    Header::Known(kind, flags, len) if input.len() >= HEADER + len => {
                        let at = self.taken;
                        let payload = &self.take(HEADER + len, input)[HEADER..];
                        return Ok(Some(Frame { kind, flags, payload, at }));
                    }
                    Header::Known(..) => {}
                }
            }
            self.gather(HEADER, input);
            let Some(header) = self.pending.first_chunk() else { return Ok(None) };
            let at = self.taken - self.pending.len() as u64;
            match self.header(header, at)? {
                Header::Ignored(len) => {
                    self.ignored = len;
                    self.pending.clear();
                }
                Header::Known(kind, flags, len) => {
                    self.gather(HEADER + len, input);
                    if self.pending.len() < HEADER + len {
                        return Ok(None);
                    }
                    break (kind, flags, at);
                }
            }
        };
        self.returned = true;
        Ok(Some(Frame { kind, flags, payload: &self.pending[HEADER..], at }))
    }

    /// Moves up to `most` bytes out of the front of `input`.
    fn take<'a>(&mut self, most: usize, input: &mut &'a [u8]) -> &'a [u8] {
        let (taken, rest) = input.split_at(most.min(input.len()));
        *input = rest;
        self.taken += taken.len() as u64;
        taken
    }

    /// Keeps bytes until there are `wanted`, a checked length.
    fn gather(&mut self, wanted: usize, input: &mut &[u8]) {
        let lacking = wanted.saturating_sub(self.pending.len());
        self.pending.reserve_exact(lacking);
        let taken = self.take(lacking, input);
        self.pending.extend_from_slice(taken);
    }

    fn header(&self, header: &[u8; HEADER], at: u64) -> Result<Header, Error> {
        let [code, flags, high, low, length @ ..] = *header;
        let len = u32::from_be_bytes(length) as usize;
        let Some(kind) = Kind::read_by(self.reader, code) else {
            return match code {
                64..=127 | 192..=255 if len <= MAX_BYTES => Ok(Header::Ignored(len)),
                64..=127 | 192..=255 => {
                    Err(Error::new(ErrorKind::Length, at, "a frame of more than 65,536 bytes"))
                }
                _ => Err(Error::new(
                    ErrorKind::UnknownFrame,
                    at,
                    "a type that must be understood, and is not known here",
                )),
            };
        };
        let shape = kind.shape();
        if high != 0 || low != 0 {
            return Err(Error::new(ErrorKind::UnknownFrame, at, "a stream other than 0"));
        }
        if flags & !shape.flags != 0 {
            return Err(Error::new(
                ErrorKind::Flags,
                at,
                "a flag that this type of frame does not have",
            ));
        }
        if !(shape.least..=shape.most).contains(&len) {
            return Err(Error::new(
                ErrorKind::Length,
                at,
                "a payload longer or shorter than this type of frame may have",
            ));
        }
        Ok(Header::Known(kind, flags, len))
    }
}
