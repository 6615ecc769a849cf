//! Streams of what is not HTTP, in the clear and inside intercepted TLS.

use bytes::{Bytes, BytesMut};
use icap_client::Way;
use tokio::time::timeout;

use super::opening::{First, Opening, first_word, open};
use super::{finish, note};
use crate::config::{Action, ListenProtocol};
use crate::io::{Io, Prefixed};
use crate::policy::Decision;
use crate::protocol::{Served, TcpStreams, serve_stream};
use crate::session::{Arrival, Session, decide_tls};
use crate::upstream::{Route, Upstream, UpstreamSlot};
use crate::words::{ConnectionEnd, Spoken};

/// Serves what is spoken inside TLS that was intercepted. Where the protocol that was agreed on does
/// not say that it is HTTP, its first bytes do. The server's `greeting` came before the TLS, if it did.
pub(super) async fn serve_inside(
    session: Session,
    mut client: Io,
    upstream: UpstreamSlot,
    greeting: Bytes,
) -> ConnectionEnd {
    let limits = &session.settings.config.limits;
    let (begin, idle) = (limits.begin_timeout.0, limits.stream_idle_timeout.0);
    let (mut read_ahead, mut said) = (BytesMut::new(), BytesMut::new());
    let mut upstream = match upstream {
        UpstreamSlot::Ready(upstream) => upstream,
        // Only HTTP has a page for it.
        failed => {
            let first = open(&mut client, &mut read_ahead, ListenProtocol::Any);
            return match timeout(begin, first).await {
                Ok(Ok(Opening::Http)) => finish(client, read_ahead, &session, failed).await,
                _ => ConnectionEnd::OriginUnreachable,
            };
        }
    };
    let first = first_word(&mut client, &mut read_ahead, &mut upstream.io, &mut said);
    match timeout(idle, first).await {
        Err(_) => return ConnectionEnd::Silent,
        Ok(Err(_)) => return ConnectionEnd::ClientClosed,
        Ok(Ok(First::Client(Opening::Http))) => {
            let upstream = UpstreamSlot::Ready(upstream);
            return finish(client, read_ahead, &session, upstream).await;
        }
        Ok(Ok(First::Client(Opening::Hello(_)))) => {
            tracing::warn!(
                target = session.target().map(tracing::field::display),
                "closed: TLS inside TLS, so nobody can inspect it; a rule may bypass its host"
            );
            return ConnectionEnd::TlsInside;
        }
        Ok(Ok(First::Client(Opening::Unknown) | First::Server)) => {}
    }
    let Some(route) = session.route() else { return ConnectionEnd::Failed };
    let mut route = route.clone();
    route.spoken = Spoken::TCP.in_tls();
    let name = session.tls.as_ref().and_then(|tls| tls.sni.as_ref());
    let decision = decide_tls(&session, name, &mut route, upstream.tls.as_deref());
    note(&session, &decision, &route);
    match decision.action {
        action @ (Action::Block | Action::Reset) => return cut(&session, action),
        // What is intercepted already stays so.
        Action::Bypass | Action::Intercept => {}
    }
    let (client, server) = ((client, read_ahead), (*upstream, said));
    match relay(&session, client, server, greeting, &route, &decision).await {
        Served::Ended(end) => end,
        Served::Agreed(_) => cut(&session, Action::Reset),
    }
}

/// Relays a stream along `route` as `decision` says, to its end or to where it goes on in TLS.
pub(super) async fn relay(
    arrival: &Arrival,
    (client, read_ahead): (Io, BytesMut),
    (upstream, said): (Upstream, BytesMut),
    greeting: Bytes,
    route: &Route,
    decision: &Decision,
) -> Served {
    let first = if said.is_empty() { Way::ToServer } else { Way::ToClient };
    let upstream = Upstream { io: Box::new(Prefixed::new(said.freeze(), upstream.io)), ..upstream };
    let stream = TcpStreams {
        client: Box::new(Prefixed::new(read_ahead.freeze(), client)),
        upstream,
        first,
        target: &route.target,
        chain: decision.chain.as_deref(),
        greeting,
    };
    serve_stream(arrival, stream).await
}

/// A connection along `route`, or how the client's ends for want of one.
pub(super) async fn connect(arrival: &Arrival, route: &Route) -> Result<Upstream, ConnectionEnd> {
    arrival.connector().connect(route).await.map_err(|error| {
        arrival.totals.notes().detail = Some(error.to_string());
        tracing::info!(connection = %arrival.id, %error, "a stream leads nowhere");
        ConnectionEnd::OriginUnreachable
    })
}

/// Cuts a stream that a rule refuses: there is no page for it.
pub(super) fn cut(arrival: &Arrival, action: Action) -> ConnectionEnd {
    arrival.cut.set(true);
    match action {
        Action::Reset => ConnectionEnd::Reset,
        _ => ConnectionEnd::Blocked,
    }
}
