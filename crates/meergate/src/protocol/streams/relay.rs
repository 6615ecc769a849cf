//! Both directions of a stream, each byte shown before it leaves.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use icap_client::{Failure, Mark, StreamDrop, StreamEvent, Streams, Way};
use tokio::time::{Instant, Sleep, sleep};

use super::lane::{Ended, Lane, Read};
use super::within::{Found, Within};
use crate::io::{BLOCK, Io, Turn, give_way};

thread_local! {
    // One buffer a thread: what is read is copied into what its lane holds.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BLOCK]);
}

/// Rounds after which the thread's other connections have their turn.
const ROUNDS: usize = 16;

/// How a stream ended.
#[derive(Debug)]
pub(super) enum End {
    /// All of it has left, and the client goes on in TLS.
    Agreed,
    /// One of the connections failed.
    Broken(io::Error),
    /// A service drops it.
    Dropped(StreamDrop),
    /// Both directions ended, and all of both has left.
    Finished,
    /// Something hides in it.
    Hides(Found),
    /// Nothing moved in time.
    Idle,
    /// A service failed.
    NotInspected(Failure),
}

/// Who hears of what happens.
pub(super) trait Listener {
    /// So many bytes of a direction were read.
    fn read(&mut self, way: Way, bytes: usize);
    /// So many bytes of a direction have left.
    fn left(&mut self, way: Way, bytes: usize);
    /// A service said something that changes nothing.
    fn said(&mut self, event: StreamEvent);
}

/// A stream on its way.
pub(super) struct Relay<'a, L> {
    client: Io,
    server: Io,
    streams: &'a mut Streams,
    /// What is read first if both have said something: the order in which they spoke.
    order: [Way; 2],
    lanes: [Lane; 2],
    within: Within,
    /// What the client said that is TLS: nothing more is read.
    behind: Option<BytesMut>,
    listener: L,
    turn: Turn,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<'a, L: Listener> Relay<'a, L> {
    pub(super) fn new(
        (client, server): (Io, Io),
        streams: &'a mut Streams,
        first: Way,
        within: Within,
        (idle, turn): (Duration, Turn),
        listener: L,
    ) -> Self {
        let order = match first {
            Way::ToClient => [Way::ToClient, Way::ToServer],
            Way::ToServer => [Way::ToServer, Way::ToClient],
        };
        Self {
            client,
            server,
            streams,
            order,
            lanes: Default::default(),
            within,
            behind: None,
            listener,
            turn,
            idle,
            timer: Box::pin(sleep(idle)),
        }
    }

    /// Ready when it has ended. Nothing leaves after that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        ready!(self.turn.poll(cx));
        let mut moved_at_all = false;
        for _ in 0..ROUNDS {
            let moved = match self.round(cx) {
                Ok(moved) => moved,
                Err(end) => return Poll::Ready(end),
            };
            if self.behind.is_some() && self.lanes.iter().all(Lane::is_empty) {
                return Poll::Ready(End::Agreed);
            }
            if self.is_over() {
                return Poll::Ready(End::Finished);
            }
            moved_at_all |= moved;
            if !moved {
                if moved_at_all {
                    self.timer.as_mut().reset(Instant::now() + self.idle);
                }
                return self.timer.as_mut().poll(cx).map(|()| End::Idle);
            }
        }
        self.timer.as_mut().reset(Instant::now() + self.idle);
        give_way(cx);
        Poll::Pending
    }

    /// Both connections after [`End::Agreed`], what the client said in TLS, and what the server said first.
    pub(super) fn into_ends(self) -> (Io, Io, BytesMut, Bytes) {
        let greeting = Bytes::copy_from_slice(self.within.greeting());
        (self.client, self.server, self.behind.unwrap_or_default(), greeting)
    }

    /// Reads, hears and writes what can be at once; whether anything could.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        for way in self.order {
            moved |= self.read(cx, way)?;
        }
        // Sends what was shown, too.
        while let Poll::Ready(event) = self.streams.poll_event(cx) {
            moved = true;
            match event.map_err(End::NotInspected)? {
                StreamEvent::Dropped(dropped) if !dropped.late => {
                    return Err(End::Dropped(dropped));
                }
                event => self.listener.said(event),
            }
        }
        for way in self.order {
            moved |= self.write(cx, way)?;
        }
        Ok(moved)
    }

    fn read(&mut self, cx: &mut Context<'_>, way: Way) -> Result<bool, End> {
        let Self { client, server, streams, lanes, within, behind, listener, turn, .. } = self;
        if behind.is_some() {
            return Ok(false);
        }
        let from = match way {
            Way::ToClient => server,
            Way::ToServer => client,
        };
        let room = streams.room(way);
        SCRATCH.with_borrow_mut(|scratch| {
            let Poll::Ready(read) = lanes[way as usize].poll_read(cx, from, room, scratch) else {
                return Ok(false);
            };
            let shown = match read.map_err(End::Broken)? {
                Read::Bytes(bytes) => match within.look(way, bytes) {
                    None => {
                        listener.read(way, bytes.len());
                        turn.moved(bytes.len());
                        streams.show(way, bytes, Mark::NONE)
                    }
                    Some(Found::Agreed(at)) => {
                        listener.read(way, at);
                        let (before, tls) = bytes.split_at(at);
                        let length = tls.len();
                        let shown = match before {
                            [] => Ok(()),
                            before => streams.show(way, before, Mark::NONE),
                        };
                        *behind = Some(lanes[way as usize].take_back(length));
                        shown
                    }
                    Some(found) => {
                        listener.read(way, bytes.len());
                        return Err(End::Hides(found));
                    }
                },
                Read::End => streams.show(way, &[], Mark::END),
            };
            shown.map_err(End::NotInspected)?;
            Ok(true)
        })
    }

    fn write(&mut self, cx: &mut Context<'_>, way: Way) -> Result<bool, End> {
        let Self { client, server, streams, lanes, listener, .. } = self;
        let lane = &mut lanes[way as usize];
        let to = match way {
            Way::ToClient => client,
            Way::ToServer => server,
        };
        let end_cleared = lane.ended.is_some() && streams.end_cleared(way);
        match lane.poll_write(cx, to, streams.cleared(way), end_cleared) {
            Poll::Ready(Ok(bytes)) => {
                listener.left(way, bytes);
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(End::Broken(error)),
            Poll::Pending => Ok(false),
        }
    }

    /// Whether all has left; or one side's that is gone altogether.
    fn is_over(&self) -> bool {
        let is_gone = |lane: &Lane| lane.closed && lane.ended == Some(Ended::Silently);
        self.lanes.iter().all(|lane| lane.closed) || self.lanes.iter().any(is_gone)
    }
}
