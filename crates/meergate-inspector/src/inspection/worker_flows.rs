//! One worker's engine, with the flows that began on it.

mod lease;
mod stream;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use dual_ring::{Pool, PooledRing};
use http_wire::RequestHead;
use shares::Turns;
use suricata::{Direction, Error, Expect, Flow, Tuple, Worker};

use crate::inspection::claims::{Claims, Correlation, Endpoints, FlowKey};
use crate::inspection::clients::{Client, Place, Share};
use crate::inspection::decoding::Buffers;
use crate::inspection::dialogue::{Asked, Turn};
use crate::inspection::flows::{Removed, Shared, Table};
use crate::inspection::halt::Halt;
use crate::inspection::metrics::Counters;
use crate::inspection::state::State;
use crate::settings::{Hold, Mode, Settings};

pub(crate) use lease::FlowLease;
use lease::passed;
pub(crate) use stream::StreamFlow;

/// What the engine's events carry, so that they can be joined with other logs.
#[derive(Debug)]
pub(crate) struct EventTags {
    /// The id of the transaction.
    pub(crate) transaction: Box<str>,
    /// The HTTP/2 or HTTP/3 stream.
    pub(crate) stream: Option<Box<str>>,
}

/// Where transactions get their flows and verdicts. Belongs to one thread.
pub(crate) struct WorkerFlows {
    /// What all workers share.
    pub(crate) state: Arc<State>,
    index: usize,
    worker: RefCell<Worker>,
    table: RefCell<Table<Leased>>,
    rings: Rings,
    /// For decoded content.
    pub(crate) buffers: Buffers,
    /// Whose turn it is.
    turns: Arc<Turns<Client>>,
    /// Flows of the engine that are open here.
    open: Cell<u64>,
    /// The transaction that the engine's events are marked with.
    annotated: RefCell<Option<Rc<EventTags>>>,
}

/// A flow of the engine, and its place among those of its client that later transactions may continue; without one
/// it ends with its transaction.
struct Leased {
    flow: Flow,
    place: Option<Place>,
}

/// Bytes that a ring has beyond what is held, so that reading goes on while the engine looks and
/// the client takes.
const SLACK: usize = 256 << 10;

/// Bytes, decoded ones counted too, after which a client's transactions wait for those of others: a quarter of a
/// millisecond's worth with few rules, one with many.
const TURN: u64 = 512 << 10;

/// What a transaction counts for before its first byte.
pub(crate) const BEGIN: usize = 32 << 10;

/// Rings kept by a worker while nobody uses them.
const KEPT: usize = 32;

struct Rings {
    /// For bodies that may have to be sent back.
    holding: Pool,
    /// For bodies that never will be.
    passing: Pool,
}

impl Rings {
    fn new(settings: &Settings) -> Self {
        let most = settings.limits.max_connections;
        let holding = match settings.hold {
            Hold::All => Pool::new(settings.limits.max_held.in_memory(), most, 0),
            Hold::Bytes(hold) => Pool::new(hold + SLACK, most, KEPT),
        };
        Self { holding, passing: Pool::new(SLACK, most, KEPT) }
    }

    fn lent(&self) -> usize {
        self.holding.lent() + self.passing.lent()
    }
}

impl WorkerFlows {
    /// Around an attached engine worker.
    pub(crate) fn new(state: Arc<State>, index: usize, worker: Worker) -> Rc<Self> {
        let limits = &state.settings.limits;
        let most = (limits.max_flows / state.settings.workers.max(1)).max(1);
        let left = {
            let state = state.clone();
            move |key| state.owners.leave(key, index)
        };
        let table = Table::new(most, limits.flow_idle_timeout.0, limits.response_timeout.0, left);
        Rc::new(Self {
            index,
            worker: RefCell::new(worker),
            table: RefCell::new(table),
            rings: Rings::new(&state.settings),
            buffers: Buffers::default(),
            turns: Turns::of(TURN),
            open: Cell::new(0),
            annotated: RefCell::default(),
            state,
        })
    }

    /// Counts bytes to a client's turn with this worker, and waits for its next one if that is used up.
    pub(crate) async fn spend(&self, share: &Share, bytes: usize) {
        if !self.turns.spend(share.client(), bytes as u64) {
            self.turns.wait(share.client()).await;
        }
    }

    /// This worker's counters.
    pub(crate) fn counters(&self) -> &Counters {
        &self.state.metrics.workers[self.index]
    }

    /// Whether it does what one of the workers does for all.
    pub(crate) fn is_first(&self) -> bool {
        self.index == 0
    }

    /// A ring for a body; a `small` one if nothing is to be held in it.
    pub(crate) fn ring(&self, small: bool) -> Option<PooledRing> {
        if small { self.rings.passing.lend() } else { self.rings.holding.lend() }
    }

    /// The worker that has the flow, if that is another one.
    pub(crate) fn elsewhere(&self, correlation: Correlation) -> Option<usize> {
        let worker = match correlation {
            Correlation::Connection(key) | Correlation::Stream { stream: key, .. } => {
                self.state.owners.find(key)
            }
            Correlation::Client(key) => Some(key.bucket(self.state.settings.workers)),
            Correlation::None => None,
        };
        worker.filter(|worker| *worker != self.index)
    }

    /// A flow on which this request may go. It has been told that the request starts.
    ///
    /// # Errors
    /// The engine could not open a flow.
    pub(crate) fn for_request(
        self: &Rc<Self>,
        claims: &Claims<'_>,
        share: &Share,
        tags: &Rc<EventTags>,
        head: &RequestHead,
    ) -> Result<FlowLease, Error> {
        let found = match claims.correlation {
            Correlation::Connection(key) | Correlation::Stream { stream: key, .. } => {
                let (found, removed) = self.table.borrow_mut().for_request(key);
                self.dispose(removed);
                found
            }
            Correlation::Client(_) | Correlation::None => None,
        };
        let entry = match found {
            Some(entry) => entry,
            None => self.open(claims, share, Some(head))?,
        };
        entry.borrow_mut().dialogue.ask(Asked::new(head.method(), head.target()));
        Ok(self.lease(entry, tags))
    }

    /// A flow on which the response to `request` may go, and whether that request, or any, has to
    /// be fed first.
    ///
    /// # Errors
    /// The engine could not open a flow.
    pub(crate) fn for_response(
        self: &Rc<Self>,
        claims: &Claims<'_>,
        share: &Share,
        tags: &Rc<EventTags>,
        request: Option<&RequestHead>,
    ) -> Result<(FlowLease, Turn), Error> {
        let found = match (claims.correlation, request) {
            (Correlation::Connection(key) | Correlation::Stream { stream: key, .. }, _) => {
                let line = request.map(|head| (head.method(), head.target()));
                let (found, removed) = self.table.borrow_mut().for_response(key, line);
                self.dispose(removed);
                found
            }
            (Correlation::Client(_), Some(head)) => {
                let key = self.request_key(claims, head);
                self.table.borrow_mut().for_waiting(key).map(|entry| (entry, Turn::Answer))
            }
            _ => None,
        };
        let (entry, turn) = match found {
            Some(found) => found,
            None => (self.open(claims, share, request)?, Turn::AskFirst),
        };
        Ok((self.lease(entry, tags), turn))
    }

    /// After a REQMOD: its response will be looked for, if it can be told from others at all.
    pub(crate) fn await_response(
        &self,
        claims: &Claims<'_>,
        head: &RequestHead,
        lease: &FlowLease,
    ) {
        let may_wait = {
            let entry = lease.entry.borrow();
            entry.flow.as_ref().is_some_and(|leased| leased.place.is_some())
        };
        if let Correlation::Client(_) = claims.correlation
            && may_wait
        {
            let key = self.request_key(claims, head);
            let removed = self.table.borrow_mut().keep_waiting(key, &lease.entry);
            self.displace(removed);
        }
    }

    /// Closes at most so many flows that nobody used for too long; false if there are no more.
    pub(crate) fn sweep(&self, most: usize) -> bool {
        let now = Instant::now();
        for _ in 0..most {
            let expired = self.table.borrow_mut().expired(now);
            let Some(flow) = expired else {
                self.counters().flows.set(self.table.borrow().len() as i64);
                self.counters().rings.set(self.rings.lent() as i64);
                return false;
            };
            self.counters().flows_expired.one();
            self.close(flow);
        }
        true
    }

    /// Lets the engine do what waits for this thread.
    ///
    /// # Errors
    /// The engine has stopped.
    pub(crate) fn idle(&self) -> Result<(), Error> {
        self.worker.borrow_mut().idle()
    }

    /// Has the engine prove that it inspects with the rules in force.
    ///
    /// # Errors
    /// The engine let the canary pass, or has stopped.
    pub(crate) fn prove(&self) -> Result<(), Error> {
        self.worker.borrow_mut().prove()
    }

    /// Closes every flow, and hands the engine worker back so that the engine can stop.
    pub(crate) fn retire(self: Rc<Self>) -> Option<Worker> {
        loop {
            let next = self.table.borrow_mut().drain();
            match next {
                Some(flow) => self.close(flow),
                None => break,
            }
        }
        Rc::into_inner(self).map(|flows| flows.worker.into_inner())
    }

    fn lease(self: &Rc<Self>, entry: Shared<Leased>, tags: &Rc<EventTags>) -> FlowLease {
        FlowLease { flows: self.clone(), entry, tags: tags.clone(), done: false }
    }

    /// Marks the events of what is fed next.
    fn annotate(&self, tags: &Rc<EventTags>) {
        let mut annotated = self.annotated.borrow_mut();
        if annotated.as_ref().is_some_and(|last| Rc::ptr_eq(last, tags)) {
            return;
        }
        let stream = tags.stream.as_deref().map(|stream| ("stream_id", stream));
        let fields = [("transaction_id", &*tags.transaction), stream.unwrap_or_default()];
        let fields = if stream.is_some() { &fields[..] } else { &fields[..1] };
        // The values are short, and without NUL: nothing else can go wrong.
        let _ = self.worker.borrow_mut().annotate(fields);
        *annotated = Some(tags.clone());
    }

    fn open(
        &self,
        claims: &Claims<'_>,
        share: &Share,
        request: Option<&RequestHead>,
    ) -> Result<Shared<Leased>, Error> {
        let correlation = claims.correlation;
        if let Correlation::Stream { connection, .. } = correlation {
            let spare = self.table.borrow_mut().spare(connection);
            if let Some(entry) = spare {
                self.keep(&entry, correlation);
                return Ok(entry);
            }
        }
        let tuple = self.tuple(claims, request)?;
        let mut flow = self.worker.borrow_mut().open(tuple, None)?;
        self.open.set(self.open.get() + 1);
        flow.expect(Expect::Http1);
        self.counters().flows_opened.one();
        let place = share.flow();
        let is_kept = place.is_some();
        let entry = self.table.borrow().begin(Leased { flow, place }, Instant::now());
        if is_kept {
            self.keep(&entry, correlation);
        } else {
            self.counters().flows_unkept.one();
        }
        Ok(entry)
    }

    /// The addresses that a flow has for the engine; counted where they are not all known.
    fn tuple(&self, claims: &Claims<'_>, request: Option<&RequestHead>) -> Result<Tuple, Error> {
        let ends = self.ends(claims, request);
        if ends.invented {
            self.counters().invented.one();
            self.state.say_stand_ins();
        }
        if ends.mixed {
            self.counters().mixed.one();
        }
        Tuple::new(ends.client, ends.server)
    }

    fn ends(&self, claims: &Claims<'_>, request: Option<&RequestHead>) -> Endpoints {
        let authority = request.and_then(|head| head.host().ok().flatten());
        let host = authority.and_then(|a| a.host.parse::<IpAddr>().ok());
        let port = authority.and_then(|a| a.port).unwrap_or(80);
        // The number of open flows makes for stand-in ports that differ as long as they have to, and
        // are used again soon: the engine takes a flow with the addresses of a closed one at half
        // the cost of one that it has never seen.
        Endpoints::complete(claims, host, port, self.open.get(), self.state.stand_ins())
    }

    /// Shows the engine what else a transaction is than HTTP: `parts` as all that goes one way on a flow of their own
    /// between the same ends, in what Suricata calls `protocol`.
    ///
    /// # Errors
    /// The engine asks for a drop, does not take the bytes for that protocol, or could not inspect them.
    pub(crate) fn show_apart(
        &self,
        claims: &Claims<'_>,
        request: Option<&RequestHead>,
        tags: &Rc<EventTags>,
        protocol: &'static str,
        direction: Direction,
        parts: &[&[u8]],
    ) -> Result<(), Halt> {
        let ends = self.ends(claims, request);
        let tuple = Tuple::new(ends.client, ends.server)?;
        self.annotate(tags);
        let mut worker = self.worker.borrow_mut();
        let mut flow = worker.open(tuple, None)?;
        flow.expect(Expect::Protocol(protocol));
        passed(worker.feed_parts(&mut flow, direction, parts))?;
        // As if passively, the engine knows what it is only once it was acknowledged.
        if self.state.settings.mode == Mode::Ips {
            worker.check_protocol(&mut flow)?;
        }
        passed(worker.close(flow))
    }

    /// Lets later transactions find the flow, if they can be told to belong to it.
    fn keep(&self, entry: &Shared<Leased>, correlation: Correlation) {
        let mut flows = self.table.borrow_mut();
        let (key, removed) = match correlation {
            Correlation::Connection(key) => (key, flows.keep(key, entry)),
            Correlation::Stream { stream, connection } => {
                (stream, flows.keep_stream(stream, connection, entry))
            }
            Correlation::Client(_) | Correlation::None => return,
        };
        drop(flows);
        self.state.owners.claim(key, self.index);
        self.displace(removed);
    }

    fn request_key(&self, claims: &Claims<'_>, head: &RequestHead) -> FlowKey {
        let host = head.field("Host").map_or(&b""[..], |field| field.value);
        claims.request_key(&self.state.keys, head.method(), head.target(), host)
    }

    fn displace(&self, removed: Removed<Leased>) {
        if let Removed::Close(flow) = removed {
            self.counters().flows_displaced.one();
            self.close(flow);
        }
    }

    fn dispose(&self, removed: Removed<Leased>) {
        if let Removed::Close(flow) = removed {
            self.close(flow);
        }
    }

    fn close(&self, leased: Leased) {
        self.open.set(self.open.get().saturating_sub(1));
        // Whatever the end of an idle flow triggers, all its transactions have their answers.
        if let Err(error) = self.worker.borrow_mut().close(leased.flow) {
            tracing::debug!(%error, "closing a flow");
        }
    }
}
