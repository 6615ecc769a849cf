//! `aws-chunked`: content in chunks with signatures (Amazon S3, "Signature Calculations for the Authorization Header:
//! Transferring Payload in Multiple Chunks"). A framing and no coding, but it is named as one and undone like one.

use crate::Fault;
use crate::layer::{Io, Layer};

/// Digits of a chunk's length, 4 PiB.
const MAX_DIGITS: u32 = 13;

/// What follows a chunk's length and `;`, before the signature.
const EXTENSION: &[u8] = b"chunk-signature=";

const SIGNED: usize = EXTENSION.len() + 1;

/// Bytes of both: signatures have 64 or 144.
const MAX_EXTENSION: usize = EXTENSION.len() + 144;

/// Bytes behind the last chunk: checksums and a signature.
const MAX_TRAILERS: usize = 512;

#[derive(Clone, Copy)]
enum Part {
    /// A chunk's length: how many digits are there, and their value.
    Length(u32, u64),
    /// Behind it: how many bytes are there.
    Extension(usize, u64),
    /// The LF of a chunk's line.
    LineEnd(u64),
    /// So many more bytes of content.
    Data(u64),
    /// The CR and the LF behind it: how many are there.
    DataEnd(usize),
    /// Behind the last chunk: how many bytes are there, and the last two.
    Trailers(usize, [u8; 2]),
}

pub(crate) struct AwsChunked {
    part: Part,
    begun: bool,
    /// Bytes of signatures and trailers, and zeros before lengths: a server that knows no such framing takes them for
    /// content.
    skipped: u64,
}

impl AwsChunked {
    pub(crate) fn new() -> Self {
        AwsChunked { part: Part::Length(0, 0), begun: false, skipped: 0 }
    }

    /// A byte that is no content.
    fn outside(&mut self, byte: u8) -> Result<(), Fault> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        self.part = match (self.part, byte) {
            (Part::Length(digits, value), _) if digits < MAX_DIGITS && digit.is_some() => {
                self.skipped += u64::from(digits > 0 && value == 0);
                Part::Length(digits + 1, value << 4 | digit.unwrap_or_default())
            }
            (Part::Length(1.., value), b';') => Part::Extension(0, value),
            (Part::Length(1.., value) | Part::Extension(SIGNED.., value), b'\r') => {
                Part::LineEnd(value)
            }
            (Part::Extension(count, value), _)
                if count < MAX_EXTENSION
                    && EXTENSION.get(count).map_or(is_of_signature(byte), |it| *it == byte) =>
            {
                self.skipped += u64::from(count >= EXTENSION.len());
                Part::Extension(count + 1, value)
            }
            (Part::LineEnd(0), b'\n') => Part::Trailers(0, *b"\r\n"),
            (Part::LineEnd(length), b'\n') => Part::Data(length),
            (Part::DataEnd(0), b'\r') => Part::DataEnd(1),
            (Part::DataEnd(1), b'\n') => Part::Length(0, 0),
            // Some end these lines with LF alone, or with one more.
            (Part::Trailers(count, [_, last]), _)
                if count < MAX_TRAILERS
                    && (is_of_checksum(byte) || matches!(byte, b'\r' | b'\n')) =>
            {
                self.skipped += u64::from(!matches!(byte, b'\r' | b'\n'));
                Part::Trailers(count + 1, [last, byte])
            }
            _ => return Err(Fault::Header),
        };
        Ok(())
    }
}

/// Whether a byte occurs in signatures, of which some are filled up with `*`. There is room for nothing else, since servers
/// that know no such framing take it for content.
fn is_of_signature(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b'*'
}

/// Whether a byte occurs in checksums and their names.
fn is_of_checksum(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'=' | b'+' | b'/' | b':')
}

impl Layer for AwsChunked {
    fn step(&mut self, io: &mut Io<'_>) -> Result<bool, Fault> {
        loop {
            let Part::Data(left) = self.part else {
                let Some(byte) = io.byte() else { return Ok(true) };
                self.begun = true;
                self.outside(byte)?;
                continue;
            };
            let (input, output) = io.both();
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let length = most.min(input.len()).min(output.len());
            let (is_empty, is_full) = (input.is_empty(), output.is_empty());
            output[..length].copy_from_slice(&input[..length]);
            io.used(length, length);
            self.part = match left - length as u64 {
                0 => Part::DataEnd(0),
                left => Part::Data(left),
            };
            match length {
                0 if is_empty => return Ok(true),
                0 if is_full => return Ok(false),
                _ => {}
            }
        }
    }

    fn may_end(&self) -> bool {
        !self.begun || matches!(self.part, Part::Trailers(2.., [b'\r', b'\n']))
    }

    fn members(&self) -> u64 {
        1
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}
