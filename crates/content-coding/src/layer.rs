//! What the decoders of all codings have in common.

use crate::Fault;

/// One coding being undone.
pub(crate) trait Layer: Send {
    /// Takes from the input and writes to the output, until one of them is used up.
    ///
    /// `true` says that all input was taken, and that everything that it decodes to was written:
    /// nobody could know more of the content from the bytes so far. `false` asks for another call.
    fn step(&mut self, io: &mut Io<'_>) -> Result<bool, Fault>;

    /// Whether the content may end after what has been taken. Asked when a step said `true`.
    fn may_end(&self) -> bool;

    /// Whether the last bytes must wait for the next one. Some clients choose the format by the
    /// first two bytes, and lose the first if it comes alone.
    fn undecided(&self) -> bool {
        false
    }

    /// How many members or frames have begun: where one ends, some clients stop reading.
    fn members(&self) -> u64;

    /// Bytes skipped so far that are not content, such as comments.
    fn skipped(&self) -> u64 {
        0
    }
}

/// A piece of input, a piece of output, and how much of them is used up.
pub(crate) struct Io<'a> {
    input: &'a [u8],
    output: &'a mut [u8],
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
}

impl<'a> Io<'a> {
    pub(crate) fn new(input: &'a [u8], output: &'a mut [u8]) -> Self {
        Io { input, output, consumed: 0, produced: 0 }
    }

    /// What is left of the input.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.input[self.consumed..]
    }

    /// Takes one byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = *self.input.get(self.consumed)?;
        self.consumed += 1;
        Some(byte)
    }

    /// What is left of input and output, for a library. What it used is to be given to `used`.
    pub(crate) fn both(&mut self) -> (&'a [u8], &mut [u8]) {
        (&self.input[self.consumed..], &mut self.output[self.produced..])
    }

    pub(crate) fn used(&mut self, consumed: usize, produced: usize) {
        self.consumed += consumed;
        self.produced += produced;
    }

    pub(crate) fn has_room(&self) -> bool {
        self.produced < self.output.len()
    }

    /// What was written after the first `from` bytes.
    pub(crate) fn written(&self, from: usize) -> &[u8] {
        &self.output[from..self.produced]
    }
}
