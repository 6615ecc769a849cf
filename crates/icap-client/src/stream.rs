//! A TCP stream shown to one service: `meergate-stream/1` within one exchange.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use icap::Method;
use icap::client::{Event, Reply, Terms};
use icap_stream::{Answer, Dropped, Gateway, Mark, Offer, Phase, Signature, VERSION, Way, Window};
use shares::{Limit, Share};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::endpoint::Endpoint;
use crate::incoming::Incoming;
use crate::metrics::Level;
use crate::transaction::Transaction;
use crate::{
    BodyError, BodySource, Capabilities, Failure, FailureKind, Frame, OnOverload, Service,
    TransactionInfo, request,
};

/// Silence after which a sign of life is asked for.
const PING_AFTER: Duration = Duration::from_secs(20);
/// Silence after which a service is taken for dead.
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// Bytes of frames that may wait to be written, beside what the windows allow.
const MOST_WAITING: usize = 1 << 20;

/// What a service says of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A rule matched and did not drop.
    Alert(Signature),
    /// The service is about to stop: go on with another stream at the next unit.
    Drain,
    /// The stream's flow is condemned: what was not cleared never leaves.
    Dropped(StreamDrop),
    /// More was cleared of a direction.
    Passed(Way),
    /// What was replayed before a [ping](crate::Streams::ping) was judged.
    Pong,
    /// The protocol that was recognised.
    Proto(String),
}

/// A drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamDrop {
    /// The service that dropped.
    pub service: Arc<str>,
    /// The direction whose bytes did it.
    pub way: Way,
    /// The flow in question ended in the meantime, and this came of its end.
    pub late: bool,
    /// Why.
    pub why: Dropped,
}

/// What a stream begins with, which is sent with the question whether a service takes it. If it does not,
/// nothing was shown.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Who says it.
    pub way: Way,
    /// Bytes to be [replayed](crate::Streams::replay).
    pub bytes: &'a [u8],
    /// Whether that is all, as after [`Streams::end`](crate::Streams::end); else a verdict on it is asked
    /// for, as by a [ping](crate::Streams::ping).
    pub is_all: bool,
}

/// A stream at one service.
pub(crate) struct Stream {
    transaction: Option<Box<Transaction>>,
    gateway: Gateway,
    outbox: Outbox,
    /// What came of the answer and is not read yet.
    input: VecDeque<Bytes>,
    endpoint: Arc<Endpoint>,
    /// When the service last said anything.
    heard: Instant,
    /// Since when it owes a verdict.
    owes_since: Option<Instant>,
    asked: Asked,
    alarm: Pin<Box<Sleep>>,
    failed: Option<Failure>,
    /// The answer has come to its end, as it was asked to.
    answered: bool,
    /// One of the streams that the endpoint takes at once, of which a client gets no more than it
    /// leaves to others.
    _place: Share,
    _active: Level,
}

/// Whether our user waits for a sign that what came before was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// A ping is to be sent once the one before is answered: that was sent too early.
    Again,
    No,
    Once,
}

/// Frames on their way into the request's body. Filled and emptied by one task.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Waiting>>);

#[derive(Clone, Default)]
struct Waiting {
    bytes: BytesMut,
    ended: bool,
}

impl Outbox {
    /// What waits now, to be put back if it does not arrive.
    fn copy(&self) -> Waiting {
        self.with(|waiting| waiting.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Waiting) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl BodySource for Outbox {
    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        self.with(|waiting| match (waiting.bytes.is_empty(), waiting.ended) {
            (false, _) => Poll::Ready(Some(Ok(Frame::Data(waiting.bytes.split().freeze())))),
            (true, true) => Poll::Ready(None),
            // Whoever puts more in polls the transaction next: it is the same task.
            (true, false) => Poll::Pending,
        })
    }
}

impl Service {
    /// Whether all endpoints have said that they take no streams.
    pub(crate) fn takes_no_streams(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.takes_no_streams())
    }

    /// Opens a stream at one of the endpoints that take streams; `None` if this service takes none.
    pub(crate) async fn stream(
        self: &Arc<Self>,
        info: &TransactionInfo,
        authority: &str,
        opening: Option<&Opening<'_>>,
    ) -> Result<Option<Stream>, Failure> {
        self.look_after();
        // Whoever has said that it takes none is not waited for, whether it is up or not.
        if self.takes_no_streams() {
            return Ok(None);
        }
        let mut tried = Vec::new();
        let mut last = None;
        let mut unoffered = false;
        while let Some((at, endpoint)) = self.pick(&info.connection_id, &tried) {
            tried.push(at);
            match self.try_stream(endpoint, info, authority, opening).await {
                Ok(Some(stream)) => {
                    endpoint.report_success();
                    return Ok(Some(stream));
                }
                Ok(None) => unoffered = true,
                Err(failure) => {
                    endpoint.note_failure(&failure);
                    last = Some(failure);
                }
            }
        }
        match last {
            Some(failure) => Err(failure),
            None if unoffered => Ok(None),
            None => Err(self.all_down()),
        }
    }

    async fn try_stream(
        &self,
        endpoint: &Arc<Endpoint>,
        info: &TransactionInfo,
        authority: &str,
        opening: Option<&Opening<'_>>,
    ) -> Result<Option<Stream>, Failure> {
        let capabilities = endpoint.capabilities().await?;
        let Some(Offer { window, streams, .. }) = capabilities.streams else {
            return match endpoint.has_taken_streams() {
                true => Err(endpoint.takes_streams_no_more()),
                false => Ok(None),
            };
        };
        let on_overload = self.config().on_overload;
        let limit = Limit::of(streams.unwrap_or(u32::MAX).into());
        let (places, client) = (&endpoint.streams, info.client.map(Into::into));
        let place = match on_overload {
            OnOverload::Wait => {
                let patience = self.config().timeouts.wait.0;
                timeout(patience, places.wait(client, 1, limit)).await.ok()
            }
            OnOverload::Force => Some(places.force(client, 1)),
            OnOverload::Block | OnOverload::Bypass => places.take(client, 1, limit).ok(),
        };
        let Some(place) = place else {
            let detail = format!(
                "{} has all the streams that it takes at once, or all that one client gets",
                endpoint.label
            );
            return Err(endpoint.failure(FailureKind::Overload, detail));
        };
        let active = Level::raise(self.metrics());
        let mut stream = Stream::new(endpoint, window, place, active);
        if let Some(opening) = opening {
            stream.begin(opening)?;
        }
        let outbox = stream.outbox.clone();
        let said = outbox.copy();
        let ask =
            |fresh| self.ask_for_stream(endpoint, info, authority, &capabilities, &outbox, fresh);
        let transaction = match ask(false).await {
            // It was not taken in by anybody.
            Err(Unasked::Stale) => {
                outbox.with(|waiting| *waiting = said);
                ask(true).await
            }
            asked => asked,
        };
        let transaction = transaction.map_err(|unasked| match unasked {
            Unasked::Failed(failure) => failure,
            Unasked::Stale => {
                let detail = format!("{} closes each connection", endpoint.label);
                endpoint.failure(FailureKind::Closed, detail)
            }
        })?;
        self.metrics().transactions.add(1);
        stream.transaction = Some(transaction);
        stream.heard = Instant::now();
        Ok(Some(stream))
    }

    /// Asks for a stream, on a `fresh` connection or on one that was kept.
    async fn ask_for_stream(
        &self,
        endpoint: &Arc<Endpoint>,
        info: &TransactionInfo,
        authority: &str,
        capabilities: &Capabilities,
        outbox: &Outbox,
        fresh: bool,
    ) -> Result<Box<Transaction>, Unasked> {
        let on_overload = self.config().on_overload;
        let connection = endpoint.connect(info, capabilities, on_overload, fresh).await?;
        let head =
            request::stream(&endpoint.uri, authority, capabilities, self.config().identity, info);
        let terms = Terms {
            method: Method::Reqmod,
            has_body: true,
            preview: None,
            allow_204: false,
            allow_206: false,
            send_trailers: false,
            keep: 0,
            wait_at_keep: false,
        };
        let mut transaction = Transaction::start(
            endpoint,
            connection,
            terms,
            head,
            Some(Incoming::new(Box::pin(outbox.clone()))),
            info.connection_id.clone(),
            endpoint.begin(),
        );
        let limit = self.config().timeouts.answer.0;
        let label = &endpoint.label;
        let wrong = |detail: String| Err(endpoint.failure(FailureKind::Protocol, detail).into());
        match timeout(limit, transaction.event()).await {
            Ok(Ok(Event::Reply(Reply { head, res_hdr: Some(_), has_body: true, .. }))) => {
                endpoint.note_istag(head.headers().text("ISTag"));
                let version = head.headers().text("X-Meergate-Stream").map(str::trim);
                match version.and_then(|version| version.parse().ok()) == Some(VERSION) {
                    true => Ok(transaction),
                    false => wrong(format!("{label} answered a stream as if it was a message")),
                }
            }
            Ok(Ok(Event::Refused(head))) => Err(endpoint.refusal(head.status(), "a stream").into()),
            Ok(Ok(_)) => wrong(format!("{label} answered a stream with something else")),
            Ok(Err(trouble)) if trouble.is_loss() && transaction.ran_on_kept_connection() => {
                Err(Unasked::Stale)
            }
            Ok(Err(trouble)) => Err(trouble.into_failure(endpoint).into()),
            Err(_) => {
                let detail = format!("{label} has not answered a stream within {limit:?}");
                Err(endpoint.failure(FailureKind::Timeout, detail).into())
            }
        }
    }
}

/// Why there is no stream.
enum Unasked {
    Failed(Failure),
    /// The connection was kept, and had ended.
    Stale,
}

impl From<Failure> for Unasked {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Stream {
    /// One that no service was asked about.
    fn new(endpoint: &Arc<Endpoint>, window: Window, place: Share, active: Level) -> Self {
        let now = Instant::now();
        Self {
            transaction: None,
            gateway: Gateway::new(window),
            outbox: Outbox::default(),
            input: VecDeque::new(),
            endpoint: endpoint.clone(),
            heard: now,
            owes_since: None,
            asked: Asked::No,
            alarm: Box::pin(sleep_until(now + PING_AFTER)),
            failed: None,
            answered: false,
            _place: place,
            _active: active,
        }
    }

    fn begin(&mut self, opening: &Opening<'_>) -> Result<(), Failure> {
        self.replay(opening.way, opening.bytes)?;
        if opening.is_all { self.end() } else { self.ping() }
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    pub(crate) fn service(&self) -> &Arc<str> {
        &self.endpoint.service
    }

    pub(crate) fn show(&mut self, way: Way, bytes: &[u8], mark: Mark) -> Result<(), Failure> {
        self.say(|gateway, out| gateway.data(way, bytes, mark, out))?;
        self.owes_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    pub(crate) fn replay(&mut self, way: Way, bytes: &[u8]) -> Result<(), Failure> {
        self.say(|gateway, out| gateway.replay(way, bytes, out))
    }

    /// Ends both directions, and the body: nothing more can come. The verdict is to be awaited.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        for way in Way::BOTH {
            self.show(way, b"", Mark::END)?;
        }
        self.say(|gateway, _| gateway.end_body())?;
        self.outbox.with(|waiting| waiting.ended = true);
        Ok(())
    }

    pub(crate) fn phase(&mut self, phase: &Phase) -> Result<(), Failure> {
        self.say(|gateway, out| gateway.phase(phase, out))
    }

    /// To be answered with one [`StreamEvent::Pong`], when all that was said before was judged.
    pub(crate) fn ping(&mut self) -> Result<(), Failure> {
        let mut sent = false;
        self.say(|gateway, out| gateway.ping(out).map(|done| sent = done))?;
        self.asked = if sent { Asked::Once } else { Asked::Again };
        self.owes_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Says that the connection broke, if there is anyone to tell, and ends the body.
    pub(crate) fn cancel(&mut self, reason: &str) {
        let cancelled = self.say(|gateway, out| gateway.cancel(reason, out));
        if cancelled.is_ok() && self.gateway.finish().is_ok() {
            self.outbox.with(|waiting| waiting.ended = true);
        }
    }

    fn say(
        &mut self,
        f: impl FnOnce(&mut Gateway, &mut BytesMut) -> Result<(), icap_stream::Error>,
    ) -> Result<(), Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let gateway = &mut self.gateway;
        let said = self.outbox.with(|waiting| {
            let said = f(gateway, &mut waiting.bytes).map_err(|error| error.to_string());
            match waiting.bytes.len() > MOST_WAITING + 2 * Window::MAX.bytes() as usize {
                true => Err("more waits to be written than may".to_owned()),
                false => said,
            }
        });
        said.map_err(|what| {
            // Of a stream of which something can't be shown nothing more may leave.
            self.fail(FailureKind::Source, format!("this stream can't be shown: {what}"))
        })
    }

    /// The service's next word; meanwhile what was shown is sent. Cancel safe.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamEvent, Failure>> {
        loop {
            if let Some(failure) = &self.failed {
                return Poll::Ready(Err(failure.clone()));
            }
            if let Some(event) = self.read()? {
                return Poll::Ready(Ok(event));
            }
            if self.answered {
                return Poll::Pending;
            }
            match self.poll_transaction(cx) {
                Poll::Ready(more) => more?,
                Poll::Pending => ready!(self.poll_alarm(cx))?,
            }
        }
    }

    /// Whether the body has ended.
    fn said_all(&self) -> bool {
        self.outbox.with(|waiting| waiting.ended)
    }

    /// Takes in more of the answer.
    fn poll_transaction(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(transaction) = &mut self.transaction else {
            let detail = format!("{} is done with this stream", self.endpoint.label);
            return Poll::Ready(Err(self.fail(FailureKind::Source, detail)));
        };
        match ready!(transaction.poll_event(cx)) {
            Ok(Event::Data(bytes)) => {
                self.heard = Instant::now();
                self.input.push_back(bytes);
                Poll::Ready(Ok(()))
            }
            Ok(Event::End { .. }) if self.said_all() && self.gateway.finish().is_ok() => {
                self.answered = true;
                Poll::Ready(Ok(()))
            }
            Ok(Event::End { .. }) => {
                let label = &self.endpoint.label;
                let detail = match self.gateway.end_of_input() {
                    Ok(()) => format!("{label} ended a stream before it was asked to"),
                    Err(error) => format!("{label}: {error}"),
                };
                Poll::Ready(Err(self.fail(FailureKind::Closed, detail)))
            }
            Ok(_) => {
                let detail = format!("{} sent something else than frames", self.endpoint.label);
                Poll::Ready(Err(self.fail(FailureKind::Protocol, detail)))
            }
            Err(trouble) => {
                let failure = trouble.into_failure(&self.endpoint);
                Poll::Ready(Err(self.failed_with(failure)))
            }
        }
    }

    /// The next word among what has come.
    fn read(&mut self) -> Result<Option<StreamEvent>, Failure> {
        while let Some(bytes) = self.input.front_mut() {
            let mut rest = &bytes[..];
            let event = self.gateway.read(&mut rest).map(|answer| answer.map(owned));
            let used = bytes.len() - rest.len();
            match used == bytes.len() {
                true => drop(self.input.pop_front()),
                false => drop(bytes.split_to(used)),
            }
            match event {
                Ok(None) => {}
                Ok(Some(Said::Event(StreamEvent::Pong))) if self.asked != Asked::Once => {
                    // What still has no verdict waits for the rest of its line.
                    self.owes_since = self.owes_since.map(|_| Instant::now());
                    if self.asked == Asked::Again {
                        self.ping()?;
                    }
                }
                Ok(Some(Said::Event(event))) => {
                    self.note(&event);
                    return Ok(Some(self.named(event)));
                }
                Ok(Some(Said::Failed(reason))) => {
                    let detail = format!("{} did not inspect: {reason}", self.endpoint.label);
                    return Err(self.fail(FailureKind::Refused, detail));
                }
                Err(error) => {
                    let detail = format!("{}: {error}", self.endpoint.label);
                    return Err(self.fail(FailureKind::Protocol, detail));
                }
            }
        }
        Ok(None)
    }

    /// Each verdict gives the service time for the next.
    fn note(&mut self, event: &StreamEvent) {
        if matches!(event, StreamEvent::Dropped(_) | StreamEvent::Pong) {
            self.asked = Asked::No;
        }
        let gateway = &self.gateway;
        if matches!(event, StreamEvent::Dropped(_) | StreamEvent::Passed(_) | StreamEvent::Pong) {
            let unclear = Way::BOTH.iter().any(|way| !gateway.is_cleared(*way));
            let owes = !gateway.is_condemned() && (unclear || self.asked != Asked::No);
            self.owes_since = owes.then(Instant::now);
        }
    }

    fn named(&self, event: StreamEvent) -> StreamEvent {
        match event {
            StreamEvent::Dropped(dropped) => {
                StreamEvent::Dropped(StreamDrop { service: self.service().clone(), ..dropped })
            }
            event => event,
        }
    }

    /// Ready when the service takes too long.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let answer = self.endpoint.config.timeouts.answer.0;
        loop {
            let dead = self.heard + DEAD_AFTER;
            let owed = self.owes_since.map(|since| since + answer);
            let ping = self.heard + PING_AFTER;
            let now = Instant::now();
            if owed.is_some_and(|owed| owed <= now) || dead <= now {
                let detail = format!("{} gives no verdict on a stream", self.endpoint.label);
                return Poll::Ready(Err(self.fail(FailureKind::Timeout, detail)));
            }
            if ping <= now {
                let written = self.outbox.with(|waiting| self.gateway.ping(&mut waiting.bytes));
                if written == Ok(true) {
                    // It is to be sent now.
                    return Poll::Ready(Ok(()));
                }
            }
            let next = if ping <= now { dead } else { ping };
            let next = owed.map_or(next, |owed| owed.min(next));
            if self.alarm.deadline() != next {
                self.alarm.as_mut().reset(next);
            }
            ready!(self.alarm.as_mut().poll(cx));
        }
    }

    /// Ends a stream in order: the last chunks of both bodies, after which the connection is free.
    ///
    /// # Errors
    /// If it is not over.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        if let Err(error) = self.gateway.finish() {
            return Err(self.fail(FailureKind::Source, error.to_string()));
        }
        self.outbox.with(|waiting| waiting.ended = true);
        let limit = self.endpoint.config.timeouts.idle.0;
        let Some(mut transaction) = self.transaction.take() else { return Ok(()) };
        if self.answered {
            drop(transaction.finish());
            return Ok(());
        }
        let end = async {
            loop {
                match transaction.event().await {
                    Ok(Event::End { .. }) => break transaction.finish(),
                    Ok(_) => {}
                    // All was said; only the connection is lost.
                    Err(_) => break transaction.abandon(),
                }
            }
        };
        drop(timeout(limit, end).await);
        Ok(())
    }

    fn fail(&mut self, kind: FailureKind, detail: String) -> Failure {
        let failure = self.endpoint.failure(kind, detail);
        self.failed_with(failure)
    }

    fn failed_with(&mut self, failure: Failure) -> Failure {
        if self.failed.is_none() {
            self.endpoint.note_failure(&failure);
            self.failed = Some(failure.clone());
            // With the connection, whatever is still on its way.
            self.transaction = None;
        }
        failure
    }
}

/// An answer that owns what it says.
enum Said {
    Event(StreamEvent),
    Failed(String),
}

fn owned(answer: Answer<'_>) -> Said {
    Said::Event(match answer {
        Answer::Alert(signature) => StreamEvent::Alert(signature),
        Answer::Drain => StreamEvent::Drain,
        Answer::Dropped { way, late, why } => {
            StreamEvent::Dropped(StreamDrop { service: Arc::default(), way, late, why })
        }
        Answer::Failed(reason) => return Said::Failed(reason.to_owned()),
        Answer::Passed(way) => StreamEvent::Passed(way),
        Answer::Pong => StreamEvent::Pong,
        Answer::Proto(name) => StreamEvent::Proto(name.to_owned()),
    })
}
