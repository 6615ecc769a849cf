//! A connection whose target is known: what is spoken on it is found out from its first bytes.

mod any;
mod bypass;
mod handshake;
mod opening;
mod starttls;
mod stream;
mod tls;

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use crate::config::{Action, ListenProtocol};
use crate::io::Io;
use crate::policy::Decision;
use crate::protocol::{self, End};
use crate::session::{Arrival, Session, as_decided, decide_connection};
use crate::upstream::{Route, UpstreamSlot};
use crate::words::{ConnectionEnd, Spoken, Target};

use any::serve_any;
use bypass::bypass;
use opening::{Opening, open};
use tls::intercept;

/// How long a client may be silent before it is taken for one whose server speaks first.
const SILENCE: Duration = Duration::from_secs(3);

/// Serves the connection along `route` to its end; why it ended.
pub(crate) async fn serve(
    arrival: Arrival,
    mut client: Io,
    mut read_ahead: BytesMut,
    mut route: Route,
) -> ConnectionEnd {
    if arrival.protocol == ListenProtocol::Any {
        return serve_any(arrival, client, read_ahead, route).await;
    }
    let limit = arrival.settings.config.limits.begin_timeout.0;
    let protocol = arrival.protocol;
    let at_once = open(&mut client, &mut read_ahead, protocol);
    let opening = match timeout(limit.min(SILENCE), at_once).await {
        Ok(opening) => opening,
        // Where the server speaks first, only a bypass leads on.
        Err(_) if decide_and_note(&arrival, &mut route).await == Action::Bypass => {
            return bypass(&arrival, client, read_ahead, route).await;
        }
        Err(_) => match timeout(limit, open(&mut client, &mut read_ahead, protocol)).await {
            Ok(opening) => opening,
            Err(_) => return ConnectionEnd::Silent,
        },
    };
    match opening {
        Err(_) => ConnectionEnd::ClientClosed,
        Ok(Opening::Hello(hello)) => {
            intercept(arrival, hello, client, read_ahead, route, None).await
        }
        Ok(Opening::Http) => {
            route.spoken = Spoken::HTTP;
            decide_and_note(&arrival, &mut route).await;
            let session = Session::plain(arrival, route);
            finish(client, read_ahead, &session, UpstreamSlot::Unconnected).await
        }
        Ok(Opening::Unknown) => unknown(arrival, client, read_ahead, route).await,
    }
}

/// What is neither TLS nor HTTP, where nothing else may be spoken: only a bypass leads on.
async fn unknown(
    arrival: Arrival,
    client: Io,
    read_ahead: BytesMut,
    mut route: Route,
) -> ConnectionEnd {
    route.spoken = Spoken::TCP;
    match decide_and_note(&arrival, &mut route).await {
        Action::Bypass => bypass(&arrival, client, read_ahead, route).await,
        _ => {
            tracing::warn!(
                target = %route.target,
                "closed: neither TLS nor HTTP, so nobody can inspect it"
            );
            ConnectionEnd::UnknownProtocol
        }
    }
}

/// Serves a TLS connection whose target is the name in its ClientHello, at `port`.
pub(crate) async fn serve_by_name(
    arrival: Arrival,
    mut client: Io,
    mut read_ahead: BytesMut,
    port: u16,
) -> ConnectionEnd {
    let limit = arrival.settings.config.limits.begin_timeout.0;
    let first = open(&mut client, &mut read_ahead, ListenProtocol::Http);
    let hello = match timeout(limit, first).await {
        Err(_) => return ConnectionEnd::Silent,
        Ok(Err(_)) => return ConnectionEnd::ClientClosed,
        Ok(Ok(Opening::Hello(hello))) => hello,
        Ok(Ok(Opening::Http | Opening::Unknown)) => {
            tracing::info!("closed: this listener takes TLS only");
            return ConnectionEnd::NotTls;
        }
    };
    let named = hello.server_name.as_deref().map(|name| Target::new(name, port));
    let Some(Ok(target)) = named else {
        tracing::info!("closed: the ClientHello names no host");
        return ConnectionEnd::NoServerName;
    };
    let route = Route::plain(target).of(arrival.client);
    intercept(arrival, hello, client, read_ahead, route, None).await
}

/// What the rules want of the connection; `route` leads on as they say.
async fn decide_and_note(arrival: &Arrival, route: &mut Route) -> Action {
    arrival.look_up(route).await;
    let decision = decide_connection(arrival, route, None);
    note(arrival, decision, route);
    *route = as_decided(arrival, route.clone(), decision);
    decision.action
}

fn note(arrival: &Arrival, decision: &Decision, route: &Route) {
    let mut notes = arrival.totals.notes();
    notes.decision = Some((decision.action, decision.rule.clone()));
    notes.target = Some(route.target.to_string());
    notes.proxy.clone_from(&decision.upstream_proxy);
    notes.user.clone_from(&arrival.user);
}

async fn finish(
    client: Io,
    read_ahead: BytesMut,
    session: &Session,
    upstream: UpstreamSlot,
) -> ConnectionEnd {
    match protocol::serve(client, read_ahead, session, upstream).await {
        End::Closed(why) => why,
        // Only connections without a target of their own may ask for one.
        End::Connect(_) => ConnectionEnd::ConnectInside,
    }
}
