//! The side that has the engine: is shown bytes, and says up to where they may leave.

use bytes::BufMut;

use crate::fields::parse_line;
use crate::frame::{Decoder, END, Frame, Kind, Reader, UNIT, encode};
use crate::{Dropped, Error, ErrorKind, Fields, Mark, Phase, Signature, Way, Window, fields};

/// The inspector's end of one stream.
///
/// Read a [`Command`], let the engine judge it, say [`pass`](Self::pass) or
/// [`drop`](Self::drop), and go on while there is input; before waiting for more,
/// [`report`](Self::report). After an error, of whichever method, the stream is over.
#[derive(Debug)]
pub struct Inspector {
    window: Window,
    ways: [Received; 2],
    phase: u32,
    state: State,
    /// Pings that were read and not answered.
    pinged: bool,
    written: u64,
    decoder: Decoder,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    received: u64,
    judged: u64,
    told: u64,
    end_received: bool,
    end_judged: bool,
    end_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Cancelled,
    Condemned,
    Failed,
    Open,
}

/// What the gateway says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The connection broke: no verdict is wanted. With the reason.
    Cancel(&'a str),
    /// Bytes of the connection, to be judged. There may be none if something ends.
    Data {
        /// Their direction.
        way: Way,
        /// They themselves.
        bytes: &'a [u8],
        /// What ends with them.
        mark: Mark,
    },
    /// So many bytes were thrown away, since the flow is condemned: to be counted.
    Discarded(usize),
    /// What records are to carry from here on.
    Note(Fields),
    /// The flow ends in order, another begins.
    Phase(Phase),
    /// To be answered with [`Inspector::pong`] when all before it was judged.
    Ping,
    /// Bytes that only the engine is to see.
    Replay {
        /// Their direction.
        way: Way,
        /// They themselves.
        bytes: &'a [u8],
    },
}

impl Inspector {
    /// A stream of which nothing has come, with the window that was offered.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            ways: [Received::default(); 2],
            phase: 0,
            state: State::Open,
            pinged: false,
            written: 0,
            decoder: Decoder::new(Reader::Inspector),
        }
    }

    /// Takes the gateway's next word off the front of `input`. `None`: all was taken, and more is
    /// needed. After a [failure](Self::fail) what still comes is thrown away.
    ///
    /// # Errors
    /// If the frames break a rule: say [`fail`](Self::fail), and end.
    pub fn read<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Command<'s>>, Error> {
        if self.state == State::Failed {
            *input = &[];
            return Ok(None);
        }
        let Self { window, ways, phase, state, pinged, written: _, decoder } = self;
        let Some(frame) = decoder.next(input)? else { return Ok(None) };
        if *state == State::Cancelled {
            return Err(frame.error(ErrorKind::Sequence, "a frame behind a CANCEL"));
        }
        let condemned = *state == State::Condemned;
        let way = Way::of(frame.flags);
        let command = match frame.kind {
            Kind::Data => {
                let mark = Mark { end: frame.flags & END != 0, unit: frame.flags & UNIT != 0 };
                receive(&frame, &mut ways[way as usize], mark, condemned, *window)?;
                match condemned {
                    true => Command::Discarded(frame.payload.len()),
                    false => Command::Data { way, bytes: frame.payload, mark },
                }
            }
            Kind::Replay if ways[way as usize].end_received => {
                return Err(
                    frame.error(ErrorKind::Sequence, "a REPLAY behind the end of its direction")
                );
            }
            Kind::Replay if condemned => Command::Discarded(frame.payload.len()),
            Kind::Replay => Command::Replay { way, bytes: frame.payload },
            Kind::Phase => {
                let told = |way: &Received| way.told == way.received && !way.end_received;
                if ways.iter().any(|way| way.end_received) || !condemned && !ways.iter().all(told) {
                    return Err(frame.error(
                        ErrorKind::Sequence,
                        "a PHASE behind an end, or while bytes are without a verdict",
                    ));
                }
                let new = Phase::parse(&Fields::parse(frame.payload, frame.at)?, frame.at)?;
                for way in ways.iter_mut() {
                    way.judged = way.received;
                    way.told = way.received;
                }
                *state = State::Open;
                *phase = phase.saturating_add(1);
                Command::Phase(new)
            }
            Kind::Note => Command::Note(Fields::parse(frame.payload, frame.at)?),
            Kind::Ping if *pinged => {
                return Err(frame.error(ErrorKind::Sequence, "a PING before the last was answered"));
            }
            Kind::Ping => {
                *pinged = true;
                Command::Ping
            }
            Kind::Cancel => {
                *state = State::Cancelled;
                Command::Cancel(parse_line(frame.payload, frame.at)?)
            }
            Kind::Alert
            | Kind::Drain
            | Kind::Drop
            | Kind::Fail
            | Kind::Pass
            | Kind::Pong
            | Kind::Proto => {
                return Err(frame.error(ErrorKind::UnknownFrame, "a frame of the other side's"));
            }
        };
        Ok(Some(command))
    }

    /// All that has come of a direction was judged and may leave, its end included. The gateway
    /// learns it with the next [report](Self::report).
    ///
    /// # Errors
    /// `Sequence`, if the flow is condemned or the stream over.
    pub fn pass(&mut self, way: Way) -> Result<(), Error> {
        self.pass_but(way, 0)
    }

    /// As [`pass`](Self::pass), but for the last `kept` bytes, which wait for the rest of what they are part of. Those
    /// must not have been passed before.
    ///
    /// # Errors
    /// As for [`pass`](Self::pass).
    pub fn pass_but(&mut self, way: Way, kept: usize) -> Result<(), Error> {
        self.need_open()?;
        let way = &mut self.ways[way as usize];
        way.judged = way.judged.max(way.received.saturating_sub(kept as u64));
        way.end_judged = way.end_received && kept == 0;
        Ok(())
    }

    /// Tells what was passed, if there is anything to tell; true if there was.
    pub fn report(&mut self, out: &mut impl BufMut) -> bool {
        let mut reported = false;
        for name in Way::BOTH {
            let way = &mut self.ways[name as usize];
            if way.told == way.judged && way.end_told == way.end_judged {
                continue;
            }
            (way.told, way.end_told) = (way.judged, way.end_judged);
            let flags = name.flag() | if way.end_judged { END } else { 0 };
            self.written += encode(Kind::Pass, flags, &[&way.judged.to_be_bytes()], out);
            reported = true;
        }
        reported
    }

    /// Condemns the flow: what was not passed of it, of either direction, never leaves. What was
    /// passed is told before.
    ///
    /// # Errors
    /// `Sequence`, if the flow is condemned already or the stream over.
    pub fn drop(&mut self, way: Way, why: &Dropped, out: &mut impl BufMut) -> Result<(), Error> {
        self.need_open()?;
        self.report(out);
        self.put_drop(way, self.phase, why, out)?;
        self.state = State::Condemned;
        Ok(())
    }

    /// Reports that the flow of the previous phase was dropped when it ended. Its bytes have
    /// already left.
    ///
    /// # Errors
    /// `Sequence`, if there was no flow before or the stream is over.
    pub fn drop_late(
        &mut self,
        way: Way,
        why: &Dropped,
        out: &mut impl BufMut,
    ) -> Result<(), Error> {
        self.need_open()?;
        match self.phase.checked_sub(1) {
            Some(phase) => self.put_drop(way, phase, why, out),
            None => Err(self.misused("a late drop in the first phase")),
        }
    }

    fn put_drop(
        &mut self,
        way: Way,
        phase: u32,
        why: &Dropped,
        out: &mut impl BufMut,
    ) -> Result<(), Error> {
        let fields = why.fields()?;
        let offset = self.ways[way as usize].judged.to_be_bytes();
        let payload = [&offset[..], &phase.to_be_bytes(), fields.as_bytes()];
        self.written += encode(Kind::Drop, way.flag(), &payload, out);
        Ok(())
    }

    /// Gives up: what was not passed was not inspected, and never leaves. Once; then end the body.
    ///
    /// # Errors
    /// `Sequence`, if it was said before.
    pub fn fail(&mut self, reason: &str, out: &mut impl BufMut) -> Result<(), Error> {
        if self.state == State::Failed {
            return Err(self.misused("a second FAIL"));
        }
        self.state = State::Failed;
        self.written += encode(Kind::Fail, 0, &[fields::line(reason).as_bytes()], out);
        Ok(())
    }

    /// Answers a ping.
    ///
    /// # Errors
    /// `Sequence`, if none waits.
    pub fn pong(&mut self, out: &mut impl BufMut) -> Result<(), Error> {
        if !std::mem::take(&mut self.pinged) {
            return Err(self.misused("a PONG that nobody asked for"));
        }
        self.report(out);
        self.written += encode(Kind::Pong, 0, &[], out);
        Ok(())
    }

    /// Tells of a rule that matched and did not drop.
    ///
    /// # Errors
    /// `Fields`, if there is no room for it.
    pub fn alert(&mut self, signature: &Signature, out: &mut impl BufMut) -> Result<(), Error> {
        let mut fields = Fields::new();
        signature.write(&mut fields)?;
        self.written += encode(Kind::Alert, 0, &[fields.as_bytes()], out);
        Ok(())
    }

    /// Tells the protocol that was recognised.
    pub fn proto(&mut self, name: &str, out: &mut impl BufMut) {
        self.written += encode(Kind::Proto, 0, &[fields::line(name).as_bytes()], out);
    }

    /// Asks the gateway to go on elsewhere.
    pub fn drain(&mut self, out: &mut impl BufMut) {
        self.written += encode(Kind::Drain, 0, &[], out);
    }

    /// Bytes that came of a direction, counted from the beginning of the stream.
    pub fn received(&self, way: Way) -> u64 {
        self.ways[way as usize].received
    }

    /// Whether both directions ended and were passed.
    pub fn is_complete(&self) -> bool {
        self.ways.iter().all(|way| way.end_judged)
    }

    /// Whether the flow is condemned.
    pub fn is_condemned(&self) -> bool {
        self.state == State::Condemned
    }

    /// The request's body ended. With what was passed told, the reply's body may end too.
    ///
    /// # Errors
    /// `Truncated`, unless the stream is over.
    pub fn end_of_input(&self) -> Result<(), Error> {
        let over = self.is_complete() || self.state != State::Open;
        let whole = self.decoder.is_between_frames() || self.state == State::Failed;
        match over && whole {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Truncated,
                self.decoder.taken(),
                "the gateway's frames ended before the stream",
            )),
        }
    }

    fn need_open(&self) -> Result<(), Error> {
        match self.state {
            State::Open => Ok(()),
            _ => Err(self.misused("a verdict on a stream that is over")),
        }
    }

    fn misused(&self, what: &'static str) -> Error {
        Error::new(ErrorKind::Sequence, self.written, what)
    }
}

/// Counts data in.
fn receive(
    frame: &Frame<'_>,
    way: &mut Received,
    mark: Mark,
    condemned: bool,
    window: Window,
) -> Result<(), Error> {
    if way.end_received {
        return Err(frame.error(ErrorKind::Sequence, "DATA behind the end of its direction"));
    }
    if frame.payload.is_empty() && mark == Mark::NONE {
        return Err(frame.error(ErrorKind::Length, "DATA without bytes, with which nothing ends"));
    }
    way.received += frame.payload.len() as u64;
    way.end_received = mark.end;
    // Of a condemned flow nothing is told any more, so the sender can't know better.
    if !condemned && way.received - way.told > window.bytes() {
        return Err(frame.error(ErrorKind::Window, "more bytes without a verdict than the window"));
    }
    Ok(())
}
