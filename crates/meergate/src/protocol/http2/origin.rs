//! The origin of HTTP/2 requests: one connection for all streams of a client connection, or, if
//! the origin speaks HTTP/1.1 only, one connection for each stream at a time.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http_wire::{Framing, Limits, RequestHead, ResponseHead};
use icap_client::{Body, Frame};

use super::body::StreamBody;
use super::sink::StreamSink;
use super::windows::Windows;
use super::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW, head};
use crate::exchange::{Counted, Origin, Progress, Sink, Trouble, mirror_again};
use crate::io::Io;
use crate::pages::Page;
use crate::protocol::http1::{WireOrigin, WireSink};
use crate::session::Session;
use crate::session::connect_again as open;
use crate::tls::UpstreamTls;
use crate::upstream::{Route, Upstream, UpstreamSlot};
use crate::words::{Alpn, UpstreamError};

/// HTTP/1.1 connections kept for further streams.
const KEPT: usize = 8;
/// Connections that one stream tries, if each ends before it gets its turn.
const ATTEMPTS: usize = 3;

/// Where the streams of one client connection go.
pub(super) struct Origins<'a> {
    pub(super) session: &'a Session,
    pub(super) limits: Limits,
    /// Held while a connection is opened, so that streams wait for one instead of opening many.
    state: tokio::sync::Mutex<State<'a>>,
    drivers: Mutex<Drivers>,
}

struct State<'a> {
    slot: Option<UpstreamSlot>,
    failed: Option<UpstreamError>,
    shared: Option<Shared>,
    kept: Vec<WireOrigin<'a>>,
    http1_only: bool,
}

/// An HTTP/2 connection to the origin.
#[derive(Clone)]
pub(super) struct Shared {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    tls: Option<Arc<UpstreamTls>>,
    windows: Arc<Windows>,
}

#[derive(Default)]
struct Drivers {
    connections: Vec<Driver>,
    extended_connect: Option<SendRequest<Bytes>>,
}

/// What moves one connection's frames, and the size that its window has.
struct Driver {
    connection: Connection<Io, Bytes>,
    windows: Arc<Windows>,
    window: u32,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.window != self.windows.wanted() {
            self.window = self.windows.wanted();
            self.connection.set_target_window_size(self.window);
        }
        // Whoever waits for something of it learns why it ended.
        Pin::new(&mut self.connection).poll(cx).map(drop)
    }
}

impl<'a> Origins<'a> {
    pub(super) fn new(session: &'a Session, upstream: UpstreamSlot, limits: Limits) -> Self {
        let (slot, failed) = match upstream {
            UpstreamSlot::Failed(e) => (None, Some(e)),
            slot => (Some(slot), None),
        };
        let state = State { slot, failed, shared: None, kept: Vec::new(), http1_only: false };
        let drivers = Mutex::default();
        Self { session, limits, state: tokio::sync::Mutex::new(state), drivers }
    }

    /// Moves frames from and to origins. Called by the task that all streams run in.
    pub(super) fn poll_drivers(&self, cx: &mut Context<'_>) {
        self.drivers().connections.retain_mut(|driver| driver.poll(cx).is_pending());
    }

    /// Whether a connection's window is to change: its driver does it.
    pub(super) fn wants_windows(&self) -> bool {
        self.drivers().connections.iter().any(|d| d.window != d.windows.wanted())
    }

    /// Whether the origin has said that it takes extended CONNECT (RFC 8441 section 3).
    pub(super) fn allows_extended_connect(&self) -> bool {
        let sender = &self.drivers().extended_connect;
        sender.as_ref().is_some_and(SendRequest::is_extended_connect_protocol_enabled)
    }

    fn drivers(&self) -> MutexGuard<'_, Drivers> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins HTTP/2 on a connection that is open already, so that the origin's settings are known
    /// early: what it allows can be offered to the client before the first request.
    pub(super) async fn prepare(&self) {
        let mut state = self.state.lock().await;
        match state.slot.take() {
            Some(UpstreamSlot::Ready(upstream)) if upstream.alpn == Some(Alpn::H2) => {
                // If it fails, the first request finds out and connects anew.
                state.shared = self.handshake(*upstream).await.ok();
            }
            slot => state.slot = slot,
        }
    }

    /// A connection that can take one more stream.
    pub(super) async fn shared(&self) -> Result<Leased<'a>, Trouble> {
        let mut state = self.state.lock().await;
        if let Some(e) = &state.failed {
            return Err(Trouble::Upstream(e.clone()));
        }
        if let Some(shared) = &mut state.shared {
            let usable = poll_fn(|cx| match shared.sender.poll_ready(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(false),
                // Full for now: the stream waits its turn inside.
                _ => Poll::Ready(true),
            });
            if usable.await {
                return Ok(Leased::Http2(shared.clone()));
            }
            state.shared = None;
        }
        if let Some(kept) = state.kept.pop() {
            return Ok(Leased::Http1(Box::new(kept)));
        }
        let upstream = match state.slot.take() {
            Some(UpstreamSlot::Ready(upstream)) => *upstream,
            // Most streams find a connection: they are not to carry the room for opening one.
            _ => Box::pin(self.open(state.http1_only)).await?,
        };
        if upstream.alpn != Some(Alpn::H2) {
            state.http1_only = true;
            let slot = UpstreamSlot::Ready(Box::new(upstream));
            let origin =
                WireOrigin::new(self.session, self.route(&[Alpn::Http1]), slot, self.limits);
            return Ok(Leased::Http1(Box::new(origin)));
        }
        let shared = self.handshake(upstream).await?;
        state.shared = Some(shared.clone());
        Ok(Leased::Http2(shared))
    }

    async fn open(&self, http1_only: bool) -> Result<Upstream, Trouble> {
        // The session's plan holds only what was agreed on at first; the origin may have changed.
        let both: &[Alpn] = &[Alpn::H2, Alpn::Http1];
        let Some(route) = self.route(if http1_only { &both[1..] } else { both }) else {
            return Err(Trouble::OriginGone(io::Error::other("no origin is named")));
        };
        let mut upstream = open(self.session, &route).await?;
        mirror_again(self.session, &route, &mut upstream).await?;
        Ok(upstream)
    }

    fn route(&self, alpn: &[Alpn]) -> Option<Route> {
        let mut route = self.session.route()?.clone();
        if let Some(tls) = &mut route.tls {
            tls.alpn = alpn.to_vec();
        }
        Some(route)
    }

    async fn handshake(&self, upstream: Upstream) -> Result<Shared, Trouble> {
        let max_head = u32::try_from(self.limits.max_head).unwrap_or(u32::MAX);
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(max_head)
            .max_send_buffer_size(SEND_BUFFER);
        let (address, tls) = (upstream.address, upstream.tls);
        let (sender, connection) = builder
            .handshake::<_, Bytes>(upstream.io)
            .await
            .map_err(|e| Trouble::OriginGone(io::Error::other(e)))?;
        let mut drivers = self.drivers();
        let windows: Arc<Windows> = Arc::default();
        let window = CONNECTION_WINDOW;
        drivers.connections.push(Driver { connection, windows: windows.clone(), window });
        drivers.extended_connect = Some(sender.clone());
        Ok(Shared { sender, address, tls, windows })
    }
}

/// A connection for one stream.
pub(super) enum Leased<'a> {
    Http1(Box<WireOrigin<'a>>),
    Http2(Shared),
}

/// Whoever is asked on behalf of one stream.
pub(super) struct StreamOrigin<'o, 'a> {
    origins: &'o Origins<'a>,
    way: Option<Leased<'a>>,
    response: Option<ResponseFuture>,
    answered: bool,
    /// It takes this request over HTTP/1.1 only (RFC 9113 section 7).
    requires_http1: bool,
}

impl<'o, 'a> StreamOrigin<'o, 'a> {
    pub(super) fn new(origins: &'o Origins<'a>) -> Self {
        Self { origins, way: None, response: None, answered: false, requires_http1: false }
    }

    /// Whether it has said that it takes this request over HTTP/1.1 only.
    pub(super) fn requires_http1(&self) -> bool {
        self.requires_http1
    }

    /// Keeps an HTTP/1.1 connection for the next stream.
    pub(super) fn give_back(self) {
        if let Some(Leased::Http1(origin)) = self.way
            && origin.is_usable()
            && let Ok(mut state) = self.origins.state.try_lock()
            && state.kept.len() < KEPT
        {
            state.kept.push(*origin);
        }
    }

    async fn http2_response(
        &mut self,
        progress: &Arc<Progress>,
    ) -> Result<(ResponseHead, Option<Body>), Trouble> {
        let Some(response) = &mut self.response else {
            return Err(Trouble::OriginGone(io::Error::other("no request was sent")));
        };
        let answer = poll_fn(|cx| {
            if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                return Poll::Ready(interim.map(|r| r.map(|()| None)));
            }
            Pin::new(&mut *response).poll(cx).map(|r| r.map(|r| r.map(Some)))
        });
        let (parts, stream) = match answer.await {
            Ok(response) => response.into_parts(),
            Err(e) if !self.answered && was_not_processed(&e) => {
                return Err(Trouble::Unprocessed);
            }
            Err(e) if e.is_remote() && e.reason() == Some(Reason::HTTP_1_1_REQUIRED) => {
                self.requires_http1 = true;
                return Err(Trouble::Http11Required);
            }
            Err(e) => return Err(Trouble::OriginGone(io::Error::other(e))),
        };
        self.answered = true;
        let has_body = stream.as_ref().is_some_and(|s| !s.is_end_stream());
        let head =
            head::response(&parts, has_body, &self.origins.limits).map_err(Trouble::OriginFault)?;
        let length = match head.framing(b"GET").map_err(Trouble::OriginFault)? {
            Framing::Length(n) => Some(n),
            _ => None,
        };
        let Some(Leased::Http2(shared)) = &self.way else { return Ok((head, None)) };
        let session = self.origins.session;
        let body = stream.and_then(|stream| {
            let room = shared.windows.open(length, session);
            StreamBody::begin(stream, length, progress, Counted::FromOrigin, room, None)
        });
        Ok((head, body))
    }
}

/// Whether the origin has said that nothing came of the request (RFC 9113 section 8.7).
fn was_not_processed(e: &h2::Error) -> bool {
    e.reason() == Some(Reason::REFUSED_STREAM) || (e.is_go_away() && e.is_remote())
}

impl Origin for StreamOrigin<'_, '_> {
    type Sink = AnySink;

    async fn connect(&mut self) -> Result<SocketAddr, Trouble> {
        if let Some(Leased::Http1(origin)) = &mut self.way {
            return origin.connect().await;
        }
        for _ in 0..ATTEMPTS {
            let mut leased = self.origins.shared().await?;
            let address = match &mut leased {
                Leased::Http1(origin) => origin.connect().await?,
                Leased::Http2(shared) => match shared.sender.clone().ready().await {
                    Ok(sender) => {
                        shared.sender = sender;
                        shared.address
                    }
                    // It ended while this stream waited for its turn: the next one is another.
                    Err(_) => continue,
                },
            };
            self.way = Some(leased);
            return Ok(address);
        }
        Err(Trouble::Unprocessed)
    }

    fn tls(&self) -> Option<&Arc<UpstreamTls>> {
        match self.way.as_ref()? {
            Leased::Http1(origin) => origin.tls(),
            Leased::Http2(shared) => shared.tls.as_ref(),
        }
    }

    fn follows_host(&self) -> bool {
        match &self.way {
            Some(Leased::Http1(origin)) => origin.follows_host(),
            _ => false,
        }
    }

    fn send(&mut self, head: &RequestHead, body: Option<&Body>) -> Result<AnySink, Trouble> {
        let upgrade = head::upgrade(head).is_some();
        match &mut self.way {
            Some(Leased::Http1(_)) if upgrade => Err(no_upgrade()),
            Some(Leased::Http1(origin)) => origin.send(head, body).map(AnySink::Wire),
            Some(Leased::Http2(Shared { sender, .. }))
                if upgrade && !sender.is_extended_connect_protocol_enabled() =>
            {
                Err(no_upgrade())
            }
            Some(Leased::Http2(Shared { sender, .. })) => {
                let scheme = self.origins.session.scheme;
                let request = head::to_request(head, body, scheme)?;
                let ends = body.is_none();
                // It fails when the connection has ended since: nothing was sent.
                let (response, stream) =
                    sender.send_request(request, ends).map_err(|_| Trouble::Unprocessed)?;
                self.response = Some(response);
                self.answered = false;
                Ok(AnySink::Stream(StreamSink::new((!ends).then_some(stream))))
            }
            None => Err(Trouble::OriginGone(io::Error::other("not connected"))),
        }
    }

    async fn response(
        &mut self,
        progress: &Arc<Progress>,
    ) -> Result<(ResponseHead, Option<Body>), Trouble> {
        match &mut self.way {
            Some(Leased::Http1(origin)) => origin.response(progress).await,
            _ => self.http2_response(progress).await,
        }
    }
}

fn no_upgrade() -> Trouble {
    let page = Page::new(501, "The server takes no such request over HTTP/2");
    Trouble::Refused(Box::new(page))
}

/// Where a request's content goes.
pub(super) enum AnySink {
    Stream(StreamSink),
    Wire(WireSink),
}

impl Sink for AnySink {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Stream(sink) => sink.poll_ready(cx),
            Self::Wire(sink) => sink.poll_ready(cx),
        }
    }

    fn push(&mut self, frame: Frame) -> io::Result<()> {
        match self {
            Self::Stream(sink) => sink.push(frame),
            Self::Wire(sink) => sink.push(frame),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Stream(sink) => sink.poll_flush(cx),
            Self::Wire(sink) => sink.poll_flush(cx),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Stream(sink) => sink.poll_end(cx),
            Self::Wire(sink) => sink.poll_end(cx),
        }
    }

    fn abort(&mut self) {
        match self {
            Self::Stream(sink) => sink.abort(),
            Self::Wire(sink) => sink.abort(),
        }
    }
}
