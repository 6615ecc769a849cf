//! The side that has the connection: shows what it read, and may let go on what was passed.

use bytes::BufMut;

use crate::fields::parse_line;
use crate::frame::{Decoder, END, Frame, Kind, MAX_BYTES, Reader, UNIT, encode};
use crate::{Dropped, Error, ErrorKind, Fields, Mark, Phase, Signature, Way, Window, fields};

/// The gateway's end of one stream.
///
/// Bytes to send are appended to what the caller hands in; bytes that came are taken off what it
/// hands in. After an error, of whichever method, the stream is over.
#[derive(Debug)]
pub struct Gateway {
    window: Window,
    ways: [Sent; 2],
    /// How many phases were begun after the first.
    phase: u32,
    verdict: Verdict,
    sending: Sending,
    pinged: bool,
    written: u64,
    decoder: Decoder,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    sent: u64,
    cleared: u64,
    end_sent: bool,
    end_cleared: bool,
}

/// What the inspector thinks of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It dropped the flow; nothing is shown before another phase.
    Condemned,
    /// It gave up.
    Failed,
    Open,
}

/// What else may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Nothing but the end of the body.
    Cancelled,
    /// We sent both ends and closed the body, but the verdict on the ends has not come.
    Ended,
    /// Nothing.
    Finished,
    Open,
}

/// What the inspector says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A rule matched and did not drop. For logs.
    Alert(Signature),
    /// The inspector is about to stop: end this stream at the next unit and go on with another.
    Drain,
    /// The flow is condemned. What was [cleared](Gateway::cleared) may leave, nothing else.
    Dropped {
        /// The direction whose bytes did it.
        way: Way,
        /// The drop is about the phase before this one, which has ended. The current flow is not
        /// condemned.
        late: bool,
        /// Why.
        why: Dropped,
    },
    /// Not inspected: nothing more may leave. With the reason.
    Failed(&'a str),
    /// More was [cleared](Gateway::cleared) of this direction.
    Passed(Way),
    /// All that was written before the ping was judged.
    Pong,
    /// The protocol that the engine recognised. For logs.
    Proto(&'a str),
}

impl Gateway {
    /// A stream of which nothing was shown, to a service with this window.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            ways: [Sent::default(); 2],
            phase: 0,
            verdict: Verdict::Open,
            sending: Sending::Open,
            pinged: false,
            written: 0,
            decoder: Decoder::new(Reader::Gateway),
        }
    }

    /// How many bytes of a direction may be shown now.
    pub fn room(&self, way: Way) -> usize {
        let Sent { sent, cleared, end_sent, .. } = self.ways[way as usize];
        match (self.verdict, self.sending) {
            // Within the window, which fits.
            (Verdict::Open, Sending::Open) if !end_sent => {
                (self.window.bytes() - (sent - cleared)) as usize
            }
            _ => 0,
        }
    }

    /// Bytes of a direction that were shown so far, counted from the beginning of the stream.
    pub fn sent(&self, way: Way) -> u64 {
        self.ways[way as usize].sent
    }

    /// Bytes of a direction that may leave, counted from the start of the stream. After a drop, bytes
    /// between this count and [`sent`](Self::sent) must be thrown away. The next phase sets the count
    /// to `sent`; that does not release them.
    pub fn cleared(&self, way: Way) -> u64 {
        self.ways[way as usize].cleared
    }

    /// Whether the direction's end may leave.
    pub fn end_cleared(&self, way: Way) -> bool {
        self.ways[way as usize].end_cleared
    }

    /// Whether all that was shown of a direction, its end included, may leave.
    pub fn is_cleared(&self, way: Way) -> bool {
        let Sent { sent, cleared, end_sent, end_cleared } = self.ways[way as usize];
        sent == cleared && end_sent == end_cleared
    }

    /// Whether both directions ended and were passed.
    pub fn is_complete(&self) -> bool {
        self.ways.iter().all(|way| way.end_cleared)
    }

    /// Whether the flow is condemned, and nothing of it may be shown any more.
    pub fn is_condemned(&self) -> bool {
        self.verdict == Verdict::Condemned
    }

    /// Shows bytes of a direction, at most as many as there is [room](Self::room) for; they may be
    /// none if something ends.
    ///
    /// # Errors
    /// `Window`, if there is less room; `Sequence`, if nothing may be shown now.
    pub fn data(
        &mut self,
        way: Way,
        bytes: &[u8],
        mark: Mark,
        out: &mut impl BufMut,
    ) -> Result<(), Error> {
        self.need_open("data")?;
        let sent = &self.ways[way as usize];
        if sent.end_sent {
            return Err(self.misused("data behind the end of its direction"));
        }
        if bytes.is_empty() && mark == Mark::NONE {
            return Ok(());
        }
        if bytes.len() > self.room(way) {
            return Err(Error::new(
                ErrorKind::Window,
                self.written,
                "more bytes than the window has room for",
            ));
        }
        let marks = if mark.unit { UNIT } else { 0 } | if mark.end { END } else { 0 };
        let mut rest = bytes;
        loop {
            let (piece, more) = rest.split_at(rest.len().min(MAX_BYTES));
            let marks = if more.is_empty() { marks } else { 0 };
            self.written += encode(Kind::Data, way.flag() | marks, &[piece], out);
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        let sent = &mut self.ways[way as usize];
        sent.sent += bytes.len() as u64;
        sent.end_sent |= mark.end;
        Ok(())
    }

    /// Shows the engine bytes that are not the connection's, or not now: they have no offset. To
    /// learn that they were judged, [ping](Self::ping).
    ///
    /// # Errors
    /// `Sequence`, if nothing may be shown now.
    pub fn replay(&mut self, way: Way, bytes: &[u8], out: &mut impl BufMut) -> Result<(), Error> {
        self.need_open("a replay")?;
        if self.ways[way as usize].end_sent {
            return Err(self.misused("a replay behind the end of its direction"));
        }
        for piece in bytes.chunks(MAX_BYTES) {
            self.written += encode(Kind::Replay, way.flag(), &[piece], out);
        }
        Ok(())
    }

    /// Begins a new flow. Every byte shown of the old flow must have been passed, unless that flow
    /// was condemned: then its unpassed bytes are lost. Offsets keep counting.
    ///
    /// # Errors
    /// `Sequence`, if bytes are without a verdict, a direction has ended, or the stream is over;
    /// `Fields`, if what it says can't be sent.
    pub fn phase(&mut self, phase: &Phase, out: &mut impl BufMut) -> Result<(), Error> {
        self.need_live()?;
        if self.ways.iter().any(|way| way.end_sent) {
            return Err(self.misused("a phase behind the end of a direction"));
        }
        if self.verdict == Verdict::Open && self.ways.iter().any(|way| way.cleared < way.sent) {
            return Err(self.misused("a phase while bytes are without a verdict"));
        }
        let fields = phase.fields()?;
        self.written += encode(Kind::Phase, 0, &[fields.as_bytes()], out);
        for way in &mut self.ways {
            way.cleared = way.sent;
        }
        self.verdict = Verdict::Open;
        self.phase = self.phase.saturating_add(1);
        Ok(())
    }

    /// Says what the records are to carry from here on.
    ///
    /// # Errors
    /// `Sequence`, if the stream is over.
    pub fn note(&mut self, fields: &Fields, out: &mut impl BufMut) -> Result<(), Error> {
        self.need_live()?;
        self.written += encode(Kind::Note, 0, &[fields.as_bytes()], out);
        Ok(())
    }

    /// Asks for a sign of life, which comes when all before it was judged. One at a time: false,
    /// and nothing is sent, while another is unanswered.
    ///
    /// # Errors
    /// `Sequence`, if the stream is over.
    pub fn ping(&mut self, out: &mut impl BufMut) -> Result<bool, Error> {
        self.need_live()?;
        if self.pinged {
            return Ok(false);
        }
        self.pinged = true;
        self.written += encode(Kind::Ping, 0, &[], out);
        Ok(true)
    }

    /// Says that the connection broke, so that no verdict is wanted any more. The body may end; if it
    /// [has](Self::end_body), there is nothing to say.
    ///
    /// # Errors
    /// `Sequence`, if the stream is over.
    pub fn cancel(&mut self, reason: &str, out: &mut impl BufMut) -> Result<(), Error> {
        if self.sending == Sending::Ended {
            self.sending = Sending::Cancelled;
            return Ok(());
        }
        self.need_live()?;
        self.written += encode(Kind::Cancel, 0, &[fields::line(reason).as_bytes()], out);
        self.sending = Sending::Cancelled;
        Ok(())
    }

    /// Ends the body: nothing more is sent. Allowed when both directions ended and were passed,
    /// and after a drop, a failure, or a [cancel](Self::cancel).
    ///
    /// # Errors
    /// `Sequence` otherwise.
    pub fn finish(&mut self) -> Result<(), Error> {
        let is_under_way =
            self.verdict == Verdict::Open && matches!(self.sending, Sending::Ended | Sending::Open);
        if is_under_way && !self.is_complete() {
            return Err(self.misused("an end of the body before the end of the stream"));
        }
        self.sending = Sending::Finished;
        Ok(())
    }

    /// Ends the body before the verdict on the ends of both directions, behind which nothing can come.
    /// What they lead to is still to be awaited.
    ///
    /// # Errors
    /// `Sequence`, if a direction has not ended, or nothing may be shown now.
    pub fn end_body(&mut self) -> Result<(), Error> {
        self.need_open("an end of the body")?;
        if !self.ways.iter().all(|way| way.end_sent) {
            return Err(self.misused("an end of the body before the ends of both directions"));
        }
        self.sending = Sending::Ended;
        Ok(())
    }

    /// Takes the inspector's next word off the front of `input`. `None`: all was taken, and more
    /// is needed.
    ///
    /// # Errors
    /// If the frames break a rule. The stream is over: nothing more may leave.
    pub fn read<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Answer<'s>>, Error> {
        let Self { ways, phase, verdict, pinged, decoder, .. } = self;
        let Some(frame) = decoder.next(input)? else { return Ok(None) };
        if *verdict == Verdict::Failed {
            return Err(frame.error(ErrorKind::Sequence, "a frame behind a FAIL"));
        }
        let answer = match frame.kind {
            Kind::Pass => passed(&frame, ways, *verdict)?,
            Kind::Drop => {
                let (answer, late) = dropped(&frame, ways, *phase, *verdict)?;
                if !late {
                    *verdict = Verdict::Condemned;
                }
                answer
            }
            Kind::Fail => {
                *verdict = Verdict::Failed;
                Answer::Failed(parse_line(frame.payload, frame.at)?)
            }
            Kind::Alert => {
                let signature =
                    Signature::parse(&Fields::parse(frame.payload, frame.at)?, frame.at)?;
                Answer::Alert(
                    signature
                        .ok_or(frame.error(ErrorKind::Fields, "an ALERT without a Signature-Id"))?,
                )
            }
            Kind::Proto => Answer::Proto(parse_line(frame.payload, frame.at)?),
            Kind::Pong => {
                if !std::mem::take(pinged) {
                    return Err(frame.error(ErrorKind::Sequence, "a PONG that nobody asked for"));
                }
                Answer::Pong
            }
            Kind::Drain => Answer::Drain,
            Kind::Cancel | Kind::Data | Kind::Note | Kind::Phase | Kind::Ping | Kind::Replay => {
                return Err(frame.error(ErrorKind::UnknownFrame, "a frame of the other side's"));
            }
        };
        Ok(Some(answer))
    }

    /// The reply's body ended.
    ///
    /// # Errors
    /// `Truncated`, unless the stream is over: nothing more may leave.
    pub fn end_of_input(&self) -> Result<(), Error> {
        let over = self.is_complete()
            || self.verdict == Verdict::Failed
            || match self.sending {
                Sending::Cancelled | Sending::Finished => true,
                Sending::Ended => self.is_condemned(),
                Sending::Open => false,
            };
        match over && self.decoder.is_between_frames() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Truncated,
                self.decoder.taken(),
                "the inspector's frames ended before the stream",
            )),
        }
    }

    fn need_open(&self, what: &'static str) -> Result<(), Error> {
        match (self.verdict, self.sending) {
            (Verdict::Open, Sending::Open) => Ok(()),
            _ => Err(self.misused(what)),
        }
    }

    fn need_live(&self) -> Result<(), Error> {
        match (self.verdict, self.sending) {
            (Verdict::Condemned | Verdict::Open, Sending::Open) => Ok(()),
            _ => Err(self.misused("a frame of a stream that is over")),
        }
    }

    fn misused(&self, what: &'static str) -> Error {
        Error::new(ErrorKind::Sequence, self.written, what)
    }
}

fn passed<'a>(
    frame: &Frame<'_>,
    ways: &mut [Sent; 2],
    verdict: Verdict,
) -> Result<Answer<'a>, Error> {
    if verdict == Verdict::Condemned {
        return Err(frame.error(ErrorKind::Sequence, "a PASS of a flow that is condemned"));
    }
    let way = Way::of(frame.flags);
    let of = &mut ways[way as usize];
    let offset = offset(frame)?;
    if offset < of.cleared || offset > of.sent {
        return Err(frame.error(ErrorKind::Offset, "a PASS that goes back, or past what was sent"));
    }
    let ends = frame.flags & END != 0;
    if ends && !(of.end_sent && offset == of.sent) {
        return Err(frame.error(ErrorKind::Offset, "a PASS of an end that was not sent"));
    }
    if of.end_cleared && !ends {
        return Err(frame.error(ErrorKind::Offset, "a PASS that takes back an end"));
    }
    of.cleared = offset;
    of.end_cleared = ends;
    Ok(Answer::Passed(way))
}

/// A drop, and whether it comes late.
fn dropped<'a>(
    frame: &Frame<'_>,
    ways: &mut [Sent; 2],
    phase: u32,
    verdict: Verdict,
) -> Result<(Answer<'a>, bool), Error> {
    let way = Way::of(frame.flags);
    let of = &mut ways[way as usize];
    let offset = offset(frame)?;
    let of_phase = frame.payload[8..].first_chunk().map_or(0, |phase| u32::from_be_bytes(*phase));
    let why = Dropped::parse(&Fields::parse(&frame.payload[12..], frame.at)?, frame.at)?;
    let late = of_phase < phase;
    let fits = match late {
        true => offset <= of.cleared,
        false => of_phase == phase && (of.cleared..=of.sent).contains(&offset),
    };
    if !fits {
        return Err(frame.error(ErrorKind::Offset, "a DROP that goes back, or past what was sent"));
    }
    if verdict == Verdict::Condemned && !late {
        return Err(frame.error(ErrorKind::Sequence, "a second DROP of one flow"));
    }
    if !late {
        of.cleared = offset;
    }
    Ok((Answer::Dropped { way, late, why }, late))
}

/// The offset that a PASS or a DROP begins with.
fn offset(frame: &Frame<'_>) -> Result<u64, Error> {
    let offset = frame.payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    offset.ok_or(frame.error(ErrorKind::Length, "a frame without its offset"))
}
