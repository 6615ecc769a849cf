//! Content on its way from the ring to the engine, its codings undone.

use std::cell::RefCell;
use std::rc::Rc;

use content_coding::{Codings, Decoder};
use dual_ring::Slices;

use crate::inspection::framing::BodyFraming;
use crate::inspection::halt::Halt;
use crate::inspection::refusal::Refusal;
use crate::settings::{ContentSettings, Policy, RATIO_FROM};

/// Decoded bytes that go to the engine at once: with the chunk line around them they fit one packet.
pub(crate) const PIECE: usize = 65_000;

/// Buffers kept by a worker while nobody uses them.
const KEPT: usize = 32;

/// Lends buffers for decoded bytes, and keeps those that come back.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Rc<RefCell<Vec<Box<[u8]>>>>);

impl Buffers {
    fn lend(&self) -> Box<[u8]> {
        let kept = self.0.borrow_mut().pop();
        kept.unwrap_or_else(|| vec![0; PIECE].into_boxed_slice())
    }

    fn take_back(&self, buffer: Box<[u8]>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}

/// One body's decoder, and what it has decoded that the engine has not seen.
pub(crate) struct Decoding {
    decoder: Decoder,
    /// What the head says of the body as it comes.
    wire: BodyFraming,
    buffers: Buffers,
    buffer: Box<[u8]>,
    /// Bytes at the start of `buffer` that are to go to the engine.
    filled: usize,
    /// Bytes of the body that were taken to be decoded.
    taken: u64,
    /// The most that were ever taken: malformed content is read a second time, as it is.
    seen: u64,
    /// Bytes of the body that the client may have.
    passed: u64,
    /// The decoder has written everything it can make of the bytes in `taken`.
    drained: bool,
    max_ratio: u64,
    max_decoded: u64,
    malformed: Policy,
    /// The content was malformed, and goes to the engine as it is: all of it that the client has not
    /// got yet.
    raw: bool,
    /// Bytes that the client already had when the content turned out to be malformed: the engine
    /// judged them in decoded form.
    misread: u64,
    /// Bytes beside the content that were told of.
    beside: u64,
}

/// How far decoding got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A whole piece is ready, and has to be seen before there can be more.
    Full,
    /// All that is there was decoded.
    Hungry,
    /// There is more to decode.
    More,
    /// The content is malformed, and what the client has not got of it is to be seen as it is.
    Rewound,
}

impl Decoding {
    /// Of a body that comes in this framing.
    pub(crate) fn new(
        codings: &Codings,
        wire: BodyFraming,
        settings: &ContentSettings,
        buffers: &Buffers,
    ) -> Self {
        Self {
            decoder: Decoder::new(codings),
            wire,
            buffers: buffers.clone(),
            buffer: buffers.lend(),
            filled: 0,
            taken: 0,
            seen: 0,
            passed: 0,
            drained: true,
            max_ratio: settings.max_ratio,
            max_decoded: settings.max_decoded.0,
            malformed: settings.malformed,
            raw: false,
            misread: 0,
            beside: 0,
        }
    }

    /// Decodes some of what is `pending`. The work of a call is bounded.
    ///
    /// # Errors
    /// The content is refused, or longer than its head says.
    pub(crate) fn step(&mut self, pending: Slices<'_>) -> Result<Step, Halt> {
        let input = after(pending, self.taken - self.passed);
        if input.is_empty() && self.drained {
            return Ok(Step::Hungry);
        }
        if self.filled == self.buffer.len() {
            return Ok(Step::Full);
        }
        let output = &mut self.buffer[self.filled..];
        let (consumed, produced) = match self.raw {
            true => copy(input, output),
            false => match self.decoder.decode(input, output) {
                Ok(done) => {
                    self.drained = done.drained;
                    (done.consumed, done.produced)
                }
                Err(error) => {
                    self.give_up(error)?;
                    (0, 0)
                }
            },
        };
        self.taken += consumed as u64;
        let fresh = self.taken.saturating_sub(self.seen);
        // At most what was consumed.
        self.wire.piece(fresh as usize)?;
        self.seen += fresh;
        self.filled += produced;
        self.check()?;
        Ok(Step::More)
    }

    /// Checks that the content is complete. Call it when `step` has decoded everything, and again
    /// until it returns `Hungry`; feed what is ready after each call. After `Rewound`, call `step`
    /// again first.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn finish(&mut self) -> Result<Step, Halt> {
        self.wire.end()?;
        if self.raw {
            return Ok(Step::Hungry);
        }
        if self.filled == self.buffer.len() {
            return Ok(Step::Full);
        }
        match self.decoder.finish(&mut self.buffer[self.filled..]) {
            Ok(finish) => {
                self.filled += finish.produced;
                self.check()?;
                Ok(if finish.done { Step::Hungry } else { Step::More })
            }
            Err(error) => {
                self.give_up(error)?;
                Ok(Step::Rewound)
            }
        }
    }

    /// What the engine is to see next.
    pub(crate) fn ready(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Whether so much was taken that the engine has to see what came of it.
    pub(crate) fn is_due(&self) -> bool {
        self.filled > 0 && self.taken - self.passed >= PIECE as u64
    }

    /// The engine has passed what was ready: how many bytes of the body the client may have for it.
    /// All that they can be decoded to was ready.
    pub(crate) fn pass(&mut self) -> usize {
        self.filled = 0;
        let settled = if self.raw { self.taken } else { self.decoder.settled() };
        let more = settled.saturating_sub(self.passed);
        self.passed += more;
        // At most what is in the ring.
        more as usize
    }

    /// Whether what comes is not decoded any more.
    pub(crate) fn is_raw(&self) -> bool {
        self.raw
    }

    /// Bytes that have passed before the content turned out to be malformed; once.
    pub(crate) fn misread(&mut self) -> u64 {
        std::mem::take(&mut self.misread)
    }

    /// Bytes that stand for no content, and were skipped since the last call.
    pub(crate) fn beside(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.beside, self.decoder.skipped());
        self.beside - before
    }

    /// Bytes that the decoders have written so far: what the work is measured by.
    pub(crate) fn inflated(&self) -> u64 {
        self.decoder.inflated()
    }

    /// The content is not what it should be: it is refused, or goes on as it is.
    fn give_up(&mut self, error: content_coding::Error) -> Result<(), Refusal> {
        if self.malformed == Policy::Block {
            return Err(Refusal::Malformed(error));
        }
        (self.raw, self.drained) = (true, true);
        // What was decoded of it is seen too, in front.
        self.taken = self.passed;
        self.misread = self.passed;
        Ok(())
    }

    fn check(&self) -> Result<(), Refusal> {
        let inflated = self.decoder.inflated();
        if inflated > self.max_decoded {
            return Err(Refusal::Size);
        }
        match inflated > RATIO_FROM && inflated / self.max_ratio.max(1) > self.seen {
            true => Err(Refusal::Ratio),
            false => Ok(()),
        }
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        self.buffers.take_back(std::mem::take(&mut self.buffer));
    }
}

/// The first run of `pending` from this byte on.
fn after(pending: Slices<'_>, skip: u64) -> &[u8] {
    // At most what is in the ring.
    let skip = skip as usize;
    match pending.first.get(skip..) {
        Some(rest) if !rest.is_empty() => rest,
        _ => pending.second.get(skip - pending.first.len()..).unwrap_or_default(),
    }
}

fn copy(input: &[u8], output: &mut [u8]) -> (usize, usize) {
    let len = input.len().min(output.len());
    output[..len].copy_from_slice(&input[..len]);
    (len, len)
}
