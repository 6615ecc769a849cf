//! One message on its way: from the ICAP client into a ring, past the engine, and back.

mod held;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use dual_ring::Slices;
use http_wire::Fields;
use icap::Headers;
use icap_server::{BodyEvent, BodyReader, Http, Reply, ReplyHead, TransactError};
use suricata::Direction;

use crate::inspection::aside;
use crate::inspection::clients::Share;
use crate::inspection::decoding::{Decoding, PIECE, Step};
use crate::inspection::dialogue::Dialogue;
use crate::inspection::dns::{DnsBody, DnsView};
use crate::inspection::forms::Form;
use crate::inspection::framing::{BodyFraming, Contradiction};
use crate::inspection::halt::Halt;
use crate::inspection::legible;
use crate::inspection::metrics::Uninspected;
use crate::inspection::passage::held::Held;
use crate::inspection::worker_flows::{FlowLease, WorkerFlows};

/// How the bytes of a body become those that the engine sees.
pub(crate) enum Content {
    /// They are the same; what for they count as uninspected even so.
    AsIs(Option<Uninspected>),
    /// They are decoded.
    Coded(Box<Decoding>),
}

/// A message to be inspected: its head and how its body goes on.
pub(crate) struct Passage<'a> {
    /// The worker.
    pub(crate) flows: &'a WorkerFlows,
    /// The flow.
    pub(crate) lease: &'a FlowLease,
    /// This transaction's part of its client's share (`clients`).
    pub(crate) share: &'a Share,
    /// Its direction.
    pub(crate) direction: Direction,
    /// What goes to the engine before the body, in one piece with its beginning.
    pub(crate) lead: [&'a [u8]; 2],
    /// The fields in it.
    pub(crate) fields: Fields<'a>,
    /// How the body goes to the engine.
    pub(crate) framing: BodyFraming,
    /// What of the body goes there.
    pub(crate) content: Content,
    /// Why the body counts as uninspected, though the engine sees all of it.
    pub(crate) aside: Option<Uninspected>,
    /// The form that the body is.
    pub(crate) form: Option<Form>,
    /// The DNS message that the body is.
    pub(crate) dns_body: Option<DnsBody>,
    /// What shows the engine DNS.
    pub(crate) dns: &'a DnsView<'a>,
    /// What goes back to the client if nothing is wrong and it keeps no copy.
    pub(crate) http: Http<'a>,
    /// Whether nothing of the message is to be held.
    pub(crate) unheld: bool,
    /// Whether a body follows in the ICAP message.
    pub(crate) has_body: bool,
    /// Whether the client takes a 204 at any time, so that it has a copy of everything.
    pub(crate) keeps_copy: bool,
    /// Whether the client sends a preview and has not gone on from there.
    pub(crate) preview: bool,
}

impl Passage<'_> {
    /// Reads, inspects and answers.
    ///
    /// # Errors
    /// Whatever keeps the message from passing. The reply may have started by then.
    pub(crate) async fn run(
        mut self,
        body: &mut BodyReader<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), Halt> {
        if !self.has_body {
            self.conclude(None, &Headers::new()).await?;
            return Ok(self.answer_bodiless(reply)?);
        }
        let mut held = Held::new(self.flows, self.keeps_copy, self.unheld)?;
        held.whole = self.dns_body.is_some();
        let run = self.stream(&mut held, body, reply).await;
        if let Err(halt) = &run
            && let Some(reason) = halt.reason()
        {
            self.flows.counters().uninspected(reason, held.ring.pending_len() as u64);
        }
        run
    }

    async fn stream(
        &mut self,
        held: &mut Held<'_>,
        body: &mut BodyReader<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), Halt> {
        // Some clients lose a reply that comes in one packet with the 100: so the preview is over
        // with what comes next.
        let mut continued = false;
        loop {
            let at_once = {
                let mut next = pin!(body.next());
                poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await
            };
            let event = match at_once {
                Poll::Ready(event) => event?,
                Poll::Pending => {
                    if held.releases() {
                        self.inspect(held, true).await?;
                        self.release(held, reply)?;
                    } else if self.is_lead_due() {
                        // Feed the head alone. If the body began with a tiny piece, the engine
                        // would find less in it.
                        self.feed(held, 0, [b"", b"", b""])?;
                    }
                    let mut next = pin!(body.next());
                    let may_pause = !self.preview || continued;
                    let either = poll_fn(|cx| match next.as_mut().poll(cx) {
                        Poll::Ready(event) => Poll::Ready(Ok(Some(event))),
                        Poll::Pending if held.started => {
                            held.poll_send(cx, reply).map_ok(|()| None)
                        }
                        Poll::Pending if may_pause => held.poll_pause(cx).map(|()| Ok(None)),
                        Poll::Pending => Poll::Pending,
                    });
                    let either = either.await?;
                    self.preview &= !continued;
                    match either {
                        Some(event) => event?,
                        None => continue,
                    }
                }
            };
            self.preview &= !continued;
            held.pause.over();
            match event {
                BodyEvent::Data(mut data) => {
                    held.turn += data.len();
                    while !data.is_empty() {
                        let written = held.ring.write(data);
                        data = &data[written..];
                        self.inspect(held, held.ring.free() == 0).await?;
                        self.release(held, reply)?;
                        if held.ring.free() == 0 {
                            held.make_room(reply).await?;
                        }
                    }
                    held.give_way(self.share).await;
                }
                BodyEvent::PreviewEnd => {
                    self.inspect(held, true).await?;
                    reply.continue_()?;
                    continued = true;
                }
                BodyEvent::End { trailers } => {
                    self.conclude(Some(held), &trailers).await?;
                    return self.answer(held, reply, &trailers).await;
                }
            }
            held.count();
        }
    }

    fn is_lead_due(&self) -> bool {
        self.lead.iter().any(|part| !part.is_empty())
    }

    /// Shows the engine what is pending: whole pieces, and the rest too if `all`.
    async fn inspect(&mut self, held: &mut Held<'_>, all: bool) -> Result<(), Halt> {
        match self.content {
            Content::AsIs(_) => {
                while held.ring.pending_len() >= PIECE {
                    self.feed(held, PIECE, [b"", b"", b""])?;
                }
            }
            Content::Coded(_) => self.decode(held).await?,
        }
        if all && (self.is_lead_due() || held.ring.pending_len() > 0) {
            self.feed(held, PIECE, [b"", b"", b""])?;
        }
        Ok(())
    }

    /// Decodes what is pending, and shows the engine whole pieces of it.
    async fn decode(&mut self, held: &mut Held<'_>) -> Result<(), Halt> {
        while let Content::Coded(decoding) = &mut self.content {
            let before = decoding.inflated();
            let step = decoding.step(held.ring.pending())?;
            held.turn += (decoding.inflated() - before) as usize;
            let nothing = decoding.ready().is_empty();
            if step == Step::Full || decoding.is_due() {
                self.feed(held, PIECE, [b"", b"", b""])?;
            }
            if step == Step::Hungry {
                if nothing && !self.is_lead_due() {
                    // What has no content, such as the head of a gzip member, has been judged.
                    self.feed(held, 0, [b"", b"", b""])?;
                }
                return Ok(());
            }
            held.give_way(self.share).await;
        }
        Ok(())
    }

    /// Shows the engine the rest of the message and its end.
    async fn conclude(
        &mut self,
        held: Option<&mut Held<'_>>,
        trailers: &Headers,
    ) -> Result<(), Halt> {
        let mut lines = Vec::new();
        trailers.encode(&mut lines);
        if !lines.is_empty() {
            legible::check(self.fields.clone(), trailers)?;
        }
        match held {
            Some(held) => {
                self.inspect(held, false).await?;
                self.finish(held).await?;
                // The last bytes are counted in before the end is looked at.
                let mut framing = self.framing;
                framing.piece(self.rest(held))?;
                let (before, after) = framing.end()?;
                match framing {
                    _ if lines.is_empty() => self.feed(held, PIECE, [before, after, b""])?,
                    BodyFraming::Chunked => self.feed(held, PIECE, [before, &lines, after])?,
                    BodyFraming::UntilClose => return Err(Contradiction::TrailersUnexpected.into()),
                    BodyFraming::Empty | BodyFraming::Length(_) => {
                        // HTTP/2 has trailers whatever the framing, HTTP/1 has not: so they come
                        // behind the message, and nothing may follow them.
                        self.lease.dialogue(Dialogue::close_after);
                        self.feed(held, PIECE, [before, after, b""])?;
                        self.lease.feed_behind(self.direction, &lines)?;
                    }
                }
                if held.ring.pending_len() > 0 {
                    return Err(Halt::Stuck);
                }
                if let Some(form) = &mut self.form {
                    self.flows.counters().uninspected(Uninspected::Form, form.finish());
                }
                if let Some(body) = self.dns_body.take() {
                    self.dns.show_body(body)?;
                }
            }
            None => {
                let (before, after) = self.framing.end()?;
                let [a, b] = std::mem::take(&mut self.lead);
                self.lease.feed(self.direction, &[a, b, before, &lines, after], 0)?;
            }
        }
        match self.framing.delimited() {
            true => self.lease.check(),
            false => self.lease.end(),
        }
    }

    /// Decodes the rest. Afterwards less than one piece is left to feed.
    async fn finish(&mut self, held: &mut Held<'_>) -> Result<(), Halt> {
        while let Content::Coded(decoding) = &mut self.content {
            match decoding.finish()? {
                Step::Full => self.feed(held, PIECE, [b"", b"", b""])?,
                Step::Hungry => return Ok(()),
                Step::More => held.give_way(self.share).await,
                Step::Rewound => self.decode(held).await?,
            }
        }
        Ok(())
    }

    /// Bytes that the engine has still to see of what came.
    fn rest(&self, held: &Held<'_>) -> usize {
        match &self.content {
            Content::AsIs(_) => held.ring.pending_len(),
            Content::Coded(decoding) => decoding.ready().len(),
        }
    }

    /// Shows the engine the lead, up to `most` bytes of content, and `tail`, in one call. The bytes
    /// of body that the content came from have passed then. Here alone anything passes.
    fn feed(&mut self, held: &mut Held<'_>, most: usize, tail: [&[u8]; 3]) -> Result<(), Halt> {
        let content = match &self.content {
            Content::AsIs(_) => held.ring.pending().take(most),
            Content::Coded(decoding) => Slices { first: decoding.ready(), second: b"" }.take(most),
        };
        let len = content.len();
        let mut missed = 0;
        if let Some(form) = &mut self.form {
            missed = form.read(content.first)? + form.read(content.second)?;
        }
        if let Some(body) = &mut self.dns_body {
            self.dns.take(body, content.first)?;
            self.dns.take(body, content.second)?;
            held.whole = body.is_held();
        }
        let delimiters = self.framing.piece(len)?;
        let [a, b] = std::mem::take(&mut self.lead);
        let [x, y, z] = tail;
        let (first, second) = (content.first, content.second);
        let parts = [a, b, delimiters.before(), first, second, delimiters.after(), x, y, z];
        let seam = held.trail.seam(delimiters.before().len());
        self.lease.feed_chunk(self.direction, seam, &parts, len)?;
        if self.framing == BodyFraming::Chunked {
            held.trail.follow([a, b], delimiters.before(), Slices { first, second });
        }
        if held.begin.is_utf_16(Slices { first, second }) && aside::may_be_text(&self.fields) {
            self.aside = self.aside.or(Some(Uninspected::Charset));
        }
        let counters = self.flows.counters();
        counters.inspected.add(len as u64);
        if let (Some(reason), Content::AsIs(None) | Content::Coded(_)) = (self.aside, &self.content)
        {
            counters.uninspected(reason, len as u64);
        }
        counters.uninspected(Uninspected::Form, missed);
        match &mut self.content {
            Content::AsIs(uninspected) => {
                if let Some(reason) = uninspected {
                    counters.uninspected(*reason, len as u64);
                }
                held.pass(len);
            }
            Content::Coded(decoding) if len == decoding.ready().len() => {
                match decoding.is_raw() {
                    true => {
                        let unseen = len as u64 + decoding.misread();
                        counters.uninspected(Uninspected::Malformed, unseen);
                    }
                    false => {
                        counters.decoded.add(len as u64);
                        counters.uninspected(Uninspected::BesideContent, decoding.beside());
                    }
                }
                held.pass(decoding.pass());
            }
            // Only the lead was shown.
            Content::Coded(_) => {}
        }
        Ok(())
    }

    /// Starts the reply when what has passed, be it the head alone, is not to be held any more.
    fn release(&self, held: &mut Held<'_>, reply: &mut Reply<'_>) -> Result<(), Halt> {
        if held.started || self.preview || self.is_lead_due() || !held.is_due() {
            return Ok(());
        }
        self.start(reply, true)?;
        held.started = true;
        Ok(())
    }

    fn start(&self, reply: &mut Reply<'_>, has_body: bool) -> Result<(), TransactError> {
        let headers = &Headers::new();
        reply.start(&ReplyHead { status: 200, headers, http: self.http, has_body })
    }

    async fn answer(
        &self,
        held: &mut Held<'_>,
        reply: &mut Reply<'_>,
        trailers: &Headers,
    ) -> Result<(), Halt> {
        if !held.started {
            if reply.allows_204() {
                self.flows.counters().unmodified.one();
                return Ok(reply.no_content(&Headers::new())?);
            }
            self.start(reply, true)?;
            held.started = true;
        }
        while held.ring.passed_len() > 0 {
            poll_fn(|cx| held.poll_send(cx, reply)).await?;
            held.count();
        }
        Ok(reply.finish_with_trailers(trailers)?)
    }

    fn answer_bodiless(&self, reply: &mut Reply<'_>) -> Result<(), TransactError> {
        if reply.allows_204() {
            self.flows.counters().unmodified.one();
            return reply.no_content(&Headers::new());
        }
        self.start(reply, false)
    }
}
