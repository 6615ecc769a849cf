//! Sends the request's content in the background while something else is awaited, and notices a
//! stall.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use icap_client::Body;
use shares::Client as Party;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::pump::{Counted, Progress, Pump, Stopped};
use super::trouble::Trouble;
use super::{Client, Sink};

/// How long content waits for an expected 100 (Continue).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// How long a request's content may flow on after its response.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Notices that nothing has moved for a while. One timer a connection, set anew only when it
/// fires: a busy connection pays nothing for it. It expires after one to two spans of silence.
pub(crate) struct Watch {
    timer: Pin<Box<Sleep>>,
    span: Duration,
    seen: u64,
}

impl Watch {
    pub(crate) fn new(span: Duration) -> Self {
        Self { timer: Box::pin(sleep(span)), span, seen: u64::MAX }
    }

    /// Starts a span of another length from now on.
    pub(crate) fn restart(&mut self, span: Duration) {
        self.span = span;
        self.seen = u64::MAX;
        self.timer.as_mut().reset(Instant::now() + span);
    }

    /// Ready when `progress` did not change in a whole span.
    pub(crate) fn poll_stalled(&mut self, cx: &mut Context<'_>, progress: u64) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.seen == progress {
                return Poll::Ready(());
            }
            self.seen = progress;
            self.timer.as_mut().reset(Instant::now() + self.span);
        }
        Poll::Pending
    }

    /// Ready when the span is over, whatever moved.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }
}

/// The request's content on its way to the origin, while other things are awaited.
pub(super) struct Drive<'a, S> {
    pump: Option<Pump<S>>,
    /// The origin stopped taking content. It may have answered nonetheless.
    refused: bool,
    /// Content of which it stopped before anything was read.
    untouched: Option<Body>,
    hold: Hold,
    watch: &'a mut Watch,
    progress: Arc<Progress>,
    party: Party,
}

/// Whether content waits to be sent.
enum Hold {
    /// For good: the origin has answered without having asked for it.
    Forever,
    /// It doesn't.
    None,
    /// Until the origin says 100 (Continue), or this is over: some origins never say it (RFC 9110
    /// section 10.1.1).
    Until(Pin<Box<Sleep>>),
}

impl<'a, S: Sink> Drive<'a, S> {
    pub(super) fn new(watch: &'a mut Watch, progress: &Arc<Progress>, party: Party) -> Self {
        Self {
            pump: None,
            refused: false,
            untouched: None,
            hold: Hold::None,
            watch,
            progress: progress.clone(),
            party,
        }
    }

    /// Starts to send a request's content; the head is in the sink already.
    pub(super) fn begin(&mut self, body: Option<Body>, sink: S, hold: bool) {
        self.refused = false;
        self.hold = match hold && body.is_some() {
            true => Hold::Until(Box::pin(sleep(CONTINUE_WAIT))),
            false => Hold::None,
        };
        self.pump = Some(Pump::new(body, sink, Counted::ToOrigin, self.party));
    }

    /// Gives the content back, to be sent anew, if nothing of it was read yet.
    pub(super) fn take_back(&mut self) -> Option<Body> {
        self.refused = false;
        self.pump.take().and_then(Pump::into_body).or_else(|| self.untouched.take())
    }

    /// The origin said 100 (Continue).
    pub(super) fn release(&mut self) {
        self.hold = Hold::None;
    }

    /// The origin has said its last word.
    pub(super) fn answered(&mut self) {
        self.untouched = None;
        if matches!(self.hold, Hold::Until(_)) {
            self.hold = Hold::Forever;
        }
    }

    /// Whether the origin has been sent the whole request.
    pub(super) fn is_sent(&self) -> bool {
        self.pump.is_none() && !self.refused
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// After the response: the request's last bytes may be on their way still. An origin that has
    /// answered before it took them all shall not hold up the client's next request.
    pub(super) async fn finish(&mut self) {
        if matches!(self.hold, Hold::Forever) {
            self.abort();
        }
        if let Some(pump) = &mut self.pump {
            let progress = &self.progress;
            let done = timeout(LAST_WAIT, poll_fn(|cx| pump.poll(cx, progress))).await;
            if !matches!(done, Ok(Ok(()))) {
                self.abort();
            }
            self.pump = None;
        }
    }

    /// Lets the origin see that the request will not be completed.
    pub(super) fn abort(&mut self) {
        if let Some(mut pump) = self.pump.take() {
            pump.abort();
        }
    }

    /// As [`Drive::run`], and ends as soon as the client has withdrawn its request. `main` stays where
    /// its owner has pinned it: moved in here, it would be copied, and take its room twice.
    pub(super) async fn run_for<C: Client, T>(
        &mut self,
        client: &mut C,
        mut main: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Trouble> {
        let wanted = |cx: &mut Context<'_>| {
            if let Poll::Ready(e) = client.poll_gone(cx) {
                return Poll::Ready(Err(Trouble::ClientGone(e)));
            }
            main.as_mut().poll(cx).map(Ok)
        };
        self.run(wanted).await?
    }

    /// Polls `main` until it is ready, while the request's content flows.
    ///
    /// # Errors
    /// The request's content failed, or nothing moved for too long.
    pub(super) async fn run<T>(
        &mut self,
        mut main: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Trouble> {
        poll_fn(|cx| {
            if let Hold::Until(over) = &mut self.hold
                && over.as_mut().poll(cx).is_ready()
            {
                self.hold = Hold::None;
            }
            if let Some(pump) = &mut self.pump {
                let polled = match self.hold {
                    Hold::None => pump.poll(cx, &self.progress),
                    Hold::Forever | Hold::Until(_) => {
                        // A failed write shows again as soon as content is sent.
                        let _ = pump.poll_flush(cx);
                        Poll::Pending
                    }
                };
                match polled {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => self.pump = None,
                    Poll::Ready(Err(Stopped::Sink(_))) => {
                        self.untouched = self.pump.take().and_then(Pump::into_body);
                        self.refused = true;
                    }
                    Poll::Ready(Err(Stopped::Source(e))) => {
                        self.pump = None;
                        return Poll::Ready(Err(Trouble::RequestBody(e)));
                    }
                }
            }
            if let Poll::Ready(done) = main(cx) {
                return Poll::Ready(Ok(done));
            }
            self.watch.poll_stalled(cx, self.progress.total()).map(|()| Err(Trouble::Stalled))
        })
        .await
    }
}
