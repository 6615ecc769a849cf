//! The ring itself.

use std::fmt;

/// Two adjoining runs of bytes: the second is empty unless the range wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slices<'a> {
    /// The older bytes. Empty only if the whole range is.
    pub first: &'a [u8],
    /// The bytes that follow, from the start of the ring's memory.
    pub second: &'a [u8],
}

impl Slices<'_> {
    /// Length of both together, in bytes.
    pub fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// True if there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The oldest `n` bytes of the range, or all of it if it is shorter.
    pub fn take(&self, n: usize) -> Self {
        let first = n.min(self.first.len());
        let second = (n - first).min(self.second.len());
        Self { first: &self.first[..first], second: &self.second[..second] }
    }
}

/// A reader wanted to move past the bytes that it may read; nothing was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// Bytes the reader wanted to move by.
    pub wanted: usize,
    /// Bytes it could have moved by.
    pub readable: usize,
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a reader of the ring moved by {} bytes of {}", self.wanted, self.readable)
    }
}

impl std::error::Error for Overrun {}

/// The ring: fixed memory, one writer, two readers in a fixed order.
pub struct Ring {
    memory: Box<[u8]>,
    /// Where the client reads next.
    start: usize,
    /// Bytes from `start` that the engine has passed.
    passed: usize,
    /// Bytes after those that the engine has not seen.
    pending: usize,
}

impl Ring {
    /// A ring of `capacity` bytes, which is all the memory it will ever use.
    ///
    /// The memory is zeroed by the operating system on first touch: a ring that only ever carries
    /// small bodies occupies only the pages of those.
    pub fn new(capacity: usize) -> Self {
        Self { memory: vec![0; capacity].into_boxed_slice(), start: 0, passed: 0, pending: 0 }
    }

    /// Bytes the ring can hold.
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Bytes that [`write`](Self::write) would accept now.
    pub fn free(&self) -> usize {
        self.memory.len() - self.passed - self.pending
    }

    /// Bytes that the engine has not seen.
    pub fn pending_len(&self) -> usize {
        self.pending
    }

    /// Bytes that the engine has passed and the client has not taken.
    pub fn passed_len(&self) -> usize {
        self.passed
    }

    /// Appends as much of `data` as fits and returns how many bytes that was.
    ///
    /// 0 for data that is not empty means that the ring is full: stop reading from the source
    /// until the client has taken something.
    pub fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.free());
        if self.passed + self.pending == 0 {
            // An empty ring starts over, so that small bodies stay contiguous and on warm pages.
            self.start = 0;
        }
        let at = self.index(self.passed + self.pending);
        let first = n.min(self.memory.len() - at);
        self.memory[at..at + first].copy_from_slice(&data[..first]);
        self.memory[..n - first].copy_from_slice(&data[first..n]);
        self.pending += n;
        n
    }

    /// What the engine has to look at, oldest first.
    pub fn pending(&self) -> Slices<'_> {
        self.range(self.passed, self.pending)
    }

    /// The engine lets its oldest `n` pending bytes through.
    ///
    /// # Errors
    /// [`Overrun`] if fewer are pending.
    pub fn pass(&mut self, n: usize) -> Result<(), Overrun> {
        if n > self.pending {
            return Err(Overrun { wanted: n, readable: self.pending });
        }
        self.pending -= n;
        self.passed += n;
        Ok(())
    }

    /// What the client may have, oldest first: never a byte that the engine has not passed.
    pub fn passed(&self) -> Slices<'_> {
        self.range(0, self.passed)
    }

    /// The client took (or will never want) the oldest `n` passed bytes; their space is free.
    ///
    /// # Errors
    /// [`Overrun`] if the engine has passed fewer.
    pub fn take(&mut self, n: usize) -> Result<(), Overrun> {
        if n > self.passed {
            return Err(Overrun { wanted: n, readable: self.passed });
        }
        self.start = self.index(n);
        self.passed -= n;
        Ok(())
    }

    /// Forgets everything in the ring.
    pub fn clear(&mut self) {
        (self.start, self.passed, self.pending) = (0, 0, 0);
    }

    fn range(&self, offset: usize, len: usize) -> Slices<'_> {
        if len == 0 {
            return Slices::default();
        }
        let at = self.index(offset);
        let first = len.min(self.memory.len() - at);
        Slices { first: &self.memory[at..at + first], second: &self.memory[..len - first] }
    }

    /// The place in memory `offset` bytes after the client's.
    fn index(&self, offset: usize) -> usize {
        // Both are at most the capacity, so one subtraction replaces a division.
        let at = self.start + offset;
        if at >= self.memory.len() { at - self.memory.len() } else { at }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.capacity())
            .field("passed", &self.passed)
            .field("pending", &self.pending)
            .finish()
    }
}
