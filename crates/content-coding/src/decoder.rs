//! The decoders of all codings of a content, one behind the other.

use crate::aws_chunked::AwsChunked;
use crate::brotli::Brotli;
use crate::deflate::Deflate;
use crate::gzip::Gzip;
use crate::layer::{Io, Layer};
use crate::zstd::Zstd;
use crate::{Coding, Codings, Error, Fault};

/// Between two decoders.
const BETWEEN: usize = 32 * 1024;

/// So much of the input is drained before more is taken: [`Decoder::settled`] lags no further behind
/// than this, however much is given at once.
const SLICE: u64 = 16 * 1024;

/// How often in a call the decoder before is asked, so that three codings that grow into nothing
/// don't keep the caller.
const ROUNDS: usize = 8;

/// What a call of [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So many bytes of the input were taken.
    pub consumed: usize,
    /// So many bytes of the output were written.
    pub produced: usize,
    /// All input was taken and everything that it decodes to has been written. If not, there is to
    /// be another call, with what is left of the input and with room in the output.
    pub drained: bool,
}

/// What a call of [`Decoder::finish`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// So many bytes of the output were written.
    pub produced: usize,
    /// The content is at its end, and all of it was written. If not, there is to be another call.
    pub done: bool,
}

/// Decodes a content, piece by piece, in memory that does not grow with it.
pub struct Decoder {
    /// In the order in which they read: the first one what came over the wire.
    stages: Vec<Stage>,
    consumed: u64,
    produced: u64,
    settled: u64,
    /// Up to where it was drained last.
    border: u64,
    failed: Option<Error>,
}

struct Stage {
    coding: Coding,
    layer: Box<dyn Layer>,
    /// What the stage before it wrote, and how much of it this one has taken.
    inbox: Box<[u8]>,
    taken: usize,
    filled: usize,
    consumed: u64,
    produced: u64,
    failed: Option<Error>,
}

impl Decoder {
    /// A decoder of a content with these codings.
    pub fn new(codings: &Codings) -> Decoder {
        let stages = codings.applied().iter().rev().enumerate();
        Decoder {
            stages: stages.map(|(at, coding)| Stage::new(*coding, at)).collect(),
            consumed: 0,
            produced: 0,
            settled: 0,
            border: 0,
            failed: None,
        }
    }

    /// Takes from `input` and writes what it decodes to into `output`, where there has to be room.
    ///
    /// The work of a call is bounded, whatever is in the input: a call may take and write nothing
    /// and have more to do all the same, which [`Progress::drained`] tells.
    ///
    /// # Errors
    ///
    /// What is wrong with the content. It comes after all that could be decoded before, and again
    /// at every later call.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Error> {
        self.failed.map_or(Ok(()), Err)?;
        // A slice at most.
        let allowed = (self.border + SLICE).saturating_sub(self.consumed) as usize;
        let slice = &input[..input.len().min(allowed)];
        let mut io = Io::new(slice, output);
        let pulled = pull(&mut self.stages, &mut io);
        let (consumed, produced) = (io.consumed, io.produced);
        self.consumed += consumed as u64;
        self.produced += produced as u64;
        match pulled.and_then(|drained| self.settle(drained)) {
            Ok(drained) => {
                let drained = drained && slice.len() == input.len();
                Ok(Progress { consumed, produced, drained })
            }
            Err(error) => {
                self.failed = Some(error);
                match produced {
                    0 => Err(error),
                    _ => Ok(Progress { consumed, produced, drained: false }),
                }
            }
        }
    }

    /// Notes how far it was drained.
    fn settle(&mut self, drained: bool) -> Result<bool, Error> {
        if !drained {
            return Ok(false);
        }
        self.border = self.consumed;
        match self.stages.iter().position(|stage| stage.layer.undecided()) {
            None => self.settled = self.consumed,
            // The two bytes that decide would not come to a client together.
            Some(at) if self.consumed - self.settled > SLICE => {
                return Err(self.stages[at].error(at, Fault::Ambiguous));
            }
            Some(_) => {}
        }
        Ok(true)
    }

    /// Says that all input was given. To be called until it is done.
    ///
    /// A content of no bytes is fine, and decodes to none, whatever its codings.
    ///
    /// # Errors
    ///
    /// As [`Decoder::decode`]; [`Fault::Truncated`] if the content is not at its end.
    pub fn finish(&mut self, output: &mut [u8]) -> Result<Finish, Error> {
        let progress = self.decode(&[], output)?;
        if !progress.drained {
            return Ok(Finish { produced: progress.produced, done: false });
        }
        match self.stages.iter().position(|stage| !stage.layer.may_end()) {
            None => {
                self.settled = self.consumed;
                Ok(Finish { produced: progress.produced, done: true })
            }
            Some(at) => {
                let error = self.stages[at].error(at, Fault::Truncated);
                self.failed = Some(error);
                match progress.produced {
                    0 => Err(error),
                    produced => Ok(Finish { produced, done: false }),
                }
            }
        }
    }

    /// How many bytes were taken in all.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// How many bytes were written in all.
    pub fn produced(&self) -> u64 {
        self.produced
    }

    /// How many input bytes may be released once all output so far is judged. Nobody can decode
    /// more from them than we wrote.
    ///
    /// It moves when the decoder is drained, at the end of every input and each 16 KiB of a long one:
    /// then all decoders in the row have taken all there is and written every symbol whose bits
    /// are complete, and the rest of the bits means nothing to anyone yet. The first byte of a
    /// `deflate` content is not settled before the second, since some clients that get it alone
    /// forget it (see `README.md`).
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// How many bytes the decoders wrote together, those between them included: what a limit
    /// on growth is to look at, since a content of several codings can be large inside and decode
    /// to nothing.
    pub fn inflated(&self) -> u64 {
        match self.stages.is_empty() {
            true => self.produced,
            false => self.stages.iter().map(|stage| stage.produced).sum(),
        }
    }

    /// How many gzip members or zstd frames follow another one. Where it is not 0, clients that
    /// stop at the first one's end (Chromium with gzip) see less than was decoded.
    pub fn further_members(&self) -> u64 {
        self.stages.iter().map(|stage| stage.layer.members().saturating_sub(1)).sum()
    }

    /// How many bytes were skipped that may be anything and stand for no content: names, comments
    /// and extra fields of gzip, skippable frames of zstd. Who does not decode has them nevertheless.
    /// Metadata of br are such bytes too, but the library does not tell of them.
    pub fn skipped(&self) -> u64 {
        self.stages.iter().map(|stage| stage.layer.skipped()).sum()
    }
}

impl Stage {
    fn new(coding: Coding, at: usize) -> Self {
        let layer: Box<dyn Layer> = match coding {
            Coding::AwsChunked => Box::new(AwsChunked::new()),
            Coding::Brotli => Box::new(Brotli::new()),
            Coding::Deflate => Box::new(Deflate::new()),
            Coding::Gzip => Box::new(Gzip::new()),
            Coding::Zstd => Box::new(Zstd::new()),
        };
        let inbox = vec![0; if at == 0 { 0 } else { BETWEEN }].into_boxed_slice();
        Stage { coding, layer, inbox, taken: 0, filled: 0, consumed: 0, produced: 0, failed: None }
    }

    fn error(&self, layer: usize, fault: Fault) -> Error {
        Error { coding: self.coding, fault, layer, offset: self.consumed }
    }

    /// As [`Layer::step`]. `layer` is its number.
    fn step(&mut self, layer: usize, io: &mut Io<'_>) -> Result<bool, Error> {
        self.failed.map_or(Ok(()), Err)?;
        let (consumed, produced) = (io.consumed, io.produced);
        let result = self.layer.step(io);
        self.consumed += (io.consumed - consumed) as u64;
        self.produced += (io.produced - produced) as u64;
        result.map_err(|fault| *self.failed.insert(self.error(layer, fault)))
    }

    /// The same with what is in its inbox for input.
    fn step_from_inbox(&mut self, layer: usize, io: &mut Io<'_>) -> Result<bool, Error> {
        let inbox = std::mem::take(&mut self.inbox);
        let (_, output) = io.both();
        let mut own = Io::new(&inbox[self.taken..self.filled], output);
        let result = self.step(layer, &mut own);
        let (consumed, produced) = (own.consumed, own.produced);
        io.used(0, produced);
        self.taken += consumed;
        self.inbox = inbox;
        result
    }
}

/// Runs the input through all stages into `io`. True if everything was drained.
fn pull(stages: &mut [Stage], io: &mut Io<'_>) -> Result<bool, Error> {
    let layer = stages.len().saturating_sub(1);
    let Some((last, before)) = stages.split_last_mut() else { return Ok(copy(io)) };
    if before.is_empty() {
        return match io.has_room() {
            true => last.step(layer, io),
            false => Ok(false),
        };
    }
    let mut drained = false;
    for _ in 0..ROUNDS {
        if !io.has_room() || !last.step_from_inbox(layer, io)? {
            return Ok(false);
        }
        if drained {
            return Ok(true);
        }
        (last.taken, last.filled) = (0, 0);
        let mut between = Io::new(io.rest(), &mut last.inbox);
        let result = pull(before, &mut between);
        let (consumed, produced) = (between.consumed, between.produced);
        io.used(consumed, 0);
        last.filled = produced;
        match result {
            Ok(all) => drained = all,
            // What came before the fault is written first; then it is met again.
            Err(_) if produced > 0 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// The decoder of no coding.
fn copy(io: &mut Io<'_>) -> bool {
    let (input, output) = io.both();
    let length = input.len().min(output.len());
    output[..length].copy_from_slice(&input[..length]);
    io.used(length, length);
    io.rest().is_empty()
}
