//! A request that a service changed, looked at as if it came from a client.
//!
//! The rules have decided about what the client asked for; what goes out may be something else by now.
//! So it is read, bounded and cleaned anew, and the rules are asked about it. Their answer can only
//! take away: a change opens no bypass, and does not get by services that its target calls for.

use std::sync::Arc;

use http_wire::{RequestHead, TargetForm, tokens};
use icap_client::Chain;

use super::Request;
use super::account::Message;
use super::record::Transaction;
use super::rules::Rules;
use super::trouble::Trouble;
use crate::config::Action;
use crate::tls::UpstreamTls;
use crate::words::Target;

/// What is known of a request before a service changed it.
pub(super) struct Former<'a> {
    /// The head as the client sent it.
    pub(super) named: &'a RequestHead,
    /// The head that the services were given.
    pub(super) shown: &'a RequestHead,
    /// Those services.
    pub(super) chain: &'a Chain,
    /// Whether `Host` decides where the request goes, and not the connection: so it is where an HTTP
    /// proxy is asked.
    pub(super) follows_host: bool,
}

/// Lets `request` go on if a client might have sent it; says whether it was changed.
pub(super) fn review(
    tx: &mut Transaction<'_>,
    rules: &Rules<'_>,
    former: &Former<'_>,
    request: Request,
) -> Result<(Request, bool), Trouble> {
    if request.head.bytes() == former.shown.bytes() {
        return Ok((request, false));
    }
    let head = read(tx, former, request.head)?;
    let (head, opaque) = rules.changed_request(head, former.shown)?;
    if let Some(why) = opaque {
        tx.account.opaque(Message::Request, why);
    }
    decide(tx, former.chain, &head)?;
    Ok((Request { head, body: request.body }, true))
}

/// The head, in origin-form, if it can be read in one way only and leads where the connection does.
fn read(
    tx: &Transaction<'_>,
    former: &Former<'_>,
    head: RequestHead,
) -> Result<RequestHead, Trouble> {
    let session = tx.session;
    let http = &session.settings.config.http;
    let unreadable = |e: http_wire::Error| wrong(&format!("it can't be read: {e}"));
    if head.bytes().len() as u64 > http.max_head.0 || head.fields().count() > http.max_fields {
        return Err(wrong("its head is longer than http.max_head and max_fields allow"));
    }
    head.expects_continue().map_err(unreadable)?;
    if hides_a_field(&head, former.named) {
        return Err(wrong("its Connection takes a field out of other services' sight"));
    }
    let head = match head.target_form().map_err(unreadable)? {
        TargetForm::Authority(_) => return Err(wrong("it asks for a tunnel")),
        TargetForm::Asterisk | TargetForm::Origin => head,
        TargetForm::Absolute { scheme, authority, path } => {
            // Services see no scheme, and some say `http` of everything. It goes on over TLS even so.
            let is_guess = scheme.eq_ignore_ascii_case("http");
            if !is_guess && !scheme.eq_ignore_ascii_case(session.scheme.as_str()) {
                return Err(wrong("its target has another scheme than the connection"));
            }
            let port = session.scheme.default_port();
            let named = head.host().map_err(unreadable)?;
            if named.is_some_and(|host| {
                !host.host.eq_ignore_ascii_case(authority.host)
                    || host.port.unwrap_or(port) != authority.port.unwrap_or(port)
            }) {
                return Err(wrong("its target and Host differ"));
            }
            in_origin_form(&head, path).map_err(unreadable)?
        }
    };
    let Some(host) = head.host().map_err(unreadable)? else {
        return match former.named.field("Host") {
            None => Ok(head),
            Some(_) => Err(wrong("it names no host")),
        };
    };
    let target = tx.target();
    let named = Target::new(host.host, target.map_or(1, |target| target.port))
        .map_err(|_| wrong("its host can't be read"))?;
    // Where each request names its own target, Host is that target.
    let follows_host = former.follows_host || session.route().is_none();
    let leads_elsewhere = match former.named.host() {
        Ok(Some(former)) => !former.host.eq_ignore_ascii_case(host.host),
        _ => target.is_some_and(|target| target.host != named.host),
    };
    if follows_host && leads_elsewhere {
        return Err(wrong("it leads to another host"));
    }
    Ok(head)
}

/// Whether `Connection` lists a field that it did not list when the client sent it: such fields are not
/// shown to services, but sent to origins.
fn hides_a_field(head: &RequestHead, named: &RequestHead) -> bool {
    const HARMLESS: [&[u8]; 5] = [b"close", b"http2-settings", b"keep-alive", b"te", b"upgrade"];
    let listed = |head: &'_ RequestHead, token: &[u8]| {
        head.all("Connection").flat_map(|f| tokens(f.value)).any(|t| t.eq_ignore_ascii_case(token))
    };
    head.all("Connection").flat_map(|field| tokens(field.value)).any(|token| {
        !HARMLESS.iter().any(|known| token.eq_ignore_ascii_case(known)) && !listed(named, token)
    })
}

fn in_origin_form(head: &RequestHead, path: &[u8]) -> Result<RequestHead, http_wire::Error> {
    let mut edit = head.edit();
    match path.first() {
        Some(b'/') => edit.target(path),
        Some(_) => edit.target([b"/", path].concat()),
        None if head.method() == b"OPTIONS" => edit.target("*"),
        None => edit.target("/"),
    };
    edit.build()
}

/// Asks the rules about what the request is now.
fn decide(tx: &mut Transaction<'_>, chain: &Chain, head: &RequestHead) -> Result<(), Trouble> {
    match unasked(tx, Some(chain), head)? {
        None => Ok(()),
        Some(name) => {
            Err(wrong(&format!("the rules want {name:?} to see it, which has not been asked")))
        }
    }
}

/// Asks the rules about the request once more, of which `heads` are what it is and was, now that the origin is connected. Only a certificate that is
/// another one than that of the client connection's beginning can have changed their mind.
pub(super) fn origin_is_known(
    tx: &mut Transaction<'_>,
    tls: Option<&Arc<UpstreamTls>>,
    chain: Option<&Chain>,
    heads: &[&RequestHead],
) -> Result<(), Trouble> {
    let (Some(now), true) = (tls, tx.session.settings.policy.looks_at_certificates()) else {
        return Ok(());
    };
    if tx.tls.as_ref().is_some_and(|first| Arc::ptr_eq(first, now)) {
        return Ok(());
    }
    tx.tls = Some(now.clone());
    for head in heads {
        if unasked(tx, chain, head)?.is_some() {
            return Err(Trouble::OriginChanged);
        }
    }
    Ok(())
}

/// A service that the rules want to see the request `head`, and that is not in `chain`.
fn unasked<'s>(
    tx: &mut Transaction<'s>,
    chain: Option<&Chain>,
    head: &RequestHead,
) -> Result<Option<&'s str>, Trouble> {
    let decision = tx.decide(head);
    let others = match decision.action {
        Action::Block => {
            tx.rule = decision.rule.as_deref();
            return Err(Trouble::blocked(decision));
        }
        Action::Reset => {
            tx.rule = decision.rule.as_deref();
            return Err(Trouble::Reset);
        }
        Action::Bypass => None,
        Action::Intercept => decision.chain.as_deref(),
    };
    let asked = |name: &str| {
        chain.into_iter().flat_map(Chain::services).any(|service| **service.name() == *name)
    };
    let unasked = others.into_iter().flat_map(Chain::services).find(|s| !asked(s.name()));
    Ok(unasked.map(|service| {
        tx.rule = decision.rule.as_deref();
        &**service.name()
    }))
}

/// A change that can't go on.
pub(super) fn wrong(why: &str) -> Trouble {
    Trouble::Changed(why.to_owned())
}
