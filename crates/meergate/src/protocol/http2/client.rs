//! The client of one HTTP/2 stream.

use std::future::{Future, ready};
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http_wire::{Error, ResponseHead};
use icap_client::Body;

use super::head;
use super::sink::StreamSink;
use crate::adapt::{Client, Trouble};

/// Whoever opened the stream and gets the response.
pub(super) struct StreamClient {
    respond: SendResponse<Bytes>,
    method_is_head: bool,
    responded: bool,
}

impl StreamClient {
    pub(super) fn new(respond: SendResponse<Bytes>, method: &http::Method) -> Self {
        Self { respond, method_is_head: method == http::Method::HEAD, responded: false }
    }

    /// Lets the client see that no (or no complete) response comes. After a complete one there is
    /// nothing to do: a reset would overtake what is still on its way.
    pub(super) fn cut(mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }
}

impl Client for StreamClient {
    type Sink = StreamSink;

    fn interim(&mut self, head: &ResponseHead) -> impl Future<Output = io::Result<()>> + Send {
        let sent = match head::to_response(head, None, true) {
            Ok(response) => self.respond.send_informational(response).map_err(io::Error::other),
            // A hint that can't be told is left out.
            Err(_) => Ok(()),
        };
        ready(sent)
    }

    fn respond(&mut self, head: ResponseHead, body: Option<&Body>) -> Result<StreamSink, Trouble> {
        let nothing = self.method_is_head || matches!(head.status(), 204 | 304);
        let response = head::to_response(&head, body, nothing)?;
        let ends = nothing || body.is_none_or(|b| b.exact_length() == Some(0));
        let stream = self
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
        self.respond.poll_reset(cx).map(|reset| match reset {
            Ok(_) => io::Error::new(io::ErrorKind::BrokenPipe, "the client reset the stream"),
            Err(e) => io::Error::other(e),
        })
    }
}
