//! A further connection to an origin, on behalf of a client connection that has begun already.
//!
//! What was decided when it began was decided about the first connection: its certificate, and whether
//! the origin asked for one. An origin may show something else the next time.

use super::{Session, decide_tls};
use crate::config::{Action, CertificateAsked, InvalidCertificate};
use crate::tls::UpstreamTls;
use crate::upstream::{Route, Upstream};
use crate::words::{UpstreamError, UpstreamErrorKind};

/// Why a page says so.
pub(crate) const CERTIFICATE_ASKED: &str =
    "the server asks for a client certificate, and none is set for it";

/// Why a further connection is of no use.
pub(crate) enum Refused {
    /// A rule cuts the connection.
    Reset,
    /// It failed, or may not be used.
    Upstream(UpstreamError),
}

/// As [`Connector::connect_for_requests`](crate::upstream::Connector::connect_for_requests), held to what the client was shown and to what rules say of connections.
/// (What they say of the request is asked with it.)
pub(crate) async fn connect_for_requests_again(
    session: &Session,
    route: &Route,
) -> Result<Upstream, Refused> {
    let opened = session.connector().connect_for_requests(route).await;
    admit(session, route, opened.map_err(Refused::Upstream)?)
}

/// As [`connect_for_requests_again`], for what is not HTTP/1 or goes through tunnels.
pub(crate) async fn connect_again(session: &Session, route: &Route) -> Result<Upstream, Refused> {
    let opened = session.connector().connect(route).await;
    admit(session, route, opened.map_err(Refused::Upstream)?)
}

fn admit(session: &Session, route: &Route, upstream: Upstream) -> Result<Upstream, Refused> {
    let (Some(plan), Some(now)) = (&route.tls, &upstream.tls) else { return Ok(upstream) };
    let refuse =
        |kind, why: &str| Err(Refused::Upstream(UpstreamError::new(kind, &route.target, why)));
    let first = session.tls.as_ref().and_then(|tls| tls.upstream.as_ref());
    if now.fault.is_some() && plan.invalid == InvalidCertificate::Mimic {
        let shown =
            |first: &UpstreamTls| (first.fault, first.fingerprint) == (now.fault, now.fingerprint);
        if !first.is_some_and(|first| shown(first)) {
            // The client decides about faults, and has decided about another certificate.
            let why = "its certificate is not valid, and is not the one that it showed at first";
            return refuse(UpstreamErrorKind::Certificate, why);
        }
    }
    let name = session.tls.as_ref().and_then(|tls| tls.sni.as_ref());
    let decision = decide_tls(session, name, &mut route.clone(), Some(now));
    match decision.action {
        Action::Block => {
            let rule = decision.rule.as_deref().unwrap_or_default();
            let why = format!("the rules of this network do not allow it ({rule})");
            return refuse(UpstreamErrorKind::Blocked, &why);
        }
        Action::Reset => return Err(Refused::Reset),
        // An intercepted connection stays intercepted. A later certificate can't turn it into a
        // bypass.
        Action::Bypass | Action::Intercept => {}
    }
    if now.certificate_asked && decision.certificate_asked == CertificateAsked::Refuse {
        return refuse(UpstreamErrorKind::Blocked, CERTIFICATE_ASKED);
    }
    Ok(upstream)
}
