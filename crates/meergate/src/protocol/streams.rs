//! TCP streams that are not HTTP: relayed, each byte after the services have seen and passed it.
//!
//! ```text
//!   client ──read──► shown ──PASS──► written ──► server      and the other way round, in one task:
//!                      │DROP, FAIL                            the services see what was read in the
//!                      └──────────► both ends are reset       order in which it was read
//! ```
//!
//! At most 256 KiB of each direction are held, and nothing is where nothing moves.

mod agreed;
mod lane;
mod relay;
mod within;

use std::future::poll_fn;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use icap_client::{Chain, Failure, StreamDrop, StreamEvent, Streams, Way};
use tokio::time::timeout;

use crate::exchange::{
    Audience, StreamSubject, block_record, count_unseen, relay_unseen, stream_id,
};
use crate::io::{Cut, Io, RelayEnd, Turn};
use crate::metrics::StreamLabels;
use crate::session::Arrival;
use crate::upstream::Upstream;
use crate::words::{ConnectionEnd, Target, Towards, Unseen};

use relay::{End, Listener, Relay};

pub(crate) use within::Found;
use within::Within;

/// How long a service may take to end a stream that is over.
const FAREWELL: Duration = Duration::from_secs(10);

/// A stream between two connections.
pub(crate) struct TcpStreams<'a> {
    /// The client's connection.
    pub(crate) client: Io,
    /// The server's.
    pub(crate) upstream: Upstream,
    /// Who spoke first.
    pub(crate) first: Way,
    /// Where the client wants to go.
    pub(crate) target: &'a Target,
    /// Who is to look.
    pub(crate) chain: Option<&'a Chain>,
    /// What the server said before the stream went over to TLS, so that an engine knows what this is.
    pub(crate) greeting: Bytes,
}

/// What came of a stream.
pub(crate) enum Served {
    /// It goes on in TLS, as both sides agreed.
    Agreed(Box<Agreed>),
    /// It ended.
    Ended(ConnectionEnd),
}

/// A stream that goes on in TLS. All that was said in the clear was passed, and has arrived.
pub(crate) struct Agreed {
    /// The client's connection.
    pub(crate) client: Io,
    /// What the client said of its TLS, at least a byte.
    pub(crate) read_ahead: BytesMut,
    /// The server's, which awaits TLS.
    pub(crate) upstream: Upstream,
    /// What the server said first.
    pub(crate) greeting: Bytes,
}

/// Relays a stream to its end; what came of it. If the stream does not end in order, both
/// connections are reset, so that no peer takes a part for the whole.
pub(crate) async fn serve(arrival: &Arrival, stream: TcpStreams<'_>) -> Served {
    let cuts = [arrival.cut.clone(), stream.upstream.cut.clone()];
    let in_order = |is: bool| cuts.iter().for_each(|cut: &Cut| cut.set(!is));
    // Also if the task is dropped.
    in_order(false);
    let served = run(arrival, stream, &in_order).await;
    if let Served::Ended(outcome) = served {
        arrival.shared.metrics.streams.get_or_create(&StreamLabels { outcome }).inc();
    }
    served
}

async fn run(
    arrival: &Arrival,
    stream: TcpStreams<'_>,
    in_order: &(dyn Fn(bool) + Sync),
) -> Served {
    let TcpStreams { mut client, mut upstream, first, target, chain, greeting } = stream;
    let number = arrival.totals.next_transaction();
    let subject = StreamSubject {
        protocol: "tcp",
        id: stream_id(arrival, &number.to_string()),
        target,
        server: upstream.address,
    };
    let idle = arrival.settings.config.limits.stream_idle_timeout.0;
    let audience = match Audience::find(arrival, chain, &subject, None).await {
        Ok(audience) => audience,
        Err(failure) => {
            return Served::Ended(not_inspected(arrival, target, &failure.to_string()));
        }
    };
    let unseen = audience.unseen();
    let mut streams = match audience {
        Audience::Services(streams) => *streams,
        Audience::Nobody => {
            let why = "no service of its chain takes streams: add one that does, or bypass this \
                       traffic by rule";
            return Served::Ended(not_inspected(arrival, target, why));
        }
        Audience::Bypassed => {
            let why = Unseen::ServiceBypassed;
            let end = relay_unseen(arrival, &mut client, &mut upstream.io, why).await;
            in_order(matches!(end, RelayEnd::Finished));
            return Served::Ended(match end {
                RelayEnd::Finished => ConnectionEnd::StreamDone,
                RelayEnd::Idle => ConnectionEnd::StreamIdle,
                RelayEnd::Failed(_) => ConnectionEnd::StreamFailed,
            });
        }
    };
    if let Err(failure) = streams.replay(Way::ToClient, &greeting) {
        return Served::Ended(not_inspected(arrival, target, &failure.to_string()));
    }
    let listener = Notes { arrival, unseen };
    // What is in TLS already does not begin another within.
    let within = Within::new(upstream.tls.is_none());
    let ends = (client, upstream.io);
    let patience = (idle, Turn::of(arrival.party()));
    let mut relay = Relay::new(ends, &mut streams, first, within, patience, listener);
    let end = poll_fn(|cx| relay.poll(cx)).await;
    in_order(matches!(end, End::Agreed | End::Finished));
    let end = match end {
        End::Agreed => {
            let (client, server, read_ahead, greeting) = relay.into_ends();
            let upstream = Upstream { io: server, ..upstream };
            if let Err(end) = ended(arrival, target, streams).await {
                in_order(false);
                return Served::Ended(end);
            }
            return Served::Agreed(Box::new(Agreed { client, read_ahead, upstream, greeting }));
        }
        // The connections end now; the services have time.
        other => {
            drop(relay);
            other
        }
    };
    let end = match end {
        End::Agreed | End::Finished => ConnectionEnd::StreamDone,
        End::Idle => {
            streams.cancel("nothing moves");
            ConnectionEnd::StreamIdle
        }
        End::Broken(error) => {
            streams.cancel("a connection failed");
            arrival.totals.notes().detail = Some(error.to_string());
            ConnectionEnd::StreamFailed
        }
        End::Dropped(dropped) => blocked(arrival, target, &dropped),
        End::Hides(found) => {
            streams.cancel("it can't be inspected");
            hides(arrival, target, found)
        }
        End::NotInspected(failure) => {
            return Served::Ended(not_inspected(arrival, target, &failure.to_string()));
        }
    };
    farewell(streams).await;
    Served::Ended(end)
}

/// Ends the part of a stream that was in the clear, and awaits what that leads to.
async fn ended(
    arrival: &Arrival,
    target: &Target,
    mut streams: Streams,
) -> Result<(), ConnectionEnd> {
    let failed = |failure: Failure| not_inspected(arrival, target, &failure.to_string());
    streams.end().map_err(failed)?;
    while !Way::BOTH.iter().all(|way| streams.end_cleared(*way)) {
        match streams.event().await.map_err(failed)? {
            StreamEvent::Dropped(dropped) if !dropped.late => {
                let end = blocked(arrival, target, &dropped);
                farewell(streams).await;
                return Err(end);
            }
            _ => {}
        }
    }
    farewell(streams).await;
    Ok(())
}

/// Gives the services' connections back, if they are done in time.
async fn farewell(streams: Streams) {
    match timeout(FAREWELL, streams.finish()).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => tracing::debug!(%failure, "a stream's services did not end with it"),
        Err(_) => tracing::debug!("a stream's services did not end with it in time"),
    }
}

fn blocked(arrival: &Arrival, target: &Target, dropped: &StreamDrop) -> ConnectionEnd {
    let signature = dropped.why.signature.as_ref();
    tracing::info!(
        connection = %arrival.id,
        client = %arrival.client,
        %target,
        service = %dropped.service,
        sid = signature.map(|signature| signature.id),
        message = signature.map(|signature| &*signature.message),
        reason = dropped.why.reason,
        "a stream is blocked"
    );
    let mut notes = arrival.totals.notes();
    notes.detail = signature.is_none().then(|| dropped.why.reason.clone());
    notes.block = Some(block_record(dropped));
    ConnectionEnd::StreamBlocked
}

fn hides(arrival: &Arrival, target: &Target, found: Found) -> ConnectionEnd {
    let (why, end) = match found {
        Found::Http => (
            "it is HTTP, whose server spoke first, or whose client paused within the \
                         first line",
            ConnectionEnd::HttpInside,
        ),
        Found::Agreed(_) | Found::Tls => ("TLS begins within it", ConnectionEnd::TlsInside),
    };
    tracing::warn!(connection = %arrival.id, client = %arrival.client, %target, why, "a stream is cut: it can't be inspected; a rule may bypass it");
    arrival.totals.notes().detail = Some(why.to_owned());
    end
}

fn not_inspected(arrival: &Arrival, target: &Target, why: &str) -> ConnectionEnd {
    tracing::warn!(connection = %arrival.id, client = %arrival.client, %target, why, "a stream is cut: it is not inspected");
    arrival.totals.notes().detail = Some(why.to_owned());
    ConnectionEnd::NotInspected
}

/// What is noted of a stream.
struct Notes<'a> {
    arrival: &'a Arrival,
    /// Why not all who should look do, if that is so.
    unseen: Option<Unseen>,
}

impl Listener for Notes<'_> {
    fn read(&mut self, way: Way, bytes: usize) {
        match way {
            Way::ToClient => self.arrival.totals.add_from_server(bytes as u64),
            Way::ToServer => self.arrival.totals.add_from_client(bytes as u64),
        }
    }

    fn left(&mut self, way: Way, bytes: usize) {
        let Some(why) = self.unseen else { return };
        let towards = match way {
            Way::ToClient => Towards::Client,
            Way::ToServer => Towards::Server,
        };
        count_unseen(self.arrival, why, towards, bytes);
    }

    fn said(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Proto(name) => self.arrival.totals.notes().protocol = Some(name),
            StreamEvent::Alert(signature) => tracing::debug!(
                connection = %self.arrival.id,
                sid = signature.id,
                message = signature.message,
                "a rule matched"
            ),
            // What is drained ends soon, and is not gone on with elsewhere: half of what a rule looks
            // for would be here, and half there.
            StreamEvent::Drain
            | StreamEvent::Dropped(_)
            | StreamEvent::Passed(_)
            | StreamEvent::Pong => {}
        }
    }
}
