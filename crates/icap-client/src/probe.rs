//! One request at a time, with everything the service said: for people who look at a service.

use std::sync::Arc;

use bytes::Bytes;
use http_wire::{RequestHead, ResponseHead};
use icap::client::{Event, Terms};
use icap::{Headers, Method};

use crate::capabilities::Capabilities;
use crate::endpoint::Endpoint;
use crate::head::Message;
use crate::incoming::Incoming;
use crate::live::Live;
use crate::transaction::{Rest, Transaction, Trouble};
use crate::{
    Body, ConfigError, Failure, FailureKind, Identity, OnOverload, ServiceConfig, ServiceMetrics,
    TransactionInfo, request,
};

/// Asks one endpoint of a service just what it is told to, without regard to what OPTIONS offers.
pub struct Probe {
    endpoint: Arc<Endpoint>,
    metrics: Arc<ServiceMetrics>,
    identity: Identity,
    keep: u64,
}

/// What a request promises.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// The Preview header, bytes; `None` sends the body without one.
    pub preview: Option<u64>,
    /// `Allow: 204`. A body longer than the service's `keep_copy` can't be passed.
    pub allow_204: bool,
    /// `Allow: 206`, sent along with 204 only.
    pub allow_206: bool,
}

/// What a service said to one request.
pub struct Told {
    /// The ICAP status, errors included.
    pub status: u16,
    /// The ICAP reason phrase.
    pub reason: String,
    /// The ICAP headers.
    pub headers: Headers,
    /// Whether it asked for the rest after a preview.
    pub continued: bool,
    /// The encapsulated HTTP head of a 200 or 206.
    pub http: Option<Bytes>,
    /// The body to go on with: the service's after 200, completed by the original's after 206, the
    /// original after 204. It must be read to its end for the transaction to end.
    pub body: Option<Body>,
}

impl Probe {
    /// For the first URL of a service.
    ///
    /// # Errors
    /// Settings that can't be used.
    pub fn new(config: &ServiceConfig) -> Result<Self, ConfigError> {
        let fail = || ConfigError::new(format!("ICAP service {:?}: needs a URL", config.name));
        let url = config.url.first().ok_or_else(fail)?;
        let metrics = Arc::new(ServiceMetrics::default());
        let name = config.name.as_str().into();
        let endpoint =
            Endpoint::new(url, &name, &Arc::new(config.clone()), &metrics, &Arc::default())?;
        Ok(Self {
            endpoint: Arc::new(endpoint),
            metrics,
            identity: config.identity,
            keep: config.keep_copy.0,
        })
    }

    /// Bytes and connections so far.
    pub fn metrics(&self) -> &ServiceMetrics {
        &self.metrics
    }

    /// Asks what the service offers: the headers as they came, and as they are understood.
    ///
    /// # Errors
    /// No connection, a time limit, a broken answer, or a status other than 200.
    pub async fn options(&self) -> Result<(Headers, Capabilities), Failure> {
        let head = self.endpoint.ask().await?;
        let capabilities = Capabilities::from_headers(head.headers());
        Ok((head.headers().clone(), capabilities))
    }

    /// Sends a request (REQMOD), or a response to it (RESPMOD).
    ///
    /// # Errors
    /// No connection, a time limit, or a broken answer. An error status is an answer.
    pub async fn send(
        &self,
        ask: Ask,
        info: &TransactionInfo,
        request: RequestHead,
        response: Option<ResponseHead>,
        body: Option<Body>,
    ) -> Result<Told, Failure> {
        let message = match response {
            Some(response) => Message::Response { request, response },
            None => Message::Request(request),
        };
        let message = message.end_to_end().map_err(|error| {
            self.endpoint.failure(FailureKind::Source, format!("message head: {error}"))
        })?;
        let terms = Terms {
            method: match message {
                Message::Request(_) => Method::Reqmod,
                Message::Response { .. } => Method::Respmod,
            },
            has_body: body.is_some(),
            preview: ask.preview.filter(|_| body.is_some()),
            allow_204: ask.allow_204,
            allow_206: ask.allow_206 && ask.allow_204,
            send_trailers: false,
            keep: self.keep,
            wait_at_keep: false,
        };
        let offered = Capabilities::default();
        let connection = self.endpoint.connect(info, &offered, OnOverload::Force, false).await?;
        let uri = &self.endpoint.uri;
        let head = request::adaptation(uri, &message, &terms, &offered, self.identity, info);
        let transaction = Transaction::start(
            &self.endpoint,
            connection,
            terms,
            head,
            body.map(Incoming::new),
            info.connection_id.clone(),
            self.endpoint.begin(),
        );
        self.answer(transaction).await
    }

    async fn answer(&self, mut transaction: Box<Transaction>) -> Result<Told, Failure> {
        let mut continued = false;
        let failed = |trouble: Trouble| trouble.into_failure(&self.endpoint);
        loop {
            let (head, http, body) = match transaction.event().await.map_err(failed)? {
                Event::Continue => {
                    continued = true;
                    continue;
                }
                Event::Data(_) | Event::End { .. } => continue,
                Event::Pass(head) => {
                    let body = match transaction.finish() {
                        Rest::Intact(body) => body.map(Incoming::into_body),
                        Rest::Lost => None,
                    };
                    (head, None, body)
                }
                Event::Refused(head) => (head, None, None),
                Event::Reply(reply) => {
                    let live = Live::new(Vec::new(), transaction, self.metrics.clone());
                    (reply.head, reply.res_hdr.or(reply.req_hdr), Some(Box::pin(live) as Body))
                }
            };
            return Ok(Told {
                status: head.status(),
                reason: String::from_utf8_lossy(head.reason()).into_owned(),
                headers: head.headers().clone(),
                continued,
                http,
                body,
            });
        }
    }
}
