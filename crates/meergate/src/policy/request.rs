//! Rules asked about a request.

use std::borrow::Cow;
use std::net::IpAddr;

use http_wire::{RequestHead, ResponseHead, tokens};

use super::{Decision, Request, Subject};
use crate::config::Action;
use crate::session::{Session, Target};
use crate::tls::UpstreamTls;
use crate::upstream::Route;

/// What the rules say about a connection along `route`, whatever is asked for on it; with the
/// origin's `certificate` once that is known.
pub fn decide_connection<'a>(
    session: &'a Session,
    route: &Route,
    certificate: Option<&UpstreamTls>,
) -> &'a Decision {
    session.settings.policy.decide(&Subject {
        client: session.client.ip(),
        user: session.user.as_deref(),
        host: &route.target.host,
        address: route.address.map(|a| a.ip()).or_else(|| route.target.ip()),
        port: route.target.port,
        certificate,
        request: None,
        content_type: None,
    })
}

/// What the rules say about the request `head` to `target`. Where the request names another host
/// than the connection, both are asked and the stricter answer holds: neither name is a way
/// around the rules for the other. Where both are as strict, the host holds that the request really
/// goes to.
pub fn decide<'a>(session: &'a Session, target: &Target, head: &RequestHead) -> &'a Decision {
    decide_exchange(session, target, head, None)
}

/// As [`decide`], when the response to the request has come. Of several content types the one
/// counts that lets less pass: who reads which cannot be told.
pub fn decide_response<'a>(
    session: &'a Session,
    target: &Target,
    head: &RequestHead,
    response: &ResponseHead,
) -> &'a Decision {
    let about = |kind: &[u8]| decide_exchange(session, target, head, Some(kind));
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
    head: &RequestHead,
    content_type: Option<&[u8]>,
) -> &'a Decision {
    if let Some(only) = session.settings.policy.only_decision() {
        return only;
    }
    let path = path(head.target());
    let about = |host: &str, address: Option<IpAddr>| {
        session.settings.policy.decide(&Subject {
            client: session.client.ip(),
            user: session.user.as_deref(),
            host,
            address,
            port: target.port,
            certificate: session.tls.as_ref().and_then(|tls| tls.upstream.as_deref()),
            request: Some(Request { method: head.method(), path: &path }),
            content_type,
        })
    };
    let route = session.route.as_ref();
    let address = target.ip().or_else(|| route?.address.map(|a| a.ip()));
    let own = about(&target.host, address);
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
    let claimed = about(&named.host, if forwards { named.ip() } else { address });
    match forwards || route.is_some_and(|route| route.proves(&named.host)) {
        true => stricter(claimed, own),
        false => stricter(own, claimed),
    }
}

/// The one of two decisions that lets less pass; `one` if they let the same pass.
pub fn stricter<'a>(one: &'a Decision, other: &'a Decision) -> &'a Decision {
    let weight = |decision: &Decision| match decision.action {
        Action::Bypass => 0,
        Action::Intercept if decision.chain.as_ref().is_none_or(|chain| chain.is_empty()) => 1,
        Action::Intercept => 2,
        Action::Block => 3,
        Action::Reset => 4,
    };
    if weight(other) > weight(one) { other } else { one }
}

/// The path of a request's target, without query, percent-decoded: `/%61dmin` is `/admin` to
/// origins, so it must be to rules.
fn path(target: &[u8]) -> Cow<'_, [u8]> {
    let rest = match authority(target) {
        Some(after) => {
            let slash = target[after..].iter().position(|b| matches!(b, b'/' | b'?'));
            slash.map_or(&b"/"[..], |at| &target[after + at..])
        }
        None => target,
    };
    let path = rest.split(|b| *b == b'?').next().unwrap_or_default();
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let hex = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
        let byte = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    Cow::Owned(decoded)
}

/// Where the authority of an absolute-form target begins.
fn authority(target: &[u8]) -> Option<usize> {
    if target.first() == Some(&b'/') {
        return None;
    }
    target.windows(3).position(|w| w == b"://").map(|at| at + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_origins_take_them_for() {
        for (target, expected) in [
            (&b"/admin?x=/y"[..], &b"/admin"[..]),
            (b"/%61dmin", b"/admin"),
            (b"/a%2fb%", b"/a/b%"),
            (b"/a%zzb", b"/a%zzb"),
            (b"http://a.example/x?y", b"/x"),
            (b"http://a.example", b"/"),
            (b"http://a.example?y", b""),
            (b"/redirect/http://b.example/x", b"/redirect/http://b.example/x"),
            (b"*", b"*"),
        ] {
            assert_eq!(&*path(target), expected, "{}", String::from_utf8_lossy(target));
        }
    }
}
