//! `meergate check --explain`: which rule decides about a URL, and why.

use std::net::IpAddr;

use super::say;
use crate::config::Config;
use crate::error::StartError;
use crate::policy::{Policy, Request, Subject};
use crate::session::{Scheme, Target};

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
    let path = path.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    let target = Target::from_authority(authority, scheme.default_port()).map_err(|_| refuse())?;
    let connection = Subject {
        client: who.client,
        user: who.user,
        host: &target.host,
        address: target.ip(),
        port: target.port,
        certificate: None,
        request: None,
        content_type: None,
    };
    let request = Request { method: who.method.as_bytes(), path: path.as_bytes() };
    let policy = Policy::new(config)?;
    if scheme == Scheme::Https {
        stage(&policy, "connection", &connection)?;
    }
    stage(&policy, "request", &Subject { request: Some(request), ..connection })
}

fn stage(policy: &Policy, name: &str, subject: &Subject<'_>) -> Result<(), StartError> {
    say(&format!("{name}:"))?;
    for (rule, mismatch) in policy.explain(subject) {
        match mismatch {
            Some(condition) => say(&format!("  {rule}: no, its {condition} does not match"))?,
            None => say(&format!("  {rule}: matches"))?,
        }
    }
    let decision = policy.decide(subject);
    let by = decision.rule.as_deref().map_or("no rule".to_owned(), |rule| format!("{rule:?}"));
    let services = match &decision.chain {
        Some(chain) => {
            chain.services().map(|s| s.name().to_string()).collect::<Vec<_>>().join(", ")
        }
        None => "nobody".into(),
    };
    let way = match &decision.upstream_proxy {
        Some(proxy) if subject.request.is_none() => format!("; through {:?}", proxy.name),
        _ => String::new(),
    };
    say(&format!("  -> {}, by {by}; inspected by {services}{way}", decision.action.as_str()))
}
