//! Both directions of a WebSocket, each message shown before it leaves.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use icap_client::{StreamEvent, Streams, Way};
use shares::{Ledger, Limit, Share};
use tokio::time::{Instant, Sleep, sleep};
use websocket_wire::{CloseCode, Deflate, Limits, Reader, Role, write_close};

use super::half::Half;
use super::{End, farewell};
use crate::exchange::stream::count_unseen;
use crate::io::{BLOCK, Stream, Turn, give_way};
use crate::session::Arrival;
use crate::words::{Towards, Unseen};

thread_local! {
    // One buffer a thread: what is read is copied into what its half holds.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BLOCK]);
}

/// Rounds after which the thread's other connections have their turn.
const ROUNDS: usize = 16;
/// Memory that a WebSocket has without a share of what there is for all.
const FREE: u64 = 256 << 10;
/// Memory is taken and given back in steps of this.
const STEP: u64 = 1 << 20;

/// What bytes of a direction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// They came.
    In,
    /// They left.
    Out,
}

/// Hears of bytes that moved.
pub(crate) type Count<'a> = &'a mut (dyn FnMut(Moved, Way, usize) + Send);

/// A WebSocket on its way.
pub(super) struct Relay<'a> {
    arrival: &'a Arrival,
    /// The client and the server.
    sides: [&'a mut dyn Stream; 2],
    streams: &'a mut Streams,
    /// What goes to the client and to the server.
    halves: [Half; 2],
    memory: Option<Share>,
    count: Count<'a>,
    /// Why not all who should look do, if that is so.
    pub(super) unseen: Option<Unseen>,
    turn: Turn,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        arrival: &'a Arrival,
        sides: [&'a mut dyn Stream; 2],
        streams: &'a mut Streams,
        deflate: Option<Deflate>,
        count: Count<'a>,
    ) -> Self {
        let limits = &arrival.settings.config.limits;
        let idle = limits.relay_timeout.0;
        let most = Limits::new(usize::try_from(limits.websocket_message.0).unwrap_or(usize::MAX));
        let client = Reader::new(Role::Client, deflate.map(|deflate| deflate.client), most);
        let server = Reader::new(Role::Server, deflate.map(|deflate| deflate.server), most);
        Self {
            arrival,
            sides,
            streams,
            halves: [Half::new(Way::ToClient, server), Half::new(Way::ToServer, client)],
            memory: None,
            count,
            unseen: None,
            turn: Turn::of(arrival.party()),
            idle,
            timer: Box::pin(sleep(idle)),
        }
    }

    /// Relays it to its end. Nothing leaves after that but with [`close`](Self::close).
    pub(super) async fn run(&mut self) -> End {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Ends both directions behind what was passed, with a close frame where there is none.
    pub(super) async fn close(&mut self, code: CloseCode, reason: &str) {
        let mut last = [Vec::new(), Vec::new()];
        for ((half, last), way) in self.halves.iter_mut().zip(&mut last).zip(WAYS) {
            half.release(self.streams.cleared(way));
            last.extend_from_slice(half.ready());
            if !half.closes() {
                write_close(code, reason, mask(way), last);
            }
        }
        let [client, server] = &mut self.sides;
        farewell::of_sides([&mut **client, &mut **server], last).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        ready!(self.turn.poll(cx));
        let mut moved_at_all = false;
        for _ in 0..ROUNDS {
            let moved = match self.round(cx) {
                Ok(moved) => moved,
                Err(end) => return Poll::Ready(end),
            };
            if self.halves.iter().all(Half::is_closed) {
                return Poll::Ready(End::Done);
            }
            moved_at_all |= moved;
            if !moved {
                if moved_at_all {
                    self.timer.as_mut().reset(Instant::now() + self.idle);
                }
                return self.timer.as_mut().poll(cx).map(|()| End::Idle);
            }
        }
        self.timer.as_mut().reset(Instant::now() + self.idle);
        give_way(cx);
        Poll::Pending
    }

    /// Reads, shows, hears and writes what can be at once; whether anything could.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        for way in WAYS {
            moved |= self.read(cx, way)?;
        }
        self.reserve()?;
        // Sends what was shown, too.
        while let Poll::Ready(event) = self.streams.poll_event(cx) {
            moved = true;
            match event.map_err(End::NotInspected)? {
                StreamEvent::Dropped(dropped) if !dropped.late => {
                    return Err(End::Blocked(dropped));
                }
                StreamEvent::Alert(signature) => tracing::debug!(
                    connection = %self.arrival.id,
                    sid = signature.id,
                    message = signature.message,
                    "a rule matched"
                ),
                // What is drained ends soon: messages refer to those before, and rules to both.
                StreamEvent::Drain
                | StreamEvent::Dropped(_)
                | StreamEvent::Passed(_)
                | StreamEvent::Pong
                | StreamEvent::Proto(_) => {}
            }
        }
        for way in WAYS {
            moved |= self.write(cx, way)?;
        }
        Ok(moved)
    }

    fn read(&mut self, cx: &mut Context<'_>, way: Way) -> Result<bool, End> {
        let half = &mut self.halves[way as usize];
        let from = match way {
            Way::ToClient => &mut self.sides[1],
            Way::ToServer => &mut self.sides[0],
        };
        let (mut moved, mut is_filled) = (false, false);
        loop {
            moved |= half.show(self.streams).map_err(End::NotInspected)?;
            if half.is_showing() {
                return Ok(moved);
            }
            if let Some(length) = half.parse().map_err(End::Refused)? {
                // To inflate it takes time as well.
                self.turn.moved(length);
                moved = true;
                continue;
            }
            // First what was shown is sent.
            if is_filled {
                return Ok(true);
            }
            let filled =
                SCRATCH.with_borrow_mut(|scratch| half.poll_fill(cx, &mut **from, scratch));
            let Poll::Ready(length) = filled else { return Ok(moved) };
            let length = length.map_err(End::Failed)?;
            self.turn.moved(length);
            (self.count)(Moved::In, way, length);
            (moved, is_filled) = (true, true);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, way: Way) -> Result<bool, End> {
        let half = &mut self.halves[way as usize];
        half.release(self.streams.cleared(way));
        let to = match way {
            Way::ToClient => &mut self.sides[0],
            Way::ToServer => &mut self.sides[1],
        };
        match half.poll_write(cx, &mut **to, self.streams.end_cleared(way)) {
            Poll::Pending => Ok(false),
            Poll::Ready(taken) => {
                let taken = taken.map_err(End::Failed)?;
                (self.count)(Moved::Out, way, taken);
                if let Some(why) = self.unseen {
                    let towards = match way {
                        Way::ToClient => Towards::Client,
                        Way::ToServer => Towards::Server,
                    };
                    count_unseen(self.arrival, why, towards, taken);
                }
                Ok(true)
            }
        }
    }

    /// Takes memory for what is held, or gives it back.
    fn reserve(&mut self) -> Result<(), End> {
        let needed: u64 = self.halves.iter().map(Half::memory).sum();
        if needed <= FREE {
            self.memory = None;
            return Ok(());
        }
        let needed = needed.next_multiple_of(STEP);
        let limit = Limit::of(self.arrival.settings.config.limits.websocket_memory.0);
        let taken = match &mut self.memory {
            Some(share) if share.amount() >= needed => {
                share.shrink_to(needed);
                Ok(())
            }
            Some(share) => share.grow_to(needed, limit),
            None => {
                let ledger = &self.arrival.shared.metrics.websocket_memory;
                let share = Ledger::take(ledger, Some(self.arrival.party()), needed, limit);
                share.map(|share| self.memory = Some(share))
            }
        };
        taken.map_err(|_| End::Crowded)
    }
}

/// As their numbers are.
const WAYS: [Way; 2] = [Way::ToClient, Way::ToServer];

/// What a close frame is masked with.
fn mask(way: Way) -> Option<[u8; 4]> {
    let mut key = [0; 4];
    // A key that can be foreseen is no harm: what we say is nobody's choice.
    let _ = aws_lc_rs::rand::fill(&mut key);
    (way == Way::ToServer).then_some(key)
}
