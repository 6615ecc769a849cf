//! Suricata as a library, for programs that hold streams: open a flow, feed the bytes of either direction, get a
//! verdict.
//!
//! Suricata inspects packets. This crate makes them (handshake, data in sequence, acknowledgements, an orderly end),
//! runs them through the engine in the same process, and turns what comes back into [`Verdict`]s. A proxy that holds
//! clear text needs nothing else:
//!
//! ```no_run
//! use std::thread;
//!
//! use suricata::{Direction, Engine, EngineConfig, Error, Tuple, Verdict, WorkerSeed};
//!
//! fn feed(seed: WorkerSeed) -> Result<(), Error> {
//!     let mut worker = seed.attach()?; // returns when every seed is attached
//!     let tuple = Tuple::new(([10, 0, 0, 7], 40_000).into(), ([192, 0, 2, 80], 80).into())?;
//!     let mut flow = worker.open(tuple, None)?;
//!     let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
//!     if let Verdict::Drop(why) = worker.feed(&mut flow, Direction::ToServer, request)? {
//!         eprintln!("blocked by {why}");
//!     }
//!     let _ = worker.close(flow)?;
//!     Ok(()) // dropping a worker ends the engine
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = EngineConfig::new().rules(["/etc/suricata/local.rules"]).workers(2);
//! let (engine, seeds) = Engine::start(config)?;
//! let threads: Vec<_> = seeds.into_iter().map(|seed| thread::spawn(|| feed(seed))).collect();
//! for thread in threads {
//!     thread.join().unwrap()?;
//! }
//! engine.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Parts
//!
//! ```text
//!  Engine ──────── one per process: settings, rules, reload, counters. Owns a thread.
//!    │ gives out
//!  WorkerSeed ──── one per thread that will feed; Send
//!    │ attach()
//!  Worker ──────── feeds; !Send, because the engine's packet pools belong to a thread
//!    │ open()
//!  Flow ────────── one connection with its true addresses; many at once on a worker, also with the same addresses
//! ```
//!
//! # What this crate promises
//!
//! * The engine is inline (IPS), whatever the YAML says: a verdict about bytes comes with the call that fed them.
//! * Not inspecting is never a pass. Bytes that did not go through detection give an [`Error`], and after an error a
//!   flow only gives errors. What a *rule* takes out of inspection (`pass`, `bypass`) passes and is counted.
//! * No allocation per packet, one copy of the payload.
//!
//! # What it does not do
//!
//! It does not parse HTTP, hold bytes back, or know what to do with a verdict. It does not undo content codings, and the
//! engine's own decoder is off, since that gives up or reads otherwise than clients do, without a word: who feeds an
//! HTTP message with a `Content-Encoding` decodes the content first, and leaves the head as it is. And it cannot start twice: libsuricata
//! is one engine per process, for the life of the process.
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod canary;
mod config;
mod engine;
mod error;
mod fields;
mod flow;
mod judge;
mod lanes;
mod launch;
mod loss;
mod monitor;
mod packet;
mod phase;
mod reload;
mod room;
mod rules;
mod seed;
mod settings;
mod stats;
mod verdict;
mod worker;

pub use config::{EngineConfig, EveOutput, Mode, Override, PatternCache};
pub use engine::Engine;
pub use error::{Error, ErrorKind};
pub use flow::{Direction, Expect, Flow, Lane, Tuple};
pub use loss::Loss;
pub use reload::Reload;
pub use rules::{BadRule, RuleStats};
pub use seed::WorkerSeed;
pub use stats::{EngineStats, WorkerStats};
pub use suricata_sys::{SEAM_BEFORE, Seam, give_memory_back};
pub use verdict::{Alert, DropReason, Dropped, Signature, Verdict};
pub use worker::Worker;

/// The `suricata` program of the build that this crate links, for comparing verdicts. It may be absent where the
/// program runs.
pub const SURICATA_PROGRAM: &str = suricata_sys::PROGRAM;

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
