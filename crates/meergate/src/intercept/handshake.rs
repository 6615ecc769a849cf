//! Putting ourselves into the middle of a TLS connection: the origin's handshake first, then the
//! client's with what the origin agreed to.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::{InvalidCertificate, ListenProtocol, TlsVersions};
use crate::exchange::{Mirror, MirrorPlan, Stopped};
use crate::io::Stream;
use crate::metrics::{FailureLabels, HandshakeLabels};
use crate::policy::Decision;
use crate::session::Arrival;
use crate::tls::{Agreed, ClientHello, ForgeError, TlsFacts, TlsPlan, UpstreamTls};
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
pub(super) struct Prepared {
    route: Route,
    host: Arc<str>,
    offered: Vec<Alpn>,
    versions: TlsVersions,
    invalid: InvalidCertificate,
    upstream: Result<Upstream, UpstreamError>,
}

impl Prepared {
    /// Shakes hands with the `origin` along `route` with what the client offers in `hello`, which came in these
    /// `records`, as `decision` says.
    ///
    /// # Errors
    /// The client offers only protocols that cannot be inspected. That the origin cannot be
    /// reached or trusted is no error here: the client is to be told on a page.
    pub(super) async fn new(
        arrival: &Arrival,
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
        let upstream = match origin {
            Origin::Begun(plain) => connect(arrival, &route, decision, records, Some(plain)).await,
            Origin::New => connect(arrival, &route, decision, records, None).await,
            Origin::Refused(refusal) => Err(refusal),
        };
        Ok(Self { route, host, offered, versions, invalid, upstream })
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
        &self.host
    }
}

/// Connects along `route`, unless there is a `plain` connection already, and shows both hellos and the certificates
/// to the services that take streams: what they drop, or what can't be shown, goes no further.
async fn connect(
    arrival: &Arrival,
    route: &Route,
    decision: &Decision,
    hello: &[u8],
    plain: Option<Upstream>,
) -> Result<Upstream, UpstreamError> {
    let connector = arrival.connector();
    let stop = |stopped: Stopped| stopped.error(&route.target);
    let plan = MirrorPlan::of(decision);
    let begin = async |server| {
        Mirror::begin(arrival, &plan, &route.target, server, hello).await.map_err(stop)
    };
    let (mut upstream, mirror) = match (plain, route.only_address()) {
        (Some(plain), _) => {
            let mirror = begin(plain.address).await?;
            (connector.shake_over(route, plain).await?, mirror)
        }
        (None, Some(address)) => {
            // A verdict against it is told, whether the origin can be reached or not.
            let reach = async { Ok(connector.reach(route).await) };
            let (reached, mirror) = tokio::try_join!(reach, begin(address))?;
            (connector.shake(route, reached?).await?, mirror)
        }
        (None, None) => {
            let reached = connector.reach(route).await?;
            let mirror = begin(reached.address).await?;
            (connector.shake(route, reached).await?, mirror)
        }
    };
    mirror.end_with(upstream.side.take().as_deref()).await.map_err(stop)?;
    Ok(upstream)
}

/// Tells a client that it offers no protocol that can be inspected. It may be gone already.
pub(super) async fn reject<C: Stream>(mut client: C) {
    alert(&mut client, AlertDescription::NoApplicationProtocol).await;
}

/// Completes the handshake of the client that began with `hello` and still has it to read from
/// `client`.
///
/// # Errors
/// The client's side failed.
pub(super) async fn intercept<C: Stream>(
    arrival: &Arrival,
    hello: &ClientHello,
    mut client: C,
    prepared: Prepared,
) -> Result<Intercepted<impl Stream + use<C>>, InterceptError> {
    let Prepared { mut route, host, offered, versions, invalid, upstream } = prepared;
    let origin = upstream.as_ref().ok().and_then(|upstream| upstream.tls.clone());
    if let (Some(plan), Some(origin)) = (&mut route.tls, &origin) {
        // Another connection of the same must agree on the same: the client holds us to it.
        plan.alpn = origin.alpn.into_iter().collect();
    }
    let alpn = match &origin {
        Some(origin) => origin.alpn,
        None => page_protocol(&offered),
    };
    let hides_fault = invalid == InvalidCertificate::Allow;
    let like = origin.as_deref().filter(|origin| origin.fault.is_none() || !hides_fault);
    let agreed = Agreed { alpn, versions };
    let config = match arrival.settings.tls.forge(hello, like, &host, agreed).await {
        Ok(config) => config,
        Err(e) => {
            alert(&mut client, AlertDescription::InternalError).await;
            return Err(count(arrival, InterceptError::Forge(e)));
        }
    };
    let limit = arrival.settings.config.limits.begin_timeout.0;
    let client = accept(client, config, limit).await.map_err(|error| count(arrival, error))?;
    let facts = TlsFacts::of(client.get_ref().1, hello.server_name.clone(), origin);
    let kind = Handshake::of(facts.client_resumed);
    arrival
        .shared
        .metrics
        .handshakes
        .get_or_create(&HandshakeLabels { side: Side::Client, kind })
        .inc();
    Ok(Intercepted { client, route, upstream, facts })
}

/// The client's handshake.
async fn accept<C: Stream>(
    client: C,
    config: Arc<ServerConfig>,
    limit: Duration,
) -> Result<TlsStream<C>, InterceptError> {
    timeout(limit, TlsAcceptor::from(config).accept(client))
        .await
        .map_err(|_| InterceptError::Timeout)?
        .map_err(classify)
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
