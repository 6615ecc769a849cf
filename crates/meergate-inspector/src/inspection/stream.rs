//! TCP streams: frames in, verdicts out (`docs/stream-carrier.md`).

mod frames;
mod ftp;
mod mail;
mod mime;
mod proxy;
mod queries;
mod said;
mod tongue;
mod turns;
mod view;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use http_wire::RequestHead;
use icap::{Headers, Method};
use icap_server::{BodyEvent, BodyReader, Http, Reply, ReplyHead, TransactError, Transaction};
use icap_stream::{Command, Inspector, Phase, Signature, VERSION, Way};
use suricata::{Dropped, Tuple};
use tokio::time::timeout;

use self::said::Said;
use self::view::View;
use crate::inspection::claims::{Claims, identifier};
use crate::inspection::clients::Share;
use crate::inspection::halt::Halt;
use crate::inspection::metrics::{Outcome, Uninspected};
use crate::inspection::refusal::Refusal;
use crate::inspection::state::State;
use crate::inspection::worker_flows::{EventTags, WorkerFlows};
use crate::settings::Mode;

/// The header that asks for a stream, and answers to that.
pub(crate) const HEADER: &str = "X-Meergate-Stream";
/// Silence after which the gateway is taken for dead: it would have asked for a sign of life.
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// Bytes of frames that wait to be sent at most, before room for them is waited for.
const MOST_WAITING: usize = 16 << 10;

/// One of the streams that may be open at once.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(state: &'a State) -> Option<Self> {
        let most = state.settings.limits.max_streams;
        let taken = state.streams.fetch_update(Relaxed, Relaxed, |n| (n < most).then(|| n + 1));
        taken.ok().map(|_| Self(&state.streams))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Serves a transaction that asks for a stream, and says how it ended.
pub(crate) async fn serve(
    flows: &Rc<WorkerFlows>,
    claims: &Claims<'_>,
    tags: &Rc<EventTags>,
    share: &Share,
    transaction: &mut Transaction<'_>,
) -> (Outcome, Result<(), TransactError>) {
    let connect = asked(transaction);
    let said = transaction.head().headers().text("X-Proto").map_or(Said::Other, Said::of);
    let (body, reply) = transaction.split();
    let Some(connect) = connect else {
        let reason = "a stream is a REQMOD with a CONNECT and a body, without a preview";
        return (Outcome::Failed, reply.respond_error(400, reason));
    };
    let Some(_place) = Place::take(&flows.state) else {
        flows.counters().streams_refused.one();
        let reason = "all streams that limits.max_streams allows are open";
        return (Outcome::Failed, reply.respond_error(503, reason));
    };
    let flow = match flows.for_stream(claims, &connect, tags, said.expected()) {
        Ok(flow) => flow,
        Err(error) => {
            let halt = Halt::from(error);
            tracing::warn!(transaction = &*tags.transaction, "{halt}");
            return (Outcome::Failed, reply.respond_error(halt.status(), &halt.to_string()));
        }
    };
    flows.counters().streams.one();
    let settings = &flows.state.settings;
    let mut stream = Stream {
        flows,
        share,
        tags: tags.clone(),
        view: View::new(flow, said, settings.content.mail, settings.mode == Mode::Ips),
        inspector: Inspector::new(settings.limits.window()),
        out: Vec::new(),
        protocol: None,
        said,
        state: Ending::Open,
    };
    let result = stream.run(body, reply).await;
    (stream.outcome(), result)
}

/// The CONNECT that asks for a stream, if all is as it should be.
fn asked(transaction: &Transaction<'_>) -> Option<RequestHead> {
    let head = transaction.head();
    let version = head.headers().text(HEADER)?.trim().parse::<u32>().ok()?;
    let takes_body = transaction.has_body() && transaction.preview().is_none();
    if head.method() != Method::Reqmod || version < VERSION || !takes_body {
        return None;
    }
    let limits = http_wire::Limits::default();
    let connect = RequestHead::from_bytes(transaction.req_hdr()?.clone(), &limits);
    connect.ok().filter(|connect| connect.method() == b"CONNECT")
}

/// What is known of how a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Cancelled,
    /// A flow of it was dropped; others may have followed.
    Dropped,
    Failed,
    Open,
}

struct Stream<'a> {
    flows: &'a Rc<WorkerFlows>,
    share: &'a Share,
    tags: Rc<EventTags>,
    view: View,
    inspector: Inspector,
    /// Frames that wait to be sent.
    out: Vec<u8>,
    /// What the flow was recognised as.
    protocol: Option<&'static str>,
    said: Said,
    state: Ending,
}

impl Stream<'_> {
    fn outcome(&self) -> Outcome {
        match self.state {
            Ending::Cancelled => Outcome::Aborted,
            Ending::Dropped => Outcome::Blocked,
            Ending::Failed => Outcome::Failed,
            Ending::Open if self.inspector.is_complete() => Outcome::Passed,
            Ending::Open => Outcome::Aborted,
        }
    }

    async fn run(
        &mut self,
        body: &mut BodyReader<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), TransactError> {
        let mut headers = Headers::new();
        headers.push(HEADER, VERSION.to_string())?;
        let http = Http::Response(b"HTTP/1.1 200 OK\r\n\r\n");
        reply.start(&ReplyHead { status: 200, headers: &headers, http, has_body: true })?;
        loop {
            let mut spent = 0;
            let mut next = pin!(body.next());
            let at_once = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
            let event = match at_once {
                Poll::Ready(event) => event?,
                Poll::Pending => {
                    // Before it sleeps it says what it knows.
                    self.inspector.report(&mut self.out);
                    self.send(reply)?;
                    timeout(DEAD_AFTER, next).await.map_err(|_| TransactError::Stalled)??
                }
            };
            match event {
                BodyEvent::Data(bytes) => {
                    spent = bytes.len();
                    self.judge(bytes);
                }
                BodyEvent::PreviewEnd => self.fail("a preview"),
                BodyEvent::End { .. } => {
                    self.inspector.report(&mut self.out);
                    if self.state != Ending::Failed
                        && let Err(error) = self.inspector.end_of_input()
                    {
                        self.fail(&error.to_string());
                    }
                    self.send(reply)?;
                    return reply.finish();
                }
            }
            if self.state == Ending::Failed {
                self.send(reply)?;
                return reply.finish();
            }
            if self.out.len() > MOST_WAITING {
                poll_fn(|cx| reply.poll_ready(cx)).await?;
                self.send(reply)?;
            }
            self.flows.spend(self.share, spent).await;
        }
    }

    fn send(&mut self, reply: &mut Reply<'_>) -> Result<(), TransactError> {
        reply.put(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Takes in what has come.
    fn judge(&mut self, mut bytes: &[u8]) {
        while self.state != Ending::Failed {
            let Self { view, inspector, .. } = self;
            let (way, shown, ends) = match inspector.read(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Command::Data { way, bytes, mark })) => {
                    self.flows.counters().inspected.add(bytes.len() as u64);
                    (way, view.show(way, bytes, mark).map(|()| Shown::Counted), mark.end)
                }
                Ok(Some(Command::Replay { way, bytes })) => {
                    (way, view.show_again(way, bytes).map(|()| Shown::Replayed), false)
                }
                Ok(Some(Command::Discarded(len))) => {
                    self.flows.counters().uninspected(Uninspected::AfterDrop, len as u64);
                    continue;
                }
                Ok(Some(Command::Phase(phase))) => {
                    self.begin(&phase);
                    continue;
                }
                Ok(Some(Command::Note(fields))) => {
                    self.tag(fields.value("Transaction-Id"));
                    continue;
                }
                Ok(Some(Command::Ping)) => {
                    if let Some(why) = self.is_misread() {
                        return self.fail(why);
                    }
                    self.answer(|inspector, out| inspector.pong(out));
                    continue;
                }
                Ok(Some(Command::Cancel(reason))) => {
                    tracing::debug!(transaction = &*self.tags.transaction, reason, "cancelled");
                    self.state = Ending::Cancelled;
                    continue;
                }
                Err(error) => {
                    let reason = format!("the gateway broke the rules of a stream: {error}");
                    return self.fail(&reason);
                }
            };
            self.recognise();
            if shown.is_ok()
                && (ends || self.said == Said::WebSocket)
                && let Some(why) = self.is_misread()
            {
                return self.fail(why);
            }
            match shown {
                Ok(Shown::Replayed) => {}
                Ok(Shown::Counted) => {
                    for way in Way::BOTH {
                        let kept = self.view.kept(way);
                        self.answer(|inspector, _| inspector.pass_but(way, kept));
                    }
                }
                Err(Halt::Blocked(dropped)) => {
                    self.tell(&dropped);
                    let why = why(&dropped);
                    self.answer(|inspector, out| inspector.drop(way, &why, out));
                }
                Err(Halt::Refused(refusal)) => self.refuse(way, &refusal),
                Err(halt) => return self.fail(&halt.to_string()),
            }
        }
    }

    /// Says what protocol it is, once that is known.
    fn recognise(&mut self) {
        let protocol = self.view.flow.protocol();
        if let Some(name) = protocol
            && protocol != self.protocol
        {
            self.inspector.proto(name, &mut self.out);
        }
        self.protocol = protocol;
    }

    /// Why rules were not asked about what it is said to be, if that was shown as far as a verdict on it is wanted now.
    fn is_misread(&self) -> Option<&'static str> {
        // Of WebSocket the first byte tells, but there may be none.
        let tells = self.said != Said::WebSocket || self.view.flow.is_used();
        self.said.is_misread(self.protocol).filter(|_| tells && self.state == Ending::Open)
    }

    /// Ends the flow and begins another.
    fn begin(&mut self, phase: &Phase) {
        let was_told = self.view.flow.is_condemned();
        match self.view.flow.close() {
            Err(Halt::Blocked(dropped)) if !was_told => {
                self.tell(&dropped);
                let why = why(&dropped);
                self.answer(|inspector, out| inspector.drop_late(Way::ToServer, &why, out));
            }
            Ok(()) | Err(Halt::Blocked(_)) => {}
            Err(halt) => return self.fail(&halt.to_string()),
        }
        self.said = phase.proto.as_deref().map_or(Said::Other, Said::of);
        self.tag(phase.transaction.as_deref());
        let tuple = phase.tuple.map(|(client, server)| Tuple::new(client, server)).transpose();
        match tuple.map_err(Halt::from).and_then(|tuple| self.view.renew(tuple, self.said)) {
            Ok(()) => {}
            Err(halt) => self.fail(&halt.to_string()),
        }
    }

    fn tag(&mut self, transaction: Option<&str>) {
        match transaction.map(identifier) {
            None => {}
            Some(None) => self.flows.counters().absurd.one(),
            Some(Some(id)) => {
                self.tags = Rc::new(EventTags { transaction: id.into(), stream: None });
                self.view.flow.tag(&self.tags);
            }
        }
    }

    /// Writes what may be written; if it may not, that is a failure.
    fn answer(
        &mut self,
        write: impl FnOnce(&mut Inspector, &mut Vec<u8>) -> Result<(), icap_stream::Error>,
    ) {
        if let Err(error) = write(&mut self.inspector, &mut self.out) {
            self.fail(&error.to_string());
        }
    }

    /// Stops what would be inspected in part only. No failure: those may be let go on.
    fn refuse(&mut self, way: Way, refusal: &Refusal) {
        self.state = Ending::Dropped;
        self.flows.counters().refusals[refusal.index()].one();
        tracing::warn!(transaction = &*self.tags.transaction, "{refusal}: blocked");
        let why = icap_stream::Dropped { signature: None, reason: refusal.to_string() };
        self.answer(|inspector, out| inspector.drop(way, &why, out));
    }

    fn tell(&mut self, dropped: &Dropped) {
        self.state = Ending::Dropped;
        tracing::info!(
            transaction = &*self.tags.transaction,
            sid = dropped.signature.as_ref().map(|signature| signature.sid),
            reason = %dropped,
            "blocked"
        );
    }

    fn fail(&mut self, reason: &str) {
        tracing::warn!(transaction = &*self.tags.transaction, reason, "a stream failed");
        self.state = Ending::Failed;
        self.inspector.report(&mut self.out);
        // Said once: nothing follows it.
        let _ = self.inspector.fail(reason, &mut self.out);
    }
}

/// What was shown to the engine, and passed.
enum Shown {
    Counted,
    Replayed,
}

fn why(dropped: &Dropped) -> icap_stream::Dropped {
    let signature = dropped.signature.as_ref().map(|signature| Signature {
        id: signature.sid,
        generator: signature.gid,
        revision: signature.rev,
        message: signature.message.clone(),
        category: signature.category.clone(),
    });
    icap_stream::Dropped { signature, reason: dropped.reason.name().to_owned() }
}
