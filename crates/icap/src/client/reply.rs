//! What a server answers.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::Terms;
use crate::{BodyEvent, BodyKind, ChunkDecoder, Encapsulated, Error, Limits, Method, ResponseHead};

/// What the server said.
#[derive(Debug)]
pub enum Event {
    /// 100: it wants the rest of the body after the preview.
    Continue,
    /// A piece of the answer's body. Never empty.
    Data(Bytes),
    /// The answer is complete.
    End {
        /// Trailer lines, raw; empty if there are none.
        trailers: Bytes,
        /// 206 only: the rest is the original body from this byte on, the preview counted.
        use_original: Option<u64>,
    },
    /// 204: the original goes on. The answer is complete.
    Pass(ResponseHead),
    /// Any status that does not adapt: the service refuses. The connection is of no further use.
    Refused(ResponseHead),
    /// 200, 201 or 206: a message follows.
    Reply(Reply),
}

/// The heads of an answer that carries a message.
#[derive(Debug)]
pub struct Reply {
    /// The ICAP head.
    pub head: ResponseHead,
    /// The encapsulated HTTP request head: the request as adapted.
    pub req_hdr: Option<Bytes>,
    /// The encapsulated HTTP response head.
    pub res_hdr: Option<Bytes>,
    /// Whether a body follows.
    pub has_body: bool,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server closed the connection; the text says where in the answer.
    Ended(&'static str),
    /// It sent bytes that are not ICAP.
    Malformed(Error),
    /// It sent something that was not to be sent now.
    Unexpected(&'static str),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(at) => write!(f, "closed the connection {at}"),
            Self::Malformed(error) => write!(f, "sent a reply that is not ICAP: {error}"),
            Self::Unexpected(what) => write!(f, "sent an unexpected {what}"),
        }
    }
}

impl std::error::Error for Fault {}

/// Reads one answer, with the 100s before it.
#[derive(Debug)]
pub(super) struct Receiver {
    state: State,
    limits: Limits,
    scanned: usize,
    status: Option<u16>,
    keep_alive: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Heads(ResponseHead, Encapsulated),
    Body(ChunkDecoder),
    /// The answer has no body: its end is still to be told.
    Bodiless,
    Done,
    /// What came makes no sense, and so nothing that follows it does.
    Lost,
}

impl Receiver {
    pub(super) fn new(limits: Limits) -> Self {
        Self { state: State::Head, limits, scanned: 0, status: None, keep_alive: true }
    }

    pub(super) fn poll(
        &mut self,
        terms: &Terms,
        input: &mut BytesMut,
    ) -> Result<Option<Event>, Fault> {
        loop {
            match std::mem::replace(&mut self.state, State::Lost) {
                State::Head => {
                    let head = ResponseHead::parse_scanned(input, &mut self.scanned, &self.limits)?;
                    let Some(head) = head else {
                        self.state = State::Head;
                        return Ok(None);
                    };
                    match self.head(terms, head)? {
                        Some(event) => return Ok(Some(event)),
                        None => continue,
                    }
                }
                State::Heads(head, parts) => {
                    if input.len() < parts.heads_len() {
                        self.state = State::Heads(head, parts);
                        return Ok(None);
                    }
                    let mut part = |len| input.split_to(len).freeze();
                    let req_hdr = parts.req_hdr.map(&mut part);
                    let res_hdr = parts.res_hdr.map(&mut part);
                    let has_body = parts.body.follows();
                    self.state = match parts.body {
                        BodyKind::Null => State::Bodiless,
                        _ => State::Body(ChunkDecoder::new(false, &self.limits)),
                    };
                    return Ok(Some(Event::Reply(Reply { head, req_hdr, res_hdr, has_body })));
                }
                State::Body(mut decoder) => {
                    let event = match decoder.next(input)? {
                        Some(BodyEvent::Data(len)) => {
                            Some(Event::Data(input.split_to(len).freeze()))
                        }
                        Some(BodyEvent::End { use_original_body, trailers, .. }) => {
                            if use_original_body.is_some() && self.status != Some(206) {
                                return Err(Fault::Unexpected("use-original-body outside a 206"));
                            }
                            self.state = State::Done;
                            let use_original = use_original_body;
                            return Ok(Some(Event::End { trailers, use_original }));
                        }
                        // Only a decoder in a preview says so.
                        Some(BodyEvent::PreviewEnd) | None => None,
                    };
                    self.state = State::Body(decoder);
                    return Ok(event);
                }
                State::Bodiless => {
                    self.state = State::Done;
                    return Ok(Some(Event::End { trailers: Bytes::new(), use_original: None }));
                }
                State::Done => {
                    self.state = State::Done;
                    return Ok(None);
                }
                State::Lost => return Ok(None),
            }
        }
    }

    /// Takes the ICAP head; `None` means that its HTTP heads are next.
    fn head(&mut self, terms: &Terms, head: ResponseHead) -> Result<Option<Event>, Fault> {
        let method = terms.method;
        if head.status() == 100 {
            self.state = State::Head;
            return Ok(Some(Event::Continue));
        }
        self.status = Some(head.status());
        self.keep_alive = !head.wants_close();
        match head.status() {
            204 => {
                if head.encapsulated().is_some_and(|parts| parts != Encapsulated::NOTHING) {
                    return Err(Fault::Unexpected("message in a 204"));
                }
                self.state = State::Done;
                Ok(Some(Event::Pass(head)))
            }
            // Some services say 201 (Created) of a page that they made.
            200 | 201 | 206 if method != Method::Options => {
                let mut parts = head.encapsulated().ok_or(MISSING)?;
                if !terms.has_body && is_request_with_res_body(method, parts) {
                    parts.body = BodyKind::Null;
                    self.keep_alive = false;
                }
                parts.check_response(method)?;
                let complete = match method {
                    Method::Respmod => parts.res_hdr.is_some(),
                    Method::Options | Method::Reqmod => parts.heads_len() > 0,
                };
                if !complete {
                    return Err(Fault::Unexpected("message without its HTTP head"));
                }
                self.state = State::Heads(head, parts);
                Ok(None)
            }
            200 => {
                let parts = head.encapsulated().unwrap_or(Encapsulated::NOTHING);
                parts.check_response(method)?;
                self.state = State::Heads(head, parts);
                Ok(None)
            }
            _ => {
                self.keep_alive = false;
                self.state = State::Done;
                Ok(Some(Event::Refused(head)))
            }
        }
    }

    pub(super) fn end_of_input(&self) -> Result<(), Fault> {
        Err(Fault::Ended(match self.state {
            State::Head if self.scanned == 0 => "before an answer",
            State::Head => "inside the head of its answer",
            State::Heads(..) => "inside the HTTP heads of its answer",
            State::Body(_) | State::Bodiless => "inside the body of its answer",
            State::Done => return Ok(()),
            State::Lost => "after bytes that make no sense",
        }))
    }

    /// Takes in nothing more: what came may not be said now.
    pub(super) fn lose(&mut self) {
        self.state = State::Lost;
    }

    /// Whether anything of an answer other than a 100 has been seen.
    pub(super) fn started(&self) -> bool {
        self.scanned > 0 || !matches!(self.state, State::Head)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    pub(super) fn keeps_alive(&self) -> bool {
        self.keep_alive && self.is_done()
    }
}

/// After its first block, a thread of E2Guardian 5.3 returns every request that has no body as
/// `req-hdr, res-body`, and sends no body. Such an answer means what it would without the slip, but its
/// connection is not trusted with another.
fn is_request_with_res_body(method: Method, parts: Encapsulated) -> bool {
    method == Method::Reqmod
        && parts.req_hdr.is_some()
        && parts.res_hdr.is_none()
        && parts.body == BodyKind::Res
}

const MISSING: Fault =
    Fault::Malformed(Error::new(crate::ErrorKind::Encapsulated, "none in an answer that needs it"));
