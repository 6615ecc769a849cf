//! One transaction, as a service is given it.

use bytes::{Bytes, BytesMut};
use icap::server::Heads;
use icap::{BodyKind, RequestHead};

use crate::wire::Wire;
use crate::{BodyReader, Peer, Reply};

/// One REQMOD or RESPMOD transaction, as a service sees it.
pub struct Transaction<'a> {
    head: &'a RequestHead,
    heads: &'a Heads,
    peer: &'a Peer,
    pub(crate) body: BodyReader<'a>,
    pub(crate) reply: Reply<'a>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(
        wire: &'a Wire,
        buf: &'a mut BytesMut,
        head: &'a RequestHead,
        heads: &'a Heads,
        peer: &'a Peer,
    ) -> Self {
        Self { head, heads, peer, body: BodyReader::new(wire, buf), reply: Reply::new(wire) }
    }

    /// The ICAP head.
    pub fn head(&self) -> &'a RequestHead {
        self.head
    }

    /// The encapsulated HTTP request head, byte for byte.
    pub fn req_hdr(&self) -> Option<&'a Bytes> {
        self.heads.req_hdr.as_ref()
    }

    /// The encapsulated HTTP response head, byte for byte.
    pub fn res_hdr(&self) -> Option<&'a Bytes> {
        self.heads.res_hdr.as_ref()
    }

    /// Which body follows.
    pub fn body_kind(&self) -> BodyKind {
        self.head.encapsulated().body
    }

    /// Whether a body follows.
    pub fn has_body(&self) -> bool {
        self.body_kind().follows()
    }

    /// The most bytes of body that come before [`BodyEvent::PreviewEnd`](crate::BodyEvent).
    pub fn preview(&self) -> Option<u64> {
        self.head.preview()
    }

    /// Whether a 204 may be sent now.
    pub fn allows_204(&self) -> bool {
        self.reply.allows_204()
    }

    /// Whether a 206 may be sent now.
    pub fn allows_206(&self) -> bool {
        self.reply.allows_206()
    }

    /// The ICAP client.
    pub fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// The two halves, to be used at the same time.
    pub fn split(&mut self) -> (&mut BodyReader<'a>, &mut Reply<'a>) {
        (&mut self.body, &mut self.reply)
    }
}
