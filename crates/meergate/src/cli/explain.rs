//! `meergate check --explain`: which rule decides about a URL, and why.

use std::net::{IpAddr, ToSocketAddrs};

use start_error::StartError;

use crate::config::{Action, Config};
use crate::policy::{Policy, Request, Subject, address_forms, path_forms, stricter};
use crate::say::say;
use crate::upstream::near;
use crate::words::{Scheme, Spoken, Target};

/// Whose request is explained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) client: IpAddr,
    pub(super) user: Option<&'a str>,
    pub(super) method: &'a str,
}

/// Says what becomes of a request for `url`.
pub(super) fn explain(config: &Config, url: &str, who: Who<'_>) -> Result<(), StartError> {
    let refuse = || {
        StartError::new(
            "not a URL",
            url,
            "name one such as https://www.example.org/path (--explain)",
        )
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(refuse)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(refuse()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().filter(|path| path.starts_with('/')).unwrap_or("/");
    let target = Target::from_authority(authority, scheme.default_port()).map_err(|_| refuse())?;
    let policy = Policy::new(config)?;
    let addresses = addresses(&target, &policy)?;
    if let Some(why) = addresses.iter().find_map(|ip| near(&config.destinations, *ip)) {
        say(&format!("destination:\n  -> refused: {why} (destinations.allow)"))?;
    }
    let connection = Subject {
        user: who.user,
        ..Subject::new(who.client, &target.host, target.port, Spoken::TLS)
    };
    if scheme == Scheme::Https {
        let subjects = addresses.iter().map(|ip| Subject { address: Some(*ip), ..connection });
        stage(&policy, "connection", strictest(&policy, connection, subjects))?;
    }
    let spoken = match scheme {
        Scheme::Http => Spoken::HTTP,
        Scheme::Https => Spoken::HTTP.in_tls(),
    };
    let paths = path_forms(path.as_bytes());
    let requests = paths.iter().flat_map(|path| {
        let request = Some(Request { method: who.method.as_bytes(), path });
        let places =
            addresses.iter().map(|ip| Some(*ip)).chain(addresses.is_empty().then_some(None));
        places.map(move |address| Subject { address, request, spoken, ..connection })
    });
    stage(&policy, "request", strictest(&policy, connection, requests))
}

/// What the target's name stands for, where that matters.
fn addresses(target: &Target, policy: &Policy) -> Result<Vec<IpAddr>, StartError> {
    if let Some(ip) = target.ip() {
        return Ok(address_forms(ip).collect());
    }
    if !policy.looks_at_addresses() {
        return Ok(Vec::new());
    }
    let found = (&*target.host, target.port).to_socket_addrs().map_err(|e| {
        StartError::new(
            format!("rules ask for its address, which is not known ({e})"),
            target.to_string(),
            "name an address instead, or make the name resolve here",
        )
    })?;
    let addresses: Vec<_> = found.flat_map(|found| address_forms(found.ip())).collect();
    say(&format!(
        "{}: {}",
        target.host,
        addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
    ))?;
    Ok(addresses)
}

/// The one of these for which the rules let least pass; `otherwise` if there is none.
fn strictest<'a>(
    policy: &Policy,
    otherwise: Subject<'a>,
    subjects: impl Iterator<Item = Subject<'a>>,
) -> Subject<'a> {
    let of = |one: Subject<'a>, other: Subject<'a>| {
        let (first, second) = (policy.decide(&one), policy.decide(&other));
        if std::ptr::eq(stricter(first, second), first) { one } else { other }
    };
    subjects.reduce(of).unwrap_or(otherwise)
}

fn stage(policy: &Policy, name: &str, subject: Subject<'_>) -> Result<(), StartError> {
    say(&format!("{name}:"))?;
    for (rule, mismatch) in policy.explain(&subject) {
        match mismatch {
            Some(condition) => say(&format!("  {rule}: no, its {condition} does not match"))?,
            None => say(&format!("  {rule}: matches"))?,
        }
    }
    let decision = policy.decide(&subject);
    let by = decision.rule.as_deref().map_or("no rule".to_owned(), |rule| format!("{rule:?}"));
    let inspected = match (decision.action, &decision.chain) {
        // Of these nothing goes on.
        (Action::Block | Action::Reset, _) => String::new(),
        (Action::Bypass, _) | (Action::Intercept, None) => "; inspected by nobody".to_owned(),
        (Action::Intercept, Some(chain)) => {
            let names: Vec<_> = chain.services().map(|s| s.name().to_string()).collect();
            format!("; inspected by {}", names.join(", "))
        }
    };
    let way = match &decision.upstream_proxy {
        Some(proxy) if subject.request.is_none() => format!("; through {:?}", proxy.name),
        _ => String::new(),
    };
    say(&format!("  -> {}, by {by}{inspected}{way}", decision.action.as_str()))
}
