//! DEFLATE (RFC 1951) without anything around it: what `gzip` and `deflate` have in common.

use zlib_rs::{InflateError, InflateFlush, Status};

use crate::Fault;
use crate::layer::Io;

/// The largest window of DEFLATE, 32 KiB, as a power of two.
const WINDOW_BITS: u8 = 15;

pub(crate) struct Inflate(zlib_rs::Inflate);

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inflated {
    /// After the last block, of which the input's rest is no part.
    End,
    /// There may be more to write.
    Full,
    /// All was taken, and every symbol whose bits are complete was written.
    Hungry,
}

impl Inflate {
    pub(crate) fn new() -> Self {
        Inflate(zlib_rs::Inflate::new(false, WINDOW_BITS))
    }

    /// Makes it ready for a new stream.
    pub(crate) fn reset(&mut self) {
        self.0.reset(false);
    }

    pub(crate) fn step(&mut self, io: &mut Io<'_>) -> Result<Inflated, Fault> {
        let (taken, written) = (self.0.total_in(), self.0.total_out());
        let (input, output) = io.both();
        let result = self.0.decompress(input, output, InflateFlush::NoFlush);
        let consumed = self.0.total_in() - taken;
        let produced = self.0.total_out() - written;
        // Neither can be more than the length of a slice.
        io.used(consumed as usize, produced as usize);
        match result {
            Ok(Status::StreamEnd) => Ok(Inflated::End),
            // It stops for one of two reasons, of which room in the output rules out one.
            Ok(Status::Ok | Status::BufError) if io.has_room() => Ok(Inflated::Hungry),
            Ok(Status::Ok | Status::BufError) => Ok(Inflated::Full),
            Err(InflateError::MemError) => Err(Fault::Memory),
            Err(_) => Err(Fault::Data),
        }
    }
}
