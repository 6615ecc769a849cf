//! Connections that nobody looks into.

use bytes::BytesMut;

use crate::config::Action;
use crate::io::{Direction, Io, Prefixed, RelayEnd, relay};
use crate::metrics::Towards;
use crate::policy::Decision;
use crate::session::{Session, decide_connection};
use crate::upstream::Route;

/// The way of a connection along `route` that nobody is to look into. `permits` says whether rules
/// allow that, to be asked about what the client `asked` for: a name in a ClientHello may be a lie
/// about the original destination. If that name (or a certificate, which the destination may have
/// got by relaying one connection) is the only reason, go where the name really leads.
///
/// What remains: whoever has a permission of their own may use it for anything, and names are
/// resolved without proof. That an origin has shown a certificate proves nothing of the connection
/// that is made now.
pub(super) fn way_past(
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

/// Relays what nobody looks into, and counts it.
pub(super) async fn bypass(
    session: &Session,
    client: Io,
    read_ahead: BytesMut,
    mut route: Route,
) -> &'static str {
    // The way may lead to other addresses than those that the rules were asked about.
    session.look_up(&mut route).await;
    if matches!(decide_connection(session, &route, None).action, Action::Block | Action::Reset) {
        return "blocked";
    }
    let upstream = match session.connector().connect(&route).await {
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
