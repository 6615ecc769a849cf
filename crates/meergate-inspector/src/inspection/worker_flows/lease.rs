//! A flow in the hands of one transaction.

use std::rc::Rc;
use std::time::Instant;

use suricata::{Direction, Error, Flow, Seam, Verdict, Worker};

use super::{EventTags, Leased, WorkerFlows};
use crate::inspection::dialogue::Dialogue;
use crate::inspection::flows::Shared;
use crate::inspection::halt::Halt;

/// A flow in the hands of one transaction. Dropped before [`done`](Self::done), the flow is given
/// up: nobody knows what the engine has seen of it.
pub(crate) struct FlowLease {
    pub(super) flows: Rc<WorkerFlows>,
    pub(super) entry: Shared<Leased>,
    pub(super) tags: Rc<EventTags>,
    pub(super) done: bool,
}

impl FlowLease {
    /// Shows the engine the next bytes of the flow: all `parts`, as if they were one. Events that
    /// they cause carry the id of the transaction.
    ///
    /// # Errors
    /// The engine asks for a drop, or the bytes were not inspected. Either way the flow is of no
    /// more use.
    pub(crate) fn feed(
        &self,
        direction: Direction,
        parts: &[&[u8]],
        content: usize,
    ) -> Result<(), Halt> {
        self.feed_chunk(direction, None, parts, content)
    }

    /// As [`feed`](Self::feed), where the bytes may begin with framing that rules for the stream are not to see.
    ///
    /// # Errors
    /// As for [`feed`](Self::feed).
    pub(crate) fn feed_chunk(
        &self,
        direction: Direction,
        seam: Option<Seam<'_>>,
        parts: &[&[u8]],
        content: usize,
    ) -> Result<(), Halt> {
        self.feed_by(|worker, flow| worker.feed_chunk(flow, direction, seam, parts, content))
    }

    /// Feeds what stands behind a message and is none. Nothing may follow it on the flow.
    ///
    /// # Errors
    /// As for [`feed`](Self::feed).
    pub(crate) fn feed_behind(&self, direction: Direction, bytes: &[u8]) -> Result<(), Halt> {
        self.feed_by(|worker, flow| worker.feed(flow, direction, bytes))
    }

    fn feed_by(
        &self,
        feed: impl FnOnce(&mut Worker, &mut Flow) -> Result<Verdict, Error>,
    ) -> Result<(), Halt> {
        let mut entry = self.entry.borrow_mut();
        let Some(Leased { flow, .. }) = entry.flow.as_mut() else { return Err(Halt::FlowGone) };
        self.flows.annotate(&self.tags);
        let verdict = feed(&mut self.flows.worker.borrow_mut(), flow);
        if !matches!(verdict, Ok(Verdict::Pass)) {
            entry.spent = true;
        }
        passed(verdict)
    }

    /// Makes sure that the engine takes a complete message for what it is.
    ///
    /// # Errors
    /// It sees another protocol, or none: nothing of the message was inspected as HTTP.
    pub(crate) fn check(&self) -> Result<(), Halt> {
        let mut entry = self.entry.borrow_mut();
        let Some(Leased { flow, .. }) = entry.flow.as_mut() else { return Err(Halt::FlowGone) };
        Ok(self.flows.worker.borrow_mut().check_protocol(flow)?)
    }

    /// Ends the flow now, and hears what the engine says to that: for messages that last until
    /// the connection closes.
    ///
    /// # Errors
    /// As for [`feed`](Self::feed).
    pub(crate) fn end(&self) -> Result<(), Halt> {
        let mut entry = self.entry.borrow_mut();
        entry.spent = true;
        let Some(Leased { flow, .. }) = entry.flow.take() else { return Err(Halt::FlowGone) };
        self.flows.open.set(self.flows.open.get().saturating_sub(1));
        self.flows.annotate(&self.tags);
        passed(self.flows.worker.borrow_mut().close(flow))
    }

    /// The flow's dialogue.
    pub(crate) fn dialogue<T>(&self, with: impl FnOnce(&mut Dialogue) -> T) -> T {
        with(&mut self.entry.borrow_mut().dialogue)
    }

    /// The transaction has done its part on this flow in good order.
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for FlowLease {
    fn drop(&mut self) {
        if !self.done {
            self.entry.borrow_mut().spent = true;
        }
        let removed = self.flows.table.borrow_mut().release(&self.entry, Instant::now());
        self.flows.dispose(removed);
    }
}

/// A verdict as what it means to a transaction.
pub(super) fn passed(verdict: Result<Verdict, Error>) -> Result<(), Halt> {
    match verdict? {
        Verdict::Pass => Ok(()),
        Verdict::Drop(dropped) if dropped.reason.is_rule() => Err(Halt::Blocked(dropped)),
        // Not a rule: the engine could not do its work, and failed closed.
        Verdict::Drop(dropped) => Err(Halt::GaveUp(dropped)),
    }
}
