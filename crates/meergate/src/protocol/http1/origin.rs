//! The origin of HTTP/1 requests: a kept connection, opened when it is needed.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http_wire::{Lenient, Limits, RequestHead, ResponseHead, TargetForm};
use icap_client::Body;

use super::body::{Sender, WireBody};
use super::framing;
use super::sink::WireSink;
use super::wire::SharedWire;
use crate::capture::Tap;
use crate::config::{Destinations, Responses, UpstreamProxy};
use crate::exchange::{Origin, Progress, Trouble, mirror_again};
use crate::io::Io;
use crate::pages::Page;
use crate::session::Session;
use crate::session::connect_for_requests_again as open;
use crate::tls::UpstreamTls;
use crate::upstream::{Chooser, Route, Upstream, UpstreamSlot, basic, permitted_by_name};
use crate::words::{Alpn, Target, UpstreamError, UpstreamErrorKind};

/// Whoever is asked over HTTP/1. It belongs to one client connection, so that nothing of one client
/// (authentication by connection, above all) can reach another.
pub(crate) struct WireOrigin<'a> {
    session: &'a Session,
    limits: Limits,
    route: Option<Route>,
    failed: Option<UpstreamError>,
    connection: Option<Connection>,
}

struct Connection {
    wire: SharedWire,
    address: SocketAddr,
    tls: Option<Arc<UpstreamTls>>,
    /// The proxy at the other end, if it is one that wants absolute targets.
    proxy: Option<Arc<UpstreamProxy>>,
    method: Vec<u8>,
    /// It carried a whole transaction before, so that its end may cross with our request.
    kept: bool,
    /// A request was sent on it, and the head of its final response has not come.
    awaited: bool,
    /// Something of the present response has come.
    answered: bool,
    /// It carries no further transaction.
    last: bool,
}

impl<'a> WireOrigin<'a> {
    pub(crate) fn new(
        session: &'a Session,
        route: Option<Route>,
        upstream: UpstreamSlot,
        limits: Limits,
    ) -> Self {
        let (connection, failed) = match upstream {
            UpstreamSlot::Failed(e) => (None, Some(e)),
            UpstreamSlot::Unconnected => (None, None),
            UpstreamSlot::Ready(upstream) => (Some(Connection::new(*upstream)), None),
        };
        Self { session, limits, route, failed, connection }
    }

    /// Sets where the next request goes.
    pub(crate) fn lead_to(&mut self, route: Route) {
        // A kept connection leads to the addresses that the rules were asked about at its time.
        let same = self.route.as_ref().is_some_and(|r| {
            r.target == route.target && r.tls == route.tls && r.resolved == route.resolved
        });
        if !same {
            self.connection = None;
            self.route = Some(route);
        }
    }

    /// Lets go of a connection that is of no further use, and notices that the origin ended a waiting
    /// one. One that speaks without being asked is not to be trusted with a request.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &self.connection
            && (!connection.is_usable() || connection.wire.lock().poll_fill(cx, 0).is_ready())
        {
            self.connection = None;
        }
    }

    /// Whether its connection can carry another transaction.
    pub(crate) fn is_usable(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_usable)
    }

    pub(super) fn into_parts(self) -> Option<(Io, BytesMut)> {
        self.connection?.wire.into_parts()
    }

    fn gone(&mut self, e: io::Error) -> Trouble {
        match self.connection.take() {
            Some(c) if c.kept && !c.answered => Trouble::Stale,
            _ => Trouble::OriginGone(e),
        }
    }
}

impl Connection {
    fn new(upstream: Upstream) -> Self {
        Self {
            wire: SharedWire::new(upstream.io, BytesMut::new()),
            address: upstream.address,
            tls: upstream.tls,
            proxy: upstream.forwards,
            method: Vec::new(),
            kept: false,
            awaited: false,
            answered: false,
            last: false,
        }
    }

    /// Whether all that was asked has been answered, and nothing is left over.
    fn is_usable(&self) -> bool {
        let wire = self.wire.lock();
        !self.last
            && !self.awaited
            && wire.is_between_messages()
            && wire.input.is_empty()
            && wire.out.is_empty()
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        responses: Responses,
    ) -> Poll<Result<Result<Lenient, http_wire::Error>, io::Error>> {
        let mut wire = self.wire.lock();
        loop {
            let parsed = match responses {
                Responses::Lenient => ResponseHead::parse_lenient(&mut wire.input, limits),
                Responses::Strict => ResponseHead::parse(&mut wire.input, limits)
                    .map(|head| head.map(|head| Lenient { head, is_mended: false })),
            };
            match parsed {
                Ok(Some(head)) => return Poll::Ready(Ok(Ok(head))),
                Ok(None) => {}
                Err(e) => return Poll::Ready(Ok(Err(e))),
            }
            if ready!(wire.poll_fill(cx, 0))? == 0 {
                let e =
                    io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before its response");
                return Poll::Ready(Err(e));
            }
            self.answered = true;
        }
    }
}

impl Origin for WireOrigin<'_> {
    type Sink = WireSink;

    async fn connect(&mut self) -> Result<SocketAddr, Trouble> {
        // It may have ended since it was looked at.
        poll_fn(|cx| {
            self.poll_idle(cx);
            Poll::Ready(())
        })
        .await;
        if let Some(connection) = self.connection.take_if(|c| c.is_usable()) {
            let address = connection.address;
            self.connection = Some(connection);
            return Ok(address);
        }
        self.connection = None;
        if let Some(e) = &self.failed {
            return Err(Trouble::Upstream(e.clone()));
        }
        let Some(route) = &self.route else {
            return Err(Trouble::OriginGone(io::Error::other("no origin is named")));
        };
        // Most requests find a connection: they are not to carry the room for opening one.
        let mut upstream = Box::pin(async {
            let mut upstream = open(self.session, route).await?;
            mirror_again(self.session, route, &mut upstream).await?;
            Ok::<_, Trouble>(upstream)
        })
        .await?;
        if let Some(capture) = &self.session.shared.capture
            && route.capture
            && self.session.tls.is_none()
        {
            let session = self.session;
            let flow = capture.flow(session.client, upstream.address, &session.id);
            upstream.io = Box::new(Tap::of_server(upstream.io, flow));
        }
        if upstream.alpn == Some(Alpn::H2) {
            let e =
                UpstreamError::new(UpstreamErrorKind::Tls, &route.target, "HTTP/2 was not offered");
            return Err(Trouble::Upstream(e));
        }
        let connection = self.connection.insert(Connection::new(upstream));
        Ok(connection.address)
    }

    fn tls(&self) -> Option<&Arc<UpstreamTls>> {
        self.connection.as_ref()?.tls.as_ref()
    }

    fn follows_host(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.proxy.is_some())
    }

    fn send(&mut self, head: &RequestHead, body: Option<&Body>) -> Result<WireSink, Trouble> {
        let (mut head, encoding) = framing::request(head, body).map_err(Trouble::RequestFault)?;
        let Some(connection) = &mut self.connection else {
            return Err(Trouble::OriginGone(io::Error::other("not connected")));
        };
        if let (Some(proxy), Some(route)) = (&connection.proxy, &self.route) {
            head = for_proxy(&head, proxy, route, &self.session.settings.config.destinations)?;
        }
        connection.method.clear();
        connection.method.extend_from_slice(head.method());
        connection.awaited = true;
        connection.answered = false;
        connection.wire.lock().out.put_head(head.bytes());
        Ok(WireSink::new(&connection.wire, encoding))
    }

    async fn response(
        &mut self,
        progress: &Arc<Progress>,
    ) -> Result<(ResponseHead, Option<Body>), Trouble> {
        let limits = self.limits;
        let responses = self.session.settings.config.http.responses;
        let Some(connection) = &mut self.connection else {
            return Err(Trouble::OriginGone(io::Error::other("not connected")));
        };
        let read = match poll_fn(|cx| connection.poll_head(cx, &limits, responses)).await {
            Err(e) => return Err(self.gone(e)),
            Ok(read) => read,
        };
        if let Ok(Lenient { is_mended: true, .. }) = read {
            // Where its sender thinks that the message ends may be elsewhere.
            connection.last = true;
            self.session.shared.metrics.responses_mended.inc();
        }
        let head = read.map(|read| read.head);
        if let (Some(proxy), Ok(head), Some(route)) = (&connection.proxy, &head, &self.route)
            && head.status() == 407
        {
            // It asks us, not the client.
            let detail = format!("{} ({}): it asks for a user", proxy.name, proxy.target);
            let e = UpstreamError::new(UpstreamErrorKind::Proxy, &route.target, detail);
            connection.last = true;
            return Err(Trouble::Upstream(e));
        }
        let framing = head.and_then(|head| Ok((head.framing(&connection.method)?, head)));
        let (framing, head) = framing.map_err(|e| {
            connection.last = true;
            Trouble::OriginFault(e)
        })?;
        if head.status() >= 200 {
            connection.awaited = false;
            connection.kept = true;
            connection.last |= !head.keep_alive();
        }
        let from = Sender::Origin(responses);
        let body = WireBody::begin(&connection.wire, framing, progress, from);
        Ok((head, body))
    }
}

/// The head as a proxy wants it: with an absolute target, and with who we are. The proxy takes the
/// host from the target and not from Host (RFC 9112 section 3.2.2), so it is the client's Host,
/// which a redirected connection's address does not tell. The port is the connection's: these two
/// are what rules were asked about.
fn for_proxy(
    head: &RequestHead,
    proxy: &UpstreamProxy,
    route: &Route,
    destinations: &Destinations,
) -> Result<RequestHead, Trouble> {
    let target = &route.target;
    let target = match head.host().map_err(Trouble::RequestFault)? {
        Some(host) => Target::new(host.host, target.port).map_err(|e| {
            let page = Page::new(400, "The host can't be read")
                .detail(e.to_string())
                .status("http_request_error");
            Trouble::Refused(Box::new(page))
        })?,
        None => target.clone(),
    };
    if route.chooser == Chooser::Client {
        permitted_by_name(destinations, &target).map_err(Trouble::Upstream)?;
    }
    let authority = target.to_string();
    let authority = authority.strip_suffix(":80").unwrap_or(&authority);
    let path: &[u8] = match head.target_form().map_err(Trouble::RequestFault)? {
        TargetForm::Absolute { path, .. } => path,
        TargetForm::Asterisk => b"",
        TargetForm::Authority(_) | TargetForm::Origin => head.target(),
    };
    let slash: &[u8] = if path.first() == Some(&b'?') { b"/" } else { b"" };
    let mut edit = head.edit();
    edit.target([b"http://", authority.as_bytes(), slash, path].concat());
    // Two hosts in one request are one too many for a proxy that prefers Host.
    edit.set("Host", authority);
    if let Some(credentials) = &proxy.credentials {
        edit.set("Proxy-Authorization", basic(credentials));
    }
    edit.build().map_err(Trouble::RequestFault)
}
