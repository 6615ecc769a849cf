//! A thread that feeds packets.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::ffi;
use crate::main_thread::{Failure, check};
use crate::outcome::Outcome;

/// How many EVE fields a worker can set.
pub const FIELD_SLOTS: usize = 4;

/// The most that [`Seam::before`] may have (`MGS_SEAM_BEFORE`).
pub const SEAM_BEFORE: usize = 4096;

/// Where the data of a packet begin with framing that parts what belongs together, such as the line of a chunk.
#[derive(Debug, Clone, Copy)]
pub struct Seam<'a> {
    /// What is in front of the framing, at most [`SEAM_BEFORE`] bytes.
    pub before: &'a [u8],
    /// The length of the framing in bytes; more than 0.
    pub framing: usize,
}

/// What the engine is told along with a packet (`MGS_NOTE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// No more data will come: what the engine held back is to be inspected now.
    End,
    /// What follows on the flow is the protocol of this number, whatever its ports; see [`app_protocol_number`].
    ///
    /// [`app_protocol_number`]: crate::app_protocol_number
    Expect(u16),
    /// What follows on the flow is HTTP/1, whatever it looks like.
    Http1,
    /// The flow is over, whatever the packet says.
    Last,
    /// Nothing.
    None,
}

impl Note {
    fn number(self) -> c_int {
        match self {
            Self::None => 0,
            Self::Http1 => 1,
            Self::Last => 2,
            Self::End => 3,
            Self::Expect(protocol) => 0x1_0000 + c_int::from(protocol),
        }
    }
}

/// A worker's place in the engine, not yet bound to a thread.
#[derive(Debug)]
pub struct Seat {
    index: u16,
}

impl Seat {
    pub(crate) fn new(index: u16) -> Self {
        Self { index }
    }

    /// Binds the seat to the calling thread and returns once the engine runs: when all seats were taken, each on its
    /// own thread, and the main thread went through `post_init`.
    pub fn attach(self) -> Result<RawWorker, Failure> {
        // SAFETY: an index out of range gives null; the table is complete once init has returned.
        let worker = unsafe { ffi::mgs_worker_at(self.index.into()) };
        let worker = NonNull::new(worker).ok_or(Failure::Failed)?;
        // SAFETY: the worker lives as long as the process, and seats are given out once, so this is its only user.
        check(unsafe { ffi::mgs_worker_attach(worker.as_ptr()) })?;
        Ok(RawWorker { worker, outcome: Outcome::new(), _not_send: PhantomData })
    }
}

/// A worker bound to its thread. Must be [finished](RawWorker::finish), or the engine cannot stop.
pub struct RawWorker {
    worker: NonNull<ffi::Worker>,
    outcome: Box<Outcome>,
    /// Suricata's packet pools are thread-local.
    _not_send: PhantomData<*mut ()>,
}

impl RawWorker {
    /// Runs one raw IPv4 or IPv6 packet through the engine. `flow_id` is what an earlier packet of the flow reported,
    /// 0 for the first. The engine may change the packet's bytes (`replace`), but keeps none of them.
    ///
    /// # Errors
    /// The packet was not processed, or not to the end.
    pub fn packet(
        &mut self,
        packet: &mut [u8],
        lane: u64,
        flow_id: u64,
        note: Note,
    ) -> Result<(), Failure> {
        let len = u32::try_from(packet.len()).map_err(|_| Failure::Failed)?;
        // SAFETY: on the worker's thread (not Send); the packet and the outcome are borrowed for the call, in which
        // the engine releases the packet.
        check(unsafe {
            ffi::mgs_worker_packet(
                self.worker.as_ptr(),
                packet.as_mut_ptr(),
                len,
                lane,
                flow_id,
                note.number(),
                &raw mut *self.outcome,
            )
        })
    }

    /// Lets rules for the bytes of a stream look across a seam at which the next packet begins. No other rules see any
    /// difference.
    ///
    /// # Errors
    /// It is longer than it may be, or there is no memory for it.
    pub fn join(&mut self, seam: Seam<'_>) -> Result<(), Failure> {
        let len = u32::try_from(seam.before.len()).map_err(|_| Failure::Failed)?;
        let framing = u32::try_from(seam.framing).map_err(|_| Failure::Failed)?;
        let worker = self.worker.as_ptr();
        // SAFETY: on the worker's thread; pointer and length belong together, and the shim copies the bytes.
        check(unsafe { ffi::mgs_worker_seam(worker, seam.before.as_ptr(), len, framing) })
    }

    /// What became of the last packet.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What became of the last packet, for forgetting its alerts.
    pub fn outcome_mut(&mut self) -> &mut Outcome {
        &mut self.outcome
    }

    /// Does what waits for this thread: its part of a reload, and flows that others hand to it.
    pub fn idle(&mut self) {
        // SAFETY: on the worker's thread.
        unsafe { ffi::mgs_worker_idle(self.worker.as_ptr()) }
    }

    /// Adds a field to every EVE record that this worker's packets cause; an empty value takes it away.
    ///
    /// # Errors
    /// The slot is not below [`FIELD_SLOTS`], the key is longer than 31 bytes or the value longer than 159.
    pub fn set_field(&mut self, slot: usize, key: &str, value: &str) -> Result<(), Failure> {
        let slot = u32::try_from(slot).map_err(|_| Failure::Failed)?;
        if key.contains('\0') || value.contains('\0') {
            return Err(Failure::Nul);
        }
        // SAFETY: pointers and lengths belong together; the shim copies and checks the sizes.
        check(unsafe {
            ffi::mgs_worker_field(
                self.worker.as_ptr(),
                slot,
                key.as_ptr().cast(),
                key.len(),
                value.as_ptr().cast(),
                value.len(),
            )
        })
    }

    /// Gives the seat up. Blocks until the engine shuts down.
    pub fn finish(self) {
        // SAFETY: on the worker's thread; consumed, so once and last.
        unsafe { ffi::mgs_worker_finish(self.worker.as_ptr()) }
    }
}
