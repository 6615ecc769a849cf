//! One message at one endpoint: what is promised, what is sent, what the answer is.

use std::sync::Arc;

use bytes::Bytes;
use icap::client::{Event, Reply, Terms};
use icap::{Method, ResponseHead};

use crate::bypass::Bypassed;
use crate::capabilities::{Capabilities, Transfer};
use crate::endpoint::Endpoint;
use crate::head::{Message, path_of};
use crate::incoming::Incoming;
use crate::live::Live;
use crate::transaction::{Rest, Transaction};
use crate::{
    Body, BodyError, BodySource, Failure, FailureKind, Full, OnOverload, Service, TransactionInfo,
    request,
};

/// Body bytes sent beyond a service's `hold` before it has surely started to answer.
const HOLD_SLACK: u64 = 256 * 1024;
/// Body bytes of an answer that are taken in at once if they are there.
const READ_AHEAD: u64 = 64 * 1024;
/// The most preview of a body of which no copy may be kept.
const UNCOPIED_PREVIEW: u64 = 4096;

/// A service's answer to one message.
pub(crate) struct Answer {
    /// The ICAP reply's head; none if the service was not asked.
    pub(crate) head: Option<ResponseHead>,
    pub(crate) raw_heads: bool,
    pub(crate) verdict: Verdict,
}

pub(crate) enum Verdict {
    /// A message of its own.
    Adapted(Box<AdaptedMessage>),
    /// It does not want messages of this kind.
    Ignored(Option<Incoming>),
    /// The original goes on.
    Passed(Option<Incoming>),
    /// It does not serve messages of this method.
    Unoffered(Option<Incoming>),
}

/// A message that a service sent, next to the one it was sent.
pub(crate) struct AdaptedMessage {
    pub(crate) req_hdr: Option<Bytes>,
    pub(crate) res_hdr: Option<Bytes>,
    pub(crate) sent: Message,
    pub(crate) body: Option<AdaptedBody>,
}

pub(crate) enum AdaptedBody {
    /// Wholly here.
    Full(Full),
    Live(Live),
    /// The end of the original follows what came.
    Partial(Incoming),
}

/// No answer.
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) rest: Rest,
}

/// Whether what failed may be tried again.
pub(crate) enum Again {
    /// Nothing was sent: another endpoint may do.
    Elsewhere,
    Never,
    /// The connection died unanswered: once more, for a kept connection may have been stale.
    Once,
    /// OPTIONS failed. That failure is counted once for all who waited. Try another endpoint.
    Unasked,
    /// All connections that the endpoint may have are in use.
    WhenFree,
}

impl Service {
    /// Sends a message to an endpoint, and waits until it is known what becomes of it.
    pub(crate) async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        info: &TransactionInfo,
        message: &Message,
        mut body: Option<Incoming>,
        on_overload: OnOverload,
        prefer_new: bool,
    ) -> Result<Answer, (Failed, Again)> {
        let capabilities = match endpoint.capabilities().await {
            Ok(capabilities) => capabilities,
            Err(failure) => {
                return Err((Failed { failure, rest: Rest::Intact(body) }, Again::Unasked));
            }
        };
        if endpoint.refresh_due() {
            let endpoint = endpoint.clone();
            tokio::spawn(async move { endpoint.refresh().await });
        }
        let method = match message {
            Message::Request(_) => Method::Reqmod,
            Message::Response { .. } => Method::Respmod,
        };
        if !capabilities.offers(method) {
            if endpoint.must_offer(method) {
                let failure = endpoint.unsuitable(method);
                return Err((Failed { failure, rest: Rest::Intact(body) }, Again::Elsewhere));
            }
            return Ok(Answer::unasked(Verdict::Unoffered(body)));
        }
        let transfer = capabilities.transfer(path_of(message.request().target()));
        if transfer == Transfer::Ignore {
            return Ok(Answer::unasked(Verdict::Ignored(body)));
        }
        let terms = match self.terms(method, transfer, &capabilities, &mut body, info).await {
            Ok(terms) => terms,
            Err(error) => {
                let failure = match error.failure() {
                    Some(failure) => failure.clone(),
                    None => endpoint.failure(FailureKind::Source, error.to_string()),
                };
                return Err((Failed { failure, rest: Rest::Lost }, Again::Never));
            }
        };
        let sent = if capabilities.raw_heads { Ok(message.clone()) } else { message.end_to_end() };
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => {
                let failure =
                    endpoint.failure(FailureKind::Source, format!("message head: {error}"));
                return Err((Failed { failure, rest: Rest::Intact(body) }, Again::Never));
            }
        };
        // Without a copy, what a stale connection loses is lost for good.
        let prefer_new =
            prefer_new || (terms.has_body && terms.keep == 0 && terms.preview.is_none());
        let connection = endpoint.connect(info, &capabilities, on_overload, prefer_new).await;
        let connection = match connection {
            Ok(connection) => connection,
            Err(failure) => {
                let again = match failure.kind() {
                    FailureKind::Overload => Again::WhenFree,
                    _ => Again::Elsewhere,
                };
                return Err((Failed { failure, rest: Rest::Intact(body) }, again));
            }
        };
        let identity = self.config().identity;
        let head = request::adaptation(&endpoint.uri, &sent, &terms, &capabilities, identity, info);
        let transaction = Transaction::start(
            endpoint,
            connection,
            terms,
            head,
            body,
            info.connection_id.clone(),
            endpoint.begin(),
        );
        self.answer(transaction, sent, method, capabilities.raw_heads).await
    }

    /// What the request promises, after a look at the beginning of the body.
    async fn terms(
        &self,
        method: Method,
        transfer: Transfer,
        capabilities: &Capabilities,
        body: &mut Option<Incoming>,
        info: &TransactionInfo,
    ) -> Result<Terms, BodyError> {
        let config = self.config();
        let most = config.keep_copy.0;
        let decides_within =
            capabilities.hold.filter(|hold| capabilities.raw_heads && *hold <= most);
        let until_decided = decides_within.map(|hold| hold.saturating_add(HOLD_SLACK));
        let copied = body.as_mut().is_none_or(|body| {
            let bytes = until_decided.map_or(most, |until| until.max(most));
            let bytes = body.exact_length().map_or(bytes, |length| length.min(bytes));
            body.reserved.grow_to(bytes, info)
        });
        if !copied {
            self.metrics().copies_refused.add(1);
        }
        let keep = if copied { most } else { 0 };
        // A preview is held in memory, so what a service may ask for has a limit too.
        let most_preview = config.max_preview.map_or(most, |size| size.0.min(most));
        let most_preview = if copied { most_preview } else { most_preview.min(UNCOPIED_PREVIEW) };
        let mut preview = match transfer {
            Transfer::Preview => capabilities.preview.map(|size| size.min(most_preview)),
            Transfer::Complete | Transfer::Ignore => None,
        };
        let mut fits = true;
        if let Some(body) = body {
            match preview {
                Some(size) => {
                    body.gather(size, Some(config.timeouts.preview.0)).await?;
                    if !body.is_complete() {
                        // A sender that pauses must not hold up what it has sent.
                        preview = Some(size.min(body.gathered()));
                    }
                }
                None => {
                    body.gather(if copied { READ_AHEAD } else { 0 }, None).await?;
                    // A connection is taken when there is something to send, unless the sender
                    // waits for what comes of its head.
                    body.gather(0, Some(config.timeouts.preview.0)).await?;
                }
            }
            fits = copied && body.exact_length().is_some_and(|length| length <= keep);
        }
        let preview = preview.filter(|_| body.is_some());
        let keep_until = until_decided.filter(|_| copied && !fits);
        let keep = keep_until.unwrap_or(keep);
        if let Some(body) = body {
            let bytes = body.exact_length().map_or(keep, |length| length.min(keep));
            body.reserved.shrink_to(bytes.max(body.gathered()));
        }
        Ok(Terms {
            method,
            has_body: body.is_some(),
            preview,
            allow_204: capabilities.allow_204 && (fits || keep_until.is_some()),
            allow_206: capabilities.allow_206
                && capabilities.allow_204
                && config.allow_206
                && fits
                && body.is_some(),
            send_trailers: capabilities.allow_trailers,
            keep,
            wait_at_keep: keep_until.is_some(),
        })
    }

    /// Sends, and waits for the head of the final answer.
    async fn answer(
        &self,
        mut transaction: Box<Transaction>,
        sent: Message,
        method: Method,
        raw_heads: bool,
    ) -> Result<Answer, (Failed, Again)> {
        let endpoint = transaction.endpoint().clone();
        loop {
            match transaction.event().await {
                Ok(Event::Continue | Event::Data(_) | Event::End { .. }) => {}
                Ok(Event::Pass(head)) => {
                    endpoint.note_istag(head.headers().text("ISTag"));
                    let unread = transaction.unread_trailers();
                    let Rest::Intact(mut body) = transaction.finish() else {
                        let detail =
                            format!("{} passed a body that is no longer held", endpoint.label);
                        let failure = endpoint.failure(FailureKind::Protocol, detail);
                        return Err((Failed { failure, rest: Rest::Lost }, Again::Never));
                    };
                    if let Some(of) = unread {
                        body = body.map(|body| Bypassed::trailers(body, of, self.metrics()));
                    }
                    let verdict = Verdict::Passed(body);
                    return Ok(Answer { head: Some(head), raw_heads, verdict });
                }
                Ok(Event::Reply(reply)) => {
                    endpoint.note_istag(reply.head.headers().text("ISTag"));
                    let body = self
                        .reply_body(&reply, transaction)
                        .map_err(|failed| (*failed, Again::Never))?;
                    let Reply { head, req_hdr, res_hdr, .. } = reply;
                    let message = AdaptedMessage { req_hdr, res_hdr, sent, body };
                    let verdict = Verdict::Adapted(Box::new(message));
                    return Ok(Answer { head: Some(head), raw_heads, verdict });
                }
                Ok(Event::Refused(head)) => {
                    let failure = endpoint.refusal(head.status(), method.as_str());
                    let again = match failure.kind() {
                        FailureKind::Overload => Again::Elsewhere,
                        _ => Again::Never,
                    };
                    return Err((Failed { failure, rest: transaction.abandon() }, again));
                }
                Err(trouble) => {
                    let again = match trouble.is_loss() && transaction.is_unanswered() {
                        true => Again::Once,
                        false => Again::Never,
                    };
                    let failure = trouble.into_failure(&endpoint);
                    if transaction.ran_on_kept_connection() {
                        tracing::debug!(service = %self.name(), reason = failure.detail(), "kept connection was stale");
                    }
                    return Err((Failed { failure, rest: transaction.abandon() }, again));
                }
            }
        }
    }

    /// The answer's body: complete if it has come along with its head, as block pages do.
    fn reply_body(
        &self,
        reply: &Reply,
        mut transaction: Box<Transaction>,
    ) -> Result<Option<AdaptedBody>, Box<Failed>> {
        let endpoint = transaction.endpoint().clone();
        let mut ahead: Vec<Bytes> = Vec::new();
        let mut length = 0;
        while length < READ_AHEAD {
            match transaction.buffered_event() {
                Ok(Some(Event::Data(data))) => {
                    length += data.len() as u64;
                    ahead.push(data);
                }
                Ok(Some(Event::End { trailers, use_original: None })) => {
                    transaction.finish();
                    let full = Full::new(ahead, Some(trailers));
                    return Ok(reply.has_body.then_some(AdaptedBody::Full(full)));
                }
                Ok(Some(Event::End { use_original: Some(offset), .. })) => {
                    let unread = transaction.unread_trailers();
                    if let Rest::Intact(Some(original)) = transaction.finish()
                        && let Some(body) = original.after(ahead, offset)
                    {
                        return Ok(Some(AdaptedBody::Partial(match unread {
                            None => body,
                            Some(of) => Bypassed::trailers(body, of, self.metrics()),
                        })));
                    }
                    let detail = format!(
                        "{} refers to byte {offset} of the original body, which is beyond its end",
                        endpoint.label
                    );
                    let failure = endpoint.failure(FailureKind::Protocol, detail);
                    return Err(Box::new(Failed { failure, rest: Rest::Lost }));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(trouble) => {
                    let failure = trouble.into_failure(&endpoint);
                    return Err(Box::new(Failed { failure, rest: transaction.abandon() }));
                }
            }
        }
        Ok(Some(AdaptedBody::Live(Live::new(ahead, transaction, self.metrics().clone()))))
    }
}

impl Answer {
    fn unasked(verdict: Verdict) -> Self {
        Self { head: None, raw_heads: false, verdict }
    }

    /// A header of the ICAP reply.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.as_ref()?.headers().get(name)
    }
}

impl AdaptedBody {
    /// Bytes of data, if that is certain.
    pub(crate) fn exact_length(&self) -> Option<u64> {
        match self {
            Self::Full(full) => BodySource::exact_length(full),
            Self::Live(_) => None,
            Self::Partial(body) => body.exact_length(),
        }
    }

    pub(crate) fn into_body(self) -> Body {
        match self {
            Self::Full(full) => full.boxed(),
            Self::Live(live) => Box::pin(live),
            Self::Partial(body) => body.into_body(),
        }
    }
}
