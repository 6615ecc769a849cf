//! Lanes: what tells flows with the same addresses apart.

/// Hands out the lanes of one worker. No two workers share one.
#[derive(Debug)]
pub struct Lanes {
    base: u64,
    next: u64,
    clean: Vec<u64>,
}

/// Lanes of one worker: 40 of the 48 bits that a lane has.
const BITS: u32 = 40;
/// Clean lanes remembered.
const MAX_CLEAN: usize = 4096;

impl Lanes {
    /// The lanes of worker number `worker` (up to 255).
    pub fn new(worker: usize) -> Self {
        // Lane 0 is left out: it is what an engine without lanes would use.
        Self { base: (worker as u64 & 0xff) << BITS, next: 0, clean: Vec::new() }
    }

    /// A lane that no living flow uses.
    ///
    /// Lanes whose flow ended in good order come first: if the addresses are the same too, the
    /// engine replaces the closed flow, which costs half of a new one.
    pub fn take(&mut self) -> u64 {
        self.clean.pop().unwrap_or_else(|| {
            self.next = (self.next + 1) & ((1 << BITS) - 1);
            self.base | self.next
        })
    }

    /// The flow in this lane has ended with both sides closed, undropped: the lane may be reused.
    /// All other lanes are never given back, since the engine may still act on what was there.
    pub fn give_back(&mut self, lane: u64) {
        if self.clean.len() < MAX_CLEAN {
            self.clean.push(lane);
        }
    }
}
