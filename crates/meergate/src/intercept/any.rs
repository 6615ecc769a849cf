//! Where anything may be spoken (`protocol = "any"`): who speaks first, and what that is.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::bypass::bypass;
use super::opening::{First, MOMENT, Opening, first_word, is_hello_begun, open};
use super::starttls::serve_agreed;
use super::stream::{connect, cut, relay};
use super::tls::intercept;
use super::{decide_and_note, finish, unknown};
use crate::capture::Tap;
use crate::config::{Action, ListenProtocol};
use crate::io::Io;
use crate::protocol::Served;
use crate::session::{Arrival, Session, decide_connection};
use crate::upstream::{Route, Upstream, UpstreamSlot};
use crate::words::{ConnectionEnd, Spoken};

/// Serves a connection in the clear along `route` to its end; why it ended.
pub(super) async fn serve_any(
    arrival: Arrival,
    mut client: Io,
    mut read_ahead: BytesMut,
    mut route: Route,
) -> ConnectionEnd {
    let begin = arrival.settings.config.limits.begin_timeout.0;
    let at_once = open(&mut client, &mut read_ahead, ListenProtocol::Any);
    let opening = match timeout(MOMENT.min(begin), at_once).await {
        Ok(Ok(opening)) => opening,
        Ok(Err(_)) => return ConnectionEnd::ClientClosed,
        // Whoever pauses within a line waits for an answer.
        Err(_) if !read_ahead.is_empty() && !is_hello_begun(&read_ahead) => Opening::Unknown,
        Err(_) => {
            // Rules that refuse it are obeyed when the client has spoken, so that HTTP gets a page.
            let is_refused = match decide_and_note(&arrival, &mut route).await {
                Action::Bypass => return bypass(&arrival, client, read_ahead, route).await,
                Action::Intercept => false,
                Action::Block | Action::Reset => true,
            };
            if is_refused || !read_ahead.is_empty() {
                let later = open(&mut client, &mut read_ahead, ListenProtocol::Any);
                match timeout(begin, later).await {
                    Ok(Ok(opening)) => opening,
                    Ok(Err(_)) => return ConnectionEnd::ClientClosed,
                    Err(_) => return ConnectionEnd::Silent,
                }
            } else {
                return serve_silent(arrival, client, read_ahead, route).await;
            }
        }
    };
    serve_opened(arrival, (client, read_ahead), route, opening, None).await
}

/// Serves a client that is silent, as clients are whose servers speak first.
async fn serve_silent(
    arrival: Arrival,
    mut client: Io,
    mut read_ahead: BytesMut,
    route: Route,
) -> ConnectionEnd {
    let mut upstream = match connect(&arrival, &route).await {
        Ok(upstream) => upstream,
        Err(end) => return end,
    };
    let idle = arrival.settings.config.limits.stream_idle_timeout.0;
    let mut said = BytesMut::new();
    let first = first_word(&mut client, &mut read_ahead, &mut upstream.io, &mut said);
    match timeout(idle, first).await {
        Ok(Ok(First::Client(opening))) => {
            let upstream = Some((upstream, said));
            serve_opened(arrival, (client, read_ahead), route, opening, upstream).await
        }
        Ok(Ok(First::Server)) => {
            let upstream = Some((upstream, said));
            serve_plain(arrival, (client, read_ahead), route, upstream).await
        }
        Ok(Err(_)) => ConnectionEnd::ClientClosed,
        Err(_) => ConnectionEnd::Silent,
    }
}

/// Serves a connection of which it is known what the client began with.
async fn serve_opened(
    arrival: Arrival,
    (client, read_ahead): (Io, BytesMut),
    mut route: Route,
    opening: Opening,
    upstream: Option<(Upstream, BytesMut)>,
) -> ConnectionEnd {
    match opening {
        Opening::Hello(hello) => intercept(arrival, hello, client, read_ahead, route, None).await,
        Opening::Http => {
            route.spoken = Spoken::HTTP;
            decide_and_note(&arrival, &mut route).await;
            let session = Session::plain(arrival, route);
            finish(client, read_ahead, &session, UpstreamSlot::Unconnected).await
        }
        // TLS that we do not understand, and its server perhaps does.
        Opening::Unknown if is_hello_begun(&read_ahead) => {
            unknown(arrival, client, read_ahead, route).await
        }
        Opening::Unknown => serve_plain(arrival, (client, read_ahead), route, upstream).await,
    }
}

/// Serves a stream in the clear, to a server that is connected already or not.
async fn serve_plain(
    arrival: Arrival,
    (client, read_ahead): (Io, BytesMut),
    mut route: Route,
    upstream: Option<(Upstream, BytesMut)>,
) -> ConnectionEnd {
    let led = route.proxy.clone();
    route.spoken = Spoken::TCP;
    match decide_and_note(&arrival, &mut route).await {
        Action::Bypass => return bypass(&arrival, client, read_ahead, route).await,
        action @ (Action::Block | Action::Reset) => return cut(&arrival, action),
        Action::Intercept => {}
    }
    let decision = decide_connection(&arrival, &route, None);
    let same_way = |proxy: &Option<Arc<_>>| match (proxy, &led) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    };
    let (upstream, said) = match upstream.filter(|_| same_way(&route.proxy)) {
        Some(upstream) => upstream,
        None => match connect(&arrival, &route).await {
            Ok(upstream) => (upstream, BytesMut::new()),
            Err(end) => return end,
        },
    };
    arrival.totals.notes().server = Some(upstream.address);
    let client = match arrival.shared.capture.as_ref().filter(|_| route.capture) {
        Some(capture) => {
            let flow = capture.flow(arrival.client, upstream.address, &arrival.id);
            Box::new(Tap::of_client(client, flow))
        }
        None => client,
    };
    let (client, server) = ((client, read_ahead), (upstream, said));
    match relay(&arrival, client, server, Bytes::new(), &route, decision).await {
        Served::Ended(end) => end,
        Served::Agreed(agreed) => serve_agreed(arrival, *agreed, route).await,
    }
}
