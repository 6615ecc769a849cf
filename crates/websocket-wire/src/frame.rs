//! Frames (RFC 6455 section 5.2).

use crate::close::CloseCode;
use crate::error::{Error, ErrorKind};

/// The longest payload of a control frame.
pub const MAX_CONTROL: usize = 125;
/// The longest head of a frame.
const MAX_HEAD: usize = 14;

const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x30;
const MASKED: u8 = 0x80;

/// Who says it: a client masks, a server does not (section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that asked for WebSocket.
    Client,
    /// The one that agreed.
    Server,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further part of a message.
    Continuation,
    /// A message of text, or its first part.
    Text,
    /// A message of bytes, or its first part.
    Binary,
    /// The last frame of its sender.
    Close,
    /// A sign of life is asked for.
    Ping,
    /// A sign of life.
    Pong,
}

impl Opcode {
    /// Whether it is a frame between those of messages.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn number(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub opcode: Opcode,
    /// Whether its message ends with it.
    pub is_final: bool,
    /// Whether the message that begins with it is compressed (RFC 7692 section 6).
    pub is_compressed: bool,
    /// What its payload is masked with.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload.
    pub length: u64,
}

impl Frame {
    /// The head that `bytes` begin with, and its length in bytes; `None` if more is needed, at most 14 bytes in all.
    ///
    /// # Errors
    /// No frame begins so, wherever it stands: reserved bits and opcodes, a control frame that is long, compressed or in
    /// parts, a length that is not written in the fewest bytes.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(Error::protocol("a reserved bit"));
        }
        let Some(opcode) = Opcode::new(first & 0xf) else {
            return Err(Error::protocol("an opcode that nobody has defined"));
        };
        let (is_final, is_compressed) = (first & FIN != 0, first & COMPRESSED != 0);
        if opcode.is_control() && !is_final {
            return Err(Error::protocol("a control frame in parts"));
        }
        if is_compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(Error::protocol(
                "the bit of compression not at the beginning of a message",
            ));
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(Error::protocol("a control frame of more than 125 bytes"));
        }
        let (length, mut at) = match short {
            126 => {
                let Some(&length) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(length)), 4)
            }
            127 => {
                let Some(&length) = bytes[2..].first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(length), 10)
            }
            short => (short.into(), 2),
        };
        let is_least = match at {
            4 => length >= 126,
            10 => length > u16::MAX.into(),
            _ => true,
        };
        if !is_least {
            return Err(Error::protocol("a length in more bytes than it needs"));
        }
        if length >> 63 != 0 {
            return Err(Error::new(ErrorKind::TooLong, "a length beyond 63 bits"));
        }
        let mut mask = None;
        if second & MASKED != 0 {
            let Some(&key) = bytes[at..].first_chunk() else { return Ok(None) };
            mask = Some(key);
            at += key.len();
        }
        Ok(Some((Self { opcode, is_final, is_compressed, mask, length }, at)))
    }

    /// Whether it is masked as `role` is to mask.
    pub(crate) fn is_of(&self, role: Role) -> bool {
        self.mask.is_some() == (role == Role::Client)
    }
}

/// Writes the head of a frame.
pub fn write_head(frame: &Frame, out: &mut impl Extend<u8>) {
    let mut head = [0; MAX_HEAD];
    head[0] = frame.opcode.number();
    head[0] |= if frame.is_final { FIN } else { 0 };
    head[0] |= if frame.is_compressed { COMPRESSED } else { 0 };
    let mut at = match frame.length {
        // What is less than 126 fits.
        0..126 => {
            head[1] = frame.length as u8;
            2
        }
        126..=0xffff => {
            head[1] = 126;
            head[2..4].copy_from_slice(&(frame.length as u16).to_be_bytes());
            4
        }
        length => {
            head[1] = 127;
            head[2..10].copy_from_slice(&length.to_be_bytes());
            10
        }
    };
    if let Some(mask) = frame.mask {
        head[1] |= MASKED;
        head[at..at + 4].copy_from_slice(&mask);
        at += 4;
    }
    out.extend(head[..at].iter().copied());
}

/// Writes a close frame. A client gives a `mask`, which nobody can foresee. Of a `reason` that is too long the beginning is said.
pub fn write_close(
    code: CloseCode,
    reason: &str,
    mask: Option<[u8; 4]>,
    out: &mut impl Extend<u8>,
) {
    let ends = |at: &usize| reason.is_char_boundary(*at);
    let most = (0..=reason.len().min(MAX_CONTROL - 2)).rev().find(ends).unwrap_or(0);
    let reason = &reason[..most];
    let length = 2 + reason.len() as u64;
    let (is_final, is_compressed) = (true, false);
    write_head(&Frame { opcode: Opcode::Close, is_final, is_compressed, mask, length }, out);
    let key = mask.unwrap_or_default();
    let payload = code.number().to_be_bytes().into_iter().chain(reason.bytes());
    out.extend(payload.zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Undoes (or does) the masking of bytes that begin `offset` bytes behind the beginning of their payload.
pub(crate) fn unmask(bytes: &mut [u8], mut key: [u8; 4], offset: u64) {
    // Less than 4.
    key.rotate_left((offset % 4) as usize);
    let mut words = bytes.chunks_exact_mut(4);
    for word in &mut words {
        word.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    }
    words.into_remainder().iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40, u64::MAX >> 1] {
            for mask in [None, Some([1, 2, 3, 4])] {
                for (opcode, is_compressed) in
                    [(Opcode::Text, true), (Opcode::Binary, false), (Opcode::Continuation, false)]
                {
                    let frame =
                        Frame { opcode, is_final: length % 2 == 0, is_compressed, mask, length };
                    let mut bytes = Vec::new();
                    write_head(&frame, &mut bytes);
                    for cut in 0..bytes.len() {
                        assert_eq!(Frame::parse(&bytes[..cut]), Ok(None));
                    }
                    assert_eq!(Frame::parse(&bytes), Ok(Some((frame, bytes.len()))));
                }
            }
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(CloseCode::POLICY_VIOLATION, &"ä".repeat(100), None, &mut out);
        assert_eq!(out[..4], [0x88, 124, 3, 240]);
        assert_eq!(std::str::from_utf8(&out[4..]).unwrap(), "ä".repeat(61));
    }

    #[test]
    fn masks_go_on_where_they_were() {
        let mut whole: Vec<u8> = (0..100).collect();
        unmask(&mut whole, [9, 8, 7, 6], 0);
        for cut in 0..100 {
            let mut parts: Vec<u8> = (0..100).collect();
            let (first, second) = parts.split_at_mut(cut);
            unmask(first, [9, 8, 7, 6], 0);
            unmask(second, [9, 8, 7, 6], cut as u64);
            assert_eq!(parts, whole);
        }
    }
}
