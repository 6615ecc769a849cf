//! The client of one HTTP/2 stream.

use std::future::{Future, ready};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Response, StatusCode};
use http_wire::{Error, ResponseHead};
use icap_client::Body;

use super::head;
use super::sink::StreamSink;
use crate::exchange::{Client, Trouble};

/// The way back on a stream, shared by its response and by the content that has to be asked for.
#[derive(Clone)]
pub(super) struct Back(Arc<Mutex<State>>);

struct State {
    respond: SendResponse<Bytes>,
    /// The client holds its content back until it is told 100 (Continue), and was told nothing yet.
    awaits_continue: bool,
}

impl Back {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Self {
        Self(Arc::new(Mutex::new(State { respond, awaits_continue: false })))
    }

    /// The client waits for 100 (Continue).
    pub(super) fn expect(&self) {
        self.lock().awaits_continue = true;
    }

    /// Says that somebody wants the content, if the client waits for that (RFC 9110 section 10.1.1).
    pub(super) fn ask(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.awaits_continue) {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::CONTINUE;
            // If the stream is gone, its content says so.
            let _ = state.respond.send_informational(response);
        }
    }

    // All users run in one task, so the lock is never waited for.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever opened the stream and gets the response.
pub(super) struct StreamClient {
    back: Back,
    method_is_head: bool,
    responded: bool,
}

impl StreamClient {
    pub(super) fn new(back: Back, method: &http::Method) -> Self {
        Self { back, method_is_head: method == http::Method::HEAD, responded: false }
    }

    /// Lets the client see that no (or no complete) response comes. After a complete one there is
    /// nothing to do: a reset would overtake what is still on its way.
    pub(super) fn cut(self, reason: Reason) {
        self.back.lock().respond.send_reset(reason);
    }
}

impl Client for StreamClient {
    type Sink = StreamSink;

    fn interim(&mut self, head: &ResponseHead) -> impl Future<Output = io::Result<()>> + Send {
        let sent = match head::to_response(head, None, true) {
            Ok(response) => {
                self.back.lock().respond.send_informational(response).map_err(io::Error::other)
            }
            // A hint that can't be told is left out.
            Err(_) => Ok(()),
        };
        ready(sent)
    }

    fn respond(&mut self, head: ResponseHead, body: Option<&Body>) -> Result<StreamSink, Trouble> {
        let nothing = self.method_is_head || matches!(head.status(), 204 | 304);
        let response = head::to_response(&head, body, nothing)?;
        let ends = nothing || body.is_none_or(|b| b.exact_length() == Some(0));
        let mut back = self.back.lock();
        // No 100 may follow the answer.
        back.awaits_continue = false;
        let stream = back
            .respond
            .send_response(response, ends)
            .map_err(|e| Trouble::ClientGone(io::Error::other(e)))?;
        self.responded = true;
        Ok(StreamSink::new((!ends).then_some(stream)))
    }

    fn fault(&self) -> Option<Error> {
        None
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.responded {
            return Poll::Pending;
        }
        self.back.lock().respond.poll_reset(cx).map(|reset| match reset {
            Ok(_) => io::Error::new(io::ErrorKind::BrokenPipe, "the client reset the stream"),
            Err(e) => io::Error::other(e),
        })
    }
}
