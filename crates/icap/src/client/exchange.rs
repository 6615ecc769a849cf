//! The client's end of one transaction: what may be sent, and what an answer means.

use bytes::{Bytes, BytesMut};

use super::{Event, Fault, Original, Output, reply::Receiver};
use crate::{LAST_CHUNK, LAST_CHUNK_IEOF, Limits, Method, chunk_header};

/// What the request promised, which decides what its answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The request's method.
    pub method: Method,
    /// Whether a body follows the encapsulated heads.
    pub has_body: bool,
    /// The value of the Preview header, bytes.
    pub preview: Option<u64>,
    /// Whether `Allow: 204` was sent.
    pub allow_204: bool,
    /// Whether `Allow: 206` was sent.
    pub allow_206: bool,
    /// Whether the server takes trailers after the body; if not, they are kept but not sent.
    pub send_trailers: bool,
    /// How many bytes of the body we keep so that the original can still be sent on. A preview is
    /// kept even if it is longer.
    pub keep: u64,
    /// Stop sending after `keep` bytes and wait for the answer. For servers that promise to decide
    /// within that many bytes.
    pub wait_at_keep: bool,
}

/// What the exchange can use next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// More body, or its end.
    Body,
    /// More body, or its end; and if neither is at hand, [`Exchange::end_preview`]. The preview is
    /// full, and only the next piece tells whether the body ends with it.
    Edge,
    /// Nothing: the server is to answer, or all has been sent.
    Nothing,
}

/// One request and its answer. Serves one transaction and is then dropped.
#[derive(Debug)]
pub struct Exchange {
    terms: Terms,
    output: Output,
    sending: Sending,
    /// Everything handed in so far, unless it has outgrown `keep`.
    kept: Option<Original>,
    /// What was handed in beyond the preview's end, and is not sent yet.
    rest: Option<Bytes>,
    /// Bytes of body framed for sending so far.
    sent: u64,
    receiver: Receiver,
    /// A 100 has been received.
    continued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// The preview ended without the body; the server must say whether it wants the rest.
    AwaitContinue,
    /// No preview, or past it.
    Body,
    /// The last chunk is framed, or there is no body.
    Done,
    /// In the preview, with so many bytes to go.
    Preview(u64),
    /// The answer made the rest of the body pointless.
    Stopped,
}

impl Exchange {
    /// Starts with the request's head, ICAP and encapsulated HTTP heads both, as segments to write.
    pub fn new(terms: Terms, head: impl IntoIterator<Item = Bytes>, limits: &Limits) -> Self {
        let mut output = Output::default();
        for segment in head {
            output.push(segment);
        }
        let sending = match (terms.has_body, terms.preview) {
            (false, _) => Sending::Done,
            (true, None) => Sending::Body,
            (true, Some(size)) => Sending::Preview(size),
        };
        let kept = Original { ended: !terms.has_body, ..Original::default() };
        Self {
            terms,
            output,
            sending,
            kept: Some(kept),
            rest: None,
            sent: 0,
            receiver: Receiver::new(*limits),
            continued: false,
        }
    }

    /// What the exchange can use next.
    pub fn demand(&self) -> Demand {
        match self.sending {
            Sending::Preview(0) => Demand::Edge,
            Sending::Preview(_) => Demand::Body,
            Sending::Body if self.waits_at_keep() => Demand::Nothing,
            Sending::Body => Demand::Body,
            Sending::AwaitContinue | Sending::Done | Sending::Stopped => Demand::Nothing,
        }
    }

    /// Takes a piece of body. Call it only on demand; what comes otherwise is dropped, and the
    /// exchange with it is no longer of use.
    pub fn push_data(&mut self, mut data: Bytes) {
        if data.is_empty() {
            return;
        }
        match self.sending {
            Sending::Preview(left) if (data.len() as u64) <= left => {
                self.sending = Sending::Preview(left - data.len() as u64);
                self.send(data);
            }
            Sending::Preview(left) => {
                // Lossless: left is below the length of a slice.
                let part = data.split_to(left as usize);
                if !part.is_empty() {
                    self.send(part);
                }
                self.rest = Some(data);
                self.end_preview();
            }
            Sending::Body => self.send(data),
            Sending::AwaitContinue | Sending::Done | Sending::Stopped => self.kept = None,
        }
    }

    /// Takes the end of the body, with its trailers as raw lines if it has some.
    pub fn push_end(&mut self, trailers: Option<Bytes>) {
        let trailers = trailers.filter(|t| !t.is_empty());
        let sent = trailers.as_deref().filter(|_| self.terms.send_trailers);
        match self.sending {
            // An ieof chunk ends the body for good; trailers, if any, follow it as they would
            // follow any last chunk.
            Sending::Preview(_) => self.send_last(LAST_CHUNK_IEOF, sent),
            Sending::Body => self.send_last(LAST_CHUNK, sent),
            Sending::AwaitContinue | Sending::Done | Sending::Stopped => return,
        }
        self.sending = Sending::Done;
        if let Some(kept) = &mut self.kept {
            kept.ended = true;
            kept.trailers = trailers;
        }
    }

    /// Ends the preview with what has been sent, although the body may go on.
    pub fn end_preview(&mut self) {
        if let Sending::Preview(_) = self.sending {
            self.output.put(LAST_CHUNK);
            self.sending = Sending::AwaitContinue;
        }
    }

    /// What waits to be written.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Reads the server's next event off the front of `input`; `None` if more bytes are needed.
    /// After [`Event::End`] or [`Event::Refused`] there are no more.
    ///
    /// # Errors
    /// A [`Fault`], after which the connection is of no use.
    pub fn poll(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Fault> {
        let Some(event) = self.receiver.poll(&self.terms, input)? else { return Ok(None) };
        let checked = self.check(&event);
        if checked.is_err() {
            self.receiver.lose();
        }
        checked.map(|()| Some(event))
    }

    /// The server has closed its side: an error unless the answer is complete.
    ///
    /// # Errors
    /// [`Fault::Ended`], saying where in the answer it happened.
    pub fn end_of_input(&self) -> Result<(), Fault> {
        self.receiver.end_of_input()
    }

    /// Whether any byte of an answer has been taken in.
    pub fn answered(&self) -> bool {
        self.continued || self.receiver.started()
    }

    /// Whether the server has all it waits for, so that the next move is its own.
    pub fn awaits_answer(&self) -> bool {
        self.output.is_empty() && self.demand() == Demand::Nothing && !self.receiver.is_done()
    }

    /// Whether another transaction may follow on this connection, once the answer is complete.
    pub fn reusable(&self) -> bool {
        let sent_all = matches!(self.sending, Sending::AwaitContinue | Sending::Done);
        // Some servers take the unread body of a 206 outside a preview for the next request.
        let partial = self.receiver.status() == Some(206) && !self.in_preview();
        sent_all && self.output.is_empty() && self.receiver.keeps_alive() && !partial
    }

    /// Whether all that was handed in is still held, so that the original can go on.
    pub fn is_intact(&self) -> bool {
        self.kept.is_some()
    }

    /// All that was handed in so far, if it is still held.
    pub fn take_original(&mut self) -> Option<Original> {
        let mut original = self.kept.take()?;
        if let Some(rest) = self.rest.take() {
            original.push(rest);
        }
        Some(original)
    }

    fn send(&mut self, data: Bytes) {
        self.sent += data.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.push(data.clone());
        }
        self.trim();
        let mut line = [0; crate::CHUNK_HEADER_MAX];
        self.output.put(chunk_header(data.len() as u64, &mut line));
        self.output.push(data);
        self.output.put(b"\r\n");
    }

    /// Drops the kept copy when it has outgrown what was agreed. A preview is kept whatever its
    /// size: a 204 is always allowed there.
    fn trim(&mut self) {
        let in_preview = matches!(self.sending, Sending::Preview(_));
        let too_much = self.kept.as_ref().is_some_and(|kept| kept.len > self.terms.keep);
        if too_much && !in_preview && !self.terms.wait_at_keep {
            self.kept = None;
        }
    }

    fn waits_at_keep(&self) -> bool {
        self.terms.wait_at_keep && self.kept.is_some() && self.sent >= self.terms.keep
    }

    fn send_last(&mut self, last: &[u8], trailers: Option<&[u8]>) {
        match trailers {
            None => self.output.put(last),
            Some(lines) => {
                // The last chunk's own empty line comes after the trailers.
                self.output.put(last.strip_suffix(b"\r\n").unwrap_or(last));
                self.output.put(lines);
                self.output.put(b"\r\n");
            }
        }
    }

    /// Takes note of an event, and whether it may come now.
    fn check(&mut self, event: &Event) -> Result<(), Fault> {
        match event {
            Event::Continue => self.on_continue()?,
            Event::Pass(_) => self.on_pass()?,
            Event::Reply(reply) => self.on_reply(reply.head.status())?,
            Event::End { use_original: Some(_), .. } => {
                if self.kept.is_none() {
                    return Err(Fault::Unexpected("use-original-body for a body no longer kept"));
                }
                self.stop();
            }
            Event::End { .. } | Event::Refused(_) => self.stop(),
            Event::Data(_) => {}
        }
        Ok(())
    }

    fn on_continue(&mut self) -> Result<(), Fault> {
        if self.sending != Sending::AwaitContinue {
            return Err(Fault::Unexpected("100 (Continue) that nothing waits for"));
        }
        self.continued = true;
        self.sending = Sending::Body;
        match self.rest.take() {
            Some(rest) => self.send(rest),
            None => self.trim(),
        }
        Ok(())
    }

    fn on_pass(&mut self) -> Result<(), Fault> {
        if !self.in_preview() && !self.terms.allow_204 && self.terms.has_body {
            return Err(Fault::Unexpected("204 outside a preview, without Allow: 204"));
        }
        if self.kept.is_none() {
            return Err(Fault::Unexpected("204 for a body no longer kept"));
        }
        self.stop();
        Ok(())
    }

    fn on_reply(&mut self, status: u16) -> Result<(), Fault> {
        if status == 206 {
            if !self.terms.allow_206 {
                return Err(Fault::Unexpected("206 without Allow: 206"));
            }
            if self.kept.is_none() {
                return Err(Fault::Unexpected("206 for a body no longer kept"));
            }
        } else {
            self.kept = None;
        }
        // A preview is sent to its end all the same: the server may read it on, and only then is
        // the connection of further use.
        Ok(())
    }

    /// Whether the server has seen a preview only.
    fn in_preview(&self) -> bool {
        self.terms.preview.is_some() && !self.continued
    }

    fn stop(&mut self) {
        if matches!(self.sending, Sending::Preview(_) | Sending::Body) {
            self.sending = Sending::Stopped;
            self.output.clear();
        }
    }
}
