//! Messages inflated (RFC 7692 section 7.2.2), each into one buffer.
//!
//! Receivers differ in what they make of data that is not as it should be, and what one skips another reads. So it is refused: what refers
//! to more than is there, a message that ends within a block, and anything behind a final block.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
    TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::error::{Error, ErrorKind};
use crate::extensions::Side;

const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT
    | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY
    | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;

/// What senders leave out at the end of each message: the lengths of an empty block that is not compressed.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The buffer grows by at least so much.
const STEP: usize = 4 << 10;
/// A buffer that is larger is given back after its message.
const KEPT: usize = 64 << 10;

/// What one peer compresses.
pub(crate) struct Inflate {
    /// Bytes that the next message may refer to.
    window: usize,
    state: Box<DecompressorOxide>,
    /// What the message may refer to, the message, and room.
    buffer: Vec<u8>,
    /// Where the message begins.
    begin: usize,
    /// Where it ends so far.
    end: usize,
    /// The most that a message may grow to.
    limit: usize,
    stands: Stands,
}

/// Where in the compressed data we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// Between blocks, at a byte's border.
    Between,
    /// Behind a final block, and so many bytes behind that.
    Ended(usize),
    Within,
}

impl Inflate {
    pub(crate) fn new(side: Side, limit: usize) -> Self {
        Self {
            window: if side.keeps_context { 1 << side.window_bits } else { 0 },
            state: Box::default(),
            buffer: Vec::new(),
            begin: 0,
            end: 0,
            limit,
            stands: Stands::Between,
        }
    }

    /// Takes in compressed bytes of a message.
    pub(crate) fn push(&mut self, mut input: &[u8]) -> Result<(), Error> {
        let mut has_more = false;
        while has_more || !input.is_empty() {
            if let Stands::Ended(behind) = &mut self.stands {
                // An empty block, of which the sender left the rest out (section 7.2.3.4).
                if input != [0] || *behind > 0 {
                    return Err(wrong("data behind a final block"));
                }
                *behind += 1;
                return Ok(());
            }
            // One more than there may be, so that what is too long shows.
            let most = self.begin + self.limit + 1;
            if self.end == self.buffer.len() {
                if self.end == most {
                    return Err(Error::new(ErrorKind::TooLong, "more than the limit, inflated"));
                }
                let grown = (self.buffer.len() * 2).max(self.end + STEP).min(most);
                self.buffer.resize(grown, 0);
            }
            let (status, taken, written) =
                decompress(&mut self.state, input, &mut self.buffer, self.end, FLAGS);
            input = &input[taken..];
            self.end += written;
            has_more = status == TINFLStatus::HasMoreOutput;
            self.stands = match status {
                TINFLStatus::BlockBoundary => {
                    let state = self.state.block_boundary_state();
                    match state.is_some_and(|state| state.num_bits == 0) {
                        true => Stands::Between,
                        false => Stands::Within,
                    }
                }
                TINFLStatus::Done => Stands::Ended(0),
                TINFLStatus::HasMoreOutput | TINFLStatus::NeedsMoreInput => Stands::Within,
                _ => return Err(wrong("damaged, or it refers to what is not there")),
            };
        }
        Ok(())
    }

    /// Ends the message, and returns it.
    pub(crate) fn finish(&mut self) -> Result<&[u8], Error> {
        if !matches!(self.stands, Stands::Ended(_)) {
            self.push(&TAIL)?;
        }
        // The buffer may have filled up with the last byte of input.
        if self.end - self.begin > self.limit {
            return Err(Error::new(ErrorKind::TooLong, "more than the limit, inflated"));
        }
        match self.stands {
            Stands::Between | Stands::Ended(_) => {}
            Stands::Within => return Err(wrong("a message that ends within a block")),
        }
        Ok(self.message())
    }

    /// The message, as far as it has come.
    pub(crate) fn message(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }

    /// Bytes of memory for it, and for what it may refer to.
    pub(crate) fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    /// Forgets the message, but for what the next one may refer to.
    pub(crate) fn next(&mut self) {
        let kept = match self.stands {
            // Some receivers begin anew behind a final block, and some do not: nothing may depend on that.
            Stands::Ended(_) => 0,
            _ => self.window.min(self.end),
        };
        self.buffer.copy_within(self.end - kept..self.end, 0);
        self.buffer.truncate(kept);
        if self.buffer.capacity() > KEPT {
            self.buffer.shrink_to(kept);
        }
        (self.begin, self.end) = (kept, kept);
        self.stands = Stands::Between;
        // Between blocks and bytes there is nothing else to be kept.
        self.state.init();
    }
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::Compression, what)
}
