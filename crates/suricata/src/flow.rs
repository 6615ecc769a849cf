//! One connection as the engine sees it.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::error::{Error, ErrorKind};
use crate::packet::Stream;
use crate::verdict::Dropped;

/// The ends of a connection. The engine sees exactly these addresses and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

impl Tuple {
    /// A tuple of two ends of one address family; an IPv4 address in IPv6 clothes (`::ffff:a.b.c.d`) counts as IPv4.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] if the families differ, or both ends are the same: then the directions cannot be told
    /// apart.
    pub fn new(client: SocketAddr, server: SocketAddr) -> Result<Self, Error> {
        let tuple = Self { client: canonical(client), server: canonical(server) };
        if tuple.client.is_ipv4() != tuple.server.is_ipv4() {
            return Err(Error::new(
                ErrorKind::Misuse,
                format!("the ends {client} and {server} are of different address families"),
            ));
        }
        if tuple.client == tuple.server {
            return Err(Error::new(
                ErrorKind::Misuse,
                format!("both ends of the connection are {client}"),
            ));
        }
        Ok(tuple)
    }

    /// The client's end.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// The server's end.
    pub fn server(&self) -> SocketAddr {
        self.server
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Sent by the server.
    ToClient,
    /// Sent by the client.
    ToServer,
}

impl Direction {
    /// The other way.
    pub fn opposite(self) -> Self {
        match self {
            Self::ToClient => Self::ToServer,
            Self::ToServer => Self::ToClient,
        }
    }
}

/// Tells apart flows that have the same [`Tuple`] at the same time. Usually left to the worker, which takes a fresh
/// one for every flow; give one only to keep flows in the same lane across programs.
///
/// A lane given by the caller must not be given again for the same tuple while an earlier flow in it is open or was
/// dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane(u64);

impl Lane {
    /// Marks lanes of the caller, so that they never meet those of a worker.
    const OF_CALLER: u64 = 1 << 47;

    /// The lane of the engine's own checks.
    pub(crate) const OF_CANARY: Self = Self((1 << 48) - 1);

    /// The lane of that number; `None` from 2^46 on.
    pub fn new(number: u64) -> Option<Self> {
        (number < Self::OF_CALLER / 2).then_some(Self(number | Self::OF_CALLER))
    }

    /// The `count`th lane of a worker of its own choice.
    pub(crate) fn of_worker(worker: u16, count: u64) -> Self {
        // 11 bits for the worker, 36 for the count: at 100,000 flows a second they last for a week, and then meet
        // lanes whose flows have long been forgotten.
        Self(u64::from(worker & 0x7ff) << 36 | (count & ((1 << 36) - 1)))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

/// What the caller knows of the protocol, for noticing that the engine does not see the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// HTTP/1: once bytes went both ways, or [`Worker::check_protocol`] is called, the engine must have recognised it.
    /// Other methods than those that Suricata knows are recognised too. After an upgrade the engine may see another
    /// protocol.
    ///
    /// [`Worker::check_protocol`]: crate::Worker::check_protocol
    Http1,
    /// The protocol that Suricata calls so, such as `dns`: its parser's own probe looks at the first bytes, whatever the
    /// ports are, and must recognise them. Not for HTTP/1.
    Protocol(&'static str),
}

/// An open flow. Belongs to the [`Worker`](crate::Worker) that opened it; give it back with
/// [`Worker::close`](crate::Worker::close). One that is merely dropped is closed by its worker a little later, without
/// anyone hearing the last verdict.
pub struct Flow {
    pub(crate) state: State,
    pub(crate) dropped: Option<Dropped>,
    pub(crate) orphans: Rc<RefCell<Vec<State>>>,
}

/// What a flow needs besides its verdict.
#[derive(Clone, Copy)]
pub(crate) struct State {
    pub(crate) stream: Stream,
    pub(crate) tuple: Tuple,
    pub(crate) lane: Lane,
    pub(crate) worker: u16,
    /// The engine's identity of the flow; 0 until the first packet came back.
    pub(crate) id: u64,
    pub(crate) expect: Expect,
    pub(crate) app_protocol: u16,
    pub(crate) condition: Condition,
    /// Packets with data since the other side acknowledged, for each direction.
    pub(crate) unacknowledged: [u32; 2],
    pub(crate) server_window_open: bool,
    /// Whether the handshake was ended.
    pub(crate) greeted: bool,
    /// Whether the engine was once seen to recognise what was expected.
    pub(crate) recognised: bool,
    pub(crate) fed: [u64; 2],
    /// Content in messages that were fed, and what the engine kept of it; each indexed by `Direction`.
    pub(crate) content_fed: [u64; 2],
    pub(crate) content_kept: [u64; 2],
    /// A rule has taken some of it out of inspection.
    pub(crate) excused: bool,
    /// The version of the rules with which it began.
    pub(crate) begun_by: u64,
    /// The version of the rules of which none had use for it, if that was seen.
    pub(crate) unneeded_by: Option<u64>,
    /// Bytes that no rule has use for, and of which a parser may yet make something; each indexed by `Direction`.
    pub(crate) unread: [u64; 2],
    /// The parser of SMTP is within a mail.
    pub(crate) reads_mail: bool,
    pub(crate) ends: Ends,
}

/// Which directions the caller has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ends {
    /// Both. The engine has yet to see the sender of this one finish.
    Both(Direction),
    None,
    One(Direction),
}

impl Ends {
    /// Whether this direction is among them.
    pub(crate) fn has(self, direction: Direction) -> bool {
        match self {
            Self::Both(_) => true,
            Self::None => false,
            Self::One(ended) => ended == direction,
        }
    }
}

/// How a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Condition {
    /// A rule said that the engine need not see the rest.
    Bypassed,
    Closed,
    Condemned,
    /// Inspection failed; nothing later on it can be trusted.
    Failed,
    Open,
}

impl Flow {
    /// The ends.
    pub fn tuple(&self) -> Tuple {
        self.state.tuple
    }

    /// Suricata's id of this flow, as in the `flow_id` of EVE.
    pub fn id(&self) -> u64 {
        self.state.id
    }

    /// Bytes fed that way.
    pub fn fed(&self, direction: Direction) -> u64 {
        self.state.fed[direction as usize]
    }

    /// Says what protocol the bytes are. Before the first of them is fed, this also helps the engine to recognise it.
    pub fn expect(&mut self, expect: Expect) {
        self.state.expect = expect;
    }

    /// Suricata's name of the protocol that it recognised, such as `http` (that is HTTP/1) or `tls`; `None` if it has not (yet).
    pub fn app_protocol(&self) -> Option<&'static str> {
        match suricata_sys::app_protocol_name(self.state.app_protocol) {
            "unknown" | "failed" => None,
            name => Some(name),
        }
    }

    /// Whether Suricata's parser of SMTP takes what the client says next for the content of a mail, in which it looks for
    /// files. A server that does not agree with it gets what was looked at as something else.
    pub fn reads_mail(&self) -> bool {
        self.state.reads_mail
    }

    /// Whether some of it was shown to rules for single packets alone, since neither a parser nor another rule has use
    /// for it. After a reload such a flow fails: begin another.
    pub fn is_unneeded(&self) -> bool {
        self.state.unneeded_by.is_some()
    }

    /// Why the flow was condemned, if it was.
    pub fn dropped(&self) -> Option<&Dropped> {
        self.dropped.as_ref()
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("tuple", &self.state.tuple)
            .field("id", &self.state.id)
            .field("condition", &self.state.condition)
            .finish_non_exhaustive()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if self.state.condition != Condition::Closed
            && let Ok(mut orphans) = self.orphans.try_borrow_mut()
        {
            orphans.push(self.state);
        }
    }
}
