//! `br` (RFC 7932), without the large window, which HTTP has no way to agree on.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use crate::Fault;
use crate::layer::{Io, Layer};

enum Part {
    Begin,
    Body,
    End,
}

pub(crate) struct Brotli {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    part: Part,
}

impl Brotli {
    pub(crate) fn new() -> Self {
        let memory = StandardAlloc::default;
        let state = Box::new(BrotliState::new_strict(memory(), memory(), memory()));
        Brotli { state, part: Part::Begin }
    }
}

impl Layer for Brotli {
    fn step(&mut self, io: &mut Io<'_>) -> Result<bool, Fault> {
        match self.part {
            Part::Begin if io.rest().is_empty() => return Ok(true),
            Part::Begin => self.part = Part::Body,
            Part::Body => {}
            Part::End if io.rest().is_empty() => return Ok(true),
            Part::End => {
                io.byte();
                return Err(Fault::Trailing);
            }
        }
        let (input, output) = io.both();
        let (mut left, mut room) = (input.len(), output.len());
        let (mut consumed, mut produced, mut in_all) = (0, 0, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut consumed,
            input,
            &mut room,
            &mut produced,
            output,
            &mut in_all,
            &mut self.state,
        );
        io.used(consumed, produced);
        match result {
            BrotliResult::ResultSuccess => {
                self.part = Part::End;
                // What follows is told of by the next step.
                Ok(io.rest().is_empty())
            }
            // It writes all that it has before it asks for more.
            BrotliResult::NeedsMoreInput => Ok(io.has_room()),
            BrotliResult::NeedsMoreOutput => Ok(false),
            BrotliResult::ResultFailure => Err(Fault::Data),
        }
    }

    fn may_end(&self) -> bool {
        !matches!(self.part, Part::Body)
    }

    fn members(&self) -> u64 {
        u64::from(!matches!(self.part, Part::Begin))
    }
}
