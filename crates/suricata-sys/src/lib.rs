//! One C shim around libsuricata, and thin safe functions over it.
//!
//! This crate does three things and no more: it builds the shim (`shim/`), declares the shim's functions, and wraps
//! each so that the crate `suricata` needs no `unsafe`. It knows packets, not streams; what a packet should look like
//! and what a verdict means is decided above.
//!
//! ```text
//! crate suricata ──► begin, Seat, RawWorker, Sink ──► shim/mgs.h ──► libsuricata (hidden)
//! ```
//!
//! No Suricata header, type or symbol leaves the shim: the static library is joined with it into one object whose
//! only visible names start with `mgs_`. The shim also puts itself in front of a few functions of libsuricata, so that
//! its `exit()` becomes an error here and its log lines come to [`Sink`].
#![allow(unsafe_code)] // The one crate of the workspace with foreign functions.

mod ffi;
mod main_thread;
mod outcome;
mod sink;
mod worker;

pub use main_thread::{
    Begun, Configured, Ending, Failure, Ready, Running, app_protocol_name, app_protocol_number,
    begin, drop_reason_name, event_name, give_memory_back, lines_lost, reload_pending,
    reload_start, rotate_logs, stop, stopping, version,
};
pub use outcome::{Alert, Outcome, flag, loss};
pub use sink::{Level, RuleCounts, Sink, set_sink};
pub use worker::{FIELD_SLOTS, Note, RawWorker, SEAM_BEFORE, Seam, Seat};

/// The library's `classification.config`: names and priorities of the classes that rules speak of. Empty if it had none
/// when this crate was built.
pub const CLASSIFICATION: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/classification.config"));

/// The library's `reference.config`: what rules' references stand for. Empty if it had none when this crate was built.
pub const REFERENCES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reference.config"));

/// The `suricata` program of the same build, for comparisons. It need not exist where the program runs.
pub const PROGRAM: &str = env!("LIBSURICATA_PROGRAM");
