//! Putting ourselves into the middle of a TLS connection: the origin's handshake first, then the
//! client's with what the origin agreed to.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::{AlertDescription, ServerConfig, ServerConnection};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::{InvalidCertificate, ListenProtocol, TlsVersions};
use crate::exchange::{Mirror, MirrorPlan, Stopped};
use crate::io::{Prefixed, Stream};
use crate::metrics::{FailureLabels, HandshakeLabels};
use crate::policy::Decision;
use crate::session::Arrival;
use crate::tls::{Agreed, ClientHello, ForgeError, ServerSide, TlsFacts, TlsPlan, UpstreamTls};
use crate::upstream::{Route, Upstream};
use crate::words::{Alpn, ConnectionEnd, Handshake, Side, UpstreamError, UpstreamErrorKind};

/// Protocols of a client's that are offered to an origin at most.
const MOST_OFFERED: usize = 8;

/// An intercepted connection.
#[derive(Debug)]
pub(super) struct Intercepted<C> {
    /// The client's side, in the clear.
    pub client: C,
    /// How the origin is reached again.
    pub route: Route,
    /// The origin's side, in the clear; or why there is none, to be told on a page.
    pub upstream: Result<Upstream, UpstreamError>,
    /// The TLS of both sides.
    pub facts: TlsFacts,
}

/// A connection that could not be intercepted; the client has been told by an alert or not at all.
#[derive(Debug)]
pub(super) enum InterceptError {
    /// The client ended the handshake with this alert: most likely it does not trust the CA, or
    /// pins the real certificate.
    Alert(AlertDescription),
    /// No leaf could be forged.
    Forge(ForgeError),
    /// The connection ended during the handshake.
    Io(io::Error),
    /// The client offers only protocols that cannot be inspected.
    NoProtocol,
    /// What the client sent is not acceptable TLS.
    Tls(rustls::Error),
    /// The client took too long.
    Timeout,
}

impl InterceptError {
    /// How it ended the connection.
    pub(super) fn end(&self) -> ConnectionEnd {
        match self {
            Self::Alert(_) => ConnectionEnd::ClientAlert,
            Self::Forge(_) => ConnectionEnd::Forge,
            Self::Io(_) => ConnectionEnd::Closed,
            Self::NoProtocol => ConnectionEnd::NoProtocol,
            Self::Tls(_) => ConnectionEnd::Tls,
            Self::Timeout => ConnectionEnd::Timeout,
        }
    }

    /// Whether the client refused our certificate, as clients do that pin the real one or do not
    /// trust the CA.
    pub(super) fn rejects_certificate(&self) -> bool {
        matches!(
            self,
            Self::Alert(
                AlertDescription::BadCertificate
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA
                    | AlertDescription::UnsupportedCertificate
            )
        )
    }
}

impl fmt::Display for InterceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert(alert) => write!(f, "the client ended the handshake with {alert:?}"),
            Self::Forge(why) => write!(f, "no certificate could be forged: {why}"),
            Self::Io(e) => write!(f, "the connection ended during the handshake: {e}"),
            Self::NoProtocol => f.write_str("the client offers no protocol that can be inspected"),
            Self::Tls(e) => write!(f, "not acceptable TLS: {e}"),
            Self::Timeout => f.write_str("the client's handshake took too long"),
        }
    }
}

impl std::error::Error for InterceptError {}

/// What the handshake with the origin goes over.
#[derive(Debug)]
pub(super) enum Origin {
    /// A connection on which both sides agreed on TLS.
    Begun(Upstream),
    /// A connection of its own.
    New,
    /// None is asked: the client is to be told of this on a page.
    Refused(UpstreamError),
}

/// The origin's side of a connection that is to be intercepted: made first, so that the client's
/// side can be made like it, or not at all.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    route: Route,
    terms: Terms,
    upstream: Result<Upstream, UpstreamError>,
    pending: Option<Pending<'a>>,
}

/// On what terms the client's handshake is answered, whatever the origin says.
#[derive(Debug)]
struct Terms {
    /// Whose certificate the client expects.
    host: Arc<str>,
    offered: Vec<Alpn>,
    versions: TlsVersions,
    invalid: InvalidCertificate,
}

/// What the origin said in its handshake, before it was judged: the client has no answer yet.
#[derive(Debug)]
struct Pending<'a> {
    mirror: Mirror<'a>,
    side: Option<Box<ServerSide>>,
}

impl Pending<'_> {
    async fn verdict(self) -> Result<(), Stopped> {
        self.mirror.end_with(self.side.as_deref()).await
    }
}

impl<'a> Prepared<'a> {
    /// Shakes hands with the `origin` along `route` with what the client offers in `hello`, which came in these
    /// `records`, as `decision` says.
    ///
    /// # Errors
    /// The client offers only protocols that cannot be inspected. That the origin cannot be
    /// reached or trusted is no error here: the client is to be told on a page.
    pub(super) async fn new(
        arrival: &'a Arrival,
        hello: &ClientHello,
        mut route: Route,
        decision: &Decision,
        origin: Origin,
        records: &[u8],
    ) -> Result<Self, InterceptError> {
        let Some(offered) = offered(hello, arrival.protocol) else {
            return Err(count(arrival, InterceptError::NoProtocol));
        };
        let host = hello.server_name.clone().unwrap_or_else(|| route.target.host.clone());
        let invalid = match decision.invalid_certificate {
            // Nothing but what is valid is gone on with here.
            InvalidCertificate::Bypass => InvalidCertificate::Refuse,
            other => other,
        };
        let versions = arrival.tls.within(decision.tls);
        route.tls = Some(TlsPlan {
            server_name: host.clone(),
            alpn: offered.clone(),
            versions,
            invalid,
            identity: decision.client_certificate.clone(),
        });
        let terms = Terms { host, offered, versions, invalid };
        let plain = match origin {
            Origin::Begun(plain) => Some(plain),
            Origin::New => None,
            Origin::Refused(refusal) => {
                let upstream = Err(refusal);
                let pending = None;
                return Ok(Self { route, terms, upstream, pending });
            }
        };
        let (upstream, pending) = match connect(arrival, &route, decision, records, plain).await {
            Ok((upstream, pending)) => (Ok(upstream), Some(pending)),
            Err(error) => (Err(error), None),
        };
        Ok(Self { route, terms, upstream, pending })
    }

    /// Awaits the verdict on what the origin said.
    pub(super) async fn settled(mut self) -> Self {
        if let Some(pending) = self.pending.take()
            && let Err(stopped) = pending.verdict().await
        {
            self.upstream = Err(stopped.error(&self.route.target));
        }
        self
    }

    /// What the handshake with the origin told, if there was one.
    pub(super) fn origin(&self) -> Option<&Arc<UpstreamTls>> {
        self.upstream.as_ref().ok()?.tls.as_ref()
    }

    /// Whether the origin asked for a client's certificate and got none.
    pub(super) fn is_certificate_asked(&self) -> bool {
        match &self.upstream {
            Ok(upstream) => upstream.tls.as_ref().is_some_and(|tls| tls.certificate_asked),
            Err(error) => error.is_certificate_asked(),
        }
    }

    /// Whether the origin's certificate is not valid, and was refused for that.
    pub(super) fn is_certificate_invalid(&self) -> bool {
        self.upstream.as_ref().is_err_and(|e| e.kind() == UpstreamErrorKind::Certificate)
    }

    /// Whether nothing can be done with the origin's TLS here.
    pub(super) fn is_unsupported(&self) -> bool {
        self.upstream.as_ref().is_err_and(UpstreamError::is_unsupported_tls)
    }

    /// Tells the client of `refusal` instead of what came of the origin.
    #[must_use]
    pub(super) fn refuse(mut self, refusal: UpstreamError) -> Self {
        self.upstream = Err(refusal);
        self
    }

    /// The host whose certificate the client expects.
    pub(super) fn host(&self) -> &Arc<str> {
        &self.terms.host
    }
}

/// Connects along `route`, unless there is a `plain` connection already, and shows both hellos and the certificates
/// to the services that take streams: what they drop, or what can't be shown, goes no further. The verdict on the
/// origin's part is still to come.
async fn connect<'a>(
    arrival: &'a Arrival,
    route: &Route,
    decision: &Decision,
    hello: &[u8],
    plain: Option<Upstream>,
) -> Result<(Upstream, Pending<'a>), UpstreamError> {
    let connector = arrival.connector();
    let plan = MirrorPlan::of(decision);
    let begin = async |server| {
        let begun = Mirror::begin(arrival, &plan, &route.target, server, hello).await;
        begun.map_err(|stopped| stopped.error(&route.target))
    };
    let (mut upstream, mirror) = match plain {
        Some(plain) => {
            let mirror = begin(plain.address).await?;
            (connector.shake_over(route, plain).await?, mirror)
        }
        None => {
            let (way, expected) = connector.look_ahead(route).await?;
            let (reached, mirror) = match expected {
                Some(address) => {
                    // A verdict against it is told, whether the origin can be reached or not.
                    let reach = async { Ok(connector.reach(&way).await) };
                    tokio::try_join!(reach, async { begin(address).await.map(Some) })?
                }
                None => (connector.reach(&way).await, None),
            };
            let reached = reached?;
            let mirror = match mirror {
                Some(mirror) if expected == Some(reached.address) => mirror,
                // Of several addresses it was another one, which rules may look at.
                Some(mirror) => {
                    mirror.forget();
                    begin(reached.address).await?
                }
                None => begin(reached.address).await?,
            };
            (connector.shake(route, reached).await?, mirror)
        }
    };
    let side = upstream.side.take();
    Ok((upstream, Pending { mirror, side }))
}

/// Tells a client that it offers no protocol that can be inspected. It may be gone already.
pub(super) async fn reject<C: Stream>(mut client: C) {
    alert(&mut client, AlertDescription::NoApplicationProtocol).await;
}

/// Completes the handshake of the client that began with `hello`, which came in these `records`; `client` goes on
/// behind them.
///
/// The answer is made while the services judge the origin's part, and kept in memory until they have. If
/// they drop it, that answer is thrown away: its leaf is like the certificate that was dropped.
///
/// # Errors
/// The client's side failed.
pub(super) async fn intercept<C: Stream>(
    arrival: &Arrival,
    hello: &ClientHello,
    records: Bytes,
    mut client: C,
    prepared: Prepared<'_>,
) -> Result<Intercepted<impl Stream + use<C>>, InterceptError> {
    let is_pending = prepared.pending.is_some();
    let origin = prepared.origin().cloned();
    let mut answer = Answer::forge(arrival, hello, &records, &prepared.terms, origin).await;
    let prepared = prepared.settled().await;
    if is_pending && prepared.upstream.is_err() {
        answer = Answer::forge(arrival, hello, &records, &prepared.terms, None).await;
    }
    let answer = match answer {
        Ok(answer) => answer,
        Err(e) => {
            alert(&mut client, AlertDescription::InternalError).await;
            return Err(count(arrival, InterceptError::Forge(e)));
        }
    };
    let limit = arrival.settings.config.limits.begin_timeout.0;
    let client = accept(client, records, answer, limit).await;
    let client = client.map_err(|error| count(arrival, error))?;
    let origin = prepared.origin().cloned();
    let Prepared { mut route, upstream, .. } = prepared;
    if let (Some(plan), Some(origin)) = (&mut route.tls, &origin) {
        // Another connection of the same must agree on the same: the client holds us to it.
        plan.alpn = origin.alpn.into_iter().collect();
    }
    let facts = TlsFacts::of(client.get_ref().1, hello, origin);
    let kind = Handshake::of(facts.client_resumed);
    arrival
        .shared
        .metrics
        .handshakes
        .get_or_create(&HandshakeLabels { side: Side::Client, kind })
        .inc();
    Ok(Intercepted { client, route, upstream, facts })
}

/// How the client's hello is answered.
struct Answer {
    config: Arc<ServerConfig>,
    /// With the answer in it that no one has heard yet; none if the hello can't be answered.
    begun: Option<ServerConnection>,
}

impl Answer {
    /// With a leaf like the origin's, if that is known.
    async fn forge(
        arrival: &Arrival,
        hello: &ClientHello,
        records: &[u8],
        terms: &Terms,
        origin: Option<Arc<UpstreamTls>>,
    ) -> Result<Self, ForgeError> {
        let alpn = match &origin {
            Some(origin) => origin.alpn,
            None => page_protocol(&terms.offered),
        };
        let hides_fault = terms.invalid == InvalidCertificate::Allow;
        let like = origin.as_deref().filter(|origin| origin.fault.is_none() || !hides_fault);
        let agreed = Agreed { alpn, versions: terms.versions };
        let config = arrival.settings.tls.forge(hello, like, &terms.host, agreed).await?;
        let begun = begin(&config, records).ok();
        Ok(Self { config, begun })
    }
}

/// A connection that has read these `records` and not said a word.
fn begin(config: &Arc<ServerConfig>, mut records: &[u8]) -> io::Result<ServerConnection> {
    let mut connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    while !records.is_empty() {
        connection.read_tls(&mut records)?;
        connection.process_new_packets().map_err(io::Error::other)?;
    }
    Ok(connection)
}

/// The client's handshake.
async fn accept<C: Stream>(
    client: C,
    records: Bytes,
    answer: Answer,
    limit: Duration,
) -> Result<TlsStream<Prefixed<C>>, InterceptError> {
    let acceptor = TlsAcceptor::from(answer.config);
    let accept = match answer.begun {
        Some(begun) => acceptor.accept_with(Prefixed::new(Bytes::new(), client), |fresh| {
            drop(mem::replace(fresh, begun));
        }),
        // What is wrong with the hello is found once more, and told.
        None => acceptor.accept(Prefixed::new(records, client)),
    };
    timeout(limit, accept).await.map_err(|_| InterceptError::Timeout)?.map_err(classify)
}

fn classify(error: io::Error) -> InterceptError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => InterceptError::Alert(*alert),
        Some(other) => InterceptError::Tls(other.clone()),
        None => InterceptError::Io(error),
    }
}

fn count(arrival: &Arrival, error: InterceptError) -> InterceptError {
    let labels = FailureLabels { side: Side::Client, reason: error.end() };
    arrival.shared.metrics.handshake_failures.get_or_create(&labels).inc();
    error
}

/// The served protocols among those that the client offers, in its order. If it offers others only,
/// those where any may be spoken, else `None`.
fn offered(hello: &ClientHello, protocol: ListenProtocol) -> Option<Vec<Alpn>> {
    let Some(wire) = &hello.alpn else { return Some(Vec::new()) };
    let mut all = Vec::new();
    for alpn in wire.iter().filter_map(|wire| Alpn::from_wire(wire)) {
        if !all.contains(&alpn) {
            all.push(alpn);
        }
    }
    if all.iter().any(|alpn| alpn.is_served()) || protocol == ListenProtocol::Http {
        all.retain(|alpn| alpn.is_served());
    }
    all.truncate(MOST_OFFERED);
    (!all.is_empty()).then_some(all)
}

/// What a page is served over: HTTP/1.1 where the client can.
fn page_protocol(offered: &[Alpn]) -> Option<Alpn> {
    if offered.contains(&Alpn::Http1) { Some(Alpn::Http1) } else { offered.first().copied() }
}

/// Ends a handshake that was not begun (RFC 8446 section 6.2). The client may be gone already.
pub(super) async fn alert<C: Stream + ?Sized>(client: &mut C, description: AlertDescription) {
    let record = [21, 3, 3, 0, 2, 2, u8::from(description)];
    let _ = client.write_all(&record).await;
    let _ = client.shutdown().await;
}
