//! The client of an HTTP/1 connection, for the length of one transaction.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_wire::{Error, RequestHead, ResponseHead, Version};
use icap_client::Body;
use tokio::time::{Sleep, sleep};

use super::framing;
use super::sink::{Encoding, WireSink};
use super::wire::{Reading, SharedWire};
use crate::exchange::{Client, Progress, Trouble};

/// How long a client that has ended its side is still waited for while nothing moves.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// Whoever sent one request and gets its response.
pub(super) struct WireClient {
    wire: SharedWire,
    version: Version,
    method_is_head: bool,
    keep_alive: bool,
    progress: Arc<Progress>,
    /// The client has ended its side; since when nothing moved.
    ended: Option<Ended>,
}

/// A client that has ended its side may read on, as HTTP/1.0 programs do, or be gone: its system
/// tells only when something is sent to it.
struct Ended {
    patience: Pin<Box<Sleep>>,
    moved: u64,
}

impl WireClient {
    pub(super) fn new(wire: &SharedWire, request: &RequestHead, progress: &Arc<Progress>) -> Self {
        Self {
            progress: progress.clone(),
            ended: None,
            wire: wire.clone(),
            version: request.version(),
            method_is_head: request.method() == b"HEAD",
            keep_alive: request.keep_alive(),
        }
    }

    /// The sender of something that is not a request to be carried out; its connection ends.
    pub(super) fn unknown(
        wire: &SharedWire,
        request: Option<&RequestHead>,
        progress: &Arc<Progress>,
    ) -> Self {
        let version = request.map_or(Version::Http11, RequestHead::version);
        let method_is_head = request.is_some_and(|r| r.method() == b"HEAD");
        let (wire, progress) = (wire.clone(), progress.clone());
        Self { wire, version, method_is_head, keep_alive: false, progress, ended: None }
    }

    /// Whether another request may follow on the connection.
    pub(super) fn carries_on(&self) -> bool {
        let wire = self.wire.lock();
        self.keep_alive && wire.is_between_messages()
    }
}

impl Client for WireClient {
    type Sink = WireSink;

    fn interim(&mut self, head: &ResponseHead) -> impl Future<Output = io::Result<()>> + Send {
        // HTTP/1.0 knows no interim responses (RFC 9110 section 15.2).
        if self.version == Version::Http11 {
            self.wire.lock().out.put_head(head.bytes());
        }
        self.wire.flush()
    }

    fn respond(&mut self, head: ResponseHead, body: Option<&Body>) -> Result<WireSink, Trouble> {
        // It may leave out the content that nobody has asked for, or send it nonetheless (RFC 9110
        // section 10.1.1): what comes next can't be told from it. Nor may a 100 follow the answer.
        self.keep_alive &= !self.wire.lock().release();
        let (mut head, encoding) =
            framing::response(&head, body, self.method_is_head, self.version)
                .map_err(Trouble::OriginFault)?;
        // Nobody reads the rest of a request that was answered already.
        let ends = !self.keep_alive || encoding == Encoding::Close;
        if ends && head.keep_alive() {
            let mut edit = head.edit();
            edit.set("Connection", "close");
            head = edit.build().map_err(Trouble::OriginFault)?;
        }
        self.keep_alive &= head.keep_alive() && encoding != Encoding::Close;
        self.wire.lock().out.put_head(head.bytes());
        Ok(WireSink::new(&self.wire, encoding))
    }

    /// Looks whether the client is there still while nothing is asked of it. A request that it sends
    /// ahead stays where it is.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.ended.is_none() {
            let mut wire = self.wire.lock();
            if wire.is_in_content() || !wire.input.is_empty() {
                return Poll::Pending;
            }
            match ready!(wire.poll_fill(cx, 0)) {
                Ok(0) => {}
                Ok(_) => return Poll::Pending,
                Err(e) => return Poll::Ready(e),
            }
        }
        let moved = self.progress.total();
        let patience = || Box::pin(sleep(HALF_CLOSED));
        let ended = self.ended.get_or_insert_with(|| Ended { patience: patience(), moved });
        while ended.patience.as_mut().poll(cx).is_ready() {
            if ended.moved == moved {
                let e = io::Error::new(io::ErrorKind::UnexpectedEof, "the client has ended it");
                return Poll::Ready(e);
            }
            *ended = Ended { patience: patience(), moved };
        }
        Poll::Pending
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    fn fault(&self) -> Option<Error> {
        match &self.wire.lock().reading {
            Reading::Faulty(fault) => Some(fault.clone()),
            _ => None,
        }
    }
}
