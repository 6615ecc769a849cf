//! A thread that feeds streams.

mod segments;

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::{fmt, mem};

use suricata_sys::{Note, RawWorker, Seam};

use crate::config::Mode;
use crate::engine::{Shared, UNKNOWN_RULES};
use crate::error::{Error, ErrorKind};
use crate::flow::{Condition, Direction, Ends, Expect, Flow, Lane, State, Tuple};
use crate::judge::verdict;
use crate::lanes::Lanes;
use crate::loss::Loss;
use crate::packet::{Gather, MAX_PACKET, Segment, Stream};
use crate::stats::WorkerStats;
use crate::verdict::{Alert, Verdict};

/// Feeds streams to the engine, from one thread. While no stream has anything to feed, call [`Worker::idle`] every few
/// milliseconds: a reload waits for each worker.
///
/// Dropping a worker stops the whole engine and waits for it, since the engine can neither reload nor stop without it.
pub struct Worker {
    raw: Option<RawWorker>,
    pub(crate) shared: Arc<Shared>,
    index: u16,
    buffer: Box<[u8; MAX_PACKET]>,
    lanes: Lanes,
    isn: u32,
    orphans: Rc<RefCell<Vec<State>>>,
    /// The version of the rules that the canary proved.
    pub(crate) proven_rules: u64,
    pub(crate) stats: WorkerStats,
    _not_send: PhantomData<*mut ()>,
}

thread_local! {
    /// Whether the thread is a worker: it may not wait for all workers.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is a worker.
pub(crate) fn is_here() -> bool {
    HERE.get()
}

/// Why a flow fails.
const NEW_RULES: &str = "the rules are new, and those before looked for nothing on this flow, which can't be taken up \
    again: begin another";

impl Worker {
    pub(crate) fn new(raw: RawWorker, index: u16, shared: Arc<Shared>) -> Self {
        HERE.set(true);
        Self {
            raw: Some(raw),
            shared,
            index,
            buffer: Box::new([0; MAX_PACKET]),
            lanes: Lanes::new(index),
            isn: u32::from(index).wrapping_mul(0x0101_0101),
            orphans: Rc::default(),
            proven_rules: 0,
            stats: WorkerStats::default(),
            _not_send: PhantomData,
        }
    }

    /// Opens a flow: the engine sees a handshake. Flows may be open at once and fed in any order, also with one tuple.
    /// Leave `lane` to the worker unless you know why. A rule may drop a flow at its very beginning: then the first
    /// call on it says so.
    ///
    /// # Errors
    /// [`ErrorKind::Stopped`]; [`ErrorKind::InspectionFailed`] if the engine cannot take the flow (at the memory limit
    /// `flow.memcap`, for instance) or if new rules do not stand the canary.
    pub fn open(&mut self, tuple: Tuple, lane: Option<Lane>) -> Result<Flow, Error> {
        self.prove()?;
        self.stats.flows += 1;
        self.open_unproven(tuple, lane)
    }

    /// Proves the rules in force with a canary, unless that was done. [`Worker::open`] does it by itself; to be called
    /// to know at once after a reload.
    ///
    /// # Errors
    /// [`ErrorKind::InspectionFailed`] if the canary passed; [`ErrorKind::Stopped`].
    pub fn prove(&mut self) -> Result<(), Error> {
        self.keep_up()?;
        match self.shared.rules_version.load(Ordering::SeqCst) {
            UNKNOWN_RULES => Err(Error::inspection(
                "a reload did not end in time, so nobody knows which rules are in force",
            )),
            version if version != self.proven_rules => self.canary(),
            _ => Ok(()),
        }
    }

    /// Proves new rules with a canary before they judge this flow, even if the flow is older than
    /// the rules.
    fn prove_for(&mut self, flow: &mut Flow) -> Result<(), Error> {
        let version = self.shared.rules_version.load(Ordering::SeqCst);
        if self.is_outdated(flow) {
            // The engine keeps nothing of it any more, whatever the new rules look for.
            return Err(self.fail(flow, Error::inspection(NEW_RULES)));
        }
        if self.proven_rules == version || flow.state.lane == Lane::OF_CANARY {
            return Ok(());
        }
        let proved = self.prove();
        if proved.is_err() {
            flow.state.condition = Condition::Failed;
        }
        // What the canary met is nothing to this flow.
        self.raw()?.outcome_mut().forget_alerts();
        proved
    }

    /// Whether the rules are new and those before had no use for this flow: calls on it fail, and another is to be begun.
    pub fn is_outdated(&self, flow: &Flow) -> bool {
        let version = self.shared.rules_version.load(Ordering::SeqCst);
        flow.state.unneeded_by.is_some_and(|rules| rules != version)
    }

    /// Feeds bytes of one direction, any number of them. Large slices are much the fastest.
    ///
    /// # Errors
    /// [`ErrorKind::InspectionFailed`]: the bytes were not inspected. The flow is over: later calls fail too.
    /// [`ErrorKind::Misuse`]: the flow is another worker's. [`ErrorKind::Stopped`].
    pub fn feed(
        &mut self,
        flow: &mut Flow,
        direction: Direction,
        data: &[u8],
    ) -> Result<Verdict, Error> {
        self.feed_parts(flow, direction, &[data])
    }

    /// As [`Worker::feed`], of bytes that lie in several places: they are read as if they were one slice, and share
    /// packets.
    ///
    /// # Errors
    /// As for [`Worker::feed`].
    pub fn feed_parts(
        &mut self,
        flow: &mut Flow,
        direction: Direction,
        parts: &[&[u8]],
    ) -> Result<Verdict, Error> {
        self.feed_gathered(flow, direction, Gather::new(parts))
    }

    fn feed_gathered(
        &mut self,
        flow: &mut Flow,
        direction: Direction,
        mut data: Gather<'_>,
    ) -> Result<Verdict, Error> {
        self.begin_call(flow)?;
        if flow.state.ends.has(direction) && data.len() > 0 {
            return Err(Error::new(ErrorKind::Misuse, "the direction was ended before"));
        }
        self.prove_for(flow)?;
        self.greet(flow)?;
        while data.len() > 0 {
            let len = data.len().min(flow.state.stream.capacity());
            match flow.state.condition {
                Condition::Open => {}
                Condition::Bypassed => {
                    data.skip(len);
                    flow.state.fed[direction as usize] += len as u64;
                    self.stats.excused_bytes += len as u64;
                    continue;
                }
                Condition::Condemned | Condition::Failed | Condition::Closed => break,
            }
            self.open_window(flow, direction, len)?;
            self.transmit(flow, direction, Segment::Data, &mut data, Note::None)?;
            flow.state.fed[direction as usize] += len as u64;
            self.acknowledge(flow, direction, len)?;
        }
        if flow.state.fed.iter().all(|fed| *fed > 0) {
            self.check_protocol(flow)?;
        }
        Ok(verdict(flow))
    }

    /// As [`Worker::feed_parts`], of HTTP/1 messages: `content` of the bytes are content, the rest is heads and framing.
    /// What the engine has kept as content for its rules is compared with that; from the first call on, everything on
    /// the flow has to come this way.
    ///
    /// # Errors
    /// As for [`Worker::feed`]; with [`Error::loss`] if the engine kept less or more.
    pub fn feed_message(
        &mut self,
        flow: &mut Flow,
        direction: Direction,
        parts: &[&[u8]],
        content: usize,
    ) -> Result<Verdict, Error> {
        self.feed_chunk(flow, direction, None, parts, content)
    }

    /// As `feed_message`. With a `seam`, `parts` begin with framing (a chunk line) in the middle of
    /// the content. Stream rules then also see the content without that framing. They see back as
    /// far as `seam.before` and Suricata's window reach.
    ///
    /// # Errors
    /// As for [`Worker::feed_message`]; [`ErrorKind::InspectionFailed`] for more than [`SEAM_BEFORE`](crate::SEAM_BEFORE)
    /// bytes in front of a seam.
    pub fn feed_chunk(
        &mut self,
        flow: &mut Flow,
        direction: Direction,
        seam: Option<Seam<'_>>,
        parts: &[&[u8]],
        content: usize,
    ) -> Result<Verdict, Error> {
        let verdict = self.feed_gathered(flow, direction, Gather::behind(seam, parts))?;
        let state = &mut flow.state;
        state.content_fed[direction as usize] += content as u64;
        let is_passive = matches!(self.shared.mode, Mode::Ids { .. });
        let is_counted = state.condition == Condition::Open && !state.excused && !is_passive;
        if is_counted && state.content_fed != state.content_kept {
            return Err(self.fail(flow, Error::lost(Loss::Content)));
        }
        Ok(verdict)
    }

    /// Ends one direction: the engine sees its sender finish, while the other one may go on. With the second, what the
    /// engine held back until the end is decided; so hear this verdict before the last bytes go on.
    ///
    /// # Errors
    /// As for [`Worker::feed`]. [`ErrorKind::Misuse`] also if the direction has ended.
    pub fn end(&mut self, flow: &mut Flow, direction: Direction) -> Result<Verdict, Error> {
        self.begin_call(flow)?;
        if flow.state.ends.has(direction) {
            return Err(Error::new(ErrorKind::Misuse, "the direction was ended before"));
        }
        self.prove_for(flow)?;
        self.greet(flow)?;
        self.end_direction(flow, direction)?;
        Ok(verdict(flow))
    }

    /// Closes a flow: the engine sees both ends finish, and what it held back until then is decided.
    ///
    /// # Errors
    /// As for [`Worker::feed`].
    pub fn close(&mut self, mut flow: Flow) -> Result<Verdict, Error> {
        self.begin_call(&flow)?;
        self.prove_for(&mut flow)?;
        self.finish(&mut flow)?;
        Ok(verdict(&flow))
    }

    /// Fails if the caller [said](Flow::expect) what the protocol is and the engine does not see it so. To be called
    /// when complete heads were fed; [`Worker::feed`] does it by itself once bytes went both ways.
    ///
    /// # Errors
    /// [`ErrorKind::InspectionFailed`]; the flow is over.
    pub fn check_protocol(&mut self, flow: &mut Flow) -> Result<(), Error> {
        let state = &mut flow.state;
        let expected = match state.expect {
            Expect::Any => return Ok(()),
            Expect::Http1 => "http",
            Expect::Protocol(name) => name,
        };
        if state.condition != Condition::Open || state.recognised {
            return Ok(());
        }
        match flow.app_protocol() {
            Some(name) if name == expected => {
                // From here on a change of protocol is one that the engine followed: an upgrade.
                flow.state.recognised = true;
                Ok(())
            }
            other => {
                let seen = other.unwrap_or("nothing it knows");
                let reason = match expected {
                    "http" => format!("the engine takes this HTTP stream for {seen}"),
                    _ => format!("the engine takes this {expected} stream for {seen}"),
                };
                Err(self.fail(flow, Error::inspection(reason)))
            }
        }
    }

    /// Does what waits for this worker: its part of a reload, flows that others left behind.
    ///
    /// # Errors
    /// [`ErrorKind::Stopped`]: the engine is stopping; drop the worker.
    pub fn idle(&mut self) -> Result<(), Error> {
        self.keep_up()?;
        self.raw()?.idle();
        Ok(())
    }

    /// The rules that matched during the last call, on whichever flow, at most 16; one that decided is among them.
    pub fn alerts(&self) -> impl Iterator<Item = Alert<'_>> {
        self.raw.iter().flat_map(|raw| raw.outcome().alerts()).map(Alert::new)
    }

    /// How many more matched.
    pub fn alerts_lost(&self) -> u32 {
        self.raw.as_ref().map_or(0, |raw| raw.outcome().alerts_lost)
    }

    /// What this worker did so far.
    pub fn stats(&self) -> WorkerStats {
        self.stats
    }

    /// Its number, from 0.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// First step of every public call that is not about one flow: checks that the engine runs and
    /// closes orphaned flows.
    fn keep_up(&mut self) -> Result<(), Error> {
        if suricata_sys::stopping() {
            return Err(Error::stopped());
        }
        if self.orphans.borrow().is_empty() {
            return Ok(());
        }
        let orphans = mem::take(&mut *self.orphans.borrow_mut());
        for state in orphans {
            self.stats.orphans += 1;
            let mut flow = Flow { state, dropped: None, orphans: Rc::clone(&self.orphans) };
            // Its owner is gone, so nobody is there to be told.
            let _ = self.finish(&mut flow);
        }
        Ok(())
    }

    fn begin_call(&mut self, flow: &Flow) -> Result<(), Error> {
        if suricata_sys::stopping() {
            return Err(Error::stopped());
        }
        if flow.state.worker != self.index {
            return Err(Error::new(
                ErrorKind::Misuse,
                format!("the flow belongs to worker {}, not {}", flow.state.worker, self.index),
            ));
        }
        self.raw()?.outcome_mut().forget_alerts();
        if flow.state.condition == Condition::Failed {
            return Err(Error::inspection("inspection of this flow failed before"));
        }
        Ok(())
    }

    pub(crate) fn open_unproven(
        &mut self,
        tuple: Tuple,
        lane: Option<Lane>,
    ) -> Result<Flow, Error> {
        self.raw()?.outcome_mut().forget_alerts();
        let lane = lane.unwrap_or_else(|| self.lanes.take(tuple));
        // Successive numbers on a lane must differ, or the engine takes the new flow for the old one.
        self.isn = self.isn.wrapping_add(0x9e37_79b9);
        let state = State {
            stream: Stream::new(tuple, [!self.isn, self.isn]),
            tuple,
            lane,
            worker: self.index,
            id: 0,
            expect: Expect::Any,
            app_protocol: 0,
            condition: Condition::Open,
            unacknowledged: [0; 2],
            server_window_open: false,
            greeted: false,
            recognised: false,
            fed: [0; 2],
            content_fed: [0; 2],
            content_kept: [0; 2],
            excused: false,
            begun_by: self.proven_rules,
            unneeded_by: None,
            unread: [0; 2],
            reads_mail: false,
            ends: Ends::None,
        };
        let mut flow = Flow { state, dropped: None, orphans: Rc::clone(&self.orphans) };
        self.send(&mut flow, Direction::ToServer, Segment::Syn)?;
        self.send(&mut flow, Direction::ToClient, Segment::SynAck)?;
        Ok(flow)
    }

    pub(crate) fn raw(&mut self) -> Result<&mut RawWorker, Error> {
        self.raw.as_mut().ok_or_else(Error::stopped)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("index", &self.index)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        suricata_sys::stop();
        if let Some(raw) = self.raw.take() {
            raw.finish();
        }
        // A thread that ends has no such word any more.
        let _ = HERE.try_with(|here| here.set(false));
    }
}
