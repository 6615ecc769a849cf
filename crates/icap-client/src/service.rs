//! A service: its endpoints, and one message's way through one of them.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use icap::client::{Event, Reply, Terms};
use icap::{Headers, Method};
use tokio::time::Instant;

use crate::capabilities::{Capabilities, Transfer};
use crate::endpoint::Endpoint;
use crate::head::Message;
use crate::incoming::Incoming;
use crate::live::Live;
use crate::transaction::{Rest, Transaction};
use crate::{
    Balance, Body, ConfigError, Failure, FailureKind, Full, MethodName, OnOverload, ServiceConfig,
    ServiceMetrics, TransactionInfo, request,
};

/// Body bytes sent beyond a service's `hold` before it has surely started to answer.
const HOLD_SLACK: u64 = 256 * 1024;
/// Body bytes of an answer that are taken in at once if they are there.
const READ_AHEAD: u64 = 64 * 1024;

/// One ICAP service, behind one endpoint or a set of them.
pub struct Service {
    name: Arc<str>,
    config: Arc<ServiceConfig>,
    endpoints: Vec<Arc<Endpoint>>,
    metrics: Arc<ServiceMetrics>,
    hasher: RandomState,
    /// Where the search for the least loaded begins, so that equals take turns.
    turn: AtomicUsize,
    looked_after: AtomicBool,
    pub(crate) share: Vec<Arc<str>>,
}

/// A service's answer to one message.
pub(crate) struct Answer {
    /// The ICAP reply's headers; none if the service was not asked.
    pub(crate) headers: Headers,
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
}

/// A message that a service sent, next to the one it was sent.
pub(crate) struct AdaptedMessage {
    pub(crate) reply: Reply,
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
enum Again {
    /// Nothing was sent: another endpoint may do.
    Elsewhere,
    Never,
    /// The connection died unanswered: once more, for a kept connection may have been stale.
    Once,
    /// All connections that the endpoint may have are in use.
    WhenFree,
}

impl Service {
    pub(crate) fn new(config: &ServiceConfig) -> Result<Self, ConfigError> {
        let fail =
            |why: &str| Err(ConfigError::new(format!("ICAP service {:?}: {why}", config.name)));
        if config.name.is_empty() {
            return fail("needs a name");
        }
        if config.url.is_empty() {
            return fail("needs at least one URL");
        }
        if config.methods.as_ref().is_some_and(Vec::is_empty) {
            return fail("an empty `methods` leaves nothing to do; leave it out or name one");
        }
        for name in &config.share {
            if Headers::new().push(name, "").is_err() || name.eq_ignore_ascii_case("Encapsulated") {
                return fail(&format!("{name:?} in `share` is not the name of a header to share"));
            }
        }
        let name: Arc<str> = config.name.as_str().into();
        let metrics = Arc::new(ServiceMetrics::default());
        let config = Arc::new(config.clone());
        let endpoints = config
            .url
            .iter()
            .map(|url| Endpoint::new(url, &name, &config, &metrics).map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(|e| ConfigError::new(format!("ICAP service {name:?}: {e}")))?;
        Ok(Self {
            share: config.share.iter().map(|n| n.as_str().into()).collect(),
            name,
            config,
            endpoints,
            metrics,
            hasher: RandomState::new(),
            turn: AtomicUsize::new(0),
            looked_after: AtomicBool::new(false),
        })
    }

    /// How logs and chains call it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its counters.
    pub fn metrics(&self) -> &ServiceMetrics {
        &self.metrics
    }

    /// Its endpoints and whether each is up, for a health page.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, bool)> {
        self.endpoints.iter().map(|e| (e.label.as_str(), !e.breaker.is_down()))
    }

    pub(crate) fn config(&self) -> &ServiceConfig {
        &self.config
    }

    pub(crate) fn counters(&self) -> &Arc<ServiceMetrics> {
        &self.metrics
    }

    /// Whether it is set to be used for a method; `None` leaves that to its OPTIONS.
    pub(crate) fn wants(&self, method: Method) -> Option<bool> {
        let name = match method {
            Method::Reqmod => MethodName::Reqmod,
            Method::Respmod => MethodName::Respmod,
            Method::Options => return None,
        };
        self.config.methods.as_ref().map(|methods| methods.contains(&name))
    }

    /// Sends a message through one of the endpoints. `Ok(None)` hands nothing back because the
    /// service has no part in messages of this method; the body is untouched then.
    pub(crate) async fn adapt(
        self: &Arc<Self>,
        info: &TransactionInfo,
        message: &Message,
        mut body: Option<Incoming>,
    ) -> Result<Answer, Failed> {
        self.look_after();
        let mut tried = Vec::new();
        let mut full = Vec::new();
        let mut retried = false;
        let mut last = None;
        // With several endpoints, one that has room at once is better than any wait.
        let mut on_overload = match self.config.on_overload {
            OnOverload::Wait if self.endpoints.len() > 1 => OnOverload::Block,
            set => set,
        };
        loop {
            let Some((at, endpoint)) = self.pick(&info.connection_id, &tried) else {
                if !full.is_empty() && on_overload != self.config.on_overload {
                    on_overload = self.config.on_overload;
                    tried.retain(|at| !full.contains(at));
                    continue;
                }
                let failure = last.unwrap_or_else(|| self.all_down());
                return Err(Failed { failure, rest: Rest::Intact(body) });
            };
            match self.attempt(endpoint, info, message, body, on_overload, retried).await {
                Ok(answer) => {
                    endpoint.report_success();
                    return Ok(answer);
                }
                Err((failed, again)) => {
                    endpoint.report_failure(&failed.failure);
                    let Failed { failure, rest } = failed;
                    match (again, rest) {
                        (Again::Elsewhere, Rest::Intact(whole)) => {
                            tried.push(at);
                            body = whole;
                        }
                        (Again::WhenFree, Rest::Intact(whole))
                            if on_overload != self.config.on_overload =>
                        {
                            tried.push(at);
                            full.push(at);
                            body = whole;
                        }
                        (Again::Once, Rest::Intact(whole)) if !retried => {
                            self.metrics.retries.add(1);
                            retried = true;
                            body = whole;
                        }
                        (_, rest) => return Err(Failed { failure, rest }),
                    }
                    tracing::debug!(service = %self.name, reason = failure.detail(), "trying again");
                    last = Some(failure);
                }
            }
        }
    }

    async fn attempt(
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
                return Err((Failed { failure, rest: Rest::Intact(body) }, Again::Elsewhere));
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
            if self.wants(method).is_some() {
                let detail = format!("{} does not offer {method}", endpoint.label);
                let failure = endpoint.failure(FailureKind::Unsuitable, detail);
                return Err((Failed { failure, rest: Rest::Intact(body) }, Again::Elsewhere));
            }
            return Ok(Answer::unasked(body));
        }
        let transfer = capabilities.transfer(path_of(message.request().target()));
        if transfer == Transfer::Ignore {
            return Ok(Answer::unasked(body));
        }
        let terms = match self.terms(method, transfer, &capabilities, &mut body).await {
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
        let affinity = &info.connection_id;
        let connection = endpoint.connect(affinity, &capabilities, on_overload, prefer_new).await;
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
        let identity = self.config.identity;
        let head = request::adaptation(&endpoint.uri, &sent, &terms, &capabilities, identity, info);
        let transaction = Transaction::start(
            endpoint,
            connection,
            terms,
            head,
            body,
            affinity.clone(),
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
    ) -> Result<Terms, crate::BodyError> {
        let most = self.config.max_preview.map_or(u64::MAX, |size| size.0);
        let mut preview = match transfer {
            Transfer::Preview => capabilities.preview.map(|size| size.min(most)),
            Transfer::Complete | Transfer::Ignore => None,
        };
        let keep = self.config.keep_copy.0;
        let mut fits = true;
        if let Some(body) = body {
            match preview {
                Some(size) => {
                    body.gather(size, Some(self.config.timeouts.preview.0)).await?;
                    if !body.is_complete() {
                        // A sender that pauses must not hold up what it has sent.
                        preview = Some(size.min(body.gathered()));
                    }
                }
                None => body.gather(READ_AHEAD, None).await?,
            }
            fits = body.exact_length().is_some_and(|length| length <= keep);
        }
        let preview = preview.filter(|_| body.is_some());
        let decides_within =
            capabilities.hold.filter(|hold| capabilities.raw_heads && *hold <= keep);
        let wait_at_keep = decides_within.is_some() && !fits;
        Ok(Terms {
            method,
            has_body: body.is_some(),
            preview,
            allow_204: capabilities.allow_204 && (fits || wait_at_keep),
            allow_206: capabilities.allow_206
                && capabilities.allow_204
                && self.config.allow_206
                && fits
                && body.is_some(),
            send_trailers: capabilities.allow_trailers,
            keep: match decides_within {
                Some(hold) if wait_at_keep => hold + HOLD_SLACK,
                _ => keep,
            },
            wait_at_keep,
        })
    }

    /// Sends, and waits for the head of the final answer.
    async fn answer(
        &self,
        mut transaction: Transaction,
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
                    let Rest::Intact(body) = transaction.finish() else {
                        let detail =
                            format!("{} passed a body that is no longer held", endpoint.label);
                        let failure = endpoint.failure(FailureKind::Protocol, detail);
                        return Err((Failed { failure, rest: Rest::Lost }, Again::Never));
                    };
                    let headers = head.headers().clone();
                    return Ok(Answer { headers, raw_heads, verdict: Verdict::Passed(body) });
                }
                Ok(Event::Reply(reply)) => {
                    endpoint.note_istag(reply.head.headers().text("ISTag"));
                    let headers = reply.head.headers().clone();
                    let body = self
                        .reply_body(&reply, transaction)
                        .map_err(|failed| (*failed, Again::Never))?;
                    let message = AdaptedMessage { reply, sent, body };
                    let verdict = Verdict::Adapted(Box::new(message));
                    return Ok(Answer { headers, raw_heads, verdict });
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
                        tracing::debug!(service = %self.name, reason = failure.detail(), "kept connection was stale");
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
        mut transaction: Transaction,
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
                    if let Rest::Intact(Some(original)) = transaction.finish()
                        && let Some(body) = original.after(ahead, offset)
                    {
                        return Ok(Some(AdaptedBody::Partial(body)));
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
        Ok(Some(AdaptedBody::Live(Live::new(ahead, transaction, self.metrics.clone()))))
    }

    /// The endpoint for a transaction, among those not tried that are fit.
    fn pick(&self, affinity: &Arc<str>, tried: &[usize]) -> Option<(usize, &Arc<Endpoint>)> {
        let now = Instant::now();
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut ranked: Vec<(f64, usize)> = (0..self.endpoints.len())
            .map(|i| (start.wrapping_add(i)) % self.endpoints.len())
            .filter(|at| !tried.contains(at))
            .filter_map(|at| {
                let endpoint = &self.endpoints[at];
                let share = endpoint.breaker.share(now)?;
                let rank = match self.config.balance {
                    // Rendezvous hashing: when an endpoint goes, only its own connections move.
                    Balance::ClientConnection => -self.unit_hash(affinity, at).ln() / share,
                    Balance::LeastOutstanding => f64::from(endpoint.outstanding() + 1) / share,
                };
                Some((rank, at))
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        ranked
            .into_iter()
            .map(|(_, at)| (at, &self.endpoints[at]))
            .find(|(_, endpoint)| endpoint.breaker.admit(now))
    }

    /// A number above 0 and at most 1, always the same for a client connection and an endpoint.
    fn unit_hash(&self, affinity: &Arc<str>, endpoint: usize) -> f64 {
        let mut hasher = self.hasher.build_hasher();
        affinity.hash(&mut hasher);
        endpoint.hash(&mut hasher);
        ((hasher.finish() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn all_down(&self) -> Failure {
        let names: Vec<&str> = self.endpoints.iter().map(|e| e.label.as_str()).collect();
        let detail = format!("no endpoint is up ({})", names.join(", "));
        Failure::new(self.name.clone(), FailureKind::Connect, detail)
    }

    /// Starts the one task that looks after the endpoints between transactions. It ends with the
    /// service.
    fn look_after(self: &Arc<Self>) {
        if self.looked_after.swap(true, Ordering::Relaxed) {
            return;
        }
        let service = Arc::downgrade(self);
        let interval = self.config.health.interval.0.max(std::time::Duration::from_millis(10));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let Some(service) = service.upgrade() else { return };
                for endpoint in &service.endpoints {
                    endpoint.look_after().await;
                }
            }
        });
    }
}

impl Answer {
    fn unasked(body: Option<Incoming>) -> Self {
        Self { headers: Headers::new(), raw_heads: false, verdict: Verdict::Ignored(body) }
    }
}

impl AdaptedBody {
    /// Bytes of data, if that is certain.
    pub(crate) fn exact_length(&self) -> Option<u64> {
        match self {
            Self::Full(full) => crate::BodySource::exact_length(full),
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

/// The path of a request target, without query.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    let after_authority = match target.windows(3).position(|w| w == b"://") {
        Some(at) => {
            let rest = &target[at + 3..];
            let slash = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
            &rest[slash..]
        }
        None => target,
    };
    let end = after_authority.iter().position(|b| *b == b'?').unwrap_or(after_authority.len());
    &after_authority[..end]
}
