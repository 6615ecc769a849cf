//! `deflate`: zlib (RFC 1950), or raw DEFLATE where the first two bytes can't begin zlib.
//!
//! That is how Chromium, Firefox, curl and urllib3 decide (they try zlib first). Those who look at
//! the first byte alone (undici, .NET) read the same, or fail. A client that knows raw DEFLATE
//! alone takes the header of zlib for the beginning of a stored block; where that block is well
//! formed, there are two contents in one, and neither is let through.

use zlib_rs::adler32::adler32;

use crate::Fault;
use crate::inflate::{Inflate, Inflated};
use crate::layer::{Io, Layer};

const METHOD_DEFLATE: u8 = 8;
const LARGEST_WINDOW: u8 = 7;
const DICTIONARY: u8 = 1 << 5;

/// What the next byte belongs to.
#[derive(Clone, Copy)]
enum Part {
    Begin,
    /// The first byte is there.
    Second(u8),
    /// Compressed data of zlib that could still be a stored block of raw DEFLATE: how many bytes
    /// are there, and those that would be the block's length and its complement (RFC 1951 3.2.4).
    ZlibOrStored(usize, [u8; 5]),
    Zlib,
    /// zlib's checksum: how many bytes of it are there, and their value.
    Checksum(usize, u32),
    /// Raw DEFLATE, the first two bytes of it, and how many of them were inflated.
    RawBegin([u8; 2], usize),
    Raw,
    End,
}

pub(crate) struct Deflate {
    inflate: Inflate,
    part: Part,
    checksum: u32,
}

impl Deflate {
    pub(crate) fn new() -> Self {
        // An Adler-32 begins with 1.
        Deflate { inflate: Inflate::new(), part: Part::Begin, checksum: 1 }
    }

    /// One step within a part; `None` if another part is to be gone on with.
    fn part_step(&mut self, io: &mut Io<'_>) -> Result<Option<bool>, Fault> {
        match self.part {
            Part::RawBegin(pair, inflated) => return self.raw_begin(pair, inflated, io),
            Part::Raw => return self.inflate(io, Part::End),
            Part::Zlib => return self.inflate(io, Part::Checksum(0, 0)),
            Part::ZlibOrStored(at, bytes) => return self.zlib_or_stored(at, bytes, io),
            Part::Begin | Part::Second(_) | Part::Checksum(..) | Part::End => {}
        }
        let Some(byte) = io.byte() else { return Ok(Some(true)) };
        self.part = match self.part {
            Part::Begin => Part::Second(byte),
            Part::Second(first) => first_two(first, byte)?,
            Part::Checksum(at, value) => match (at, value << 8 | u32::from(byte)) {
                (3, stated) if stated == self.checksum => Part::End,
                (3, _) => return Err(Fault::Checksum),
                (_, value) => Part::Checksum(at + 1, value),
            },
            _ => return Err(Fault::Trailing),
        };
        Ok(None)
    }

    fn inflate(&mut self, io: &mut Io<'_>, then: Part) -> Result<Option<bool>, Fault> {
        let before = io.produced;
        let inflated = self.inflate.step(io);
        // Raw DEFLATE has no checksum that this could be held against, and is rare.
        self.checksum = adler32(self.checksum, io.written(before));
        match inflated? {
            Inflated::End => self.part = then,
            Inflated::Full => return Ok(Some(false)),
            Inflated::Hungry => return Ok(Some(true)),
        }
        Ok(None)
    }

    /// Byte for byte, since one of the first three may be the end of the compressed data.
    fn zlib_or_stored(
        &mut self,
        at: usize,
        mut bytes: [u8; 5],
        io: &mut Io<'_>,
    ) -> Result<Option<bool>, Fault> {
        let Some(&byte) = io.rest().first() else { return Ok(Some(true)) };
        bytes[at] = byte;
        if at == 4 && bytes[3] == !bytes[1] && bytes[4] == !bytes[2] {
            io.byte();
            return Err(Fault::Ambiguous);
        }
        let (_, output) = io.both();
        let mut one = Io::new(&bytes[at..=at], output);
        let result = self.inflate(&mut one, Part::Checksum(0, 0));
        let (consumed, produced) = (one.consumed, one.produced);
        io.used(consumed, produced);
        let ended = !matches!(self.part, Part::ZlibOrStored(..));
        if consumed == 1 && !ended {
            self.part = if at == 4 { Part::Zlib } else { Part::ZlibOrStored(at + 1, bytes) };
        }
        match result? {
            // It was given one byte of many.
            Some(true) => Ok(None),
            other => Ok(other),
        }
    }

    fn raw_begin(
        &mut self,
        pair: [u8; 2],
        inflated: usize,
        io: &mut Io<'_>,
    ) -> Result<Option<bool>, Fault> {
        let (_, output) = io.both();
        let mut first = Io::new(&pair[inflated..], output);
        let result = self.inflate(&mut first, Part::End);
        let (consumed, produced) = (first.consumed, first.produced);
        io.used(0, produced);
        match (result?, inflated + consumed) {
            (Some(true), _) => self.part = Part::Raw,
            (Some(false), inflated) => self.part = Part::RawBegin(pair, inflated),
            (None, 2) => {}
            (None, _) => return Err(Fault::Trailing),
        }
        Ok(if matches!(self.part, Part::RawBegin(..)) { Some(false) } else { None })
    }
}

/// What comes after the first two bytes.
fn first_two(first: u8, second: u8) -> Result<Part, Fault> {
    let is_zlib = first & 0xf == METHOD_DEFLATE
        && first >> 4 <= LARGEST_WINDOW
        && u16::from_be_bytes([first, second]).is_multiple_of(31);
    match is_zlib {
        true if second & DICTIONARY != 0 => Err(Fault::Dictionary),
        true => Ok(Part::ZlibOrStored(2, [first, second, 0, 0, 0])),
        false => Ok(Part::RawBegin([first, second], 0)),
    }
}

impl Layer for Deflate {
    fn step(&mut self, io: &mut Io<'_>) -> Result<bool, Fault> {
        loop {
            if let Some(hungry) = self.part_step(io)? {
                return Ok(hungry);
            }
        }
    }

    fn may_end(&self) -> bool {
        matches!(self.part, Part::Begin | Part::End)
    }

    /// curl and Firefox try zlib with what a read gave them, and raw DEFLATE with that alone: if
    /// the first byte came by itself, they read a raw content from its second byte on.
    fn undecided(&self) -> bool {
        matches!(self.part, Part::Second(_))
    }

    fn members(&self) -> u64 {
        u64::from(!matches!(self.part, Part::Begin))
    }
}
