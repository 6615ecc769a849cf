//! `zstd` (RFC 8878, RFC 9659): frames and skippable frames one after the other.

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use crate::Fault;
use crate::layer::{Io, Layer};

/// RFC 9659: a decoder for HTTP needs no larger one, and an encoder may use none.
const LARGEST_WINDOW: u64 = 8 << 20;
const LARGEST_WINDOW_LOG: u32 = 23;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The last three bytes of the magic number of a skippable frame, whose first one is `5x`.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

const SINGLE_SEGMENT: u8 = 1 << 5;
const RESERVED: u8 = 1 << 3;

/// The longest header: magic number, descriptor, window, dictionary, size of the content. One with
/// a window has no more than 18; a single segment has no window.
const LONGEST_HEADER: usize = 18;

enum Part {
    /// A header, of which so many bytes are there; none at a frame's border.
    Header(usize),
    /// Blocks. Whether all that the library has taken was written.
    Body { drained: bool },
    /// So many more bytes of a skippable frame.
    Skip(u32),
}

pub(crate) struct Zstd {
    context: Option<DCtx<'static>>,
    part: Part,
    header: [u8; LONGEST_HEADER],
    frames: u64,
    /// Bytes in skippable frames.
    skipped: u64,
}

impl Zstd {
    pub(crate) fn new() -> Self {
        let header = [0; LONGEST_HEADER];
        Zstd { context: None, part: Part::Header(0), header, frames: 0, skipped: 0 }
    }

    /// Adds a byte to the header, of which `at` are there.
    fn header(&mut self, at: usize, byte: u8) -> Result<(), Fault> {
        self.header[at] = byte;
        let bytes = &self.header[..=at];
        self.part = match Header::of(bytes) {
            None if at == 3 && self.frames > 0 => return Err(Fault::Trailing),
            None => return Err(Fault::Header),
            Some(Header::Incomplete) => Part::Header(at + 1),
            Some(Header::Skippable(0)) => Part::Header(0),
            Some(Header::Skippable(length)) => Part::Skip(length),
            Some(Header::Frame { window, .. }) if window > LARGEST_WINDOW => {
                return Err(Fault::Window);
            }
            Some(Header::Frame { dictionary, .. }) if dictionary != 0 => {
                return Err(Fault::Dictionary);
            }
            Some(Header::Frame { .. }) => {
                self.frames += 1;
                // By itself: given a whole small frame at once, the library looks at less of it.
                let header = self.header;
                self.library(&mut Io::new(&header[..=at], &mut []))?;
                Part::Body { drained: true }
            }
        };
        Ok(())
    }

    /// Lets the library take and write. `true` at the end of a frame.
    fn library(&mut self, io: &mut Io<'_>) -> Result<bool, Fault> {
        let context = match &mut self.context {
            Some(context) => context,
            none => {
                let mut context = DCtx::try_create().ok_or(Fault::Memory)?;
                context
                    .set_parameter(DParameter::WindowLogMax(LARGEST_WINDOW_LOG))
                    .map_err(fault)?;
                none.insert(context)
            }
        };
        let (input, output) = io.both();
        let (mut input, mut output) = (InBuffer::around(input), OutBuffer::around(output));
        let result = context.decompress_stream(&mut output, &mut input);
        let (consumed, produced) = (input.pos(), output.pos());
        io.used(consumed, produced);
        Ok(result.map_err(fault)? == 0)
    }
}

/// What the first bytes of a frame say.
enum Header {
    Incomplete,
    Frame { window: u64, dictionary: u64 },
    Skippable(u32),
}

impl Header {
    /// `None` if it is none.
    fn of(bytes: &[u8]) -> Option<Header> {
        let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
            return Some(Header::Incomplete);
        };
        if magic[0] & 0xf0 == 0x50 && magic[1..] == SKIPPABLE {
            let length = rest.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
            return Some(length.map_or(Header::Incomplete, Header::Skippable));
        }
        if *magic != MAGIC {
            return None;
        }
        let Some((&descriptor, rest)) = rest.split_first() else {
            return Some(Header::Incomplete);
        };
        if descriptor & RESERVED != 0 {
            return None;
        }
        Some(Header::fields(descriptor, rest))
    }

    /// RFC 8878 section 3.1.1.1.
    fn fields(descriptor: u8, rest: &[u8]) -> Header {
        let single = descriptor & SINGLE_SEGMENT != 0;
        let for_dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let for_content = match descriptor >> 6 {
            0 => usize::from(single),
            flag => 1 << flag,
        };
        let for_window = usize::from(!single);
        if rest.len() < for_window + for_dictionary + for_content {
            return Header::Incomplete;
        }
        let (window, rest) = rest.split_at(for_window);
        let (dictionary, content) = rest.split_at(for_dictionary);
        let window = match window.first() {
            Some(&window) => {
                let base = 1u64 << (10 + (window >> 3));
                base + base / 8 * u64::from(window & 7)
            }
            None => number(content) + if for_content == 2 { 256 } else { 0 },
        };
        Header::Frame { window, dictionary: number(dictionary) }
    }
}

fn number(little_endian: &[u8]) -> u64 {
    little_endian.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The library's error codes are negative numbers in an unsigned type.
fn fault(code: usize) -> Fault {
    let is = |kind: ZSTD_ErrorCode| code.wrapping_neg() == kind as usize;
    match () {
        () if is(ZSTD_ErrorCode::ZSTD_error_checksum_wrong) => Fault::Checksum,
        () if is(ZSTD_ErrorCode::ZSTD_error_memory_allocation) => Fault::Memory,
        () if is(ZSTD_ErrorCode::ZSTD_error_dictionary_wrong) => Fault::Dictionary,
        () if is(ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge) => Fault::Window,
        () => Fault::Data,
    }
}

impl Layer for Zstd {
    fn step(&mut self, io: &mut Io<'_>) -> Result<bool, Fault> {
        loop {
            match self.part {
                Part::Header(at) => {
                    let Some(byte) = io.byte() else { return Ok(true) };
                    self.header(at, byte)?;
                }
                Part::Skip(left) => {
                    let skipped = io.rest().len().min(left as usize);
                    io.used(skipped, 0);
                    self.skipped += skipped as u64;
                    match left - skipped as u32 {
                        0 => self.part = Part::Header(0),
                        left => {
                            self.part = Part::Skip(left);
                            return Ok(true);
                        }
                    }
                }
                // Asked in vain too often, it takes that for an error.
                Part::Body { drained: true } if io.rest().is_empty() => return Ok(true),
                Part::Body { .. } => {
                    if self.library(io)? {
                        self.part = Part::Header(0);
                        continue;
                    }
                    // It has written all it has where there is room left.
                    let drained = io.rest().is_empty() && io.has_room();
                    self.part = Part::Body { drained };
                    return Ok(drained);
                }
            }
        }
    }

    fn may_end(&self) -> bool {
        matches!(self.part, Part::Header(0))
    }

    fn members(&self) -> u64 {
        self.frames
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}
