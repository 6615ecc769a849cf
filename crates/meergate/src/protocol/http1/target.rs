//! Where a request wants to go, read in one way only.

use std::sync::Arc;

use http_wire::{Authority, Error, RequestHead, TargetForm};

use crate::exchange::Trouble;
use crate::pages::Page;
use crate::session::{Session, as_decided, decide_connection};
use crate::tls::TlsPlan;
use crate::upstream::Route;
use crate::words::{Alpn, Scheme, Spoken, Target};

/// Where a request goes.
pub(super) enum Destination {
    /// Where all requests of this connection go.
    Fixed(Option<Route>),
    /// Where its target (absolute-form) says; the head is in origin-form, as origins expect it.
    Named { head: RequestHead, route: Option<Route> },
    /// A tunnel is asked for.
    Tunnel(Target),
}

/// Reads the request's target and Host.
///
/// # Errors
/// They contradict each other or the kind of connection.
pub(super) async fn destination(
    head: &RequestHead,
    session: &Session,
) -> Result<Destination, Trouble> {
    let form = head.target_form().map_err(Trouble::RequestFault)?;
    let explicit = session.route().is_none();
    // A proxy writes it anew from the target (RFC 9112 section 3.2.2), so it may be empty or missing
    // there, but not something else than a host, nor there twice.
    let replaces = explicit && matches!(form, TargetForm::Absolute { .. });
    let host = match replaces && head.all("Host").all(|host| host.value.is_empty()) {
        true if head.all("Host").count() < 2 => None,
        _ => head.host().map_err(Trouble::RequestFault)?,
    };
    match form {
        TargetForm::Authority(authority) if explicit => {
            let target = target(&authority, 443)?;
            head.framing().map_err(Trouble::RequestFault)?;
            if !session.settings.config.destinations.may_connect(target.port) {
                let detail = format!(
                    "No tunnels lead to port {} (destinations.connect_ports of the proxy's settings).",
                    target.port
                );
                return Err(refuse(403, "This port is not allowed", &detail));
            }
            Ok(Destination::Tunnel(target))
        }
        TargetForm::Authority(_) => Err(refuse(405, "No tunnels here", "CONNECT inside a tunnel")),
        TargetForm::Origin | TargetForm::Asterisk if explicit => Err(refuse(
            400,
            "This is a proxy",
            "Set it as the proxy of your browser or program, rather than opening it as a site.",
        )),
        TargetForm::Origin | TargetForm::Asterisk => Ok(Destination::Fixed(None)),
        TargetForm::Absolute { scheme, authority, path } => {
            let scheme = match scheme.to_ascii_lowercase().as_str() {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                _ => return Err(refuse(400, "Unknown scheme", "Only http and https are proxied.")),
            };
            let target = target(&authority, scheme.default_port())?;
            // Here the target goes on as it is, and not every server prefers it to Host.
            if let Some(host) = host
                && !replaces
                && self::target(&host, scheme.default_port())? != target
            {
                return Err(refuse(
                    400,
                    "The request contradicts itself",
                    "Target and Host differ.",
                ));
            }
            if !explicit {
                let head = match path.first() {
                    Some(b'/') => return Ok(Destination::Fixed(None)),
                    _ => with_path(head, path).map_err(Trouble::RequestFault)?,
                };
                return Ok(Destination::Named { head, route: None });
            }
            let head = origin_form(head, path, &authority).map_err(Trouble::RequestFault)?;
            let mut route = Route::plain(target).of(session.client);
            route.spoken = Spoken::HTTP;
            if scheme == Scheme::Https {
                let server_name = Arc::clone(&route.target.host);
                route.tls = Some(TlsPlan::new(server_name, vec![Alpn::Http1]));
            }
            session.look_up(&mut route).await;
            let route =
                as_decided(session, route.clone(), decide_connection(session, &route, None));
            Ok(Destination::Named { head, route: Some(route) })
        }
    }
}

/// Whether the request is for the list of forged leaves that are revoked, which leaves say is at `tls.crl_url`.
pub(super) fn is_for_revocations(head: &RequestHead, session: &Session) -> bool {
    let Some(url) = &session.settings.config.tls.crl_url else { return false };
    if session.scheme != Scheme::Http || !matches!(head.method(), b"GET" | b"HEAD") {
        return false;
    }
    let names_it = |authority: &Authority<'_>, default_port| {
        target(authority, default_port).is_ok_and(|target| target == *url.target())
    };
    match (head.target_form(), session.route()) {
        (Ok(TargetForm::Absolute { scheme, authority, path }), _) => {
            scheme.eq_ignore_ascii_case("http")
                && path == url.path().as_bytes()
                && names_it(&authority, 80)
        }
        (Ok(TargetForm::Origin), Some(route)) => {
            let host = head.host().ok().flatten();
            head.target() == url.path().as_bytes()
                && route.target.port == url.target().port
                && host.is_some_and(|host| names_it(&host, 80))
        }
        _ => false,
    }
}

fn target(authority: &Authority<'_>, default_port: u16) -> Result<Target, Trouble> {
    Target::new(authority.host, authority.port.unwrap_or(default_port))
        .map_err(|e| refuse(400, "The host can't be read", &e.to_string()))
}

/// The head, in absolute-form without a path, with the path that this stands for (RFC 9112 sections
/// 3.2.1 and 3.2.4): readers differ in what they make of none, and Suricata takes no content for a file
/// then.
fn with_path(head: &RequestHead, query: &[u8]) -> Result<RequestHead, Error> {
    let (target, mut edit) = (head.target(), head.edit());
    match query.is_empty() && head.method() == b"OPTIONS" {
        true => edit.target("*"),
        false => edit.target([&target[..target.len() - query.len()], b"/", query].concat()),
    };
    edit.build()
}

/// The head without what was meant for a proxy.
fn origin_form(
    head: &RequestHead,
    path: &[u8],
    authority: &Authority<'_>,
) -> Result<RequestHead, Error> {
    let mut edit = head.edit();
    match path.first() {
        Some(b'/') => edit.target(path),
        Some(_) => edit.target([b"/", path].concat()),
        None if head.method() == b"OPTIONS" => edit.target("*"),
        None => edit.target("/"),
    };
    edit.remove("Proxy-Connection").remove("Proxy-Authorization");
    let host = match authority.host.contains(':') {
        true => format!("[{}]", authority.host),
        false => authority.host.to_owned(),
    };
    let host = match authority.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    match head.field("Host") {
        Some(given) if given.value.eq_ignore_ascii_case(host.as_bytes()) => {}
        _ => drop(edit.remove("Host").prepend("Host", host)),
    }
    edit.build()
}

fn refuse(status: u16, title: &str, detail: &str) -> Trouble {
    let page = Page::new(status, title).detail(detail.to_owned()).status("http_request_error");
    Trouble::Refused(Box::new(page))
}
