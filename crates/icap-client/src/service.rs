//! A service: its endpoints, and one message's way through one of them.

use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use icap::{Headers, Method};

use crate::attempt::{Again, Answer, Failed};
use crate::endpoint::{Endpoint, Offered};
use crate::head::Message;
use crate::incoming::Incoming;
use crate::transaction::Rest;
use crate::uri::Place;
use crate::{
    ConfigError, Failure, FailureKind, MethodName, OnOverload, ServiceConfig, ServiceMetrics,
    TransactionInfo,
};

/// One ICAP service, behind one endpoint or a set of them.
pub struct Service {
    name: Arc<str>,
    config: Arc<ServiceConfig>,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    metrics: Arc<ServiceMetrics>,
    /// So that nobody outside can choose connection ids that all fall on one endpoint.
    pub(crate) hasher: RandomState,
    /// Where the search for the least loaded begins, so that equals take turns.
    pub(crate) turn: AtomicUsize,
    looked_after: AtomicBool,
    pub(crate) share: Vec<Arc<str>>,
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
        let offered = Arc::new(Offered::default());
        let config = Arc::new(config.clone());
        let endpoints = config
            .url
            .iter()
            .map(|url| Endpoint::new(url, &name, &config, &metrics, &offered).map(Arc::new))
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

    /// Its counters. They outlive it as long as anything of it is under way.
    pub fn metrics(&self) -> &Arc<ServiceMetrics> {
        &self.metrics
    }

    /// Its endpoints and whether each is up, for a health page.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, bool)> {
        self.endpoints.iter().map(|e| (e.label.as_str(), !e.breaker.is_down()))
    }

    /// The host and port of each endpoint that is reached over TCP.
    pub fn places(&self) -> impl Iterator<Item = (&str, u16)> {
        self.endpoints.iter().filter_map(|endpoint| match &endpoint.uri.place {
            Place::Tcp { host, port, .. } => Some((host.as_str(), *port)),
            Place::Unix(_) => None,
        })
    }

    /// Whether all of its endpoints look into contents in this coding that `method` shows them, as
    /// far as they have said; also if it is shown none.
    pub(crate) fn decodes(&self, method: Method, coding: &[u8]) -> bool {
        self.config.monitor
            || self.wants(method) == Some(false)
            || self.endpoints.iter().all(|endpoint| endpoint.can_decode(method, coding))
    }

    /// Whether it is the half for responses of the service whose half for requests is `other`: both
    /// at the same servers, each with one method, as RFC 3507 section 4.10.2 wants it. E2Guardian is
    /// such a pair.
    pub(crate) async fn is_response_half_of(&self, other: &Self) -> bool {
        let same_servers = self
            .endpoints
            .iter()
            .all(|endpoint| other.endpoints.iter().any(|o| o.uri.place == endpoint.uri.place));
        same_servers && self.lacks(Method::Reqmod).await && other.lacks(Method::Respmod).await
    }

    /// Whether all of its endpoints say that they don't have the method.
    async fn lacks(&self, method: Method) -> bool {
        for endpoint in &self.endpoints {
            match endpoint.capabilities().await {
                Ok(capabilities) if !capabilities.offers(method) => {}
                _ => return false,
            }
        }
        true
    }

    pub(crate) fn config(&self) -> &ServiceConfig {
        &self.config
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

    /// Sends a message through one of the endpoints.
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
                    if !matches!(again, Again::Unasked) {
                        endpoint.note_failure(&failed.failure);
                    }
                    let Failed { failure, rest } = failed;
                    match (again, rest) {
                        (Again::Elsewhere | Again::Unasked, Rest::Intact(whole)) => {
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

    pub(crate) fn all_down(&self) -> Failure {
        let names: Vec<&str> = self.endpoints.iter().map(|e| e.label.as_str()).collect();
        let detail = format!("no endpoint is up ({})", names.join(", "));
        Failure::new(self.name.clone(), FailureKind::Connect, detail)
    }

    /// Starts the one task that looks after the endpoints between transactions. It ends with the
    /// service.
    pub(crate) fn look_after(self: &Arc<Self>) {
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
