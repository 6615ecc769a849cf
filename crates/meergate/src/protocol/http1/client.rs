//! The client of an HTTP/1 connection, for the length of one transaction.

use std::future::Future;
use std::io;

use http_wire::{Error, RequestHead, ResponseHead, Version};
use icap_client::Body;

use super::framing;
use super::sink::{Encoding, WireSink};
use super::wire::SharedWire;
use crate::adapt::{Client, Trouble};

/// Whoever sent one request and gets its response.
pub(super) struct WireClient {
    wire: SharedWire,
    version: Version,
    method_is_head: bool,
    keep_alive: bool,
}

impl WireClient {
    pub(super) fn new(wire: &SharedWire, request: &RequestHead) -> Self {
        Self {
            wire: wire.clone(),
            version: request.version(),
            method_is_head: request.method() == b"HEAD",
            keep_alive: request.keep_alive(),
        }
    }

    /// The sender of something that is not a request to be carried out; its connection ends.
    pub(super) fn unknown(wire: &SharedWire, request: Option<&RequestHead>) -> Self {
        let version = request.map_or(Version::Http11, RequestHead::version);
        let method_is_head = request.is_some_and(|r| r.method() == b"HEAD");
        Self { wire: wire.clone(), version, method_is_head, keep_alive: false }
    }

    pub(super) fn close_after(&mut self) {
        self.keep_alive = false;
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
        self.keep_alive &= !std::mem::take(&mut self.wire.lock().awaits_continue);
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

    fn fault(&self) -> Option<Error> {
        self.wire.lock().fault.clone()
    }
}
