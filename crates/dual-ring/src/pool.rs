//! Rings that are used again.

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::Ring;

/// Lends rings of one size to the tasks of one thread, and keeps those that come back.
///
/// At most `limit` rings exist at once, so the pool's memory is at most `limit × capacity`.
#[derive(Clone)]
pub struct Pool(Rc<RefCell<Inner>>);

struct Inner {
    capacity: usize,
    limit: usize,
    keep: usize,
    lent: usize,
    idle: Vec<Ring>,
}

impl Pool {
    /// A pool of rings of `capacity` bytes: at most `limit` at once, of which at most `keep` are
    /// kept when nobody uses them.
    pub fn new(capacity: usize, limit: usize, keep: usize) -> Self {
        let idle = Vec::with_capacity(keep.min(limit));
        Self(Rc::new(RefCell::new(Inner { capacity, limit, keep, lent: 0, idle })))
    }

    /// An empty ring, or `None` while `limit` rings are lent. It returns when dropped.
    pub fn lend(&self) -> Option<PooledRing> {
        let mut inner = self.0.borrow_mut();
        if inner.lent >= inner.limit {
            return None;
        }
        let ring = inner.idle.pop().unwrap_or_else(|| Ring::new(inner.capacity));
        inner.lent += 1;
        Some(PooledRing { ring, pool: self.clone() })
    }

    /// Rings that are in use.
    pub fn lent(&self) -> usize {
        self.0.borrow().lent
    }

    /// Rings that wait to be used again.
    pub fn idle(&self) -> usize {
        self.0.borrow().idle.len()
    }

    /// Bytes a ring holds.
    pub fn capacity(&self) -> usize {
        self.0.borrow().capacity
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.borrow();
        f.debug_struct("Pool")
            .field("capacity", &inner.capacity)
            .field("lent", &inner.lent)
            .field("idle", &inner.idle.len())
            .finish()
    }
}

/// A [`Ring`] on loan from a [`Pool`].
#[derive(Debug)]
pub struct PooledRing {
    ring: Ring,
    pool: Pool,
}

impl Deref for PooledRing {
    type Target = Ring;

    fn deref(&self) -> &Ring {
        &self.ring
    }
}

impl DerefMut for PooledRing {
    fn deref_mut(&mut self) -> &mut Ring {
        &mut self.ring
    }
}

impl Drop for PooledRing {
    fn drop(&mut self) {
        let mut inner = self.pool.0.borrow_mut();
        inner.lent -= 1;
        if inner.idle.len() < inner.keep {
            let mut ring = mem::replace(&mut self.ring, Ring::new(0));
            ring.clear();
            inner.idle.push(ring);
        }
    }
}
