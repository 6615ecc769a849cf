//! One transaction's way: from a client, through the ICAP services, to the origin and back.
//!
//! Written once for all protocols. A protocol brings a `Client` (who asks and is answered), an
//! `Origin` (who is asked) and `Sink`s for contents; `transact` does the rest.
//!
//! ```text
//!   Client ──request──► rules ──► REQMOD ──► Origin
//!     ▲                             │block      │
//!     └──────── RESPMOD ◄── rules ◄─┴─response──┘
//! ```
//!
//! Nothing is collected: contents are pulled through by whoever writes them, so a slow reader slows
//! its sender. Request and response contents may flow at the same time. No task is spawned.

mod account;
mod ask;
mod codings;
mod drive;
mod mirror;
mod pace;
mod pump;
mod ranges;
mod record;
mod review;
mod rules;
mod signed;
mod stream;
mod transact;
mod trouble;
mod tunnel;
mod websocket;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_wire::{RequestHead, ResponseHead};
use icap_client::{Body, Frame};

pub(crate) use account::{count_relayed, relay_unseen};
pub(crate) use drive::Watch;
pub(crate) use mirror::{Mirror, MirrorPlan, Stopped, mirror_again};
pub(crate) use pump::{Counted, Progress};
pub(crate) use record::Transaction;
pub(crate) use stream::{Audience, StreamSubject, block_record, count_unseen, stream_id};
pub(crate) use transact::{Ended, refuse, transact};
pub(crate) use trouble::Trouble;
pub(crate) use tunnel::tunnel;
pub(crate) use websocket::{Inside, Moved};

use crate::tls::UpstreamTls;

/// Takes a message's content and sends it on.
pub(crate) trait Sink: Send + Unpin {
    /// Ready once another frame may be pushed. Keeps what is in flight bounded.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Takes a frame; to be called after `poll_ready` only.
    fn push(&mut self, frame: Frame) -> io::Result<()>;
    /// Sends what was taken so far.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends the message as complete and sends all of it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Makes sure that the receiver will see the message as incomplete.
    fn abort(&mut self);
}

/// A request as the adapter sees it, whatever the protocol.
pub(crate) struct Request {
    /// The head, byte for byte for HTTP/1, made up from the fields for others.
    pub(crate) head: RequestHead,
    /// The content.
    pub(crate) body: Option<Body>,
}

/// Whoever asked and is to be answered.
pub(crate) trait Client: Send {
    /// Where response contents go.
    type Sink: Sink;

    /// Sends an interim response (1xx other than 101).
    fn interim(&mut self, head: &ResponseHead) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends (or queues) the head of the final response; its content goes to the sink.
    fn respond(&mut self, head: ResponseHead, body: Option<&Body>) -> Result<Self::Sink, Trouble>;

    /// Ready when the client has withdrawn its request, where the protocol has a way to say so.
    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }

    /// Nothing more is to be asked on the client's connection, where the protocol lets it end after a
    /// response.
    fn close_after(&mut self) {}

    /// Whether the request's content broke the protocol, rather than the connection.
    fn fault(&self) -> Option<http_wire::Error>;
}

/// Whoever is asked.
pub(crate) trait Origin: Send {
    /// Where request contents go.
    type Sink: Sink;

    /// Makes sure that there is a connection; returns the origin's address.
    fn connect(&mut self) -> impl Future<Output = Result<SocketAddr, Trouble>> + Send;

    /// Whether a request goes where its Host says, instead of where the connection leads. To be asked
    /// once there is a connection.
    fn follows_host(&self) -> bool {
        false
    }

    /// What the origin's handshake told, of the connection that there is.
    fn tls(&self) -> Option<&Arc<UpstreamTls>>;

    /// Sends (or queues) the head; its content goes to the sink.
    ///
    /// [`Trouble::Unprocessed`]: the connection has ended, and nothing was sent.
    fn send(&mut self, head: &RequestHead, body: Option<&Body>) -> Result<Self::Sink, Trouble>;

    /// Awaits the next response head, interim ones included, and its content.
    ///
    /// [`Trouble::Stale`]: a kept connection turned out to have ended before anything of the
    /// response came. [`Trouble::Unprocessed`]: the origin has said that nothing came of the request.
    fn response(
        &mut self,
        progress: &Arc<Progress>,
    ) -> impl Future<Output = Result<(ResponseHead, Option<Body>), Trouble>> + Send;
}
