//! WebSocket (RFC 6455) between a client and an origin that have agreed on it: each message is shown to the
//! services that take streams, and leaves when they have passed it, as it came.
//!
//! ```text
//!   client ──frames──► read ──message, inflated──► shown
//!                       │ as they came                │PASS
//!                       └────────── held ─────────────┴──frames──► server      and the other way round
//! ```

mod content;
mod farewell;
mod half;
mod relay;

use http_wire::{RequestHead, ResponseHead, tokens};
use icap_client::{Chain, Failure, StreamDrop, Streams};
use websocket_wire::{CloseCode, Deflate, Error, ErrorKind, Offers};

use super::record::Transaction;
use super::stream::{Audience, StreamSubject, block_record};
use super::trouble::Trouble;
use crate::io::Stream;
use crate::metrics::WebSocketLabels;
use crate::pages::Page;
use crate::session::Arrival;
use crate::words::{ConnectionEnd, Target, Unseen, WebSocketEnd};

pub(super) use content::Content;
use relay::Relay;
pub(crate) use relay::{Count, Moved};

const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// A request for WebSocket that services are to see into.
pub(super) struct Asked<'c> {
    chain: &'c Chain,
    offers: Offers,
}

/// Who sees what is said after an upgrade.
#[derive(Debug)]
pub(crate) enum Inside {
    /// Services, message by message.
    Seen(Box<WebSocket>),
    /// Nobody.
    Unseen(Unseen),
}

/// A WebSocket that is shown to services.
#[derive(Debug)]
pub(crate) struct WebSocket {
    streams: Streams,
    deflate: Option<Deflate>,
    /// Why not all who should look do, if that is so.
    unseen: Option<Unseen>,
    target: Target,
}

/// How a WebSocket ended.
#[derive(Debug)]
pub(crate) enum End {
    /// A service drops a message.
    Blocked(StreamDrop),
    /// Its messages find no memory.
    Crowded,
    /// Both sides ended it.
    Done,
    /// One of the connections failed.
    Failed(std::io::Error),
    /// Nothing moved in time.
    Idle,
    /// A service failed.
    NotInspected(Failure),
    /// What a side says breaks the protocol, or a limit.
    Refused(Error),
}

impl<'c> Asked<'c> {
    /// What `head` asks for, if that is WebSocket and services of `chain` take streams, and the head as it is to
    /// go on: without extensions that could not be read.
    pub(super) fn of(
        chain: Option<&'c Chain>,
        head: RequestHead,
    ) -> Result<(Option<Self>, RequestHead), Trouble> {
        let chain = chain.filter(|chain| chain.takes_streams());
        let (Some(chain), true) = (chain, head.all("Upgrade").any(|f| names_websocket(f.value)))
        else {
            return Ok((None, head));
        };
        let offers = Offers::read(head.all(EXTENSIONS).map(|field| field.value));
        if head.field(EXTENSIONS).is_none() {
            return Ok((Some(Self { chain, offers }), head));
        }
        let mut edit = head.edit();
        match offers.value() {
            Some(value) => edit.set(EXTENSIONS, value),
            None => edit.remove(EXTENSIONS),
        };
        let head = edit.build().map_err(Trouble::RequestFault)?;
        Ok((Some(Self { chain, offers }), head))
    }

    /// Asks the services to look into what follows `answer`, in which the origin agrees.
    pub(super) async fn open(
        self,
        tx: &Transaction<'_>,
        answer: &ResponseHead,
    ) -> Result<Inside, Trouble> {
        let agreed = self.offers.agreed(answer.all(EXTENSIONS).map(|field| field.value));
        let deflate = agreed.map_err(|error| {
            let page = Page::new(502, "The server's answer is malformed").detail(error.to_string());
            Trouble::Refused(Box::new(page.status("http_protocol_error")))
        })?;
        let (Some(target), Some(server)) = (tx.target(), tx.server) else {
            return Err(Trouble::Unprocessed);
        };
        let subject = StreamSubject { protocol: "websocket", id: tx.id().clone(), target, server };
        let audience = Audience::find(tx.session, Some(self.chain), &subject, None).await;
        let audience = audience.map_err(Trouble::Chain)?;
        let unseen = audience.unseen();
        Ok(match audience {
            Audience::Services(streams) => {
                let target = target.clone();
                Inside::Seen(Box::new(WebSocket { streams: *streams, deflate, unseen, target }))
            }
            Audience::Bypassed => Inside::Unseen(Unseen::ServiceBypassed),
            Audience::Nobody => Inside::Unseen(Unseen::Upgrade),
        })
    }
}

/// Whether the response to a request for WebSocket agrees to that, instead of to something else that was asked for.
pub(super) fn agrees(answer: &ResponseHead) -> bool {
    answer.all("Upgrade").any(|field| names_websocket(field.value))
}

fn names_websocket(value: &[u8]) -> bool {
    tokens(value).any(|token| token.eq_ignore_ascii_case(b"websocket"))
}

impl WebSocket {
    /// Relays it to its end, which both sides have been told of. `count` hears of what moves.
    pub(crate) async fn serve(
        self,
        arrival: &Arrival,
        client: &mut dyn Stream,
        server: &mut dyn Stream,
        count: Count<'_>,
    ) -> End {
        let Self { mut streams, deflate, unseen, target } = self;
        let mut relay = Relay::new(arrival, [client, server], &mut streams, deflate, count);
        relay.unseen = unseen;
        let end = relay.run().await;
        let outcome = end.word();
        arrival.shared.metrics.websockets.get_or_create(&WebSocketLabels { outcome }).inc();
        end.tell(arrival, &target);
        if let Some((code, reason)) = end.close() {
            relay.close(code, &reason).await;
        }
        drop(relay);
        match &end {
            End::NotInspected(_) => return end,
            End::Blocked(_) | End::Done => {}
            End::Crowded | End::Failed(_) | End::Idle | End::Refused(_) => {
                streams.cancel(outcome.as_str());
            }
        }
        farewell::of_services(streams).await;
        end
    }
}

impl End {
    /// The word in metrics.
    pub(crate) fn word(&self) -> WebSocketEnd {
        match self {
            Self::Blocked(_) => WebSocketEnd::Blocked,
            Self::Crowded => WebSocketEnd::Crowded,
            Self::Done => WebSocketEnd::Done,
            Self::Failed(_) => WebSocketEnd::Failed,
            Self::Idle => WebSocketEnd::Idle,
            Self::NotInspected(_) => WebSocketEnd::NotInspected,
            Self::Refused(error) if error.kind() == ErrorKind::TooLong => WebSocketEnd::TooLong,
            Self::Refused(_) => WebSocketEnd::Malformed,
        }
    }

    /// How a connection ends that was for nothing else.
    pub(crate) fn of_connection(&self) -> ConnectionEnd {
        match self {
            Self::Blocked(_) => ConnectionEnd::StreamBlocked,
            Self::Crowded | Self::Refused(_) => ConnectionEnd::UpgradedRefused,
            Self::Done => ConnectionEnd::UpgradedDone,
            Self::Failed(_) => ConnectionEnd::UpgradedFailed,
            Self::Idle => ConnectionEnd::UpgradedIdle,
            Self::NotInspected(_) => ConnectionEnd::NotInspected,
        }
    }

    /// What went wrong, for records.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Blocked(dropped) if dropped.why.signature.is_some() => None,
            Self::Blocked(dropped) => Some(dropped.why.reason.clone()),
            Self::Crowded => Some("limits.websocket_memory is spent".to_owned()),
            Self::Done | Self::Idle => None,
            Self::Failed(error) => Some(error.to_string()),
            Self::NotInspected(failure) => Some(failure.to_string()),
            Self::Refused(error) => Some(error.to_string()),
        }
    }

    /// What both sides are told.
    fn close(&self) -> Option<(CloseCode, String)> {
        Some(match self {
            Self::Blocked(StreamDrop { why, .. }) => {
                let reason = match &why.signature {
                    Some(signature) => format!("blocked by signature {}", signature.id),
                    None => "blocked".to_owned(),
                };
                (CloseCode::POLICY_VIOLATION, reason)
            }
            Self::Crowded => (CloseCode::TRY_AGAIN_LATER, "no room for this message".to_owned()),
            Self::Done | Self::Failed(_) => return None,
            Self::Idle => (CloseCode::GOING_AWAY, "nothing was said in time".to_owned()),
            // What exactly is wrong with a service is for the operator's log, not for whoever asks.
            Self::NotInspected(_) => (CloseCode::INTERNAL_ERROR, "not inspected".to_owned()),
            Self::Refused(error) => (error.close_code(), error.what().to_owned()),
        })
    }

    /// Says it in the log, and notes it for the connection's record.
    fn tell(&self, arrival: &Arrival, target: &Target) {
        let (connection, client) = (&arrival.id, &arrival.client);
        match self {
            Self::Blocked(dropped) => {
                let signature = dropped.why.signature.as_ref();
                tracing::info!(
                    %connection, %client, %target,
                    service = %dropped.service,
                    sid = signature.map(|signature| signature.id),
                    message = signature.map(|signature| &*signature.message),
                    reason = dropped.why.reason,
                    "a WebSocket is blocked"
                );
                arrival.totals.notes().block = Some(block_record(dropped));
            }
            Self::Done | Self::Failed(_) | Self::Idle => {}
            Self::Crowded => tracing::warn!(%connection, %client, %target,
                "a WebSocket is closed: no memory for its messages is left of limits.websocket_memory"),
            Self::NotInspected(failure) => tracing::warn!(%connection, %client, %target,
                why = %failure, "a WebSocket is closed: it is not inspected"),
            Self::Refused(error) => tracing::warn!(%connection, %client, %target, why = %error,
                "a WebSocket is closed: what it says can't be inspected; a rule may bypass it"),
        }
        if let Some(detail) = self.detail() {
            arrival.totals.notes().detail = Some(detail);
        }
    }
}
