//! The engine's flow of a TCP stream that an ICAP client shows in full.

use std::rc::Rc;

use http_wire::RequestHead;
use suricata::{Direction, Error, Expect, Flow, Tuple, Verdict, Worker};

use super::{EventTags, WorkerFlows, passed};
use crate::inspection::claims::Claims;
use crate::inspection::halt::Halt;

/// A flow that belongs to one stream. Dropped, it ends.
pub(crate) struct StreamFlow {
    flows: Rc<WorkerFlows>,
    flow: Option<Flow>,
    tuple: Tuple,
    tags: Rc<EventTags>,
}

impl WorkerFlows {
    /// A flow for the stream that these headers are about, and that `connect` asks for.
    ///
    /// # Errors
    /// The engine could not open it.
    pub(crate) fn for_stream(
        self: &Rc<Self>,
        claims: &Claims<'_>,
        connect: &RequestHead,
        tags: &Rc<EventTags>,
    ) -> Result<StreamFlow, Error> {
        let tuple = self.tuple(claims, Some(connect))?;
        let mut this = StreamFlow { flows: self.clone(), flow: None, tuple, tags: tags.clone() };
        this.open(tuple)?;
        Ok(this)
    }
}

impl StreamFlow {
    /// Shows the engine bytes.
    ///
    /// # Errors
    /// It asks for a drop, or the bytes were not inspected.
    pub(crate) fn feed(&mut self, direction: Direction, bytes: &[u8]) -> Result<(), Halt> {
        self.call(|worker, flow| worker.feed(flow, direction, bytes))
    }

    /// Shows the engine that the sender of a direction finishes, and hears what it held back until then.
    ///
    /// # Errors
    /// As for [`feed`](Self::feed).
    pub(crate) fn end(&mut self, direction: Direction) -> Result<(), Halt> {
        self.call(|worker, flow| worker.end(flow, direction))
    }

    /// Ends the flow.
    ///
    /// # Errors
    /// As for [`feed`](Self::feed), if that is what its end leads to.
    pub(crate) fn close(&mut self) -> Result<(), Halt> {
        let Some(flow) = self.flow.take() else { return Ok(()) };
        self.flows.open.set(self.flows.open.get().saturating_sub(1));
        self.flows.annotate(&self.tags);
        let verdict = self.flows.worker.borrow_mut().close(flow);
        passed(verdict)
    }

    /// Begins another flow, with the same addresses if no others are given.
    ///
    /// # Errors
    /// The engine could not open it.
    pub(crate) fn renew(&mut self, tuple: Option<Tuple>) -> Result<(), Error> {
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

    fn open(&mut self, tuple: Tuple) -> Result<(), Error> {
        self.flows.annotate(&self.tags);
        let mut flow = self.flows.worker.borrow_mut().open(tuple, None)?;
        flow.expect(Expect::Any);
        self.flow = Some(flow);
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
