//! Connections that nobody looks into.

use bytes::BytesMut;

use crate::config::Action;
use crate::exchange::relay_unseen;
use crate::io::{Io, Prefixed, RelayEnd};
use crate::policy::Decision;
use crate::session::{Arrival, decide_connection};
use crate::upstream::Route;
use crate::words::{ConnectionEnd, Unseen};

/// The way of a connection along `route` that nobody is to look into. `permits` says whether rules
/// allow that, to be asked about what the client `asked` for: a name in a ClientHello may be a lie
/// about the original destination. If that name (or a certificate, which the destination may have
/// got by relaying one connection) is the only reason, go where the name really leads.
///
/// What remains: whoever has a permission of their own may use it for anything, and names are
/// resolved without proof. That an origin has shown a certificate proves nothing of the connection
/// that is made now.
pub(super) fn way_past(
    arrival: &Arrival,
    asked: &Route,
    route: Route,
    permits: impl FnOnce(&Decision) -> bool,
) -> Route {
    match permits(decide_connection(arrival, asked, None)) {
        true => route,
        false => Route { address: None, resolved: None, ..route },
    }
}

/// Relays what nobody looks into, and counts it.
pub(super) async fn bypass(
    arrival: &Arrival,
    client: Io,
    read_ahead: BytesMut,
    mut route: Route,
) -> ConnectionEnd {
    // The way may lead to other addresses than those that the rules were asked about.
    arrival.look_up(&mut route).await;
    if matches!(decide_connection(arrival, &route, None).action, Action::Block | Action::Reset) {
        return ConnectionEnd::Blocked;
    }
    let upstream = match arrival.connector().connect(&route).await {
        Ok(upstream) => upstream,
        Err(error) => {
            arrival.totals.notes().detail = Some(error.to_string());
            tracing::info!(%error, "not bypassed");
            return ConnectionEnd::OriginUnreachable;
        }
    };
    arrival.totals.notes().server = Some(upstream.address);
    let mut client = Prefixed::new(read_ahead.freeze(), client);
    let mut origin = upstream.io;
    match relay_unseen(arrival, &mut client, &mut origin, Unseen::Bypass).await {
        RelayEnd::Finished => ConnectionEnd::Bypassed,
        RelayEnd::Idle => ConnectionEnd::BypassedIdle,
        RelayEnd::Failed(_) => ConnectionEnd::BypassedFailed,
    }
}
