//! The engine's flow of a TCP stream that an ICAP client shows in full.

use std::rc::Rc;

use http_wire::RequestHead;
use suricata::{Direction, Error, Expect, Flow, Tuple, Verdict, Worker};

use super::{EventTags, WorkerFlows, passed};
use crate::inspection::claims::Claims;
use crate::inspection::halt::Halt;
use crate::inspection::metrics::Uninspected;

/// A flow that belongs to one stream. Dropped, it ends.
pub(crate) struct StreamFlow {
    flows: Rc<WorkerFlows>,
    flow: Option<Flow>,
    tuple: Tuple,
    tags: Rc<EventTags>,
    expect: Expect,
    is_used: bool,
    /// The directions that have ended.
    ended: Vec<Direction>,
}

impl WorkerFlows {
    /// A flow for the stream that these headers are about, and that `connect` asks for, of what is expected.
    ///
    /// # Errors
    /// The engine could not open it.
    pub(crate) fn for_stream(
        self: &Rc<Self>,
        claims: &Claims<'_>,
        connect: &RequestHead,
        tags: &Rc<EventTags>,
        expect: Expect,
    ) -> Result<StreamFlow, Error> {
        let tuple = self.tuple(claims, Some(connect))?;
        let mut this = StreamFlow {
            flows: self.clone(),
            flow: None,
            tuple,
            tags: tags.clone(),
            expect,
            is_used: false,
            ended: Vec::new(),
        };
        this.open(tuple)?;
        Ok(this)
    }
}

impl StreamFlow {
    /// Shows the engine bytes, which may lie in several places.
    ///
    /// # Errors
    /// It asks for a drop, or the bytes were not inspected.
    pub(crate) fn feed(&mut self, direction: Direction, parts: &[&[u8]]) -> Result<(), Halt> {
        self.keep_up()?;
        self.is_used |= parts.iter().any(|part| !part.is_empty());
        self.call(|worker, flow| worker.feed_parts(flow, direction, parts))
    }

    /// Shows the engine that the sender of a direction finishes, and hears what it held back until then.
    ///
    /// # Errors
    /// As for [`feed`](Self::feed).
    pub(crate) fn end(&mut self, direction: Direction) -> Result<(), Halt> {
        self.keep_up()?;
        self.ended.push(direction);
        self.call(|worker, flow| worker.end(flow, direction))
    }

    /// Goes on with another flow where new rules may look for what those before had no use for: the engine can't take up
    /// what it did not keep.
    fn keep_up(&mut self) -> Result<(), Halt> {
        let worker = self.flows.worker.borrow();
        let Some(flow) = self.flow.take_if(|flow| worker.is_outdated(flow)) else { return Ok(()) };
        drop(worker);
        self.flows.open.set(self.flows.open.get().saturating_sub(1));
        let ended = self.ended.clone();
        self.open(flow.tuple())?;
        for direction in ended {
            self.call(|worker, flow| worker.end(flow, direction))?;
        }
        Ok(())
    }

    /// Ends the flow.
    ///
    /// # Errors
    /// As for [`feed`](Self::feed), if that is what its end leads to.
    pub(crate) fn close(&mut self) -> Result<(), Halt> {
        let Some(flow) = self.flow.take() else { return Ok(()) };
        self.flows.open.set(self.flows.open.get().saturating_sub(1));
        self.flows.annotate(&self.tags);
        let mut worker = self.flows.worker.borrow_mut();
        let before = worker.stats().unneeded_bytes;
        let verdict = worker.close(flow);
        self.flows.counters().unneeded.add(worker.stats().unneeded_bytes - before);
        passed(verdict)
    }

    /// Begins another flow of what is expected, with the same addresses if no others are given.
    ///
    /// # Errors
    /// The engine could not open it.
    pub(crate) fn renew(&mut self, tuple: Option<Tuple>, expect: Expect) -> Result<(), Error> {
        self.expect = expect;
        self.open(tuple.unwrap_or(self.tuple))
    }

    /// What events carry from here on.
    pub(crate) fn tag(&mut self, tags: &Rc<EventTags>) {
        self.tags = tags.clone();
    }

    /// Whether the engine has asked for a drop.
    pub(crate) fn is_condemned(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.dropped().is_some())
    }

    /// Suricata's name of the protocol that it recognised.
    pub(crate) fn protocol(&self) -> Option<&'static str> {
        self.flow.as_ref().and_then(Flow::app_protocol)
    }

    /// Whether bytes were fed since it began.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Whether the engine takes what the client says next for a mail.
    pub(crate) fn reads_mail(&self) -> bool {
        self.flow.as_ref().is_some_and(Flow::reads_mail)
    }

    /// Counts bytes that were not inspected as their receiver reads them.
    pub(crate) fn count(&self, why: Uninspected, bytes: usize) {
        self.flows.counters().uninspected(why, bytes as u64);
    }

    fn open(&mut self, tuple: Tuple) -> Result<(), Error> {
        self.flows.annotate(&self.tags);
        let mut flow = self.flows.worker.borrow_mut().open(tuple, None)?;
        flow.expect(self.expect);
        self.flow = Some(flow);
        self.is_used = false;
        self.flows.open.set(self.flows.open.get() + 1);
        self.flows.counters().flows_opened.one();
        Ok(())
    }

    fn call(
        &mut self,
        call: impl FnOnce(&mut Worker, &mut Flow) -> Result<Verdict, Error>,
    ) -> Result<(), Halt> {
        let Some(flow) = &mut self.flow else { return Err(Halt::FlowGone) };
        self.flows.annotate(&self.tags);
        let mut worker = self.flows.worker.borrow_mut();
        let before = worker.stats().unneeded_bytes;
        let verdict = call(&mut worker, flow);
        let unneeded = worker.stats().unneeded_bytes - before;
        self.flows.counters().unneeded.add(unneeded);
        passed(verdict)
    }
}

impl Drop for StreamFlow {
    fn drop(&mut self) {
        // Whatever the end leads to: nobody waits for a verdict any more.
        if let Err(halt) = self.close() {
            tracing::debug!(%halt, "the end of a stream that was given up");
        }
    }
}
