//! The server's end of one ICAP connection: what bytes mean, and which may be sent.

use bytes::{Bytes, BytesMut};

use super::reply::ReplyState;
use crate::{
    BodyEvent, ChunkDecoder, Encapsulated, Error, ErrorKind, IsTag, Limits, Method, RequestHead,
};

/// The server's end of one connection, transaction by transaction. Bytes come in by a buffer that
/// the caller owns and go out to one; there is no IO and no clock here.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    scanned: usize,
    phase: Phase,
    encapsulated: Encapsulated,
    decoder: ChunkDecoder,
    /// Bytes that the preview may still hold; `None` outside a preview.
    preview_left: Option<u64>,
    pub(super) terms: Terms,
    pub(super) reply: ReplyState,
    pub(super) status: u16,
    /// This is the connection's last transaction.
    pub(super) close: bool,
}

/// What the request said about its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) method: Method,
    pub(super) istag: Option<IsTag>,
    pub(super) allow_204: bool,
    pub(super) allow_206: bool,
    pub(super) allow_trailers: bool,
}

/// The encapsulated HTTP heads of a request, byte for byte.
#[derive(Clone, Debug, Default)]
pub struct Heads {
    /// The HTTP request head.
    pub req_hdr: Option<Bytes>,
    /// The HTTP response head.
    pub res_hdr: Option<Bytes>,
}

/// What comes next in a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestEvent {
    /// So many bytes at the front of the buffer are body; take them off before the next call.
    Data(usize),
    /// The body is over; its trailer lines as they came, empty if there are none.
    End {
        /// Lines with their line ends, without the empty one.
        trailers: Bytes,
    },
    /// The preview is over, the body is not, and the client waits. Repeats until
    /// [`continue_`](Connection::continue_).
    PreviewEnd,
}

/// What the connection does after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It ends. If the request was not read to its end, the client may still be sending.
    Close,
    /// The rest of the request's body has to be read off with [`Connection::body`] first.
    Drain,
    /// The next request may come.
    Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before and in an ICAP head.
    Head,
    /// In the encapsulated heads.
    Heads,
    /// In the body, or at its end.
    Body,
    Done,
    /// The input can't be understood any more.
    Lost,
}

impl Connection {
    /// A connection before its first request.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            scanned: 0,
            phase: Phase::Head,
            encapsulated: Encapsulated::NOTHING,
            decoder: ChunkDecoder::new(false, &limits),
            preview_left: None,
            terms: Terms {
                method: Method::Options,
                istag: None,
                allow_204: false,
                allow_206: false,
                allow_trailers: false,
            },
            reply: ReplyState::None,
            status: 0,
            close: false,
        }
    }

    /// Takes the next request's head from `buf` into `head`; false if it is not complete.
    ///
    /// # Errors
    /// See [`RequestHead::parse_into`]; also `Sequence` in the middle of a transaction. The
    /// connection is lost: answer with [`fail`](Self::fail) and close.
    pub fn head(&mut self, buf: &mut BytesMut, head: &mut RequestHead) -> Result<bool, Error> {
        if self.phase != Phase::Head {
            return Err(Error::new(ErrorKind::Sequence, "a head in the middle of a transaction"));
        }
        self.reply = ReplyState::None;
        self.status = 0;
        self.terms.istag = None;
        match head.parse_into(buf, &mut self.scanned, &self.limits) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => return Err(self.lose(error)),
        }
        self.phase = Phase::Heads;
        self.encapsulated = head.encapsulated();
        self.decoder = ChunkDecoder::new(head.preview().is_some(), &self.limits);
        self.preview_left = head.preview();
        self.close |= head.wants_close();
        self.terms = Terms {
            method: head.method(),
            istag: None,
            allow_204: head.allows_204(),
            allow_206: head.allows_206(),
            allow_trailers: head.allows_trailers(),
        };
        Ok(true)
    }

    /// Takes the encapsulated heads from `buf`; `None` if they are not complete. They are no
    /// longer than `Limits::max_encapsulated`.
    ///
    /// # Errors
    /// `Sequence` if the ICAP head has not come yet or the heads were taken.
    pub fn heads(&mut self, buf: &mut BytesMut) -> Result<Option<Heads>, Error> {
        if self.phase != Phase::Heads {
            return Err(Error::new(ErrorKind::Sequence, "no encapsulated heads come here"));
        }
        if buf.len() < self.encapsulated.heads_len() {
            return Ok(None);
        }
        let mut take = |len: Option<usize>| len.map(|len| buf.split_to(len).freeze());
        let req_hdr = take(self.encapsulated.req_hdr);
        let res_hdr = take(self.encapsulated.res_hdr);
        self.phase = if self.encapsulated.body.follows() { Phase::Body } else { Phase::Done };
        Ok(Some(Heads { req_hdr, res_hdr }))
    }

    /// How many bytes the buffer must hold for [`heads`](Self::heads) to succeed.
    pub fn heads_len(&self) -> usize {
        self.encapsulated.heads_len()
    }

    /// Says what is next in the request's body, taking framing off the front of `buf`; `None` if
    /// more input is needed. A request without a body is at its end at once.
    ///
    /// # Errors
    /// `Chunk` and `Preview` if the body is malformed: the connection is lost then. `Sequence`
    /// before the heads were taken.
    pub fn body(&mut self, buf: &mut BytesMut) -> Result<Option<RequestEvent>, Error> {
        match self.phase {
            Phase::Body => {}
            Phase::Done => return Ok(Some(RequestEvent::End { trailers: Bytes::new() })),
            Phase::Head | Phase::Heads | Phase::Lost => {
                return Err(Error::new(ErrorKind::Sequence, "no body comes here"));
            }
        }
        let event = match self.decoder.next(buf) {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.lose(error)),
        };
        Ok(Some(match event {
            BodyEvent::Data(len) => {
                if let Some(left) = &mut self.preview_left {
                    let Some(rest) = left.checked_sub(len as u64) else {
                        return Err(self.lose(Error::new(
                            ErrorKind::Preview,
                            "more body than the preview promised",
                        )));
                    };
                    *left = rest;
                }
                RequestEvent::Data(len)
            }
            BodyEvent::End { use_original_body: Some(_), .. } => {
                return Err(self.lose(Error::new(
                    ErrorKind::Chunk,
                    "use-original-body in a request, where it means nothing",
                )));
            }
            BodyEvent::End { trailers, .. } => {
                self.phase = Phase::Done;
                RequestEvent::End { trailers }
            }
            BodyEvent::PreviewEnd => RequestEvent::PreviewEnd,
        }))
    }

    /// Whether we are between two chunks: the client may be waiting for its own source. Unread
    /// bytes of the next chunk may be in the buffer.
    pub fn is_between_chunks(&self) -> bool {
        self.phase == Phase::Body && self.decoder.is_between_chunks()
    }

    /// Whether the transaction is within a preview: the client has not been told to go on, so it
    /// takes 204 whatever it said (RFC 3507 section 4.6).
    pub fn in_preview(&self) -> bool {
        self.preview_left.is_some()
    }

    /// Names the service's state, to be sent with the replies of this transaction.
    pub fn set_istag(&mut self, istag: IsTag) {
        self.terms.istag = Some(istag);
    }

    /// Makes this the connection's last transaction; a reply that has not started says so.
    pub fn close_after(&mut self) {
        self.close = true;
    }

    /// What to do now that the service is done with the transaction.
    pub fn after(&mut self) -> After {
        let over = self.phase == Phase::Done
            || (self.decoder.at_preview_end() && self.preview_left.is_some());
        match (self.reply, over) {
            (ReplyState::Done, true) if !self.close => {
                self.phase = Phase::Head;
                After::Next
            }
            (ReplyState::Done, false) if !self.close && self.phase == Phase::Body => After::Drain,
            _ => After::Close,
        }
    }

    /// Whether the request was read to its end, so that nothing more can be on its way but the
    /// next one.
    pub fn request_is_over(&self) -> bool {
        self.phase == Phase::Done
            || self.phase == Phase::Head
            || (self.decoder.at_preview_end() && self.preview_left.is_some())
    }

    /// Lets the decoder go on after the preview.
    pub(super) fn resume(&mut self) -> bool {
        let waits = self.decoder.at_preview_end() && self.preview_left.is_some();
        if waits {
            self.preview_left = None;
            self.decoder.resume();
        }
        waits
    }

    fn lose(&mut self, error: Error) -> Error {
        self.phase = Phase::Lost;
        self.close = true;
        error
    }
}
