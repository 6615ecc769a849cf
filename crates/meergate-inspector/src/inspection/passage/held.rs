//! The bytes of a body that are here and not yet with the client, and when they may leave.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use dual_ring::PooledRing;
use icap_server::{Reply, TransactError};

use crate::inspection::aside::Beginning;
use crate::inspection::clients::Share;
use crate::inspection::halt::Halt;
use crate::inspection::pause::Pause;
use crate::inspection::trail::Trail;
use crate::inspection::worker_flows::WorkerFlows;
use crate::settings::Hold;

/// The bytes of a body that are here and not yet with the client.
pub(super) struct Held<'a> {
    pub(super) ring: PooledRing,
    hold: Hold,
    /// Nothing may leave before all of it was judged, whatever the settings say.
    pub(super) whole: bool,
    /// Nothing is to be held, not even the head.
    unheld: bool,
    pub(super) pause: Pause,
    /// Nothing is held any more because nothing came for too long.
    paused: bool,
    /// The client keeps a copy of everything, and all of it is held: no byte will be sent back.
    discard: bool,
    /// The reply has started.
    pub(super) started: bool,
    /// Bytes that the engine has passed.
    passed: u64,
    counted: usize,
    /// Bytes that came and are not counted to the client's turn yet.
    pub(super) turn: usize,
    /// Of what the engine saw of the content.
    pub(super) begin: Beginning,
    /// What the engine has seen, up to the next chunk.
    pub(super) trail: Trail,
    flows: &'a WorkerFlows,
}

impl<'a> Held<'a> {
    pub(super) fn new(
        flows: &'a WorkerFlows,
        keeps_copy: bool,
        unheld: bool,
    ) -> Result<Self, Halt> {
        let settings = &flows.state.settings;
        let hold = settings.hold;
        let discard = hold == Hold::All && keeps_copy;
        let ring = flows.ring(discard).ok_or(Halt::TooMany)?;
        if unheld {
            flows.counters().unheld.one();
        }
        Ok(Self {
            ring,
            hold,
            whole: false,
            unheld,
            pause: Pause::new(settings.pause()),
            paused: false,
            discard,
            started: false,
            passed: 0,
            counted: 0,
            turn: 0,
            begin: Beginning::default(),
            trail: Trail::default(),
            flows,
        })
    }

    /// Whether bytes leave as soon as they are passed.
    pub(super) fn releases(&self) -> bool {
        self.started || !self.whole && (self.unheld || self.paused || self.hold == Hold::Bytes(0))
    }

    /// Whether the reply is to start.
    pub(super) fn is_due(&self) -> bool {
        // Coded content can fill the ring before `hold` bytes have passed, because the end of it
        // can't be decoded yet.
        let all = self.ring.free() == 0 && self.ring.passed_len() > 0;
        let full = matches!(self.hold, Hold::Bytes(hold) if all || self.passed > hold as u64);
        !self.whole && (full || self.unheld || self.paused)
    }

    /// Lets others have their turn, if this client has had its own.
    pub(super) async fn give_way(&mut self, share: &Share) {
        self.flows.spend(share, std::mem::take(&mut self.turn)).await;
    }

    /// Ready once when nothing has come for too long.
    pub(super) fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.paused || self.whole {
            return Poll::Pending;
        }
        ready!(self.pause.poll(cx));
        self.paused = true;
        self.flows.counters().paused.one();
        Poll::Ready(())
    }

    /// The engine has passed `len` bytes more.
    pub(super) fn pass(&mut self, len: usize) {
        self.passed += len as u64;
        // Neither can fail: `len` bytes were pending, and are passed now.
        let passed = self.ring.pass(len);
        let taken = if self.discard { self.ring.take(len) } else { Ok(()) };
        debug_assert!(passed.is_ok() && taken.is_ok());
    }

    /// Ready when the reply has taken something.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        reply: &mut Reply<'_>,
    ) -> Poll<Result<(), TransactError>> {
        let ready = self.ring.passed().first;
        if !self.started || ready.is_empty() {
            return Poll::Pending;
        }
        reply.poll_data(cx, ready).map_ok(|sent| {
            let taken = self.ring.take(sent);
            debug_assert!(taken.is_ok());
        })
    }

    /// Waits until the client has taken something: the ring is full.
    pub(super) async fn make_room(&mut self, reply: &mut Reply<'_>) -> Result<(), Halt> {
        if !self.started {
            return Err(Halt::TooLong);
        }
        if self.ring.passed_len() == 0 {
            return Err(Halt::Stuck);
        }
        Ok(poll_fn(|cx| self.poll_send(cx, reply)).await?)
    }

    pub(super) fn count(&mut self) {
        let now = self.ring.pending_len() + self.ring.passed_len();
        self.flows.counters().held.add(now as i64 - self.counted as i64);
        self.counted = now;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.flows.counters().held.add(-(self.counted as i64));
    }
}
