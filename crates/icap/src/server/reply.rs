//! Replies of a server, with or without an HTTP message in them.

use bytes::BufMut;

use super::Connection;
use crate::chunk_encode::{self, CHUNK_HEADER_MAX, chunk_header, put_decimal};
use crate::{BodyKind, Encapsulated, Error, ErrorKind, Headers, Method, reason_phrase};

/// The head of a reply that carries an HTTP message.
#[derive(Clone, Copy, Debug)]
pub struct ReplyHead<'a> {
    /// 200, or 206 if the rest of the body is to be the original's.
    pub status: u16,
    /// ICAP fields to add. `ISTag`, `Connection` and `Encapsulated` are written by the connection.
    pub headers: &'a Headers,
    /// The HTTP head.
    pub http: Http<'a>,
    /// Whether a body follows: chunks, then an end.
    pub has_body: bool,
}

/// An HTTP head to send, byte for byte, its empty line included.
#[derive(Clone, Copy, Debug)]
pub enum Http<'a> {
    /// A request, as an answer to REQMOD.
    Request(&'a [u8]),
    /// None: a bare body, for a message that came as one.
    Headless,
    /// A response, as an answer to RESPMOD, or to REQMOD to satisfy the request.
    Response(&'a [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyState {
    None,
    /// A body is being sent; `partial` for 206.
    Body {
        partial: bool,
    },
    Done,
}

impl Connection {
    /// Whether the client takes a 204 now: it said so, or it is within its preview.
    pub fn allows_204(&self) -> bool {
        self.reply == ReplyState::None && (self.terms.allow_204 || self.in_preview())
    }

    /// Whether the client takes a 206 now.
    pub fn allows_206(&self) -> bool {
        self.reply == ReplyState::None && self.terms.allow_206
    }

    /// Whether a final reply has started.
    pub fn reply_started(&self) -> bool {
        self.reply != ReplyState::None
    }

    /// The status of the final reply; 0 if none has started.
    pub fn reply_status(&self) -> u16 {
        self.status
    }

    /// Whether the reply is complete.
    pub fn reply_finished(&self) -> bool {
        self.reply == ReplyState::Done
    }

    /// Tells the client to send what comes after the preview (100 Continue).
    ///
    /// # Errors
    /// `Sequence` unless the request stands at its preview's end and no reply has started: never
    /// after `ieof`, never twice (RFC 3507 section 4.5).
    pub fn continue_(&mut self, out: &mut impl BufMut) -> Result<(), Error> {
        if self.reply_started() || !self.resume() {
            return Err(sequence("100 Continue elsewhere than at the end of a preview"));
        }
        out.put_slice(b"ICAP/1.0 100 Continue\r\n\r\n");
        Ok(())
    }

    /// Tells the client that the message stays as it is (204).
    ///
    /// # Errors
    /// `Sequence` if the client takes none now ([`allows_204`](Self::allows_204)).
    pub fn no_content(&mut self, headers: &Headers, out: &mut impl BufMut) -> Result<(), Error> {
        if !self.allows_204() {
            return Err(sequence("a 204 that the client did not allow"));
        }
        self.headless(204, reason_phrase(204), headers, out)
    }

    /// Starts a reply with an HTTP message; if it has no body this is the whole reply.
    ///
    /// # Errors
    /// `Sequence` if a reply has started, for OPTIONS, for a request as an answer to RESPMOD, for
    /// an empty head, for a status other than 200 and 206, and for a 206 that the client does not
    /// take or that has no body.
    pub fn start(&mut self, reply: &ReplyHead<'_>, out: &mut impl BufMut) -> Result<(), Error> {
        let partial = reply.status == 206;
        if self.reply_started() {
            return Err(sequence("a second reply"));
        }
        if partial && !(self.terms.allow_206 && reply.has_body) {
            return Err(sequence("a 206 that the client did not allow, or without a body"));
        }
        if !partial && reply.status != 200 {
            return Err(sequence("an HTTP message with a status other than 200 and 206"));
        }
        let body = |kind| if reply.has_body { kind } else { BodyKind::Null };
        let (encapsulated, http) = match (self.terms.method, reply.http) {
            (Method::Options, _) => {
                return Err(sequence("an HTTP message as an answer to OPTIONS"));
            }
            (_, Http::Request([]) | Http::Response([])) => {
                return Err(sequence("an empty HTTP head"));
            }
            (method, Http::Headless) => {
                let kind = if method == Method::Reqmod { BodyKind::Req } else { BodyKind::Res };
                (Encapsulated { req_hdr: None, res_hdr: None, body: body(kind) }, &[][..])
            }
            (Method::Reqmod, Http::Request(http)) => {
                let body = body(BodyKind::Req);
                (Encapsulated { req_hdr: Some(http.len()), res_hdr: None, body }, http)
            }
            (Method::Reqmod | Method::Respmod, Http::Response(http)) => {
                let body = body(BodyKind::Res);
                (Encapsulated { req_hdr: None, res_hdr: Some(http.len()), body }, http)
            }
            (Method::Respmod, Http::Request(_)) => {
                return Err(sequence("an HTTP request as an answer to RESPMOD"));
            }
        };
        self.status_line(reply.status, reason_phrase(reply.status), out);
        self.fields(reply.headers, out);
        encapsulated.encode(out);
        out.put_slice(b"\r\n");
        out.put_slice(http);
        self.reply = if reply.has_body { ReplyState::Body { partial } } else { ReplyState::Done };
        Ok(())
    }

    /// The line in front of a chunk of `len` bytes (at least one) of the reply's body. The caller
    /// sends it, the data, and CRLF.
    ///
    /// # Errors
    /// `Sequence` if no body is being sent.
    pub fn chunk<'a>(
        &self,
        len: usize,
        line: &'a mut [u8; CHUNK_HEADER_MAX],
    ) -> Result<&'a [u8], Error> {
        match self.reply {
            ReplyState::Body { .. } if len > 0 => Ok(chunk_header(len as u64, line)),
            _ => Err(sequence("a chunk without a body, or an empty one")),
        }
    }

    /// Ends the reply's body. The trailers are left out if the client did not say that it takes
    /// them (`Allow: trailers`).
    ///
    /// # Errors
    /// `Sequence` if no body is being sent.
    pub fn finish(&mut self, trailers: &Headers, out: &mut impl BufMut) -> Result<(), Error> {
        let ReplyState::Body { .. } = self.reply else {
            return Err(sequence("the end of a body that was not started"));
        };
        if self.terms.allow_trailers {
            chunk_encode::encode_last_chunk(out, trailers);
        } else {
            out.put_slice(crate::LAST_CHUNK);
        }
        self.reply = ReplyState::Done;
        Ok(())
    }

    /// Ends the body of a 206: what follows is the original body from byte `offset` on, the
    /// preview counted.
    ///
    /// # Errors
    /// `Sequence` if no 206 is being sent.
    pub fn finish_with_original(
        &mut self,
        offset: u64,
        out: &mut impl BufMut,
    ) -> Result<(), Error> {
        if self.reply != (ReplyState::Body { partial: true }) {
            return Err(sequence("use-original-body outside a 206"));
        }
        chunk_encode::encode_use_original_body(out, offset);
        self.reply = ReplyState::Done;
        Ok(())
    }

    /// Answers OPTIONS with 200 and `headers`.
    ///
    /// # Errors
    /// `Sequence` for another method or if a reply has started.
    pub fn options(&mut self, headers: &Headers, out: &mut impl BufMut) -> Result<(), Error> {
        if self.terms.method != Method::Options || self.reply_started() {
            return Err(sequence("an answer to OPTIONS elsewhere"));
        }
        self.headless(200, reason_phrase(200), headers, out)
    }

    /// Answers with an error, 400 to 599, in place of an HTTP message. The connection stays usable
    /// unless [`close_after`](Self::close_after) was called. Control characters in `reason` become
    /// spaces.
    ///
    /// # Errors
    /// `Sequence` if a reply has started or the status is no error.
    pub fn refuse(
        &mut self,
        status: u16,
        reason: &str,
        headers: &Headers,
        out: &mut impl BufMut,
    ) -> Result<(), Error> {
        if !(400..=599).contains(&status) {
            return Err(sequence("a refusal with a status that is no error"));
        }
        self.headless(status, reason, headers, out)
    }

    /// Answers a protocol error of the client as far as that is still possible, and makes this
    /// the connection's last transaction. False if a reply has started: then only closing tells.
    pub fn fail(&mut self, error: &Error, out: &mut impl BufMut) -> bool {
        self.close_after();
        let status = error.status();
        let mut reason = String::from(reason_phrase(status));
        reason.push_str(": ");
        reason.push_str(error.what());
        self.headless(status, &reason, &Headers::new(), out).is_ok()
    }

    fn headless(
        &mut self,
        status: u16,
        reason: &str,
        headers: &Headers,
        out: &mut impl BufMut,
    ) -> Result<(), Error> {
        if self.reply_started() {
            return Err(sequence("a second reply"));
        }
        self.status_line(status, reason, out);
        self.fields(headers, out);
        Encapsulated::NOTHING.encode(out);
        out.put_slice(b"\r\n");
        self.reply = ReplyState::Done;
        Ok(())
    }

    fn status_line(&mut self, status: u16, reason: &str, out: &mut impl BufMut) {
        self.status = status;
        out.put_slice(b"ICAP/1.0 ");
        put_decimal(out, u64::from(status));
        out.put_u8(b' ');
        if reason.bytes().any(|b| b.is_ascii_control()) {
            reason.bytes().for_each(|b| out.put_u8(if b.is_ascii_control() { b' ' } else { b }));
        } else {
            out.put_slice(reason.as_bytes());
        }
        out.put_slice(b"\r\n");
    }

    fn fields(&self, headers: &Headers, out: &mut impl BufMut) {
        // Every response carries an ISTag (RFC 3507 section 4.7), also one that no service made.
        out.put_slice(b"ISTag: \"");
        out.put_slice(
            self.terms.istag.as_ref().map_or("no-service", |tag| tag.as_str()).as_bytes(),
        );
        out.put_slice(b"\"\r\n");
        headers.encode(out);
        if self.close {
            out.put_slice(b"Connection: close\r\n");
        }
    }
}

fn sequence(what: &'static str) -> Error {
    Error::new(ErrorKind::Sequence, what)
}
