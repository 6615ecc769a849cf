//! Services in series.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http_wire::{Limits, RequestHead, ResponseHead};
use icap::{Headers, Method};
use tokio::sync::Semaphore;

use crate::bypass::Bypassed;
use crate::config::{Filter, Subject};
use crate::head::{self, Content, Message};
use crate::incoming::Incoming;
use crate::live::Announced;
use crate::monitor;
use crate::service::{AdaptedBody, AdaptedMessage, Answer, Failed, Service, Verdict, path_of};
use crate::transaction::Rest;
use crate::{
    Adapted, AdaptedResponse, Block, Body, ChainConfig, ConfigError, Did, Fail, Failure,
    FailureKind, OnOverload, ServiceConfig, Step, Trail, TransactionInfo,
};

/// The most services of a chain, those that X-Next-Services adds included.
const MOST_SERVICES: usize = 16;

/// All services and chains of a configuration.
pub struct Chains {
    registry: Arc<Registry>,
    chains: HashMap<String, Chain>,
}

/// Services that each see the last one's result. Cheap to clone.
#[derive(Clone)]
pub struct Chain {
    registry: Arc<Registry>,
    plan: Arc<[usize]>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("services", &self.plan.len()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Registry {
    services: Vec<Arc<Service>>,
    copies: Vec<Arc<Semaphore>>,
    by_name: HashMap<String, usize>,
}

impl Chains {
    /// Builds services and chains. Connects nowhere.
    ///
    /// # Errors
    /// A URL, name or file that can't be used, an unknown service, a name used twice, a chain of
    /// more than 16.
    pub fn from_config(
        services: &[ServiceConfig],
        chains: &[ChainConfig],
    ) -> Result<Self, ConfigError> {
        let registry = Arc::new(Registry::new(services)?);
        let mut built = HashMap::new();
        for config in chains {
            let fail =
                |why: String| Err(ConfigError::new(format!("ICAP chain {:?}: {why}", config.name)));
            if config.services.len() > MOST_SERVICES {
                return fail(format!(
                    "{} services, but at most {MOST_SERVICES} are possible",
                    config.services.len()
                ));
            }
            let mut plan = Vec::new();
            for name in &config.services {
                match registry.by_name.get(name) {
                    Some(at) => plan.push(*at),
                    None => {
                        return fail(format!(
                            "there is no service {name:?}; add [[icap.service]] for it"
                        ));
                    }
                }
            }
            let chain = Chain { registry: registry.clone(), plan: plan.into() };
            if built.insert(config.name.clone(), chain).is_some() {
                return fail("the name is used twice".into());
            }
        }
        Ok(Self { registry, chains: built })
    }

    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.get(name)
    }

    /// All services.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.registry.services
    }
}

impl Chain {
    /// A chain that adapts nothing.
    pub fn empty() -> Self {
        Self { registry: Arc::default(), plan: Arc::default() }
    }

    /// One service with default settings for each URL, in order.
    ///
    /// # Errors
    /// As [`Chains::from_config`].
    pub fn from_urls(urls: &[String]) -> Result<Self, ConfigError> {
        let services: Vec<_> = urls.iter().map(|url| ServiceConfig::new(url, url)).collect();
        Self::from_services(&services)
    }

    /// A chain of these services, in order.
    ///
    /// # Errors
    /// As [`Chains::from_config`].
    pub fn from_services(services: &[ServiceConfig]) -> Result<Self, ConfigError> {
        let names = services.iter().map(|s| s.name.clone()).collect();
        let chain = ChainConfig { name: String::new(), services: names };
        let chains = Chains::from_config(services, &[chain])?;
        Ok(chains.chain("").cloned().unwrap_or_else(Self::empty))
    }

    /// Whether it adapts nothing.
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty()
    }

    /// Its services, in order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.plan.iter().map(|at| &self.registry.services[*at])
    }

    /// Sends a request through the chain. Resolves as soon as it is known what becomes of it; the
    /// body that is handed back does the rest of the work while it is read.
    ///
    /// # Errors
    /// A service failed and is set to fail closed, or could not be bypassed any more, or the
    /// body's sender failed.
    pub async fn reqmod(
        &self,
        info: &TransactionInfo,
        head: RequestHead,
        body: Option<Body>,
    ) -> Result<Adapted, Failure> {
        let course = self.run(info, Message::Request(head), body).await?;
        let body = course.body.map(Incoming::into_body);
        let trail = course.trail;
        Ok(match (course.message, course.stopped) {
            (Message::Request(head), _) => {
                Adapted::Forward { head, body, changed: course.changed, trail }
            }
            (Message::Response { response, .. }, stopped) => {
                let (by, block) = match stopped {
                    Some((by, block)) => (by, block),
                    None => (Arc::default(), None),
                };
                Adapted::Respond { head: response, body, by, block, trail }
            }
        })
    }

    /// Sends a response through the chain, with the head of the request as it was sent to the
    /// server. Otherwise as [`Chain::reqmod`].
    ///
    /// # Errors
    /// As [`Chain::reqmod`].
    pub async fn respmod(
        &self,
        info: &TransactionInfo,
        request: &RequestHead,
        head: ResponseHead,
        body: Option<Body>,
    ) -> Result<AdaptedResponse, Failure> {
        let message = Message::Response { request: request.clone(), response: head };
        let course = self.run(info, message, body).await?;
        let Message::Response { response, .. } = course.message else {
            let detail = "a response was answered with a request";
            return Err(Failure::new(Arc::default(), FailureKind::Protocol, detail));
        };
        Ok(AdaptedResponse {
            head: response,
            body: course.body.map(Incoming::into_body),
            changed: course.changed,
            blocked_by: course.stopped.and_then(|(_, block)| block),
            trail: course.trail,
        })
    }

    async fn run(
        &self,
        info: &TransactionInfo,
        message: Message,
        body: Option<Body>,
    ) -> Result<Course, Failure> {
        let mut course = Course {
            message,
            body: body.map(Incoming::new),
            changed: false,
            stopped: None,
            trail: Trail::default(),
        };
        let mut plan = std::borrow::Cow::Borrowed(&self.plan[..]);
        let mut at = 0;
        while at < plan.len() && at < MOST_SERVICES && course.stopped.is_none() {
            let service = &self.registry.services[plan[at]];
            at += 1;
            if !is_concerned(service, info, &course) {
                continue;
            }
            if service.config().monitor {
                let copies = &self.registry.copies[plan[at - 1]];
                course.body =
                    monitor::copy(service, copies, info, &course.message, course.body.take());
                continue;
            }
            let next = course.step(service, info).await?;
            if let Some(next) = next.filter(|_| service.config().routing) {
                let named = self.registry.named(&next, service);
                plan = plan[..at].iter().copied().chain(named).collect();
            }
        }
        Ok(course)
    }
}

impl Registry {
    fn new(configs: &[ServiceConfig]) -> Result<Self, ConfigError> {
        let mut this = Self::default();
        for config in configs {
            let at = this.services.len();
            this.services.push(Arc::new(Service::new(config)?));
            this.copies.push(Arc::new(Semaphore::new(monitor::MOST_COPIES)));
            if this.by_name.insert(config.name.clone(), at).is_some() {
                return Err(ConfigError::new(format!(
                    "ICAP service {:?}: the name is used twice",
                    config.name
                )));
            }
        }
        Ok(this)
    }

    /// The services that X-Next-Services names. A name that nobody has is a mistake of the
    /// service's; leaving the others out because of it would let traffic by.
    fn named<'a>(&'a self, names: &'a str, by: &'a Service) -> impl Iterator<Item = usize> + 'a {
        names.split(',').map(str::trim).filter(|n| !n.is_empty()).filter_map(|name| {
            let at = self.by_name.get(name);
            if at.is_none() {
                tracing::warn!(service = %by.name(), next = name, "X-Next-Services names an unknown service");
            }
            at.copied()
        })
    }
}

/// A message on its way through the chain.
struct Course {
    message: Message,
    body: Option<Incoming>,
    changed: bool,
    /// The service that ended the chain, with its account if it was a block.
    stopped: Option<(Arc<str>, Option<Block>)>,
    trail: Trail,
}

impl Course {
    /// One service's turn. Returns its X-Next-Services.
    async fn step(
        &mut self,
        service: &Arc<Service>,
        info: &TransactionInfo,
    ) -> Result<Option<String>, Failure> {
        let metrics = service.counters();
        metrics.transactions.add(1);
        metrics.active.add(1);
        let answer = service.adapt(info, &self.message, self.body.take()).await;
        metrics.active.add(-1);
        let answer = match answer {
            Ok(answer) => answer,
            Err(failed) => return self.failed(service, info, failed).map(|()| None),
        };
        for name in &service.share {
            if let Some(value) = answer.headers.get(name)
                && !info.shared.set(name, Bytes::copy_from_slice(value))
            {
                tracing::warn!(service = %service.name(), header = %name, "shared header too long, or too many of them: not carried on");
            }
        }
        let next = answer.headers.text("X-Next-Services").map(str::to_owned);
        let did = match self.take(service, answer) {
            Ok(did) => did,
            Err(failure) => {
                let failed = Failed { failure, rest: Rest::Lost };
                return self.failed(service, info, failed).map(|()| None);
            }
        };
        self.trail.steps.push(Step { service: service.name().clone(), did });
        Ok(next)
    }

    /// Goes on with what the service made of the message.
    fn take(&mut self, service: &Service, answer: Answer) -> Result<Did, Failure> {
        let metrics = service.counters();
        match answer.verdict {
            Verdict::Ignored(body) => {
                self.body = body;
                metrics.ignored.add(1);
                Ok(Did::Ignored)
            }
            Verdict::Passed(body) => {
                self.body = body;
                metrics.passed.add(1);
                Ok(Did::Passed)
            }
            Verdict::Adapted(message) => {
                let AdaptedMessage { reply, sent, body } = *message;
                let wrong = |error: http_wire::Error| {
                    let detail = format!("sent a message with a bad HTTP head: {error}");
                    Failure::new(service.name().clone(), FailureKind::Protocol, detail)
                };
                let declared = |framing| match framing {
                    Ok(http_wire::Framing::Length(n)) if answer.raw_heads => Some(n),
                    _ => None,
                };
                let request = self.message.request().clone();
                let block = block_of(service, &answer.headers);
                let satisfied =
                    matches!(self.message, Message::Request(_)) && reply.res_hdr.is_some();
                match (reply.res_hdr, reply.req_hdr) {
                    (Some(bytes), _) => {
                        let head = match (&self.message, &sent) {
                            // Untouched, so the original's connection fields are still true of it.
                            (
                                Message::Response { response, .. },
                                Message::Response { response: sent, .. },
                            ) if *sent.bytes() == bytes => response.clone(),
                            _ => ResponseHead::from_bytes(bytes, &REPLY_LIMITS).map_err(wrong)?,
                        };
                        let method = request.method();
                        let announced = declared(head.framing(method));
                        let possible = head::can_have_content(head.status(), method);
                        let (content, body) = content(body, announced, possible);
                        let response =
                            head::frame_response(&head, content, method).map_err(wrong)?;
                        self.message = Message::Response { request, response };
                        self.body = body;
                    }
                    (None, Some(bytes)) => {
                        let head = match &sent {
                            Message::Request(sent) if *sent.bytes() == bytes => request,
                            _ => RequestHead::from_bytes(bytes, &REPLY_LIMITS).map_err(wrong)?,
                        };
                        let announced = declared(head.framing());
                        let (content, body) = content(body, announced, true);
                        self.message =
                            Message::Request(head::frame_request(&head, content).map_err(wrong)?);
                        self.body = body;
                    }
                    // The exchange lets no reply through that has neither.
                    (None, None) => {}
                }
                self.changed = true;
                metrics.adapted.add(1);
                if satisfied || block.is_some() {
                    metrics.blocked.add(1);
                    self.stopped = Some((service.name().clone(), block));
                }
                Ok(Did::Adapted)
            }
        }
    }

    /// Lets policy decide which way a failure falls.
    fn failed(
        &mut self,
        service: &Service,
        info: &TransactionInfo,
        failed: Failed,
    ) -> Result<(), Failure> {
        let Failed { failure, rest } = failed;
        let metrics = service.counters();
        metrics.failures(failure.kind()).add(1);
        let config = service.config();
        let fail = match failure.kind() {
            FailureKind::Connect => config.fail.connect,
            FailureKind::Overload if config.on_overload == OnOverload::Bypass => Fail::Open,
            FailureKind::Overload if config.on_overload == OnOverload::Block => Fail::Closed,
            FailureKind::Overload => config.fail.overload,
            // No message is left to let go on.
            FailureKind::Source => Fail::Closed,
            _ => config.fail.error,
        };
        let transaction = &*info.transaction_id;
        let (service_name, reason) = (service.name(), failure.detail());
        match (fail, rest) {
            (Fail::Open, Rest::Intact(body)) => {
                tracing::warn!(service = %service_name, transaction, reason, "failing open: the message goes on unadapted");
                metrics.bypassed.add(1);
                let did = Did::Bypassed(failure.kind());
                self.trail.steps.push(Step { service: service_name.clone(), did });
                self.body = body.map(|body| Bypassed::wrap(body, service.counters()));
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

/// Whether a message goes to a service at all, by the service's settings.
fn is_concerned(service: &Service, info: &TransactionInfo, course: &Course) -> bool {
    let method = match course.message {
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
    let request = course.message.request();
    let host = request.host().ok().flatten();
    let content_type = match &course.message {
        Message::Request(request) => request.field("Content-Type"),
        Message::Response { response, .. } => response.field("Content-Type"),
    };
    let subject = Subject {
        host: host.as_ref().map_or(&[][..], |h| h.host.as_bytes()),
        path: path_of(request.target()),
        method: request.method(),
        content_type: content_type.map_or(&[], |f| f.value),
        size: course.body.as_ref().map_or(Some(0), Incoming::exact_length),
        client: info.client.map(|c| c.ip()),
    };
    let matches = |filters: &[Filter]| filters.iter().any(|f| f.matches(&subject));
    (config.only.is_empty() || matches(&config.only)) && !matches(&config.except)
}
