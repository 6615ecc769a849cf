//! A connection whose target is known: what is spoken on it is found out from its first bytes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::capture::Tap;
use crate::config::{Action, CertificateAsked, InvalidCertificate, Pinned};
use crate::io::{Direction, Io, Prefixed, RelayEnd, relay};
use crate::metrics::Towards;
use crate::policy::{Decision, decide_connection, decide_tls};
use crate::protocol::{self, End};
use crate::session::{Scheme, Session, Target};
use crate::tls::{
    self, ClientHello, InterceptError, Intercepted, MAX_HELLO, Prepared, Refuser, TlsFacts,
    looks_like_tls,
};
use crate::upstream::{
    self, CERTIFICATE_ASKED, Route, Upstream, UpstreamError, UpstreamErrorKind, UpstreamSlot,
    look_up,
};

/// How long a client may be silent before it is taken for one whose server speaks first.
const SILENCE: Duration = Duration::from_secs(3);

/// Bytes that are read at once while it is not clear what is spoken.
const OPENING: usize = 2048;

/// What a connection begins with.
enum Opening {
    Hello(ClientHello),
    Http,
    Unknown,
}

/// Serves the connection along `route` to its end; why it ended, in one word.
pub(super) async fn serve(
    mut session: Session,
    mut client: Io,
    mut read_ahead: BytesMut,
    mut route: Route,
) -> &'static str {
    let limit = session.settings.config.limits.begin_timeout.0;
    let opening = match timeout(limit.min(SILENCE), open(&mut client, &mut read_ahead)).await {
        Ok(opening) => opening,
        // Where the server speaks first, only a bypass leads on.
        Err(_) if decide_and_note(&session, &mut route).await == Action::Bypass => {
            return bypass(&session, client, read_ahead, route).await;
        }
        Err(_) => match timeout(limit, open(&mut client, &mut read_ahead)).await {
            Ok(opening) => opening,
            Err(_) => return "silent",
        },
    };
    match opening {
        Err(_) => "client-closed",
        Ok(Opening::Hello(hello)) => intercept(session, hello, client, read_ahead, route).await,
        Ok(Opening::Http) => {
            decide_and_note(&session, &mut route).await;
            session.scheme = Scheme::Http;
            session.route = Some(route);
            finish(client, read_ahead, &session, UpstreamSlot::Unconnected).await
        }
        Ok(Opening::Unknown) => match decide_and_note(&session, &mut route).await {
            Action::Bypass => bypass(&session, client, read_ahead, route).await,
            _ => {
                tracing::warn!(
                    target = %route.target,
                    "closed: neither TLS nor HTTP, so nobody can inspect it"
                );
                "unknown-protocol"
            }
        },
    }
}

/// Serves a TLS connection whose target is the name in its ClientHello, at `port`.
pub(super) async fn serve_by_name(
    session: Session,
    mut client: Io,
    mut read_ahead: BytesMut,
    port: u16,
) -> &'static str {
    let limit = session.settings.config.limits.begin_timeout.0;
    let hello = match timeout(limit, open(&mut client, &mut read_ahead)).await {
        Err(_) => return "silent",
        Ok(Err(_)) => return "client-closed",
        Ok(Ok(Opening::Hello(hello))) => hello,
        Ok(Ok(Opening::Http | Opening::Unknown)) => {
            tracing::info!("closed: this listener takes TLS only");
            return "not-tls";
        }
    };
    let named = hello.server_name.as_deref().map(|name| Target::new(name, port));
    let Some(Ok(target)) = named else {
        tracing::info!("closed: the ClientHello names no host");
        return "no-server-name";
    };
    let route = Route::plain(target).of(session.client);
    intercept(session, hello, client, read_ahead, route).await
}

/// A connection that began with `hello`, which is still to be read from `read_ahead`.
async fn intercept(
    mut session: Session,
    hello: ClientHello,
    client: Io,
    read_ahead: BytesMut,
    mut route: Route,
) -> &'static str {
    look_up(&session.shared, &session.settings, &mut route).await;
    let asked = route.clone();
    let mut decision = decide_tls(&session, hello.server_name.as_ref(), &mut route, None);
    note(&session, &decision, &route);
    route = route.as_decided(&decision);
    let refusal = match decision.action {
        Action::Intercept => None,
        Action::Block => Some(refusal_by_rule(&decision, &route)),
        Action::Bypass => {
            let way = way_past(&session, &asked, route, |own| own.action == Action::Bypass);
            return bypass(&session, client, read_ahead, way).await;
        }
        Action::Reset => return "reset",
    };
    let host = hello.server_name.as_ref().unwrap_or(&route.target.host);
    if decision.pinned == Pinned::Bypass && session.shared.pinning.pins(session.client.ip(), host) {
        let way = way_past(&session, &asked, route, |own| own.pinned == Pinned::Bypass);
        return bypass(&session, client, read_ahead, way).await;
    }
    let (shared, settings) = (session.shared.clone(), session.settings.clone());
    let prepared =
        Prepared::new(&shared, &settings, &hello, route.clone(), &decision, refusal).await;
    let mut prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            tls::reject(client).await;
            return not_intercepted(&session, &route, &hello, &error);
        }
    };
    if let Some(certificate) = prepared.origin().filter(|_| settings.policy.looks_at_certificates())
    {
        let name = hello.server_name.as_ref();
        let known = decide_tls(&session, name, &mut route.clone(), Some(certificate));
        note(&session, &known, &route);
        match known.action {
            Action::Intercept => {}
            Action::Block => prepared = prepared.refuse(refusal_by_rule(&known, &route)),
            Action::Bypass => {
                let way = way_past(&session, &asked, route, |own| own.action == Action::Bypass);
                return bypass(&session, client, read_ahead, way).await;
            }
            Action::Reset => return "reset",
        }
        decision = known;
    }
    if prepared.is_certificate_invalid()
        && decision.invalid_certificate == InvalidCertificate::Bypass
    {
        let permits = |own: &Decision| own.invalid_certificate == InvalidCertificate::Bypass;
        let way = way_past(&session, &asked, route, permits);
        return bypass(&session, client, read_ahead, way).await;
    }
    if prepared.is_certificate_asked() {
        match decision.certificate_asked {
            CertificateAsked::Bypass => {
                let permits = |own: &Decision| own.certificate_asked == CertificateAsked::Bypass;
                let way = way_past(&session, &asked, route, permits);
                return bypass(&session, client, read_ahead, way).await;
            }
            CertificateAsked::Ignore => {}
            CertificateAsked::Refuse => prepared = prepared.refuse(certificate_refusal(&route)),
        }
    }
    let host = prepared.host().clone();
    let client = Prefixed::new(read_ahead.freeze(), client);
    match tls::intercept(&shared, &settings, &hello, client, prepared).await {
        Ok(Intercepted { client, route, upstream, facts }) => {
            shared.pinning.accepted(session.client.ip(), &host);
            session.scheme = Scheme::Https;
            session.route = Some(route);
            let facts = Arc::new(facts);
            note_interception(&session, &facts, &upstream);
            session.tls = Some(facts);
            let upstream = match upstream {
                Ok(upstream) => UpstreamSlot::Ready(Box::new(upstream)),
                Err(error) => UpstreamSlot::Failed(error),
            };
            let client = captured(&session, &decision, &upstream, Box::new(client));
            finish(client, BytesMut::new(), &session, upstream).await
        }
        Err(error) => {
            if error.rejects_certificate()
                && let Some(refuser) = shared.pinning.refused(session.client.ip(), &host)
            {
                tell_of(&refuser);
            }
            not_intercepted(&session, &route, &hello, &error)
        }
    }
}

/// The client's side of intercepted TLS, captured if the rules say so: as if the client had spoken to
/// the origin in the clear, or to us where no origin was reached.
fn captured(session: &Session, decision: &Decision, upstream: &UpstreamSlot, client: Io) -> Io {
    let Some(capture) = session.shared.capture.as_ref().filter(|_| decision.capture) else {
        return client;
    };
    let server = match upstream {
        UpstreamSlot::Ready(upstream) => upstream.address,
        _ => session.local,
    };
    Box::new(Tap::of_client(client, capture.flow(session.client, server, &session.id)))
}

fn not_intercepted(
    session: &Session,
    route: &Route,
    hello: &ClientHello,
    error: &InterceptError,
) -> &'static str {
    let sni = hello.server_name.as_deref();
    tracing::info!(target = %route.target, sni, %error, "not intercepted");
    session.totals.notes().detail = Some(error.to_string());
    error.as_str()
}

fn note_interception(
    session: &Session,
    facts: &Arc<TlsFacts>,
    upstream: &Result<Upstream, UpstreamError>,
) {
    let mut notes = session.totals.notes();
    notes.tls = Some(facts.clone());
    match upstream {
        Ok(upstream) => notes.server = Some(upstream.address),
        Err(error) => notes.detail = Some(error.to_string()),
    }
}

/// What the rules want of the connection; `route` leads on as they say.
async fn decide_and_note(session: &Session, route: &mut Route) -> Action {
    look_up(&session.shared, &session.settings, route).await;
    let decision = decide_connection(session, route, None);
    note(session, decision, route);
    *route = route.clone().as_decided(decision);
    decision.action
}

fn note(session: &Session, decision: &Decision, route: &Route) {
    let mut notes = session.totals.notes();
    notes.decision = Some((decision.action, decision.rule.clone()));
    notes.target = Some(route.target.to_string());
    notes.proxy.clone_from(&decision.upstream_proxy);
    notes.user.clone_from(&session.user);
}

fn tell_of(refuser: &Refuser) {
    let Refuser { client, host, pins } = refuser;
    if *pins {
        tracing::warn!(
            %client,
            %host,
            "this client keeps refusing our certificates for this host, though it trusts the CA: \
             it pins the real one; a rule may bypass it"
        );
    } else {
        tracing::warn!(
            %client,
            %host,
            "this client keeps refusing our certificates: it does not trust the CA, or pins"
        );
    }
}

fn certificate_refusal(route: &Route) -> UpstreamError {
    UpstreamError::new(UpstreamErrorKind::Blocked, &route.target, CERTIFICATE_ASKED)
}

/// The way of a connection along `route` that nobody is to look into. `permits` says whether rules
/// allow that, to be asked about what the client `asked` for: a name in a ClientHello may be a lie
/// about the original destination. If that name (or a certificate, which the destination may have
/// got by relaying one connection) is the only reason, go where the name really leads.
///
/// What remains: whoever has a permission of their own may use it for anything, and names are
/// resolved without proof. That an origin has shown a certificate proves nothing of the connection
/// that is made now.
fn way_past(
    session: &Session,
    asked: &Route,
    route: Route,
    permits: impl FnOnce(&Decision) -> bool,
) -> Route {
    match permits(decide_connection(session, asked, None)) {
        true => route,
        false => Route { address: None, resolved: None, ..route },
    }
}

fn refusal_by_rule(decision: &Decision, route: &Route) -> UpstreamError {
    let rule = decision.rule.as_deref().unwrap_or_default();
    let detail = format!("the rules of this network do not allow it ({rule})");
    UpstreamError::new(UpstreamErrorKind::Blocked, &route.target, detail)
}

/// Relays what nobody looks into, and counts it.
async fn bypass(
    session: &Session,
    client: Io,
    read_ahead: BytesMut,
    mut route: Route,
) -> &'static str {
    // The way may lead to other addresses than those that the rules were asked about.
    look_up(&session.shared, &session.settings, &mut route).await;
    if matches!(decide_connection(session, &route, None).action, Action::Block | Action::Reset) {
        return "blocked";
    }
    let upstream = match upstream::connect(&session.shared, &session.settings, &route).await {
        Ok(upstream) => upstream,
        Err(error) => {
            session.totals.notes().detail = Some(error.to_string());
            tracing::info!(%error, "not bypassed");
            return "origin-unreachable";
        }
    };
    session.totals.notes().server = Some(upstream.address);
    let mut client = Prefixed::new(read_ahead.freeze(), client);
    let mut origin = upstream.io;
    let idle = session.settings.config.limits.idle_timeout.0;
    let metrics = &session.shared.metrics;
    let end = relay(&mut client, &mut origin, idle, |direction, length| match direction {
        Direction::ToServer => {
            session.totals.add_from_client(length as u64);
            metrics.uninspected("bypass", Towards::Server, length as u64);
        }
        Direction::ToClient => {
            session.totals.add_from_server(length as u64);
            metrics.uninspected("bypass", Towards::Client, length as u64);
        }
    })
    .await;
    match end {
        RelayEnd::Finished => "bypassed",
        RelayEnd::Idle => "bypassed-idle",
        RelayEnd::Failed(_) => "bypassed-failed",
    }
}

async fn finish(
    client: Io,
    read_ahead: BytesMut,
    session: &Session,
    upstream: UpstreamSlot,
) -> &'static str {
    match protocol::serve(client, read_ahead, session, upstream).await {
        End::Closed(why) => why,
        // Only connections without a target of their own may ask for one.
        End::Connect(_) => "connect-inside",
    }
}

/// Reads until it is clear what is spoken; all that was read stays in `read_ahead`.
async fn open(client: &mut Io, read_ahead: &mut BytesMut) -> io::Result<Opening> {
    loop {
        match read_ahead.first() {
            None => {}
            Some(first) if looks_like_tls(*first) => match ClientHello::read(read_ahead) {
                Ok(Some(hello)) => return Ok(Opening::Hello(hello)),
                Ok(None) if read_ahead.len() <= MAX_HELLO => {}
                Ok(None) | Err(_) => return Ok(Opening::Unknown),
            },
            // Methods are tokens in capitals; what else HTTP allows nobody sends (RFC 9110
            // section 9.1). Blank lines may stand before them.
            Some(first) if first.is_ascii_uppercase() || matches!(first, b'\r' | b'\n') => {
                return Ok(Opening::Http);
            }
            Some(_) => return Ok(Opening::Unknown),
        }
        // Room for a whole ClientHello of today's browsers, so that one read is enough.
        read_ahead.reserve(OPENING);
        if client.read_buf(read_ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
