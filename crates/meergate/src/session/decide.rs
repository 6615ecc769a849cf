//! Rules asked about what a session does.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http_wire::{RequestHead, ResponseHead, tokens};

use super::{Arrival, Session};
use crate::config::{Action, InvalidCertificate, TlsVersions};
use crate::policy::{Decision, PathForms, Subject, decide_paths, path_forms, stricter, strictest};
use crate::tls::UpstreamTls;
use crate::upstream::Route;
use crate::words::{Scheme, Spoken, Target};

/// `route` of a connection, led on as `decision` says.
#[must_use]
pub fn as_decided(arrival: &Arrival, mut route: Route, decision: &Decision) -> Route {
    route.proxy.clone_from(&decision.upstream_proxy);
    route.capture = decision.capture;
    if let Some(plan) = &mut route.tls {
        plan.versions = arrival.tls.within(decision.tls);
    }
    route
}

/// What the rules say about a connection along `route`, whatever is asked for on it; with the
/// origin's `certificate` once that is known.
pub fn decide_connection<'a>(
    arrival: &'a Arrival,
    route: &Route,
    certificate: Option<&UpstreamTls>,
) -> &'a Decision {
    let policy = &arrival.settings.policy;
    let addresses = match policy.looks_at_addresses() {
        true => route.addresses(),
        false => Arc::default(),
    };
    let target = &route.target;
    let subject = subject(arrival, &target.host, target.port, route.spoken, certificate);
    strictest(&addresses, |address| policy.decide(&Subject { address, ..subject }))
}

/// All that is known of a connection that came so, but for the address of its `host`.
fn subject<'a>(
    arrival: &'a Arrival,
    host: &'a str,
    port: u16,
    spoken: Spoken,
    certificate: Option<&'a UpstreamTls>,
) -> Subject<'a> {
    let user = arrival.user.as_deref();
    Subject { user, certificate, ..Subject::new(arrival.client.ip(), host, port, spoken) }
}

/// What the rules say about a TLS connection whose ClientHello names `server_name`. A redirected
/// connection's target gets that name; where the client has asked us for another host than that, rules
/// for both hold.
pub fn decide_tls(
    arrival: &Arrival,
    server_name: Option<&Arc<str>>,
    route: &mut Route,
    certificate: Option<&UpstreamTls>,
) -> Decision {
    let asked = decide_connection(arrival, route, certificate);
    let Some(name) = server_name else { return asked.clone() };
    if *name == route.target.host {
        return asked.clone();
    }
    let target = Target { host: name.clone(), port: route.target.port };
    // Whatever it is called, it is where the route leads.
    let resolved = Some(route.addresses()).filter(|known| !known.is_empty());
    let named = Route { target, resolved, ..route.clone() };
    let decision = decide_connection(arrival, &named, certificate);
    if route.address.is_some() {
        *route = named;
        return decision.clone();
    }
    // A trap: the host in CONNECT could relay this connection to the host in the hello, and so show
    // its certificate, and answer the next connection itself. So a bypass must be allowed without
    // the certificate.
    let own = decide_connection(arrival, route, None);
    let mut strict = stricter(decision, asked).clone();
    if strict.action == Action::Bypass && own.action != Action::Bypass {
        strict.action = Action::Intercept;
    }
    let versions = [decision, asked, own].map(|one| arrival.tls.within(one.tls));
    strict.tls = versions.into_iter().fold(TlsVersions::ALL, TlsVersions::and).into();
    for other in [decision, asked, own] {
        strict.pinned = strict.pinned.max(other.pinned);
        strict.mirror = strict.mirror.max(other.mirror);
        strict.unsupported_tls = strict.unsupported_tls.max(other.unsupported_tls);
        strict.certificate_asked = strict.certificate_asked.max(other.certificate_asked);
        if strict.invalid_certificate == InvalidCertificate::Bypass {
            strict.invalid_certificate = match other.invalid_certificate {
                InvalidCertificate::Bypass => InvalidCertificate::Bypass,
                _ => InvalidCertificate::Refuse,
            };
        }
    }
    strict
}

/// What the rules say about the request `head` to `target`, at `addresses` as far as they are
/// known, whose origin has shown the `certificate`. Where the request names another host than the
/// connection, both are asked and the stricter answer holds: neither name is a way around the rules
/// for the other. If both are equally strict, the rule for the host that the request really goes to
/// decides.
pub fn decide_request<'a>(
    session: &'a Session,
    target: &Target,
    addresses: &[IpAddr],
    certificate: Option<&UpstreamTls>,
    head: &RequestHead,
) -> &'a Decision {
    decide_exchange(session, target, (addresses, certificate), head, None)
}

/// As [`decide_request`], when the response to the request has come. Of several content types the one
/// counts that lets less pass: who reads which cannot be told.
pub fn decide_response<'a>(
    session: &'a Session,
    target: &Target,
    addresses: &[IpAddr],
    certificate: Option<&UpstreamTls>,
    head: &RequestHead,
    response: &ResponseHead,
) -> &'a Decision {
    let known = (addresses, certificate);
    let about = |kind: &[u8]| decide_exchange(session, target, known, head, Some(kind));
    response
        .all("Content-Type")
        .flat_map(|field| tokens(field.value))
        .map(about)
        .reduce(stricter)
        .unwrap_or_else(|| about(b""))
}

fn decide_exchange<'a>(
    session: &'a Session,
    target: &Target,
    (addresses, certificate): (&[IpAddr], Option<&UpstreamTls>),
    head: &RequestHead,
    content_type: Option<&[u8]>,
) -> &'a Decision {
    if let Some(only) = session.settings.policy.only_decision() {
        return only;
    }
    let paths = match session.settings.policy.looks_at_paths() {
        true => path_forms(head.target()),
        false => PathForms { likely: Cow::Borrowed(head.target()), others: Vec::new() },
    };
    let spoken = match session.scheme {
        Scheme::Http => Spoken::HTTP,
        Scheme::Https => Spoken::HTTP.in_tls(),
    };
    let about = |host: &str, addresses: &[IpAddr]| {
        let connection = subject(session, host, target.port, spoken, certificate);
        strictest(addresses, |address| {
            let subject = Subject { address, content_type, ..connection };
            decide_paths(&session.settings.policy, &subject, head.method(), &paths)
        })
    };
    let route = session.route();
    let own = about(&target.host, addresses);
    let Ok(Some(named)) = head.host() else { return own };
    // Mostly it is spelled the same.
    if named.host.eq_ignore_ascii_case(&target.host) {
        return own;
    }
    let named = match Target::new(named.host, target.port) {
        Ok(named) if named.host != target.host => named,
        _ => return own,
    };
    // A proxy that takes the request itself is asked for what Host names, at whatever address.
    let forwards = route.is_some_and(|route| route.forwards().is_some());
    let claimed = match forwards {
        true => about(&named.host, named.ip().as_slice()),
        false => about(&named.host, addresses),
    };
    match forwards || route.is_some_and(|route| route.proves(&named.host)) {
        true => stricter(claimed, own),
        false => stricter(own, claimed),
    }
}
