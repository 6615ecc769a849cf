//! Several decisions about one thing: which of them holds.

use std::net::IpAddr;

use icap_client::Chain;

use super::path::Forms;
use super::{Decision, Policy, Request, Subject};
use crate::config::Action;
use crate::words::embedded;

/// What holds for a request whose path may be any of these: what lets least pass.
pub fn decide_paths<'a>(
    policy: &'a Policy,
    subject: &Subject<'_>,
    method: &[u8],
    paths: &Forms<'_>,
) -> &'a Decision {
    let decide =
        |path| policy.decide(&Subject { request: Some(Request { method, path }), ..*subject });
    paths.others.iter().map(|path| decide(path)).fold(decide(&paths.likely), stricter)
}

/// What holds for a destination that may be at any of these addresses: what lets least pass. An IPv6
/// address that leads to an IPv4 one counts as both.
pub fn strictest<'a>(
    addresses: &[IpAddr],
    decide: impl Fn(Option<IpAddr>) -> &'a Decision,
) -> &'a Decision {
    let decisions = addresses.iter().flat_map(|ip| address_forms(*ip)).map(|ip| decide(Some(ip)));
    decisions.reduce(stricter).unwrap_or_else(|| decide(None))
}

/// The addresses that `ip` counts as: itself, and the IPv4 address that it leads to.
pub fn address_forms(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    [Some(ip.to_canonical()), embedded(ip).map(IpAddr::V4)].into_iter().flatten()
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

/// The decision that covers the other: it refuses, or its chain has every service of the other's
/// chain. `None` if each asks for services that the other leaves out.
pub fn covering<'a>(one: &'a Decision, other: &'a Decision) -> Option<&'a Decision> {
    let refusal = |decision: &Decision| match decision.action {
        Action::Bypass | Action::Intercept => 0,
        Action::Block => 1,
        Action::Reset => 2,
    };
    let services = |decision: &'a Decision| {
        let chain = decision.chain.as_deref().filter(|_| decision.action == Action::Intercept);
        chain.into_iter().flat_map(Chain::services)
    };
    let covers = |one: &'a Decision, other: &'a Decision| match refusal(one) {
        0 => {
            refusal(other) == 0
                && services(other).all(|s| services(one).any(|own| own.name() == s.name()))
        }
        refusal_of_one => refusal_of_one >= refusal(other),
    };
    [(one, other), (other, one)].into_iter().find(|(a, b)| covers(a, b)).map(|(a, _)| a)
}
