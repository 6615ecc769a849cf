//! The flows of one worker: which of them a transaction continues, and which are at their end.
//!
//! Knows nothing of the engine: `F` is whatever stands for a flow there.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::inspection::claims::{FlowKey, FlowMap};
use crate::inspection::dialogue::{Dialogue, Turn};

/// One flow. Shared by the table and by the transactions that run on it.
#[derive(Debug)]
pub(crate) struct FlowEntry<F> {
    /// The engine's flow; gone once it is closed.
    pub(crate) flow: Option<F>,
    /// Whose turn it is.
    pub(crate) dialogue: Dialogue,
    /// Nothing more may be learned from this flow: it was dropped, failed or was given up.
    pub(crate) spent: bool,
    registered: Option<Registered>,
    /// The connection whose streams use this flow one after the other.
    connection: Option<FlowKey>,
    users: usize,
    used: Instant,
    stamp: u64,
}

/// A flow as transactions hold it.
pub(crate) type Shared<F> = Rc<RefCell<FlowEntry<F>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registered {
    /// The flow of a connection, or of a stream.
    Connection(FlowKey),
    /// Free for the next stream of this connection.
    Spare(FlowKey),
    /// A request that waits for its response.
    Waiting(FlowKey),
}

/// All flows of a worker that a later transaction may continue.
pub(crate) struct Table<F> {
    /// Hears of connections whose flow has left the table.
    left: Box<dyn Fn(FlowKey)>,
    connections: FlowMap<Shared<F>>,
    spare: FlowMap<Vec<Shared<F>>>,
    waiting: FlowMap<VecDeque<Shared<F>>>,
    /// Flows in the order they were last used; entries whose stamp is old are skipped.
    order: VecDeque<(u64, Shared<F>)>,
    stamps: u64,
    len: usize,
    limit: usize,
    idle: Duration,
    wait: Duration,
}

impl<F> Table<F> {
    /// A table of at most `limit` flows. A connection's flow may be idle for `idle`, a request
    /// may wait for its response for `wait`. `left` hears of connections that are in it no more.
    pub(crate) fn new(
        limit: usize,
        idle: Duration,
        wait: Duration,
        left: impl Fn(FlowKey) + 'static,
    ) -> Self {
        Self {
            left: Box::new(left),
            connections: FlowMap::default(),
            spare: FlowMap::default(),
            waiting: FlowMap::default(),
            order: VecDeque::new(),
            stamps: 0,
            len: 0,
            limit: limit.max(1),
            idle,
            wait,
        }
    }

    /// Flows that a later transaction may find.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A flow that is in no table: for one transaction, or to be [kept](Self::keep).
    pub(crate) fn begin(&self, flow: F, now: Instant) -> Shared<F> {
        Rc::new(RefCell::new(FlowEntry {
            flow: Some(flow),
            dialogue: Dialogue::default(),
            spent: false,
            registered: None,
            connection: None,
            users: 1,
            used: now,
            stamp: 0,
        }))
    }

    /// The flow on which the next request of this connection may go, now used by the caller.
    ///
    /// A flow that is in the midst of something else is given up, so that the caller opens another
    /// one; it is returned by [`Removed::Close`] if nobody else uses it.
    pub(crate) fn for_request(&mut self, key: FlowKey) -> (Option<Shared<F>>, Removed<F>) {
        self.find(key, |dialogue| dialogue.may_ask().then_some(()))
            .map_or_else(|removed| (None, removed), |(entry, ())| (Some(entry), Removed::Nothing))
    }

    /// The flow on which the response to `request` (method and target) may go, now used by the
    /// caller, and whether the request head has to go first. Otherwise as
    /// [`for_request`](Self::for_request).
    pub(crate) fn for_response(
        &mut self,
        key: FlowKey,
        request: Option<(&[u8], &[u8])>,
    ) -> (Option<(Shared<F>, Turn)>, Removed<F>) {
        self.find(key, |dialogue| match dialogue.turn(request) {
            Turn::Busy => None,
            turn => Some(turn),
        })
        .map_or_else(|removed| (None, removed), |found| (Some(found), Removed::Nothing))
    }

    fn find<T>(
        &mut self,
        key: FlowKey,
        fit: impl FnOnce(&Dialogue) -> Option<T>,
    ) -> Result<(Shared<F>, T), Removed<F>> {
        let Some(entry) = self.connections.get(&key).cloned() else { return Err(Removed::Nothing) };
        let mut inner = entry.borrow_mut();
        match fit(&inner.dialogue).filter(|_| !inner.spent) {
            Some(fit) => {
                inner.users += 1;
                drop(inner);
                Ok((entry, fit))
            }
            None => {
                drop(inner);
                Err(self.give_up(&entry))
            }
        }
    }

    /// A flow that former streams of this connection have left in good order, now used by the
    /// caller and in no place: it is to be [kept](Self::keep_stream).
    pub(crate) fn spare(&mut self, connection: FlowKey) -> Option<Shared<F>> {
        let free = self.spare.get_mut(&connection)?;
        let entry = free.pop()?;
        if free.is_empty() {
            self.spare.remove(&connection);
        }
        Some(self.take_out(entry))
    }

    /// The oldest request under `key` that waits for its response.
    pub(crate) fn for_waiting(&mut self, key: FlowKey) -> Option<Shared<F>> {
        let queue = self.waiting.get_mut(&key)?;
        let entry = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&key);
        }
        Some(self.take_out(entry))
    }

    /// Lets a transaction use a flow that has left its place in the table.
    fn take_out(&mut self, entry: Shared<F>) -> Shared<F> {
        self.len -= 1;
        {
            let mut inner = entry.borrow_mut();
            inner.registered = None;
            inner.users += 1;
            inner.stamp = 0;
        }
        entry
    }

    /// Later transactions of this connection continue this flow.
    #[must_use = "a flow that made room has to be closed"]
    pub(crate) fn keep(&mut self, key: FlowKey, entry: &Shared<F>) -> Removed<F> {
        // A flow that still has the place makes room by leaving it.
        let removed = match self.connections.get(&key).cloned() {
            Some(old) => self.give_up(&old),
            None => self.make_room(),
        };
        entry.borrow_mut().registered = Some(Registered::Connection(key));
        self.connections.insert(key, entry.clone());
        self.len += 1;
        removed
    }

    /// Later transactions of this stream continue this flow, and then those of other streams of its
    /// connection.
    #[must_use = "a flow that made room has to be closed"]
    pub(crate) fn keep_stream(
        &mut self,
        stream: FlowKey,
        connection: FlowKey,
        entry: &Shared<F>,
    ) -> Removed<F> {
        entry.borrow_mut().connection = Some(connection);
        self.keep(stream, entry)
    }

    /// The response to this flow's request will be looked for under `key`.
    #[must_use = "a flow that made room has to be closed"]
    pub(crate) fn keep_waiting(&mut self, key: FlowKey, entry: &Shared<F>) -> Removed<F> {
        let removed = self.make_room();
        entry.borrow_mut().registered = Some(Registered::Waiting(key));
        self.waiting.entry(key).or_default().push_back(entry.clone());
        self.len += 1;
        removed
    }

    /// A transaction on this flow has ended.
    pub(crate) fn release(&mut self, entry: &Shared<F>, now: Instant) -> Removed<F> {
        let (over, users) = {
            let mut inner = entry.borrow_mut();
            inner.users -= 1;
            inner.used = now;
            (inner.spent || inner.registered.is_none() || inner.dialogue.is_over(), inner.users)
        };
        if over {
            return self.give_up(entry);
        }
        if users == 0 {
            self.free(entry);
            self.stamps += 1;
            entry.borrow_mut().stamp = self.stamps;
            self.order.push_back((self.stamps, entry.clone()));
            self.compact();
        }
        Removed::Nothing
    }

    /// A stream whose exchange is complete has no more use for its flow, but its connection has.
    fn free(&mut self, entry: &Shared<F>) {
        let mut inner = entry.borrow_mut();
        let (Some(connection), Some(Registered::Connection(stream))) =
            (inner.connection, inner.registered)
        else {
            return;
        };
        if inner.dialogue.may_ask() {
            inner.registered = Some(Registered::Spare(connection));
            self.connections.remove(&stream);
            self.spare.entry(connection).or_default().push(entry.clone());
            (self.left)(stream);
        }
    }

    /// Takes a flow out of the table; it is to be closed now unless a transaction still uses it.
    pub(crate) fn give_up(&mut self, entry: &Shared<F>) -> Removed<F> {
        let registered = entry.borrow_mut().registered.take();
        match registered {
            Some(Registered::Connection(key)) => {
                self.connections.remove(&key);
                self.len -= 1;
                (self.left)(key);
            }
            Some(Registered::Spare(connection)) => {
                if let Some(free) = self.spare.get_mut(&connection) {
                    free.retain(|other| !Rc::ptr_eq(other, entry));
                    if free.is_empty() {
                        self.spare.remove(&connection);
                    }
                }
                self.len -= 1;
            }
            Some(Registered::Waiting(key)) => {
                if let Some(queue) = self.waiting.get_mut(&key) {
                    // Mostly the oldest: thousands may wait under one key.
                    let at = queue.iter().position(|other| Rc::ptr_eq(other, entry));
                    at.and_then(|at| queue.remove(at));
                    if queue.is_empty() {
                        self.waiting.remove(&key);
                    }
                }
                self.len -= 1;
            }
            None => {}
        }
        let mut inner = entry.borrow_mut();
        inner.spent = true;
        match inner.users {
            0 => inner.flow.take().map_or(Removed::Nothing, Removed::Close),
            _ => Removed::Nothing,
        }
    }

    /// The next flow that has been idle for too long at `now`; call until there is none.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<F> {
        loop {
            let (stamp, entry) = self.order.front()?;
            let inner = entry.borrow();
            let live = inner.stamp == *stamp && inner.users == 0 && inner.registered.is_some();
            let limit = match inner.registered {
                Some(Registered::Waiting(_)) => self.wait.min(self.idle),
                _ => self.idle,
            };
            // Waiting requests behind a connection that may idle longer are found a little late.
            if live && now.saturating_duration_since(inner.used) < limit {
                return None;
            }
            drop(inner);
            let (_, entry) = self.order.pop_front()?;
            if live && let Removed::Close(flow) = self.give_up(&entry) {
                return Some(flow);
            }
        }
    }

    /// Every flow that nobody uses, as at the end of the program.
    pub(crate) fn drain(&mut self) -> Option<F> {
        let entry = self
            .connections
            .values()
            .chain(self.spare.values().flatten())
            .chain(self.waiting.values().flatten())
            .find(|entry| entry.borrow().users == 0)
            .cloned()?;
        match self.give_up(&entry) {
            Removed::Close(flow) => Some(flow),
            Removed::Nothing => None,
        }
    }

    /// The longest idle flow leaves if the table is full. If all are in use it grows past its
    /// limit for a moment: connections are limited too.
    fn make_room(&mut self) -> Removed<F> {
        if self.len < self.limit {
            return Removed::Nothing;
        }
        while let Some((stamp, entry)) = self.order.pop_front() {
            let live = {
                let inner = entry.borrow();
                inner.stamp == stamp && inner.users == 0 && inner.registered.is_some()
            };
            if live {
                return self.give_up(&entry);
            }
        }
        Removed::Nothing
    }

    fn compact(&mut self) {
        if self.order.len() > 2 * self.len + 64 {
            self.order.retain(|(stamp, entry)| {
                let inner = entry.borrow();
                inner.stamp == *stamp && inner.users == 0 && inner.registered.is_some()
            });
        }
    }
}

/// What has to be done about a flow that has left the table.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Removed<F> {
    /// Close it: nobody uses it any more.
    Close(F),
    /// Nothing now.
    Nothing,
}

#[cfg(test)]
mod tests;
