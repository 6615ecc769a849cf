//! `gzip` (RFC 1952): members one after the other, then zeros at most.

use zlib_rs::crc32::crc32;

use crate::Fault;
use crate::inflate::{Inflate, Inflated};
use crate::layer::{Io, Layer};

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const METHOD_DEFLATE: u8 = 8;

const HEADER_SUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// What the next byte belongs to.
#[derive(Clone, Copy)]
enum Part {
    /// The ten bytes that every member begins with: how many of them are there.
    Fixed(usize),
    /// The length of the extra field: how many bytes of it are there, and their value.
    ExtraLength(usize, u16),
    /// So many more bytes of the extra field.
    Extra(u16),
    Name,
    Comment,
    /// The checksum over the header: how many bytes of it are there, and their value.
    HeaderSum(usize, u16),
    Body,
    /// Checksum and length: how many bytes of them are there, and their value.
    Trailer(usize, u64),
    /// After a member: another one, zeros, or the end.
    Border,
    /// Zeros, until the end.
    Padding,
}

pub(crate) struct Gzip {
    inflate: Inflate,
    part: Part,
    flags: u8,
    header_sum: u32,
    checksum: u32,
    /// Of the member's decoded bytes, modulo 2^32 as the trailer has it.
    length: u32,
    members: u64,
    /// Bytes of names, comments and extra fields.
    skipped: u64,
}

impl Gzip {
    pub(crate) fn new() -> Self {
        Gzip {
            inflate: Inflate::new(),
            part: Part::Fixed(0),
            flags: 0,
            header_sum: 0,
            checksum: 0,
            length: 0,
            members: 0,
            skipped: 0,
        }
    }

    /// A byte that is not in the compressed data. The order of a header's parts is that of
    /// RFC 1952 section 2.3.
    fn outside(&mut self, byte: u8) -> Result<(), Fault> {
        if !matches!(self.part, Part::HeaderSum(..)) {
            self.header_sum = crc32(self.header_sum, &[byte]);
        }
        match self.part {
            Part::Extra(_) => self.skipped += 1,
            Part::Name | Part::Comment if byte != 0 => self.skipped += 1,
            _ => {}
        }
        self.part = match self.part {
            Part::Fixed(at) => self.fixed(at, byte)?,
            Part::ExtraLength(0, _) => Part::ExtraLength(1, u16::from(byte)),
            Part::ExtraLength(_, low) => match low | u16::from(byte) << 8 {
                0 => self.after(EXTRA),
                length => Part::Extra(length),
            },
            Part::Extra(1) => self.after(EXTRA),
            Part::Extra(left) => Part::Extra(left - 1),
            Part::Name if byte == 0 => self.after(NAME),
            Part::Comment if byte == 0 => self.after(COMMENT),
            Part::HeaderSum(0, _) => Part::HeaderSum(1, u16::from(byte)),
            Part::HeaderSum(_, low) => {
                let stated = low | u16::from(byte) << 8;
                match u32::from(stated) == self.header_sum & 0xffff {
                    true => Part::Body,
                    false => return Err(Fault::Checksum),
                }
            }
            Part::Trailer(at, value) => self.trailer(at, value | u64::from(byte) << (8 * at))?,
            Part::Border | Part::Padding if byte == 0 => Part::Padding,
            Part::Border if byte == MAGIC[0] => self.begin(),
            Part::Border | Part::Padding => return Err(Fault::Trailing),
            unchanged @ (Part::Name | Part::Comment | Part::Body) => unchanged,
        };
        Ok(())
    }

    /// Another member, of which the first byte was taken.
    fn begin(&mut self) -> Part {
        self.inflate.reset();
        self.header_sum = crc32(0, &MAGIC[..1]);
        (self.checksum, self.length) = (0, 0);
        self.members += 1;
        Part::Fixed(1)
    }

    fn fixed(&mut self, at: usize, byte: u8) -> Result<Part, Fault> {
        let right = match at {
            0 => byte == MAGIC[0],
            1 => byte == MAGIC[1],
            2 => byte == METHOD_DEFLATE,
            3 => byte & RESERVED == 0,
            // A time, a level and a system: whatever they say.
            _ => true,
        };
        match (at, right) {
            (_, false) => return Err(Fault::Header),
            (0, true) => self.members += 1,
            (3, true) => self.flags = byte,
            (9, true) => return Ok(self.after(0)),
            (_, true) => {}
        }
        Ok(Part::Fixed(at + 1))
    }

    /// The part of a header that comes after the one of this flag.
    fn after(&self, flag: u8) -> Part {
        let next = |other| other > flag && self.flags & other != 0;
        match () {
            () if next(EXTRA) => Part::ExtraLength(0, 0),
            () if next(NAME) => Part::Name,
            () if next(COMMENT) => Part::Comment,
            () if self.flags & HEADER_SUM != 0 => Part::HeaderSum(0, 0),
            () => Part::Body,
        }
    }

    fn trailer(&self, at: usize, value: u64) -> Result<Part, Fault> {
        match at {
            3 if value as u32 != self.checksum => Err(Fault::Checksum),
            7 if (value >> 32) as u32 != self.length => Err(Fault::Length),
            7 => Ok(Part::Border),
            _ => Ok(Part::Trailer(at + 1, value)),
        }
    }
}

impl Layer for Gzip {
    fn step(&mut self, io: &mut Io<'_>) -> Result<bool, Fault> {
        loop {
            if !matches!(self.part, Part::Body) {
                let Some(byte) = io.byte() else { return Ok(true) };
                self.outside(byte)?;
                continue;
            }
            let before = io.produced;
            let inflated = self.inflate.step(io);
            let written = io.written(before);
            self.checksum = crc32(self.checksum, written);
            self.length = self.length.wrapping_add(written.len() as u32);
            match inflated? {
                Inflated::End => self.part = Part::Trailer(0, 0),
                Inflated::Full => return Ok(false),
                Inflated::Hungry => return Ok(true),
            }
        }
    }

    fn may_end(&self) -> bool {
        matches!(self.part, Part::Fixed(0) | Part::Border | Part::Padding)
    }

    fn members(&self) -> u64 {
        self.members
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}
