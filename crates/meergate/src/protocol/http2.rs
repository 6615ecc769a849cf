//! HTTP/2: one task a client connection, every stream a transaction of its own.
//!
//! The client's connection, the origin's and all streams between them are driven by one task, so
//! that a frame crosses from one side to the other without waking another thread.

mod body;
mod client;
mod head;
mod origin;
mod sink;
mod windows;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http_wire::{Framing, Limits, RequestHead};
use tokio::time::timeout;

use super::End;
use crate::exchange::{
    Counted, Ended, Progress, Request, Transaction, Trouble, Watch, refuse, transact, tunnel,
};
use crate::io::Io;
use crate::metrics::LimitLabels;
use crate::session::Session;
use crate::upstream::UpstreamSlot;
use crate::words::{ConnectionEnd, Limited, Protocol};
use body::StreamBody;
use client::{Back, StreamClient};
use origin::{Origins, StreamOrigin};
use windows::Windows;

/// Unread bytes that one stream may hold, and all streams of a connection together to begin with; see `windows`.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;
/// Bytes of one stream that wait to be written.
const SEND_BUFFER: usize = 128 * 1024;
/// Streams that a client opened and reset before we looked at them: more is rapid reset.
const PENDING_RESETS: usize = 32;
/// Streams of one connection that broke the protocol.
const FAULTY_STREAMS: usize = 256;
/// How long streams may go on after a shutdown of the connection was agreed on.
const CLOSING: Duration = Duration::from_secs(10);

/// Serves one client connection until it ends.
pub(super) async fn serve(client: Io, session: &Session, upstream: UpstreamSlot) -> End {
    let config = &session.settings.config;
    let max_head = u32::try_from(config.http.max_head.0).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(config.http.max_streams)
        .max_header_list_size(max_head)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(FAULTY_STREAMS));
    let connection = match timeout(config.limits.begin_timeout.0, builder.handshake(client)).await {
        Err(_) => return End::Closed(ConnectionEnd::SlowClient),
        Ok(Err(e)) => return End::Closed(ended(session, &e)),
        Ok(Ok(connection)) => connection,
    };
    let limits = Limits {
        max_head: usize::try_from(config.http.max_head.0).unwrap_or(usize::MAX),
        max_fields: config.http.max_fields,
    };
    let origins = Origins::new(session, upstream, limits);
    origins.prepare().await;
    End::Closed(run(connection, session, &origins).await)
}

async fn run(
    mut connection: Connection<Io, Bytes>,
    session: &Session,
    origins: &Origins<'_>,
) -> ConnectionEnd {
    let windows: Arc<Windows> = Arc::default();
    let mut window = CONNECTION_WINDOW;
    let mut streams = FuturesUnordered::new();
    let mut watch = Watch::new(session.settings.config.limits.idle_timeout.0);
    let mut turns = 0u64;
    let mut extended = false;
    let mut closing = false;
    poll_fn(|cx| {
        origins.poll_drivers(cx);
        loop {
            match connection.poll_accept(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => {
                    return Poll::Ready(if closing {
                        ConnectionEnd::Idle
                    } else {
                        ConnectionEnd::ClientClosed
                    });
                }
                Poll::Ready(Some(Err(e))) => return Poll::Ready(ended(session, &e)),
                Poll::Ready(Some(Ok((request, respond)))) => {
                    turns += 1;
                    streams.push(serve_stream(session, origins, &windows, request, respond));
                }
            }
        }
        if !extended && origins.allows_extended_connect() {
            // It fails while an earlier change of settings is still to be acknowledged: what
            // acknowledges it comes by here again.
            extended = connection.enable_connect_protocol().is_ok();
            if extended {
                cx.waker().wake_by_ref();
            }
        }
        let mut busy = false;
        while let Poll::Ready(Some(())) = Pin::new(&mut streams).poll_next(cx) {
            busy = true;
        }
        let wanted = windows.wanted();
        if window != wanted {
            window = wanted;
            connection.set_target_window_size(window);
            busy = true;
        }
        if busy || origins.wants_windows() {
            // What the streams did may have freed the connections to go on.
            cx.waker().wake_by_ref();
        }
        // Streams have time limits of their own: the connection is idle only without any.
        turns += u64::from(!streams.is_empty());
        if watch.poll_stalled(cx, turns).is_ready() {
            if closing {
                return Poll::Ready(ConnectionEnd::Idle);
            }
            closing = true;
            connection.graceful_shutdown();
            watch.restart(CLOSING);
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

async fn serve_stream(
    session: &Session,
    origins: &Origins<'_>,
    windows: &Arc<Windows>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, stream) = request.into_parts();
    let stream_id = Some(u64::from(u32::from(respond.stream_id())));
    let progress: Arc<Progress> = Arc::default();
    let mut watch = Watch::new(session.settings.config.limits.idle_timeout.0);
    let has_body = !stream.is_end_stream();
    let head = head::request(&parts, session.scheme, has_body, &origins.limits);
    let mut tx = Transaction::begin(
        session,
        Protocol::H2,
        stream_id,
        &progress,
        head.as_ref().ok(),
        session.target(),
    );
    let back = Back::new(respond);
    let mut client = StreamClient::new(back.clone(), &parts.method);
    let waits = |head: &RequestHead| head.expects_continue().map_err(Trouble::RequestFault);
    let (head, waits) = match head.and_then(|head| Ok((waits(&head)?, head))) {
        Ok((waits, head)) => (head, waits && parts.method != http::Method::CONNECT),
        Err(trouble) => {
            if matches!(refuse(&mut tx, trouble, &mut client, &mut watch).await, Ended::Cut) {
                client.cut(Reason::INTERNAL_ERROR);
            }
            return;
        }
    };
    let length = match head.framing() {
        Ok(Framing::Length(n)) => Some(n),
        _ => None,
    };
    let room = windows.open(if has_body { length } else { Some(0) }, session);
    let back = waits.then(|| {
        back.expect();
        back
    });
    let body = StreamBody::begin(stream, length, &progress, Counted::FromClient, room, back);
    let mut origin = StreamOrigin::new(origins);
    let request = Request { head, body };
    let ended = match parts.method {
        // RFC 8441: another protocol inside the stream.
        http::Method::CONNECT => {
            tunnel(&mut tx, request, &mut client, &mut origin, &mut watch).await
        }
        _ => transact(&mut tx, request, &mut client, &mut origin, &mut watch).await,
    };
    let reason = match origin.requires_http1() {
        // The client comes back over HTTP/1.1 itself, with a connection of its own.
        true => Reason::HTTP_1_1_REQUIRED,
        false => Reason::INTERNAL_ERROR,
    };
    origin.give_back();
    if !matches!(ended, Ended::Complete) {
        client.cut(reason);
    }
}

/// Why a connection ended. What the library took for an attack is counted.
fn ended(session: &Session, e: &h2::Error) -> ConnectionEnd {
    if e.is_library() && e.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
        let labels = LimitLabels { limit: Limited::Http2Flood };
        session.shared.metrics.limited.get_or_create(&labels).inc();
        return ConnectionEnd::Flood;
    }
    match e.is_io() || e.is_go_away() {
        true => ConnectionEnd::ClientGone,
        false => ConnectionEnd::BadRequest,
    }
}
