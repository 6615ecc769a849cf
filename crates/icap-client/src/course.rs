//! One message's way through a chain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_wire::{Framing, Limits, RequestHead, ResponseHead};
use icap::{Headers, Method};

use crate::attempt::{AdaptedBody, AdaptedMessage, Answer, Failed, Verdict};
use crate::bypass::Bypassed;
use crate::config::{Filter, Subject};
use crate::head::{self, Content, Message, path_of};
use crate::incoming::Incoming;
use crate::live::Announced;
use crate::metrics::Level;
use crate::transaction::Rest;
use crate::{
    Block, Did, Fail, Failure, FailureKind, OnOverload, Service, Shown, Step, Trail,
    TransactionInfo,
};

/// A message on its way through the chain.
pub(crate) struct Course {
    pub(crate) message: Message,
    pub(crate) body: Option<Incoming>,
    pub(crate) changed: bool,
    /// The service that ended the chain, with its account if it was a block.
    pub(crate) stopped: Option<(Arc<str>, Option<Block>)>,
    pub(crate) trail: Trail,
    /// Whether others have seen what a service answered in the place of the message.
    pub(crate) shown: Shown,
}

impl Course {
    pub(crate) fn new(message: Message, body: Option<Incoming>) -> Self {
        Self {
            message,
            body,
            changed: false,
            stopped: None,
            trail: Trail::default(),
            shown: Shown::Alone,
        }
    }

    /// Whether the message goes to a service at all, by the service's settings.
    pub(crate) fn concerns(&self, service: &Service, info: &TransactionInfo) -> bool {
        let method = match self.message {
            Message::Request(_) => Method::Reqmod,
            Message::Response { .. } => Method::Respmod,
        };
        if service.wants(method) == Some(false) {
            return false;
        }
        let config = service.config();
        if config.only.is_empty() && config.except.is_empty() {
            return true;
        }
        let request = self.message.request();
        let host = request.host().ok().flatten();
        let subject = Subject {
            host: host.as_ref().map_or(&[][..], |h| h.host.as_bytes()),
            path: path_of(request.target()),
            method: request.method(),
            content_type: &[],
            size: self.body.as_ref().map_or(Some(0), Incoming::exact_length),
            client: info.client.map(|c| c.ip()),
        };
        let matches = |filters: &[Filter], content_type| {
            let subject = Subject { content_type, ..subject };
            filters.iter().any(|f| f.matches(&subject))
        };
        // Which of several types a reader goes by cannot be told: one is enough for the service to
        // be asked.
        let types = self.message.content_types();
        (config.only.is_empty() || types.iter().any(|t| matches(&config.only, t)))
            && !types.iter().all(|t| matches(&config.except, t))
    }

    /// One service's turn. Returns its X-Next-Services.
    pub(crate) async fn step(
        &mut self,
        service: &Arc<Service>,
        info: &TransactionInfo,
    ) -> Result<Option<String>, Failure> {
        let metrics = service.metrics();
        let active = Level::raise(metrics);
        let began = Instant::now();
        let answer = service.adapt(info, &self.message, self.body.take()).await;
        drop(active);
        let took = began.elapsed();
        let answer = match answer {
            Ok(answer) => answer,
            Err(failed) => return self.failed(service, info, failed, took).map(|()| None),
        };
        for name in &service.share {
            if let Some(value) = answer.header(name)
                && !info.shared.set(name, Bytes::copy_from_slice(value))
            {
                tracing::warn!(service = %service.name(), header = %name, "shared header too long, or too many of them: not carried on");
            }
        }
        let next = answer
            .header("X-Next-Services")
            .map(|value| String::from_utf8_lossy(value).into_owned());
        let did = match self.take(service, answer) {
            Ok(did) => did,
            Err(failure) => {
                let failed = Failed { failure, rest: Rest::Lost };
                return self.failed(service, info, failed, took).map(|()| None);
            }
        };
        if let Some(did) = did {
            metrics.transactions.add(1);
            self.trail.steps.push(Step { service: service.name().clone(), did, took });
        }
        Ok(next)
    }

    /// Goes on with what the service made of the message; `None` if it has no part in it.
    fn take(&mut self, service: &Service, answer: Answer) -> Result<Option<Did>, Failure> {
        let metrics = service.metrics();
        let block = answer.head.as_ref().and_then(|head| block_of(service, head.headers()));
        match answer.verdict {
            Verdict::Unoffered(body) => {
                self.body = body;
                Ok(None)
            }
            Verdict::Ignored(body) => {
                metrics.ignored.add(1);
                self.body = body.map(|body| Bypassed::wrap(body, metrics));
                Ok(Some(Did::Ignored))
            }
            Verdict::Passed(body) => {
                metrics.passed.add(1);
                self.body = body;
                Ok(Some(Did::Passed))
            }
            Verdict::Adapted(message) => {
                let was_request = matches!(self.message, Message::Request(_));
                self.adopt(service, *message, answer.raw_heads)?;
                self.changed = true;
                metrics.adapted.add(1);
                let (ends, is_block) = match &self.message {
                    Message::Request(_) => (false, false),
                    // A message that was cleaned of what was found in it goes on to the others.
                    Message::Response { response, .. } => {
                        let is_error = response.status() >= 400;
                        // Not every service accounts for its blocks, and not every answer to a request is one.
                        let is_block = block.is_some() || is_error;
                        (was_request || (block.is_some() && is_error), is_block)
                    }
                };
                if ends {
                    metrics.blocked.add(u64::from(is_block));
                    self.stopped = Some((service.name().clone(), block));
                }
                Ok(Some(Did::Adapted))
            }
        }
    }

    /// Puts a service's message in the place of the one it was sent.
    fn adopt(
        &mut self,
        service: &Service,
        message: AdaptedMessage,
        raw_heads: bool,
    ) -> Result<(), Failure> {
        let AdaptedMessage { req_hdr, res_hdr, sent, body } = message;
        let wrong = |error: http_wire::Error| {
            let detail = format!("sent a message with a bad HTTP head: {error}");
            Failure::new(service.name().clone(), FailureKind::Protocol, detail)
        };
        let announced = |framing| match framing {
            Ok(Framing::Length(n)) if raw_heads => Some(n),
            _ => None,
        };
        let request = self.message.request().clone();
        match (res_hdr, req_hdr) {
            (Some(bytes), _) => {
                let head = match (&self.message, &sent) {
                    // Untouched, so the original's connection fields are still true of it.
                    (
                        Message::Response { response, .. },
                        Message::Response { response: sent, .. },
                    ) if *sent.bytes() == bytes => response.clone(),
                    _ => ResponseHead::from_bytes_lenient(bytes, &REPLY_LIMITS).map_err(wrong)?,
                };
                if head.status() < 200 {
                    let detail = "sent an interim response as the final one";
                    let kind = FailureKind::Protocol;
                    return Err(Failure::new(service.name().clone(), kind, detail));
                }
                let method = request.method();
                let possible = head::can_have_content(head.status(), method);
                let framing = head.framing(method);
                if !possible {
                    // Such a head keeps its framing fields, and so they must make sense.
                    framing.clone().map_err(wrong)?;
                }
                let (content, body) = content(body, announced(framing), possible);
                let response = head::frame_response(&head, content, method).map_err(wrong)?;
                self.message = Message::Response { request, response };
                self.body = body;
            }
            (None, Some(bytes)) => {
                let head = match &sent {
                    Message::Request(sent) if *sent.bytes() == bytes => request,
                    _ => RequestHead::from_bytes(bytes, &REPLY_LIMITS).map_err(wrong)?,
                };
                let (content, body) = content(body, announced(head.framing()), true);
                let head = head::frame_request(&head, content).map_err(wrong)?;
                self.message = Message::Request(head);
                self.body = body;
            }
            // The exchange lets no reply through that has neither.
            (None, None) => {}
        }
        Ok(())
    }

    /// Lets policy decide which way a failure falls.
    fn failed(
        &mut self,
        service: &Service,
        info: &TransactionInfo,
        failed: Failed,
        took: Duration,
    ) -> Result<(), Failure> {
        let Failed { failure, rest } = failed;
        let metrics = service.metrics();
        metrics.transactions.add(1);
        metrics.failures(failure.kind()).add(1);
        let transaction = &*info.transaction_id;
        let (service_name, reason) = (service.name(), failure.detail());
        if failure.kind() == FailureKind::Source {
            // No message is left to let go on, and the service is not to blame.
            tracing::debug!(transaction, reason, "the message's sender failed: it is stopped");
            return Err(failure);
        }
        let config = service.config();
        let fail = match failure.kind() {
            FailureKind::Connect => config.fail.connect,
            FailureKind::Overload if config.on_overload == OnOverload::Bypass => Fail::Open,
            FailureKind::Overload if config.on_overload == OnOverload::Block => Fail::Closed,
            FailureKind::Overload => config.fail.overload,
            _ => config.fail.error,
        };
        match (fail, rest) {
            (Fail::Open, Rest::Intact(body)) => {
                tracing::warn!(service = %service_name, transaction, reason, "failing open: the message goes on unadapted");
                metrics.bypassed.add(1);
                let did = Did::Bypassed(failure.kind());
                self.trail.steps.push(Step { service: service_name.clone(), did, took });
                self.body = body.map(|body| Bypassed::wrap(body, service.metrics()));
                Ok(())
            }
            (Fail::Open, Rest::Lost) => {
                tracing::warn!(service = %service_name, transaction, reason, "can't fail open: part of the message is no longer held; it is stopped");
                Err(failure)
            }
            (Fail::Closed, _) => {
                tracing::warn!(service = %service_name, transaction, reason, "failing closed: the message is stopped");
                Err(failure)
            }
        }
    }
}

/// Bounds of the heads that services send: as wide as what ICAP lets through.
const REPLY_LIMITS: Limits = Limits { max_head: 256 * 1024, max_fields: 1000 };

/// The framing and the body to go on with. Where the service is known to keep heads true, the
/// announced length stays, and the body is held to it.
fn content(
    body: Option<AdaptedBody>,
    announced: Option<u64>,
    possible: bool,
) -> (Content, Option<Incoming>) {
    if !possible {
        return (Content::Impossible, None);
    }
    let Some(body) = body else { return (Content::None, None) };
    match (body.exact_length(), announced, body) {
        (Some(length), _, body) => (Content::Length(length), Some(Incoming::new(body.into_body()))),
        (None, Some(left), AdaptedBody::Live(inner)) => {
            (Content::Length(left), Some(Incoming::new(Box::pin(Announced { inner, left }))))
        }
        (None, _, body) => (Content::Unknown, Some(Incoming::new(body.into_body()))),
    }
}

/// The service's account of a block, if its headers give one.
fn block_of(service: &Service, headers: &Headers) -> Option<Block> {
    // Folded lines of a multi-line account become one.
    let text = |name: &str| {
        let value = String::from_utf8_lossy(headers.get(name)?).into_owned();
        Some(value.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|v| !v.is_empty())
    };
    let violations = text("X-Violations-Found")
        .filter(|v| v != "0")
        .or_else(|| text("X-Infection-Found"))
        .or_else(|| text("X-Virus-ID"));
    let info = text("X-Response-Info");
    let says_blocked = info.as_ref().is_some_and(|i| i.to_ascii_lowercase().contains("block"));
    (violations.is_some() || says_blocked).then(|| Block {
        service: service.name().clone(),
        signature_id: text("X-Signature-Id"),
        violations,
        info,
    })
}
