//! Services in series.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_wire::{RequestHead, ResponseHead};
use icap::Method;
use tokio::sync::Semaphore;

use crate::course::Course;
use crate::head::Message;
use crate::incoming::Incoming;
use crate::late::{Before, Turns};
use crate::{
    Adapted, AdaptedResponse, Answers, Body, ChainConfig, ConfigError, Counter, Failure,
    FailureKind, LateChanges, Service, ServiceConfig, Shown, TransactionInfo, monitor,
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
    unseen: Arc<Unseen>,
    late_changes: LateChanges,
    answers: Answers,
}

/// Messages that no service of a chain took part in.
#[derive(Default)]
struct Unseen {
    count: Arc<Counter>,
    /// Whether it was said already, for requests and for responses.
    told: [AtomicBool; 2],
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
            let chain = Chain {
                late_changes: config.late_changes,
                answers: config.answers,
                ..Chain::new(registry.clone(), plan.into())
            };
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

    /// All chains.
    pub fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.chains.values()
    }

    /// All services.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.registry.services
    }
}

impl Chain {
    /// A chain that adapts nothing.
    pub fn empty() -> Self {
        Self::new(Arc::default(), Arc::default())
    }

    fn new(registry: Arc<Registry>, plan: Arc<[usize]>) -> Self {
        let (late_changes, answers) = (LateChanges::default(), Answers::default());
        Self { registry, plan, unseen: Arc::default(), late_changes, answers }
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
        let chain = ChainConfig::new("", names);
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

    /// Whether all of its services look into requests in this content coding, as far as they have
    /// said: gzip and deflate are taken for known where a service does not say.
    pub fn decodes_requests(&self, coding: &[u8]) -> bool {
        self.services().all(|service| service.decodes(Method::Reqmod, coding))
    }

    /// The same of responses.
    pub fn decodes_responses(&self, coding: &[u8]) -> bool {
        self.services().all(|service| service.decodes(Method::Respmod, coding))
    }

    /// Messages that went through without any service having seen them.
    pub fn unseen(&self) -> &Arc<Counter> {
        &self.unseen.count
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
                Adapted::Respond { head: response, body, by, block, trail, shown: course.shown }
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
            unshown: matches!(course.shown, Shown::Nobody),
        })
    }

    async fn run(
        &self,
        info: &TransactionInfo,
        message: Message,
        body: Option<Body>,
    ) -> Result<Course, Failure> {
        let mut course = Course::new(message, body.map(Incoming::new));
        let is_request = matches!(course.message, Message::Request(_));
        let mut plan = Cow::Borrowed(&self.plan[..]);
        let mut turns = Turns::default();
        let mut at = 0;
        while at < plan.len() {
            if course.stopped.is_some() && (is_request || self.answers == Answers::Pass) {
                break;
            }
            let service = &self.registry.services[plan[at]];
            at += 1;
            if !course.concerns(service, info) {
                if !service.config().monitor && at < plan.len() {
                    turns.left_out(service);
                }
                continue;
            }
            if service.config().monitor {
                let copies = &self.registry.copies[plan[at - 1]];
                course.body =
                    monitor::copy(service, copies, info, &course.message, course.body.take());
                continue;
            }
            let before = (!turns.is_empty()).then(|| Before::of(&mut course));
            let steps = course.trail.steps.len();
            let next = course.step(service, info).await?;
            let has_others = plan.len() > 1 || service.config().routing;
            if has_others && course.stopped.is_none() {
                turns.asked(service, before, steps, &mut course, info);
            }
            if let Some(next) = next.filter(|_| service.config().routing) {
                let named = self.registry.named(&next, service);
                plan = plan[..at].iter().copied().chain(named).collect();
                if plan.len() > MOST_SERVICES {
                    // To stop in the middle would leave out some that should see the message.
                    let detail = "X-Next-Services makes the chain longer than 16 services";
                    return Err(Failure::new(
                        service.name().clone(),
                        FailureKind::Protocol,
                        detail,
                    ));
                }
            }
        }
        self.judge_late_change(&course, info)?;
        if !course.trail.is_inspected() {
            self.tell_unseen(&course);
        }
        if course.stopped.is_some() {
            match is_request {
                true => self.show_answer(&mut course, &plan, info).await?,
                false if self.others(&course, &plan[at..], info).next().is_some() => {
                    course.shown = Shown::Nobody;
                }
                false => {}
            }
        }
        Ok(course)
    }

    fn judge_late_change(&self, course: &Course, info: &TransactionInfo) -> Result<(), Failure> {
        let Some(late) = &course.trail.late else { return Ok(()) };
        // A request that was answered goes nowhere, and of a response it is told.
        let is_request = matches!(course.message, Message::Request(_));
        if !is_request || self.late_changes == LateChanges::Pass || course.stopped.is_some() {
            return Ok(());
        }
        let (by, unseen_by, transaction) = (&*late.by, &*late.unseen_by, &*info.transaction_id);
        tracing::warn!(
            by,
            unseen_by,
            transaction,
            "the request is stopped: a service changed it after another one had seen it; put the \
             one that changes before the one that inspects, or set late_changes = \"pass\""
        );
        let detail = format!("changed the request after {unseen_by:?} had seen it");
        Err(Failure::new(late.by.clone(), FailureKind::Protocol, detail))
    }

    /// The services of `plan` that the course's message concerns, but the one that answered.
    fn others<'a>(
        &'a self,
        course: &'a Course,
        plan: &'a [usize],
        info: &'a TransactionInfo,
    ) -> impl Iterator<Item = usize> + 'a {
        plan.iter().copied().filter(move |at| {
            let service = &self.registry.services[*at];
            let by = course.stopped.as_ref().map(|(by, _)| by);
            by != Some(service.name())
                && !service.config().monitor
                && course.concerns(service, info)
        })
    }

    /// A service answered the request itself. Show that answer to all other services, which have
    /// not seen it.
    async fn show_answer(
        &self,
        course: &mut Course,
        plan: &[usize],
        info: &TransactionInfo,
    ) -> Result<(), Failure> {
        let by = course.stopped.as_ref().map(|(by, _)| by);
        let by = self.registry.services.iter().find(|service| Some(service.name()) == by).cloned();
        let mut others: Vec<usize> = self.others(course, plan, info).collect();
        if let Some(by) = by {
            let mut at = 0;
            while at < others.len() {
                // It would be asked about what it said itself.
                match self.registry.services[others[at]].is_response_half_of(&by).await {
                    true => drop(others.remove(at)),
                    false => at += 1,
                }
            }
        }
        if others.is_empty() {
            return Ok(());
        }
        if self.answers == Answers::Pass {
            course.shown = Shown::Nobody;
            return Ok(());
        }
        let asked = std::mem::take(&mut course.trail);
        for at in others {
            let service = &self.registry.services[at];
            if course.concerns(service, info) {
                // Routing was for the request.
                course.step(service, info).await?;
            }
        }
        let shown = std::mem::replace(&mut course.trail, asked);
        if !shown.steps.is_empty() {
            course.shown = Shown::Others(shown);
        }
        Ok(())
    }

    fn tell_unseen(&self, course: &Course) {
        self.unseen.count.add(1);
        let (at, kind) = match course.message {
            Message::Request(_) => (0, "requests"),
            Message::Response { .. } => (1, "responses"),
        };
        // A failure that was bypassed has its own line.
        let expected = self.is_empty() || course.trail.bypassed().next().is_some();
        if !expected && !self.unseen.told[at].swap(true, Ordering::Relaxed) {
            let services: Vec<&str> = self.services().map(|s| &**s.name()).collect();
            tracing::warn!(
                ?services,
                "some {kind} go through without any ICAP service having seen them: none offers the \
                 method, or filters leave them out; this is counted and not said again"
            );
        }
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
