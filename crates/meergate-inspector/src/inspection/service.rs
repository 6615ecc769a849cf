//! The ICAP service `/suricata`: transactions in, verdicts out.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use content_coding::Coding;
use http_wire::{RequestHead, ResponseHead};
use icap::{Headers, IsTag, Method};
use icap_server::{Http, Options, Reply, ReplyHead, Service, TransactError, Transaction};
use icap_stream::Offer;
use suricata::{Direction, Dropped};

use crate::inspection::aside;
use crate::inspection::claims::Claims;
use crate::inspection::clients::{Client, Share};
use crate::inspection::content::Reading;
use crate::inspection::decoding::Decoding;
use crate::inspection::dialogue::{Asked, Turn};
use crate::inspection::dns::DnsView;
use crate::inspection::forms::Form;
use crate::inspection::framing::{BodyFraming, Contradiction, HeadEnd};
use crate::inspection::halt::Halt;
use crate::inspection::legible;
use crate::inspection::metrics::{Outcome, Uninspected};
use crate::inspection::page::{Blocked, dns_head};
use crate::inspection::passage::{Content, Passage};
use crate::inspection::refusal::Refusal;
use crate::inspection::stream;
use crate::inspection::worker_flows::{BEGIN, EventTags, FlowLease, WorkerFlows};

/// The service, as one worker's connections see it.
#[derive(Clone)]
pub(crate) struct Inspection {
    flows: Rc<WorkerFlows>,
}

impl Inspection {
    /// On this worker.
    pub(crate) fn new(flows: Rc<WorkerFlows>) -> Self {
        Self { flows }
    }
}

impl Service for Inspection {
    fn istag(&self) -> IsTag {
        self.flows.state.istag()
    }

    fn options(&self) -> Options {
        let settings = &self.flows.state.settings;
        let mut headers = Headers::new();
        // What is decoded here, so that others need not ask for content in less.
        let decodes = Coding::TOKENS.map(|(token, _)| token).join("+");
        let mut ours = format!("raw-heads, decodes={decodes}, hold={}", settings.hold);
        let streams = settings.limits.max_streams.min(settings.limits.max_connections);
        if streams > 0 {
            let streams = u32::try_from(streams).ok();
            let window = settings.limits.window();
            let offer = Offer { version: icap_stream::VERSION, window, streams };
            // Writing to a string can't fail.
            let _ = write!(ours, ", {offer}");
        }
        // The value holds no control character, so it is taken.
        let _ = headers.push("X-Meergate", ours);
        Options {
            service: format!("meergate-inspector {} (Suricata)", env!("CARGO_PKG_VERSION")),
            allow_204: true,
            max_connections: u32::try_from(settings.limits.max_connections).ok(),
            ttl: Some(Duration::from_secs(60)),
            headers,
            ..Options::default()
        }
    }

    async fn transact(&self, transaction: &mut Transaction<'_>) -> Result<(), TransactError> {
        let head = transaction.head();
        let claims = Claims::read(head.headers(), &self.flows.state.keys);
        // A stream has a flow of its own, which may be on any worker.
        let is_stream = head.headers().get(stream::HEADER).is_some();
        if let Some(worker) = self.flows.elsewhere(claims.correlation).filter(|_| !is_stream) {
            return Err(TransactError::Elsewhere(worker));
        }
        let mut tally =
            Tally { flows: &self.flows, began: Instant::now(), outcome: Outcome::Aborted };
        if claims.absurd {
            self.flows.counters().absurd.one();
        }
        let tags = Rc::new(EventTags {
            transaction: match claims.transaction {
                Some(id) => id.into(),
                None => self.flows.state.transaction_id().into(),
            },
            stream: claims.stream.map(|stream| stream.to_string().into()),
        });
        let client = Client::new(claims.client_ip, transaction.peer());
        let share = self.flows.state.clients.admit(client);
        if let Some(share) = &share {
            self.flows.spend(share, BEGIN).await;
        }
        if let Some(share) = share.as_ref().filter(|_| is_stream) {
            let (outcome, result) =
                stream::serve(&self.flows, &claims, &tags, share, transaction).await;
            tally.outcome = outcome;
            return result;
        }
        let inspecting = Inspecting { flows: &self.flows, claims, tags };
        let dns = DnsView::new(inspecting.flows, &inspecting.claims, &inspecting.tags);
        let run = match (&share, head.method()) {
            (None, _) => {
                self.flows.counters().over_share.one();
                Err(Halt::OverShare)
            }
            (Some(share), Method::Reqmod) => inspecting.request(share, &dns, transaction).await,
            (Some(share), _) => inspecting.response(share, &dns, transaction).await,
        };
        let (_, reply) = transaction.split();
        let (outcome, result) = inspecting.settle(run, &dns, reply);
        tally.outcome = outcome;
        result
    }
}

/// Whether fields of a head announce content, be there any or not.
fn speaks_of_content(head: &ResponseHead) -> bool {
    let length = head.field("Content-Length");
    length.is_some_and(|field| field.value != b"0") || head.field("Transfer-Encoding").is_some()
}

/// Counts a transaction when it is over, however that came about.
struct Tally<'a> {
    flows: &'a WorkerFlows,
    began: Instant,
    outcome: Outcome,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        let counters = self.flows.counters();
        counters.outcome(self.outcome);
        counters.duration.observe(self.began.elapsed());
    }
}

/// One transaction.
struct Inspecting<'a> {
    flows: &'a Rc<WorkerFlows>,
    claims: Claims<'a>,
    tags: Rc<EventTags>,
}

impl Inspecting<'_> {
    async fn request(
        &self,
        share: &Share,
        dns: &DnsView<'_>,
        transaction: &mut Transaction<'_>,
    ) -> Result<(), Halt> {
        let raw = transaction.req_hdr().ok_or(Contradiction::HeadMissing)?;
        let head = RequestHead::from_bytes(raw.clone(), &self.limits())?;
        legible::check(head.fields(), &Headers::new())?;
        let (has_body, preview) = (transaction.has_body(), transaction.preview().is_some());
        legible::check_path(head.method(), head.target(), has_body)?;
        if has_body {
            legible::check_upload(head.target())?;
        }
        dns.meet(&head);
        dns.show_target(&head)?;
        let keeps_copy = transaction.head().allows_204();
        let (framing, end) = BodyFraming::request(&head, has_body)?;
        let lease = self.flows.for_request(&self.claims, share, &self.tags, &head)?;
        let reading = match has_body {
            true => self.flows.state.settings.content.request(&head)?,
            false => Reading::AsIs(None),
        };
        let ambiguous = self.flows.state.settings.content.malformed;
        let form = if has_body { Form::of(&head, ambiguous)? } else { None };
        let (content, framing, end) = self.content(&reading, framing, end);
        let (first, second) = end.split(raw);
        let passage = Passage {
            flows: self.flows,
            lease: &lease,
            share,
            direction: Direction::ToServer,
            lead: [first, second],
            fields: head.fields(),
            framing,
            content,
            aside: aside::of_request(&head),
            form,
            dns_body: if has_body { dns.request_body(&head) } else { None },
            dns,
            unheld: self.is_unheld(head.field("Content-Type")),
            http: Http::Request(raw),
            has_body,
            keeps_copy,
            preview,
        };
        let (body, reply) = transaction.split();
        passage.run(body, reply).await?;
        lease.dialogue(|dialogue| {
            if !head.keep_alive() {
                dialogue.close_after();
            }
            dialogue.asked();
        });
        self.flows.await_response(&self.claims, &head, &lease);
        lease.done();
        Ok(())
    }

    async fn response(
        &self,
        share: &Share,
        dns: &DnsView<'_>,
        transaction: &mut Transaction<'_>,
    ) -> Result<(), Halt> {
        let raw = transaction.res_hdr().ok_or(Contradiction::HeadMissing)?;
        let head = ResponseHead::from_bytes(raw.clone(), &self.limits())?;
        legible::check(head.fields(), &Headers::new())?;
        let request = transaction
            .req_hdr()
            .map(|raw| RequestHead::from_bytes(raw.clone(), &self.limits()))
            .transpose()?;
        let (has_body, preview) = (transaction.has_body(), transaction.preview().is_some());
        if let Some(request) = &request {
            legible::check_path(request.method(), request.target(), has_body)?;
            dns.meet(request);
        }
        let keeps_copy = transaction.head().allows_204();
        let (lease, turn) =
            self.flows.for_response(&self.claims, share, &self.tags, request.as_ref())?;
        if turn == Turn::AskFirst {
            if let Some(request) = &request {
                dns.show_target(request)?;
            }
            self.ask(&lease, request.as_ref())?;
        }
        let method = lease.dialogue(|dialogue| dialogue.method().map(Bytes::copy_from_slice));
        if has_body && method.as_deref() == Some(b"CONNECT") {
            return Err(Contradiction::PathMissing.into());
        }
        let framing = BodyFraming::response(&head, method.as_deref(), has_body)?;
        lease.dialogue(|dialogue| {
            dialogue.answer();
            // After an upgrade, and after CONNECT, the connection carries something else. Of other
            // interim responses and of a 304 that speaks of content, the engine (libhtp) may have
            // another idea of what follows.
            let leaves_http = method.as_deref() == Some(b"CONNECT");
            let is_ambiguous =
                head.status() < 200 || head.status() == 304 && speaks_of_content(&head);
            if leaves_http || is_ambiguous || !framing.delimited() || !head.keep_alive() {
                dialogue.close_after();
            }
        });
        let reading = match has_body {
            true => self.flows.state.settings.content.response(&head, self.claims.overlap)?,
            false => Reading::AsIs(None),
        };
        let (content, framing, end) = self.content(&reading, framing, HeadEnd::AsIs);
        let (first, second) = end.split(raw);
        let passage = Passage {
            flows: self.flows,
            lease: &lease,
            share,
            direction: Direction::ToClient,
            lead: [first, second],
            fields: head.fields(),
            framing,
            content,
            aside: aside::of_response(&head, reading.codings(), request.as_ref()),
            form: None,
            dns_body: if has_body { dns.response_body(&head) } else { None },
            dns,
            unheld: self.is_unheld(head.field("Content-Type")),
            http: Http::Response(raw),
            has_body,
            keeps_copy,
            preview,
        };
        let (body, reply) = transaction.split();
        passage.run(body, reply).await?;
        lease.dialogue(crate::inspection::dialogue::Dialogue::answered);
        lease.done();
        Ok(())
    }

    /// What of a body goes to the engine, and how, if it comes in this framing and the head ends so.
    fn content(
        &self,
        reading: &Reading,
        framing: BodyFraming,
        end: HeadEnd,
    ) -> (Content, BodyFraming, HeadEnd) {
        match reading {
            Reading::AsIs(uninspected) => (Content::AsIs(*uninspected), framing, end),
            Reading::Decoded(codings) => {
                let settings = &self.flows.state.settings.content;
                let decoding = Decoding::new(codings, framing, settings, &self.flows.buffers);
                let (framing, end) = framing.of_decoded(end);
                (Content::Coded(Box::new(decoding)), framing, end)
            }
        }
    }

    /// Shows the engine the request that a response answers, since no REQMOD did.
    fn ask(&self, lease: &FlowLease, request: Option<&RequestHead>) -> Result<(), Halt> {
        let Some(head) = request else {
            self.flows.counters().unasked.one();
            lease.dialogue(crate::inspection::dialogue::Dialogue::unasked);
            return Ok(());
        };
        let unseen = BodyFraming::request(head, false).is_err();
        lease.dialogue(|dialogue| {
            dialogue.ask(Asked::new(head.method(), head.target()));
            if !head.keep_alive() {
                dialogue.close_after();
            }
        });
        if unseen {
            // RESPMOD carries no request body: without the fields that announce it, the engine
            // will not wait for one.
            if let Ok(http_wire::Framing::Length(n)) = head.framing() {
                self.flows.counters().uninspected(Uninspected::RequestBodyUnseen, n);
            }
            let mut edit = head.edit();
            edit.remove("Content-Length").remove("Transfer-Encoding");
            lease.feed(Direction::ToServer, &[edit.build()?.bytes()], 0)?;
        } else {
            lease.feed(Direction::ToServer, &[head.bytes()], 0)?;
        }
        lease.dialogue(crate::inspection::dialogue::Dialogue::asked);
        Ok(())
    }

    fn is_unheld(&self, content_type: Option<http_wire::Field<'_>>) -> bool {
        content_type.is_some_and(|field| self.flows.state.settings.is_unheld(field.value))
    }

    fn limits(&self) -> http_wire::Limits {
        let max_head = self.flows.state.settings.limits.max_head.in_memory();
        http_wire::Limits { max_head, ..http_wire::Limits::default() }
    }

    /// Answers whatever has not been answered, and says how the transaction ended.
    fn settle(
        &self,
        run: Result<(), Halt>,
        dns: &DnsView<'_>,
        reply: &mut Reply<'_>,
    ) -> (Outcome, Result<(), TransactError>) {
        let halt = match run {
            Ok(()) => return (Outcome::Passed, Ok(())),
            Err(Halt::Client(error)) => return (Outcome::Aborted, Err(error)),
            Err(halt) => halt,
        };
        let cut = reply.is_started();
        match &halt {
            Halt::Blocked(dropped) => {
                tracing::info!(
                    transaction = &*self.tags.transaction,
                    sid = dropped.signature.as_ref().map(|s| s.sid),
                    reason = %dropped,
                    cut,
                    "blocked"
                );
                match cut {
                    true => (Outcome::Cut, Err(TransactError::Failed(halt.to_string()))),
                    false => (Outcome::Blocked, self.block(dropped, dns, reply)),
                }
            }
            Halt::Refused(refusal) => {
                tracing::warn!(transaction = &*self.tags.transaction, cut, "{halt}");
                self.flows.counters().refusals[refusal.index()].one();
                let result = match cut {
                    true => Err(TransactError::Failed(halt.to_string())),
                    false => self.refuse(refusal, reply),
                };
                (Outcome::Refused, result)
            }
            _ => {
                tracing::warn!(transaction = &*self.tags.transaction, cut, "{halt}");
                let result = match cut {
                    true => Err(TransactError::Failed(halt.to_string())),
                    false => reply.respond_error(halt.status(), &halt.to_string()),
                };
                (Outcome::Failed, result)
            }
        }
    }

    fn block(
        &self,
        dropped: &Dropped,
        dns: &DnsView<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), TransactError> {
        let blocked = Blocked {
            signature: dropped.signature.as_ref(),
            reason: dropped.reason.name(),
            transaction: &self.tags.transaction,
        };
        match dns.denial() {
            Some(message) => self.show(&blocked, &dns_head(message.len()), &message, reply),
            None => self.show_page(&blocked, reply),
        }
    }

    fn refuse(&self, refusal: &Refusal, reply: &mut Reply<'_>) -> Result<(), TransactError> {
        let reason = &refusal.to_string();
        let transaction = &*self.tags.transaction;
        self.show_page(&Blocked { signature: None, reason, transaction }, reply)
    }

    fn show_page(&self, blocked: &Blocked<'_>, reply: &mut Reply<'_>) -> Result<(), TransactError> {
        let page = blocked.page();
        self.show(blocked, &page.head, page.body.as_bytes(), reply)
    }

    fn show(
        &self,
        blocked: &Blocked<'_>,
        head: &str,
        body: &[u8],
        reply: &mut Reply<'_>,
    ) -> Result<(), TransactError> {
        let mut headers = Headers::new();
        for (name, value) in blocked.icap_fields() {
            headers.push(name, value)?;
        }
        let http = Http::Response(head.as_bytes());
        reply.start(&ReplyHead { status: 200, headers: &headers, http, has_body: true })?;
        reply.put(body)?;
        reply.finish()
    }
}
