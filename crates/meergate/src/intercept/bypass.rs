//! Connections that nobody looks into. Of those in TLS, the handshake is shown to the services that
//! take streams, as far as it is in the clear.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use icap_client::Way;
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::handshake::alert;
use super::opening::{Opening, open};
use crate::config::{self, Action, ListenProtocol};
use crate::exchange::{Mirror, MirrorPlan, Stopped, count_relayed, relay_unseen};
use crate::io::{Direction, Io, Prefixed, RelayEnd};
use crate::policy::Decision;
use crate::session::{Arrival, decide_connection};
use crate::tls::{ClientHello, Progress, ServerFlight, looks_like_tls};
use crate::upstream::{Route, Upstream};
use crate::words::{ConnectionEnd, Unseen};

/// The route for a bypassed connection, and whether its open connection may be used for that.
/// `permits` says whether rules allow it, and is asked about what the client `asked` for first, since
/// the name in a ClientHello may be false. If only that name, or a certificate (which the destination
/// may have got by relaying one connection), permits the bypass, the connection goes where the name
/// resolves to.
///
/// What remains: whoever has a permission of their own may use it for anything, and names are
/// resolved without proof. That an origin has shown a certificate proves nothing of the connection
/// that is made now.
pub(super) fn way_past(
    arrival: &Arrival,
    asked: &Route,
    route: Route,
    permits: impl FnOnce(&Decision) -> bool,
) -> (Route, bool) {
    match permits(decide_connection(arrival, asked, None)) {
        true => (route, true),
        false => (Route { address: None, resolved: None, ..route }, false),
    }
}

/// Where a TLS connection goes that nobody is to look into.
pub(super) struct Past {
    pub(super) route: Route,
    /// Whether a connection that was made for something else may be used.
    pub(super) may_stay: bool,
    /// How its handshake is shown.
    pub(super) mirror: MirrorPlan,
}

/// Relays what nobody looks into, and counts it. Should the client turn out to speak TLS, its
/// handshake is shown.
pub(super) async fn bypass(
    arrival: &Arrival,
    mut client: Io,
    mut read_ahead: BytesMut,
    mut route: Route,
) -> ConnectionEnd {
    let mut upstream = match connect(arrival, &mut route).await {
        Ok(upstream) => upstream,
        Err(end) => return end,
    };
    let mut said = BytesMut::new();
    if read_ahead.is_empty() {
        let limit = arrival.settings.config.limits.idle_timeout.0;
        let first = async {
            tokio::select! {
                read = client.read_buf(&mut read_ahead) => read,
                read = upstream.io.read_buf(&mut said) => read,
            }
        };
        match timeout(limit, first).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return ConnectionEnd::BypassedFailed,
            Err(_) => return ConnectionEnd::BypassedIdle,
        }
    }
    upstream.io = Box::new(Prefixed::new(said.freeze(), upstream.io));
    if !read_ahead.first().is_some_and(|first| looks_like_tls(*first)) {
        return relayed(arrival, client, read_ahead, upstream.io).await;
    }
    let limit = arrival.settings.config.limits.begin_timeout.0;
    let opening = timeout(limit, open(&mut client, &mut read_ahead, ListenProtocol::Http)).await;
    let mirror = MirrorPlan::of(decide_connection(arrival, &route, None));
    let past = Past { route, may_stay: true, mirror };
    match opening {
        Err(_) => ConnectionEnd::Silent,
        Ok(Err(_)) => ConnectionEnd::ClientClosed,
        Ok(Ok(Opening::Hello(hello))) => {
            shown(arrival, Some(&hello), client, read_ahead, &past, upstream).await
        }
        Ok(Ok(Opening::Http | Opening::Unknown)) => {
            shown(arrival, None, client, read_ahead, &past, upstream).await
        }
    }
}

/// Relays a TLS connection that began with `hello`, which is still to be read from `read_ahead`, when
/// its handshake was shown.
pub(super) async fn bypass_tls(
    arrival: &Arrival,
    hello: &ClientHello,
    client: Io,
    read_ahead: BytesMut,
    mut past: Past,
) -> ConnectionEnd {
    match connect(arrival, &mut past.route).await {
        Ok(upstream) => shown(arrival, Some(hello), client, read_ahead, &past, upstream).await,
        Err(end) => end,
    }
}

/// Opens the connection to the origin, unless rules have something against it.
async fn connect(arrival: &Arrival, route: &mut Route) -> Result<Upstream, ConnectionEnd> {
    // The way may lead to other addresses than those that the rules were asked about.
    arrival.look_up(route).await;
    if matches!(decide_connection(arrival, route, None).action, Action::Block | Action::Reset) {
        return Err(ConnectionEnd::Blocked);
    }
    let upstream = arrival.connector().connect(route).await.map_err(|error| {
        arrival.totals.notes().detail = Some(error.to_string());
        tracing::info!(%error, "not bypassed");
        ConnectionEnd::OriginUnreachable
    })?;
    arrival.totals.notes().server = Some(upstream.address);
    Ok(upstream)
}

async fn relayed(
    arrival: &Arrival,
    client: Io,
    read_ahead: BytesMut,
    mut origin: Io,
) -> ConnectionEnd {
    let mut client = Prefixed::new(read_ahead.freeze(), client);
    match relay_unseen(arrival, &mut client, &mut origin, Unseen::Bypass).await {
        RelayEnd::Finished => ConnectionEnd::Bypassed,
        RelayEnd::Idle => ConnectionEnd::BypassedIdle,
        RelayEnd::Failed(_) => ConnectionEnd::BypassedFailed,
    }
}

/// Relays a TLS connection to a server that is connected to when its handshake was shown; `None` for a hello
/// that can't be read.
pub(super) async fn shown(
    arrival: &Arrival,
    hello: Option<&ClientHello>,
    client: Io,
    read_ahead: BytesMut,
    past: &Past,
    upstream: Upstream,
) -> ConnectionEnd {
    let mut handshake =
        Handshake { arrival, client, read_ahead, origin: upstream.io, answer: BytesMut::new() };
    let records = match hello {
        Some(hello) => handshake.read_ahead.get(..hello.length).unwrap_or_default().to_vec(),
        None => Vec::new(),
    };
    let target = &past.route.target;
    let mut plan = past.mirror.clone();
    if hello.is_none() && plan.extent == config::Mirror::Hello {
        // Whether anybody would look is to be found out.
        plan.extent = config::Mirror::Full;
    }
    let begun = Mirror::begin(arrival, &plan, target, upstream.address, &records).await;
    let stopped = match begun {
        Err(stopped) => stopped,
        Ok(mirror) if !mirror.is_open() => {
            mirror.go_on_unseen();
            return handshake.relayed().await;
        }
        Ok(mut mirror) => {
            let went = match hello {
                Some(hello) => handshake.show(&mut mirror, hello).await,
                None => Err(Broken::Stopped(mirror.unable("its ClientHello can't be read"))),
            };
            match went {
                Ok(()) => return handshake.relayed().await,
                Err(Broken::Io) => return ConnectionEnd::BypassedFailed,
                Err(Broken::Stopped(stopped)) => stopped,
            }
        }
    };
    let (description, end) = match &stopped {
        Stopped::Dropped(_) => (AlertDescription::AccessDenied, ConnectionEnd::Dropped),
        Stopped::Failed(_) => (AlertDescription::InternalError, ConnectionEnd::Uninspected),
    };
    arrival.totals.notes().detail = Some(stopped.to_string());
    alert(&mut handshake.client, description).await;
    end
}

/// A handshake between a client and an origin, both of which wait.
struct Handshake<'a> {
    arrival: &'a Arrival,
    client: Io,
    /// What the client has said, and the origin has not heard.
    read_ahead: BytesMut,
    origin: Io,
    /// What the origin has said, and the client has not heard.
    answer: BytesMut,
}

/// Why a handshake was not shown to its end.
enum Broken {
    /// A connection failed.
    Io,
    /// Nothing more may pass.
    Stopped(Stopped),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl From<Stopped> for Broken {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

impl Handshake<'_> {
    /// Lets the origin answer `hello`, which was passed, and shows what it says in the clear.
    async fn show(&mut self, mirror: &mut Mirror<'_>, hello: &ClientHello) -> Result<(), Broken> {
        let mut flight = ServerFlight::default();
        self.pass_on(Direction::ToServer, hello.length).await?;
        if self.answered(mirror, &mut flight).await? == Progress::Retry {
            self.retried(mirror, &mut flight, hello).await?;
        }
        // All of what was read is whole records, but for what came behind them.
        let read = flight.bytes_read().min(self.answer.len());
        Ok(mirror.show_last(Way::ToClient, &self.answer[..read]).await?)
    }

    /// The origin wants another hello: it must say what the first one said.
    async fn retried(
        &mut self,
        mirror: &mut Mirror<'_>,
        flight: &mut ServerFlight,
        hello: &ClientHello,
    ) -> Result<(), Broken> {
        let read = flight.bytes_read();
        self.pass_on(Direction::ToClient, read).await?;
        *flight = flight.after_retry();
        let limit = self.arrival.settings.config.limits.begin_timeout.0;
        let (before, again) = timeout(limit, self.hello_again())
            .await
            .map_err(|_| mirror.unable("the client's second ClientHello did not come in time"))??;
        match again {
            Some(again) if again.repeats(hello) => {
                self.pass_on(Direction::ToServer, before + again.length).await?;
            }
            Some(_) | None => {
                let why = "its second ClientHello is not like the first";
                return Err(mirror.unable(why).into());
            }
        }
        match self.answered(mirror, flight).await? {
            Progress::Retry => Err(mirror.unable("it was asked for a third ClientHello").into()),
            Progress::Complete | Progress::Partial => Ok(()),
        }
    }

    /// Awaits as much of the origin's first flight as is in the clear, or its end.
    async fn answered(
        &mut self,
        mirror: &mut Mirror<'_>,
        flight: &mut ServerFlight,
    ) -> Result<Progress, Broken> {
        let limit = self.arrival.settings.config.upstream.handshake_timeout.0;
        let Self { origin, answer, .. } = self;
        let read = async {
            loop {
                match flight.read(answer) {
                    Ok(Progress::Partial) => {}
                    Ok(progress) => return Ok(Ok(progress)),
                    Err(error) => return Ok(Err(error)),
                }
                answer.reserve(FLIGHT);
                if origin.read_buf(answer).await? == 0 {
                    return Ok(Ok(Progress::Partial));
                }
            }
        };
        let read: Result<_, io::Error> = timeout(limit, read)
            .await
            .map_err(|_| mirror.unable("the server did not answer the ClientHello in time"))?;
        Ok(read?.map_err(|error| mirror.unable(&error.to_string()))?)
    }

    /// Reads the hello that follows a HelloRetryRequest; with the length of what stands before it,
    /// which means nothing (RFC 8446 section 4.2.10 and appendix D.4). `None` if it is none.
    async fn hello_again(&mut self) -> io::Result<(usize, Option<ClientHello>)> {
        let mut before = 0;
        loop {
            let rest = self.read_ahead.get(before..).unwrap_or_default();
            match rest {
                [20 | 23, _, _, high, low, ..] => {
                    before += 5 + usize::from(u16::from_be_bytes([*high, *low]));
                    if before > EARLY {
                        return Ok((before, None));
                    }
                    continue;
                }
                [20 | 23, ..] | [] => {}
                _ => match ClientHello::read(rest) {
                    Ok(None) => {}
                    Ok(hello) => return Ok((before, hello)),
                    Err(_) => return Ok((before, None)),
                },
            }
            self.read_ahead.reserve(FLIGHT);
            if self.client.read_buf(&mut self.read_ahead).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Passes on so many bytes of what one side said.
    async fn pass_on(&mut self, direction: Direction, length: usize) -> io::Result<()> {
        let (from, to) = match direction {
            Direction::ToServer => (&mut self.read_ahead, &mut self.origin),
            Direction::ToClient => (&mut self.answer, &mut self.client),
        };
        let bytes = from.split_to(length.min(from.len()));
        let write = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        timeout(PATIENCE, write).await.map_err(|_| io::ErrorKind::TimedOut)??;
        count_relayed(self.arrival, Unseen::Bypass, direction, bytes.len());
        Ok(())
    }

    async fn relayed(self) -> ConnectionEnd {
        let origin = Prefixed::new(self.answer.freeze(), self.origin);
        relayed(self.arrival, self.client, self.read_ahead, Box::new(origin)).await
    }
}

/// Bytes of a server's first flight that are read at once.
const FLIGHT: usize = 4096;
/// The most bytes of early data that a client may have sent before it was asked for another hello.
const EARLY: usize = 64 * 1024;
/// How long a peer may take for the few bytes of a hello.
const PATIENCE: Duration = Duration::from_secs(10);
