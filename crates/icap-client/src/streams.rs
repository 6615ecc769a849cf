//! A TCP stream shown to all services of a chain that take streams, at once: none changes it.

use std::sync::Arc;
use std::task::{Context, Poll};

use icap_stream::{Mark, Phase, Way};

use crate::stream::{Opening, Stream, StreamDrop, StreamEvent};
use crate::{Chain, Fail, Failure, FailureKind, OnOverload, Service, TransactionInfo};

/// A stream at the services of a chain. What all of them have cleared may leave; what one of them
/// drops is dropped. After an error nothing more may leave.
pub struct Streams {
    streams: Vec<Stream>,
    services: Vec<Arc<Service>>,
    /// Services that failed before the first byte, and are set to fail open.
    bypassed: Vec<(Arc<str>, FailureKind)>,
    /// Which of the streams is asked first, so that none is left waiting.
    turn: usize,
    /// Services that were asked for a sign, and have not given it.
    awaited: usize,
    dropped: bool,
    failed: bool,
}

impl Chain {
    /// Opens a stream to `authority` (`host:port`, as a client would ask for it with CONNECT) at all
    /// services of the chain that take streams. Services that offer none are not asked; `None` if
    /// there is no other, which is never a pass: nobody looks at the stream.
    ///
    /// # Errors
    /// A service failed and is set to fail closed, or takes no streams although it did before.
    pub async fn stream(
        &self,
        info: &TransactionInfo,
        authority: &str,
    ) -> Result<Option<Streams>, Failure> {
        self.open_stream(info, authority, None).await
    }

    /// As [`stream`](Self::stream), with the first bytes of it, which spares waiting for the answer.
    ///
    /// # Errors
    /// As for [`stream`](Self::stream).
    pub async fn stream_with(
        &self,
        info: &TransactionInfo,
        authority: &str,
        opening: &Opening<'_>,
    ) -> Result<Option<Streams>, Failure> {
        self.open_stream(info, authority, Some(opening)).await
    }

    /// Whether a service of the chain may take streams: only those that have said that they take none don't.
    pub fn takes_streams(&self) -> bool {
        let mut asked = self.services().filter(|service| !service.config().monitor);
        asked.any(|service| !service.takes_no_streams())
    }

    async fn open_stream(
        &self,
        info: &TransactionInfo,
        authority: &str,
        opening: Option<&Opening<'_>>,
    ) -> Result<Option<Streams>, Failure> {
        let mut this = Streams {
            streams: Vec::new(),
            services: Vec::new(),
            bypassed: Vec::new(),
            turn: 0,
            awaited: 0,
            dropped: false,
            failed: false,
        };
        for service in self.services().filter(|service| !service.config().monitor) {
            match service.stream(info, authority, opening).await {
                Ok(None) => {}
                Ok(Some(stream)) => {
                    this.streams.push(stream);
                    this.services.push(service.clone());
                }
                Err(failure) => this.failed_to_open(service, info, failure)?,
            }
        }
        if opening.is_some_and(|opening| !opening.is_all) {
            this.awaited = this.streams.len();
        }
        let nobody = this.streams.is_empty() && this.bypassed.is_empty();
        Ok((!nobody).then_some(this))
    }
}

impl Streams {
    /// Whether any service looks at the stream; if not, all that would have are
    /// [bypassed](Self::bypassed).
    pub fn is_inspected(&self) -> bool {
        !self.streams.is_empty()
    }

    /// The services that failed to take the stream, and are set to fail open.
    pub fn bypassed(&self) -> &[(Arc<str>, FailureKind)] {
        &self.bypassed
    }

    /// How many bytes of a direction may be shown now.
    pub fn room(&self, way: Way) -> usize {
        self.streams.iter().map(|stream| stream.gateway().room(way)).min().unwrap_or(usize::MAX)
    }

    /// How many bytes of a direction may leave, counted from the beginning of the stream. After a
    /// drop and another phase the count has jumped past what was not cleared, which never may.
    pub fn cleared(&self, way: Way) -> u64 {
        self.streams.iter().map(|stream| stream.gateway().cleared(way)).min().unwrap_or(u64::MAX)
    }

    /// Whether the end of a direction may leave.
    pub fn end_cleared(&self, way: Way) -> bool {
        self.streams.iter().all(|stream| stream.gateway().end_cleared(way))
    }

    /// Shows bytes of a direction, at most as many as there is [room](Self::room) for.
    ///
    /// # Errors
    /// The stream is over at one of the services.
    pub fn show(&mut self, way: Way, bytes: &[u8], mark: Mark) -> Result<(), Failure> {
        self.each(|stream| stream.show(way, bytes, mark))
    }

    /// Shows bytes that are not the connection's. Follow it with a [ping](Self::ping) to hear that
    /// they were judged.
    ///
    /// # Errors
    /// As for [`show`](Self::show).
    pub fn replay(&mut self, way: Way, bytes: &[u8]) -> Result<(), Failure> {
        self.each(|stream| stream.replay(way, bytes))
    }

    /// Ends both directions: nothing can follow, and with the verdict on that the services are done. To be
    /// awaited as ever.
    ///
    /// # Errors
    /// As for [`show`](Self::show).
    pub fn end(&mut self) -> Result<(), Failure> {
        self.each(Stream::end)
    }

    /// Begins another flow. All that was shown must have been cleared, or the flow dropped; see
    /// [`may_begin_phase`](Self::may_begin_phase).
    ///
    /// # Errors
    /// As for [`show`](Self::show), and if it may not be now.
    pub fn phase(&mut self, phase: &Phase) -> Result<(), Failure> {
        self.each(|stream| stream.phase(phase))?;
        self.dropped = false;
        Ok(())
    }

    /// Whether every service has judged what it was shown, or dropped the flow.
    pub fn may_begin_phase(&self) -> bool {
        self.streams.iter().map(Stream::gateway).all(|gateway| {
            gateway.is_condemned() || Way::BOTH.iter().all(|way| gateway.is_cleared(*way))
        })
    }

    /// Asks all services for a sign that they have judged what came before: one
    /// [`StreamEvent::Pong`] when the last of them has, unless it is asked for again by then.
    ///
    /// # Errors
    /// As for [`show`](Self::show).
    pub fn ping(&mut self) -> Result<(), Failure> {
        self.awaited = self.streams.len();
        self.each(Stream::ping)
    }

    /// The next word of any service; meanwhile what was shown is sent. To be awaited whenever
    /// something was shown, and else all the time: it keeps the services alive. Cancel safe. Never
    /// resolves if nobody looks at the stream.
    ///
    /// # Errors
    /// A service failed: nothing more may leave.
    pub async fn event(&mut self) -> Result<StreamEvent, Failure> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// As [`event`](Self::event).
    ///
    /// # Errors
    /// As for [`event`](Self::event).
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamEvent, Failure>> {
        let count = self.streams.len();
        for i in 0..count {
            let at = (self.turn + i) % count;
            while let Poll::Ready(event) = self.streams[at].poll_event(cx) {
                self.turn = at + 1;
                if matches!(event, Ok(StreamEvent::Pong)) {
                    self.awaited = self.awaited.saturating_sub(1);
                    if self.awaited > 0 {
                        continue;
                    }
                }
                let metrics = self.services[at].metrics();
                match &event {
                    Ok(StreamEvent::Dropped(StreamDrop { late: false, .. })) if !self.dropped => {
                        self.dropped = true;
                        metrics.blocked.add(1);
                    }
                    Ok(_) => {}
                    Err(failure) if !self.failed => {
                        self.failed = true;
                        metrics.failures(failure.kind()).add(1);
                    }
                    Err(_) => {}
                }
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    /// Says that the connection broke, so that no verdict is wanted any more. Await
    /// [`finish`](Self::finish) next.
    pub fn cancel(&mut self, reason: &str) {
        for stream in &mut self.streams {
            stream.cancel(reason);
        }
    }

    /// Ends the stream: after both directions ended and were cleared, after a drop, or after a
    /// [cancel](Self::cancel). The connections to the services are free then.
    ///
    /// # Errors
    /// It is not over at one of the services.
    pub async fn finish(self) -> Result<(), Failure> {
        let passed = !self.dropped && self.streams.iter().all(|s| s.gateway().is_complete());
        for (stream, service) in self.streams.into_iter().zip(self.services) {
            stream.finish().await?;
            if passed {
                service.metrics().passed.add(1);
            }
        }
        Ok(())
    }

    fn each(
        &mut self,
        mut f: impl FnMut(&mut Stream) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.streams.iter_mut().try_for_each(&mut f)
    }

    /// Lets policy decide which way it falls that a service did not take the stream.
    fn failed_to_open(
        &mut self,
        service: &Arc<Service>,
        info: &TransactionInfo,
        failure: Failure,
    ) -> Result<(), Failure> {
        let metrics = service.metrics();
        metrics.transactions.add(1);
        metrics.failures(failure.kind()).add(1);
        let config = service.config();
        let fail = match failure.kind() {
            FailureKind::Connect => config.fail.connect,
            FailureKind::Overload if config.on_overload == OnOverload::Bypass => Fail::Open,
            FailureKind::Overload if config.on_overload == OnOverload::Block => Fail::Closed,
            FailureKind::Overload => config.fail.overload,
            _ => config.fail.error,
        };
        let (transaction, reason) = (&*info.transaction_id, failure.detail());
        match fail {
            Fail::Closed => {
                tracing::warn!(service = %service.name(), transaction, reason, "failing closed: the stream is stopped");
                Err(failure)
            }
            Fail::Open => {
                tracing::warn!(service = %service.name(), transaction, reason, "failing open: the stream goes on without this service");
                metrics.bypassed.add(1);
                self.bypassed.push((service.name().clone(), failure.kind()));
                Ok(())
            }
        }
    }
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("services", &self.streams.len()).finish_non_exhaustive()
    }
}
