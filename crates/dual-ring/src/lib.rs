//! A single-writer, dual-reader ring buffer of fixed size.
//!
//! One writer appends; a first reader (the *engine*) looks at the bytes; a second reader (the
//! *client*) may take only what the engine has let through. Space is free again when the client
//! has taken, or given up, the bytes: the slower of both readers rules.
//!
//! ```text
//!            client            engine            writer
//!              │                 │                 │
//!   ┄┄ free ┄┄ ├──── passed ─────┼──── pending ────┤ ┄┄ free ┄┄
//!              │  may be sent    │ to be inspected │
//! ```
//!
//! The ring keeps one index and two lengths instead of three positions, so a client reader ahead
//! of the engine, or an engine ahead of the writer, cannot be expressed at all.
//!
//! Writer and readers take turns on one thread (every method that moves something wants
//! `&mut self`), therefore there is nothing atomic and nothing `unsafe` here; a ring may move
//! between threads, but is never shared by two.
//!
//! Nothing is allocated after [`Ring::new`]. [`Pool`] keeps used rings, so that a server does not
//! allocate per transaction either.

#![forbid(unsafe_code)]

mod pool;
mod ring;

pub use pool::{Pool, PooledRing};
pub use ring::{Overrun, Ring, Slices};

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
