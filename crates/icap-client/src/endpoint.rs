//! One endpoint of a service: what it offers and its connections.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use icap::client::{Event, Terms};
use icap::{Headers, Method, ResponseHead};
use shares::Ledger;
use tokio::time::{Instant, timeout};

use crate::breaker::Breaker;
use crate::capabilities::Capabilities;
use crate::connection::Connection;
use crate::pool::{Lease, Leased, Lessee, Pool, Slot};
use crate::transaction::{Transaction, Trouble};
use crate::transport::Connector;
use crate::uri::ServiceUri;
use crate::{
    ConfigError, Failure, FailureKind, MethodName, OnOverload, ServiceConfig, ServiceMetrics,
    TransactionInfo, request,
};

/// Idle connections kept where neither the settings nor the service say anything.
const MOST_IDLE: u32 = 64;
/// Characters of a service's header that a message quotes.
const MOST_QUOTED: usize = 100;

pub(crate) struct Endpoint {
    pub(crate) service: Arc<str>,
    pub(crate) label: String,
    pub(crate) uri: ServiceUri,
    pub(crate) config: Arc<ServiceConfig>,
    pub(crate) pool: Pool,
    pub(crate) breaker: Breaker,
    pub(crate) connector: Connector,
    outstanding: Arc<AtomicU32>,
    /// Streams that are open.
    pub(crate) streams: Arc<Ledger>,
    known: Mutex<Option<Known>>,
    offered: Arc<Offered>,
    /// Held by whoever asks OPTIONS.
    pub(crate) fetching: Arc<tokio::sync::Mutex<()>>,
    failed: Mutex<FailedFetches>,
    metrics: Arc<ServiceMetrics>,
}

#[derive(Clone)]
struct Known {
    capabilities: Arc<Capabilities>,
    asked: Instant,
    refresh: Instant,
    expires: Instant,
}

/// What any endpoint of a service has offered so far.
#[derive(Default)]
pub(crate) struct Offered {
    reqmod: AtomicBool,
    respmod: AtomicBool,
    streams: AtomicBool,
}

/// What those who waited for an OPTIONS answer that never came are told.
#[derive(Default)]
struct FailedFetches {
    count: u64,
    last: Option<Failure>,
}

/// Counts a transaction as in work for as long as it lives.
pub(crate) struct Ongoing(Arc<AtomicU32>);

impl Endpoint {
    pub(crate) fn new(
        url: &str,
        service: &Arc<str>,
        config: &Arc<ServiceConfig>,
        metrics: &Arc<ServiceMetrics>,
        offered: &Arc<Offered>,
    ) -> Result<Self, ConfigError> {
        let uri = ServiceUri::parse(url)?;
        Ok(Self {
            service: service.clone(),
            label: uri.label(),
            connector: Connector::new(uri.place.clone(), &config.tls)?,
            uri,
            pool: Pool::new(config.idle_connections.unwrap_or(MOST_IDLE), config.timeouts.keep.0),
            breaker: Breaker::new(config.health),
            config: config.clone(),
            outstanding: Arc::default(),
            streams: Ledger::new(),
            known: Mutex::default(),
            offered: offered.clone(),
            fetching: Arc::default(),
            failed: Mutex::default(),
            metrics: metrics.clone(),
        })
    }

    /// Whether it looks into contents in this coding, as it said when it was asked last; also if it
    /// does not take part in messages of the kind.
    pub(crate) fn can_decode(&self, method: Method, coding: &[u8]) -> bool {
        match &*self.lock_known() {
            Some(Known { capabilities, .. }) => {
                !capabilities.offers(method) || capabilities.can_decode(coding)
            }
            None => Capabilities::common(coding),
        }
    }

    /// What it offers, from the cache as long as that holds.
    ///
    /// # Errors
    /// As OPTIONS failed; all who waited for the same attempt get its failure, for one after the
    /// other would wait longer and longer for an endpoint that does not answer.
    pub(crate) async fn capabilities(self: &Arc<Self>) -> Result<Arc<Capabilities>, Failure> {
        let fresh = |known: Option<Known>| {
            known.filter(|k| k.expires > Instant::now()).map(|k| k.capabilities)
        };
        if let Some(capabilities) = fresh(self.known()) {
            return Ok(capabilities);
        }
        let failures = self.lock_failed().count;
        let fetching = self.fetching.clone().lock_owned().await;
        if let Some(capabilities) = fresh(self.known()) {
            return Ok(capabilities);
        }
        if let Some(failure) = self.failed_since(failures) {
            return Err(failure);
        }
        // A task of its own: the others wait for it too, also when this caller gives up.
        let endpoint = self.clone();
        let fetch = tokio::spawn(async move {
            let _fetching = fetching;
            let fetched = endpoint.fetch().await;
            if let Err(failure) = &fetched {
                endpoint.report_failure(failure);
            }
            fetched
        });
        fetch.await.unwrap_or_else(|error| {
            let detail = format!("OPTIONS at {} was broken off: {error}", self.label);
            Err(self.failure(FailureKind::Closed, detail))
        })
    }

    /// Whether an answer to OPTIONS that lacks this method is a failure. Without settings it is if
    /// the method was offered before, by any endpoint of the set: a service that comes back with
    /// less must not take its inspection along unnoticed.
    pub(crate) fn must_offer(&self, method: Method) -> bool {
        let (name, offered) = match method {
            Method::Reqmod => (MethodName::Reqmod, &self.offered.reqmod),
            Method::Respmod => (MethodName::Respmod, &self.offered.respmod),
            Method::Options => return false,
        };
        match &self.config.methods {
            Some(methods) => methods.contains(&name),
            None => offered.load(Relaxed),
        }
    }

    /// The failure of a method that it must offer and does not.
    pub(crate) fn unsuitable(&self, method: Method) -> Failure {
        let label = &self.label;
        let detail = match &self.config.methods {
            Some(_) => format!(
                "{label} does not offer {method}, which `methods` names: set the service up to \
                 offer it, or take it out of `methods`"
            ),
            None => format!(
                "{label} does not offer {method}, which the service offered before: set it up to \
                 offer it again, or name what it is to be used for in `methods`"
            ),
        };
        self.failure(FailureKind::Unsuitable, detail)
    }

    /// Whether it has said, when it was asked last, that it takes no streams, and no endpoint of the
    /// service ever did.
    pub(crate) fn takes_no_streams(&self) -> bool {
        let takes_none = |known: &Known| known.capabilities.streams.is_none();
        !self.has_taken_streams() && self.lock_known().as_ref().is_some_and(takes_none)
    }

    /// Whether any endpoint of the service has offered to take streams: if one comes back without
    /// that, its inspection must not end unnoticed.
    pub(crate) fn has_taken_streams(&self) -> bool {
        self.offered.streams.load(Relaxed)
    }

    /// The failure of that.
    pub(crate) fn takes_streams_no_more(&self) -> Failure {
        let detail = format!(
            "{} does not take streams, which the service did before: set it up to take them again, \
             or reload the gateway's settings",
            self.label
        );
        self.failure(FailureKind::Unsuitable, detail)
    }

    /// Notes the ISTag of an answer; a new one makes OPTIONS due, but not more often than the endpoint
    /// is looked after anyway: some services have another one in each answer.
    pub(crate) fn note_istag(&self, istag: Option<&str>) {
        let Some(istag) = istag else { return };
        let mut known = self.lock_known();
        if let Some(known) = known.as_mut()
            && known.capabilities.istag.as_deref().is_some_and(|k| k != istag.trim_matches('"'))
        {
            known.refresh = known.refresh.min(known.asked + self.config.health.interval.0);
        }
    }

    /// Whether OPTIONS should be asked again although the cached answer holds.
    pub(crate) fn refresh_due(&self) -> bool {
        self.lock_known().as_ref().is_some_and(|k| k.refresh <= Instant::now())
    }

    /// Asks OPTIONS again, once however many ask for it.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        let Ok(_fetching) = self.fetching.try_lock() else { return };
        if self.refresh_due()
            && let Err(failure) = self.fetch().await
        {
            // The cached answer holds on; the next due look tries again.
            let mut known = self.lock_known();
            if let Some(known) = known.as_mut() {
                known.refresh = Instant::now() + self.config.health.interval.0;
            }
            tracing::warn!(service = %self.service, %failure, "OPTIONS not refreshed; the last answer is used until it expires");
        }
    }

    /// A connection for a transaction: kept or new.
    pub(crate) async fn connect(
        &self,
        info: &TransactionInfo,
        capabilities: &Capabilities,
        on_overload: OnOverload,
        prefer_new: bool,
    ) -> Result<Box<Connection>, Failure> {
        let offered = capabilities.max_connections.unwrap_or(u32::MAX);
        let limit = offered.min(self.config.max_connections.unwrap_or(u32::MAX)).max(1);
        let wait = self.config.timeouts.wait.0;
        let lessee = Lessee { affinity: &info.connection_id, client: info.client.map(Into::into) };
        let lease =
            self.pool.lease(lessee, limit, on_overload, wait, prefer_new, &self.connector).await;
        let Ok(Lease { connection, share }) = lease else {
            return Err(self.failure(
                FailureKind::Overload,
                format!(
                    "{} has all {limit} connections it may have in use, or all that one client gets",
                    self.label
                ),
            ));
        };
        let mut connection = match connection {
            Leased::Kept(connection) => {
                self.metrics.reused.add(1);
                connection
            }
            // Most transactions find one: they are not to carry the room for opening it.
            Leased::New(slot) => Box::pin(self.open(slot)).await?,
        };
        connection.share = Some(share);
        Ok(connection)
    }

    pub(crate) fn begin(&self) -> Ongoing {
        self.outstanding.fetch_add(1, Relaxed);
        Ongoing(self.outstanding.clone())
    }

    pub(crate) fn outstanding(&self) -> u32 {
        self.outstanding.load(Relaxed)
    }

    pub(crate) fn failure(&self, kind: FailureKind, detail: String) -> Failure {
        Failure::new(self.service.clone(), kind, detail)
    }

    async fn open(&self, slot: Slot) -> Result<Box<Connection>, Failure> {
        let limit = self.config.timeouts.connect.0;
        let why = match timeout(limit, self.connector.connect()).await {
            Ok(Ok((stream, peer))) => {
                return Ok(Box::new(Connection::new(stream, peer, slot, self.metrics.clone())));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        Err(self.failure(FailureKind::Connect, format!("no connection to {}: {why}", self.label)))
    }

    /// Asks OPTIONS and remembers the outcome. Only for who holds `fetching`.
    pub(crate) async fn fetch(self: &Arc<Self>) -> Result<Arc<Capabilities>, Failure> {
        let limit = self.config.timeouts.options.0;
        let answer = match timeout(limit, self.ask()).await {
            Ok(answer) => answer,
            Err(_) => {
                let detail = format!("{} has not answered OPTIONS within {limit:?}", self.label);
                Err(self.failure(FailureKind::Timeout, detail))
            }
        };
        let learned = answer.and_then(|head| self.learn(head.headers()));
        if let Err(failure) = &learned {
            let mut failed = self.lock_failed();
            failed.count += 1;
            failed.last = Some(failure.clone());
        }
        learned
    }

    /// Takes in an answer to OPTIONS.
    fn learn(&self, headers: &Headers) -> Result<Arc<Capabilities>, Failure> {
        let capabilities = Arc::new(Capabilities::from_headers(headers));
        if !capabilities.reqmod && !capabilities.respmod {
            let said = match headers.text("Methods") {
                Some(methods) => {
                    let quoted: String = methods.chars().take(MOST_QUOTED).collect();
                    format!("with Methods {quoted:?}")
                }
                None => "without Methods".to_owned(),
            };
            let detail = format!(
                "{} answered OPTIONS {said}, which offers neither REQMOD nor RESPMOD: correct the \
                 URL or the service there",
                self.label
            );
            return Err(self.failure(FailureKind::Protocol, detail));
        }
        let before = self.known();
        let mut lacks = false;
        for method in [Method::Reqmod, Method::Respmod] {
            if capabilities.offers(method) || !self.must_offer(method) {
                continue;
            }
            lacks = true;
            if before.as_ref().is_none_or(|known| known.capabilities.offers(method)) {
                tracing::error!(
                    service = %self.service,
                    reason = self.unsuitable(method).detail(),
                    "an ICAP service lacks a method: messages for it count as failed until it \
                     offers it"
                );
            }
        }
        self.offered.note(&capabilities);
        if self.config.idle_connections.is_none() {
            let half = capabilities.max_connections.map_or(0, |most| most / 2);
            self.pool.keep_at_most(half.max(MOST_IDLE));
        }
        let now = Instant::now();
        // In time for the next one to be there before this one expires.
        let in_time = capabilities.ttl.mul_f64(0.75);
        let soon = self.config.health.interval.0;
        *self.lock_known() = Some(Known {
            asked: now,
            refresh: now + if lacks { in_time.min(soon) } else { in_time },
            expires: now + capabilities.ttl,
            capabilities: capabilities.clone(),
        });
        tracing::debug!(service = %self.service, endpoint = %self.label, ?capabilities, "OPTIONS");
        Ok(capabilities)
    }

    /// Asks OPTIONS, without a time limit for the whole.
    pub(crate) async fn ask(self: &Arc<Self>) -> Result<ResponseHead, Failure> {
        self.metrics.options.add(1);
        let terms = Terms {
            method: Method::Options,
            has_body: false,
            preview: None,
            allow_204: false,
            allow_206: false,
            send_trailers: false,
            keep: 0,
            wait_at_keep: false,
        };
        // A connection of its own: a kept one may be stale, and the answer must not depend on it.
        let connection = self.open(self.pool.force()).await?;
        let head = [request::options(&self.uri)];
        let mut transaction =
            Transaction::start(self, connection, terms, head, None, Arc::default(), self.begin());
        let failed = |trouble: Trouble| trouble.into_failure(self);
        let head = match transaction.event().await.map_err(failed)? {
            Event::Reply(reply) => reply.head,
            Event::Refused(head) => return Err(self.refusal(head.status(), "OPTIONS")),
            _ => {
                let detail =
                    format!("{} answered OPTIONS with neither 200 nor an error", self.label);
                return Err(self.failure(FailureKind::Protocol, detail));
            }
        };
        // An opt-body tells nothing that is used here.
        while !matches!(transaction.event().await.map_err(failed)?, Event::End { .. }) {}
        transaction.finish();
        Ok(head)
    }

    /// The failure for an error status.
    pub(crate) fn refusal(&self, status: u16, asked: &str) -> Failure {
        let kind = match status {
            503 => FailureKind::Overload,
            _ => FailureKind::Refused,
        };
        let hint = match status {
            404 => ": the URL names no service there",
            405 => ": the service does not offer the method",
            _ => "",
        };
        self.failure(kind, format!("{} answered {asked} with {status}{hint}", self.label))
    }

    fn known(&self) -> Option<Known> {
        self.lock_known().clone()
    }

    /// How OPTIONS failed, if it has since there were so many failures.
    fn failed_since(&self, count: u64) -> Option<Failure> {
        let failed = self.lock_failed();
        failed.last.clone().filter(|_| failed.count > count)
    }

    fn lock_failed(&self) -> std::sync::MutexGuard<'_, FailedFetches> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_known(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offered {
    fn note(&self, capabilities: &Capabilities) {
        self.reqmod.fetch_or(capabilities.reqmod, Relaxed);
        self.respmod.fetch_or(capabilities.respmod, Relaxed);
        self.streams.fetch_or(capabilities.streams.is_some(), Relaxed);
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
