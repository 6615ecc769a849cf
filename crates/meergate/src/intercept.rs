//! A connection whose target is known: what is spoken on it is found out from its first bytes.

mod bypass;
mod handshake;
mod opening;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use crate::capture::Tap;
use crate::config::{Action, CertificateAsked, InvalidCertificate, Pinned};
use crate::io::{Io, Prefixed};
use crate::policy::Decision;
use crate::protocol::{self, End};
use crate::session::{CERTIFICATE_ASKED, Session, as_decided, decide_connection, decide_tls};
use crate::tls::{ClientHello, Refuser, TlsFacts};
use crate::upstream::{Route, Upstream, UpstreamSlot};
use crate::words::{ConnectionEnd, Scheme, Target, UpstreamError, UpstreamErrorKind};

use bypass::{bypass, way_past};
use handshake::{InterceptError, Intercepted, Prepared};
use opening::{Opening, open};

/// How long a client may be silent before it is taken for one whose server speaks first.
const SILENCE: Duration = Duration::from_secs(3);

/// Serves the connection along `route` to its end; why it ended.
pub(crate) async fn serve(
    mut session: Session,
    mut client: Io,
    mut read_ahead: BytesMut,
    mut route: Route,
) -> ConnectionEnd {
    let limit = session.settings.config.limits.begin_timeout.0;
    let opening = match timeout(limit.min(SILENCE), open(&mut client, &mut read_ahead)).await {
        Ok(opening) => opening,
        // Where the server speaks first, only a bypass leads on.
        Err(_) if decide_and_note(&session, &mut route).await == Action::Bypass => {
            return bypass(&session, client, read_ahead, route).await;
        }
        Err(_) => match timeout(limit, open(&mut client, &mut read_ahead)).await {
            Ok(opening) => opening,
            Err(_) => return ConnectionEnd::Silent,
        },
    };
    match opening {
        Err(_) => ConnectionEnd::ClientClosed,
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
                ConnectionEnd::UnknownProtocol
            }
        },
    }
}

/// Serves a TLS connection whose target is the name in its ClientHello, at `port`.
pub(crate) async fn serve_by_name(
    session: Session,
    mut client: Io,
    mut read_ahead: BytesMut,
    port: u16,
) -> ConnectionEnd {
    let limit = session.settings.config.limits.begin_timeout.0;
    let hello = match timeout(limit, open(&mut client, &mut read_ahead)).await {
        Err(_) => return ConnectionEnd::Silent,
        Ok(Err(_)) => return ConnectionEnd::ClientClosed,
        Ok(Ok(Opening::Hello(hello))) => hello,
        Ok(Ok(Opening::Http | Opening::Unknown)) => {
            tracing::info!("closed: this listener takes TLS only");
            return ConnectionEnd::NotTls;
        }
    };
    let named = hello.server_name.as_deref().map(|name| Target::new(name, port));
    let Some(Ok(target)) = named else {
        tracing::info!("closed: the ClientHello names no host");
        return ConnectionEnd::NoServerName;
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
) -> ConnectionEnd {
    session.look_up(&mut route).await;
    let asked = route.clone();
    let mut decision = decide_tls(&session, hello.server_name.as_ref(), &mut route, None);
    note(&session, &decision, &route);
    route = as_decided(route, &decision);
    let refusal = match decision.action {
        Action::Intercept => None,
        Action::Block => Some(refusal_by_rule(&decision, &route)),
        Action::Bypass => {
            let way = way_past(&session, &asked, route, |own| own.action == Action::Bypass);
            return bypass(&session, client, read_ahead, way).await;
        }
        Action::Reset => return ConnectionEnd::Reset,
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
            handshake::reject(client).await;
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
            Action::Reset => return ConnectionEnd::Reset,
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
    match handshake::intercept(&shared, &settings, &hello, client, prepared).await {
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
) -> ConnectionEnd {
    let sni = hello.server_name.as_deref();
    tracing::info!(target = %route.target, sni, %error, "not intercepted");
    session.totals.notes().detail = Some(error.to_string());
    error.end()
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
    session.look_up(route).await;
    let decision = decide_connection(session, route, None);
    note(session, decision, route);
    *route = as_decided(route.clone(), decision);
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

fn refusal_by_rule(decision: &Decision, route: &Route) -> UpstreamError {
    let rule = decision.rule.as_deref().unwrap_or_default();
    let detail = format!("the rules of this network do not allow it ({rule})");
    UpstreamError::new(UpstreamErrorKind::Blocked, &route.target, detail)
}

async fn finish(
    client: Io,
    read_ahead: BytesMut,
    session: &Session,
    upstream: UpstreamSlot,
) -> ConnectionEnd {
    match protocol::serve(client, read_ahead, session, upstream).await {
        End::Closed(why) => why,
        // Only connections without a target of their own may ask for one.
        End::Connect(_) => ConnectionEnd::ConnectInside,
    }
}
