//! What one peer says: frames in, messages out.

use std::fmt;

use crate::close::CloseCode;
use crate::error::{Error, ErrorKind};
use crate::extensions::Side;
use crate::frame::{Frame, MAX_CONTROL, Opcode, Role, unmask};
use crate::inflate::Inflate;

/// The longest head of a frame.
const MAX_HEAD: usize = 14;
/// Bytes that are unmasked at once, before they are inflated.
const PIECE: usize = 8 << 10;
/// A buffer that is larger is given back after its message.
const KEPT: usize = 64 << 10;

/// What is taken of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    message: usize,
    wire: u64,
}

impl Limits {
    /// Messages of so many bytes, inflated. The frames of one may have an eighth and 64 KiB more, with their heads.
    pub const fn new(message: usize) -> Self {
        Self { message, wire: message as u64 + message as u64 / 8 + (64 << 10) }
    }

    /// Bytes that the frames of one message may have in all, with those that stand between them.
    pub const fn wire(&self) -> u64 {
        self.wire
    }
}

/// What a peer has said, complete and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message, inflated.
    Message {
        /// Text, which is UTF-8; else bytes.
        is_text: bool,
        /// What it says.
        payload: &'a [u8],
    },
    /// A control frame: [`Opcode::Close`], [`Opcode::Ping`] or [`Opcode::Pong`]. It may stand between the frames of a message.
    Control {
        /// Which.
        opcode: Opcode,
        /// At most 125 bytes; of a close frame none, or a code and a reason that are well formed.
        payload: &'a [u8],
    },
}

/// Reads what one peer says. After an error it reads nothing more.
pub struct Reader {
    role: Role,
    limits: Limits,
    inflate: Option<Inflate>,
    head: Head,
    /// The message under way.
    message: Option<Message>,
    /// Its payload, if it is not compressed.
    plain: Vec<u8>,
    /// Bytes of its frames, and of those between them.
    wire: u64,
    control: [u8; MAX_CONTROL],
    told: Told,
    is_closed: bool,
    failed: Option<Error>,
}

/// What the last event was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// A control frame with so many bytes.
    Control(usize),
    Message,
    /// It was forgotten.
    Nothing,
}

#[derive(Clone, Copy)]
struct Message {
    is_text: bool,
    is_compressed: bool,
}

/// A frame's head, as far as it is there.
enum Head {
    Partial { bytes: [u8; MAX_HEAD], length: usize },
    Whole { frame: Frame, read: u64 },
}

impl Head {
    const NONE: Self = Self::Partial { bytes: [0; MAX_HEAD], length: 0 };
}

impl Reader {
    /// Reads what `role` says, who compresses as `deflate` says, if that was agreed on.
    pub fn new(role: Role, deflate: Option<Side>, limits: Limits) -> Self {
        Self {
            role,
            limits,
            inflate: deflate.map(|side| Inflate::new(side, limits.message)),
            head: Head::NONE,
            message: None,
            plain: Vec::new(),
            wire: 0,
            control: [0; MAX_CONTROL],
            told: Told::Nothing,
            is_closed: false,
            failed: None,
        }
    }

    /// Reads from `input`, which is moved on, to the end of a message or of a control frame. `None`: all of it was read,
    /// and more is needed.
    ///
    /// # Errors
    /// What was read is not to be gone on with. The same error comes from then on.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Event<'_>>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.forget();
        match self.advance(input) {
            Ok(None) => Ok(None),
            Ok(Some(ended)) => self.event(ended).map(Some),
            Err(error) => {
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// What the last event has said, until it is [forgotten](Self::forget).
    pub fn payload(&self) -> &[u8] {
        match (self.told, &self.inflate, self.message) {
            (Told::Control(length), ..) => &self.control[..length],
            (Told::Message, Some(inflate), Some(Message { is_compressed: true, .. })) => {
                inflate.message()
            }
            (Told::Message, ..) => &self.plain,
            (Told::Nothing, ..) => &[],
        }
    }

    /// Forgets what the last event has said, and gives its memory back. The next [`read`](Self::read) does it, too.
    pub fn forget(&mut self) {
        if std::mem::replace(&mut self.told, Told::Nothing) != Told::Message {
            return;
        }
        if let (Some(Message { is_compressed: true, .. }), Some(inflate)) =
            (self.message.take(), &mut self.inflate)
        {
            inflate.next();
        }
        self.plain.clear();
        if self.plain.capacity() > KEPT {
            self.plain = Vec::new();
        }
    }

    /// Whether a frame or a message has begun and not ended.
    pub fn is_within(&self) -> bool {
        let in_message = self.message.is_some() && self.told != Told::Message;
        in_message || !matches!(self.head, Head::Partial { length: 0, .. })
    }

    /// Bytes of memory for messages.
    pub fn memory(&self) -> usize {
        self.plain.capacity() + self.inflate.as_ref().map_or(0, Inflate::memory)
    }

    /// Whether the peer's close frame was read.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Reads on; the frame with which something ended.
    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Error> {
        while !input.is_empty() {
            let (frame, read) = match &mut self.head {
                Head::Whole { frame, read } => (*frame, read),
                Head::Partial { bytes, length } => {
                    bytes[*length] = input[0];
                    *length += 1;
                    *input = &input[1..];
                    if let Some((frame, length)) = Frame::parse(&bytes[..*length])? {
                        self.begin(frame, length)?;
                        self.head = Head::Whole { frame, read: 0 };
                        if frame.length == 0 && self.end(&frame)? {
                            return Ok(Some(frame));
                        }
                    }
                    continue;
                }
            };
            let left = usize::try_from(frame.length - *read).unwrap_or(usize::MAX);
            let (payload, rest) = input.split_at(left.min(input.len()));
            let from = *read;
            *read += payload.len() as u64;
            let is_over = *read == frame.length;
            *input = rest;
            self.take(&frame, from, payload)?;
            if is_over && self.end(&frame)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// A frame's head is there, `head` bytes of it.
    fn begin(&mut self, frame: Frame, head: usize) -> Result<(), Error> {
        if self.is_closed {
            return Err(Error::protocol("a frame behind a close frame"));
        }
        if !frame.is_of(self.role) {
            return Err(Error::protocol(match self.role {
                Role::Client => "a client's frame without a mask",
                Role::Server => "a server's frame with a mask",
            }));
        }
        if frame.is_compressed && self.inflate.is_none() {
            return Err(Error::protocol("compression that was not agreed on"));
        }
        let begins = match (frame.opcode, self.message) {
            (Opcode::Text | Opcode::Binary, None) => true,
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Error::protocol("a message within another"));
            }
            (Opcode::Continuation, None) => {
                return Err(Error::protocol("a further part of no message"));
            }
            (Opcode::Close, Some(_)) => return Err(Error::protocol("a close within a message")),
            (Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong, _) => false,
        };
        if begins {
            let (is_text, is_compressed) = (frame.opcode == Opcode::Text, frame.is_compressed);
            self.message = Some(Message { is_text, is_compressed });
            self.wire = 0;
        }
        let Some(message) = self.message else { return Ok(()) };
        self.wire = self.wire.saturating_add(head as u64).saturating_add(frame.length);
        let plain =
            self.plain.len() as u64 + if frame.opcode.is_control() { 0 } else { frame.length };
        if self.wire > self.limits.wire
            || !message.is_compressed && plain > self.limits.message as u64
        {
            return Err(Error::new(ErrorKind::TooLong, "more than the limit"));
        }
        Ok(())
    }

    /// Takes in bytes of a frame's payload, of which it has read `from` bytes before.
    fn take(&mut self, frame: &Frame, from: u64, payload: &[u8]) -> Result<(), Error> {
        let key = frame.mask.unwrap_or_default();
        if frame.opcode.is_control() {
            // Less than 126, as was checked.
            let from_index = from as usize;
            let to = &mut self.control[from_index..from_index + payload.len()];
            to.copy_from_slice(payload);
            unmask(to, key, from);
            return Ok(());
        }
        match (&mut self.inflate, self.message) {
            (Some(inflate), Some(Message { is_compressed: true, .. })) => {
                let mut scratch = [0; PIECE];
                let mut at = from;
                for piece in payload.chunks(PIECE) {
                    let scratch = &mut scratch[..piece.len()];
                    scratch.copy_from_slice(piece);
                    unmask(scratch, key, at);
                    inflate.push(scratch)?;
                    at += piece.len() as u64;
                }
            }
            _ => {
                let start = self.plain.len();
                self.plain.extend_from_slice(payload);
                unmask(&mut self.plain[start..], key, from);
            }
        }
        Ok(())
    }

    /// A frame has ended; whether something ended with it.
    fn end(&mut self, frame: &Frame) -> Result<bool, Error> {
        self.head = Head::NONE;
        if frame.opcode == Opcode::Close {
            // Less than 126, as was checked.
            check_close(&self.control[..frame.length as usize])?;
            self.is_closed = true;
        }
        Ok(frame.is_final)
    }

    fn event(&mut self, frame: Frame) -> Result<Event<'_>, Error> {
        if frame.opcode.is_control() {
            let length = frame.length as usize;
            self.told = Told::Control(length);
            return Ok(Event::Control { opcode: frame.opcode, payload: &self.control[..length] });
        }
        let Some(Message { is_text, is_compressed }) = self.message else {
            return Err(Error::protocol("a further part of no message"));
        };
        self.told = Told::Message;
        let read = match &mut self.inflate {
            Some(inflate) if is_compressed => inflate.finish(),
            _ => Ok(&self.plain[..]),
        };
        let read = read.and_then(|payload| match is_text && str::from_utf8(payload).is_err() {
            true => Err(Error::new(ErrorKind::Text, "a message of text")),
            false => Ok(payload),
        });
        match read {
            Ok(payload) => Ok(Event::Message { is_text, payload }),
            Err(error) => {
                self.failed = Some(error);
                Err(error)
            }
        }
    }
}

fn check_close(payload: &[u8]) -> Result<(), Error> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(()),
            _ => Err(Error::protocol("half a code in a close frame")),
        };
    };
    if CloseCode::new(u16::from_be_bytes(*code)).is_none() {
        return Err(Error::protocol("a code that no close frame may have"));
    }
    match str::from_utf8(reason) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(ErrorKind::Text, "a reason to close")),
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("role", &self.role).finish_non_exhaustive()
    }
}
