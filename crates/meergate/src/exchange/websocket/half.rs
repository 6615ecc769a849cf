//! One direction of a WebSocket: what was read and held, what of that was shown, and what may leave.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use icap_client::{Failure, Mark, Streams, Way};
use tokio::io::ReadBuf;
use websocket_wire::{Error, Event, Frame, Opcode, Reader, write_head};

use crate::io::Stream;

/// Bytes that are shown at once at most.
const PIECE: usize = 64 << 10;
/// With so much of complete messages held, no more is read before some of it has left.
const MOST_WAITING: usize = 256 << 10;

/// One direction.
pub(super) struct Half {
    way: Way,
    reader: Reader,
    /// What came and has not left, as it came.
    held: BytesMut,
    /// Bytes that have left; that may; and that were read. Each counted from the beginning of what came.
    left: u64,
    may_leave: u64,
    read: u64,
    /// Messages and control frames that may not leave yet, the oldest first.
    units: VecDeque<Unit>,
    /// What is being shown.
    showing: Option<Showing>,
    /// Bytes that were shown or are being shown, from the beginning.
    shown: u64,
    /// A close frame may leave.
    closes: bool,
    came_to_end: bool,
    end_shown: bool,
    unflushed: bool,
    /// All has left, and the end.
    is_closed: bool,
}

/// What leaves as a whole.
struct Unit {
    /// Where it ends in what came.
    came: u64,
    /// Where it ends in what was shown.
    shown: u64,
    closes: bool,
}

/// A message or control frame, in the one frame that services see.
struct Showing {
    head: Vec<u8>,
    /// How much of head and payload was shown.
    at: usize,
}

impl Half {
    pub(super) fn new(way: Way, reader: Reader) -> Self {
        Self {
            way,
            reader,
            held: BytesMut::new(),
            left: 0,
            may_leave: 0,
            read: 0,
            units: VecDeque::new(),
            showing: None,
            shown: 0,
            closes: false,
            came_to_end: false,
            end_shown: false,
            unflushed: false,
            is_closed: false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Bytes of memory that its messages take.
    pub(super) fn memory(&self) -> u64 {
        (self.held.capacity() + self.reader.memory()) as u64
    }

    /// Takes in what comes; ready with how much.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut dyn Stream,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let waits = !self.units.is_empty() && self.held.len() >= MOST_WAITING;
        if self.came_to_end || self.showing.is_some() || waits || self.read < self.came() {
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(scratch);
        match ready!(Pin::new(from).poll_read(cx, &mut buffer)) {
            Ok(()) => {}
            // What rustls says of TLS without a close_notify.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(e) => return Poll::Ready(Err(e)),
        }
        let filled = buffer.filled();
        self.came_to_end = filled.is_empty();
        self.held.extend_from_slice(filled);
        Poll::Ready(Ok(filled.len()))
    }

    /// Reads in what has come, up to the end of a message or control frame, which is to be shown next; so
    /// many bytes, if there was one.
    pub(super) fn parse(&mut self) -> Result<Option<usize>, Error> {
        // No more than what is held.
        let mut input = &self.held[(self.read - self.left) as usize..];
        let before = input.len();
        let (opcode, length) = match self.reader.read(&mut input)? {
            None => {
                self.read += before as u64;
                return Ok(None);
            }
            Some(Event::Control { opcode, payload }) => (opcode, payload.len()),
            Some(Event::Message { is_text: true, payload }) => (Opcode::Text, payload.len()),
            Some(Event::Message { is_text: false, payload }) => (Opcode::Binary, payload.len()),
        };
        self.read += (before - input.len()) as u64;
        let (is_final, is_compressed, mask) = (true, false, None);
        let mut head = Vec::new();
        let frame = Frame { opcode, is_final, is_compressed, mask, length: length as u64 };
        write_head(&frame, &mut head);
        self.shown += (head.len() + length) as u64;
        self.showing = Some(Showing { head, at: 0 });
        // What stands within a message leaves with it.
        if !self.reader.is_within() {
            let closes = opcode == Opcode::Close;
            self.units.push_back(Unit { came: self.read, shown: self.shown, closes });
        }
        Ok(Some(length))
    }

    /// Shows what there is room for. Whether that was anything.
    pub(super) fn show(&mut self, streams: &mut Streams) -> Result<bool, Failure> {
        let mut moved = false;
        while let Some(showing) = &mut self.showing {
            let payload = self.reader.payload();
            let (head, all) = (showing.head.len(), showing.head.len() + payload.len());
            let room = streams.room(self.way).min(PIECE);
            let to = (showing.at + room).min(all);
            if to < head || to == showing.at {
                return Ok(moved);
            }
            let mark = Mark { unit: to == all, ..Mark::NONE };
            match showing.at {
                0 => {
                    let first = [&showing.head[..], &payload[..to - head]].concat();
                    streams.show(self.way, &first, mark)?;
                }
                at => streams.show(self.way, &payload[at - head..to - head], mark)?,
            }
            showing.at = to;
            moved = true;
            if to == all {
                self.showing = None;
                self.reader.forget();
            }
        }
        if self.came_to_end && !self.end_shown && self.read == self.came() {
            self.end_shown = true;
            streams.show(self.way, &[], Mark::END)?;
            moved = true;
        }
        Ok(moved)
    }

    /// Whether something is being shown.
    pub(super) fn is_showing(&self) -> bool {
        self.showing.is_some()
    }

    /// Lets go of what lies below `cleared` in what was shown.
    pub(super) fn release(&mut self, cleared: u64) {
        while let Some(unit) = self.units.front()
            && unit.shown <= cleared
        {
            self.may_leave = unit.came;
            self.closes |= unit.closes;
            self.units.pop_front();
        }
    }

    /// Writes what may leave, and the end if that may. Ready with the bytes that were taken, as often as there is something
    /// to do.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut dyn Stream,
        end_cleared: bool,
    ) -> Poll<io::Result<usize>> {
        let ready = self.ready().len();
        if ready > 0 {
            let taken = ready!(Pin::new(to).poll_write(cx, &self.held[..ready]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(taken);
            self.left += taken as u64;
            self.unflushed = true;
            if self.held.is_empty() {
                self.held = BytesMut::new();
            }
            return Poll::Ready(Ok(taken));
        }
        if self.unflushed {
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            self.unflushed = false;
        }
        if self.end_shown && end_cleared && self.units.is_empty() && !self.is_closed {
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.is_closed = true;
            return Poll::Ready(Ok(0));
        }
        Poll::Pending
    }

    /// What may leave and has not.
    pub(super) fn ready(&self) -> &[u8] {
        // No more than what is held.
        &self.held[..(self.may_leave - self.left) as usize]
    }

    /// Whether its receiver is told by the sender that it ends.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    /// Bytes that came, from the beginning.
    fn came(&self) -> u64 {
        self.left + self.held.len() as u64
    }
}
