//! One transaction's way: whom it belongs to, which flow it continues, what the engine is shown of it, and what the
//! client gets.

mod aside;
mod claims;
mod clients;
mod content;
mod decoding;
mod dialogue;
mod dns;
mod flows;
mod forms;
mod framing;
mod halt;
mod legible;
pub(crate) mod metrics;
mod owners;
mod page;
mod parameters;
mod passage;
mod pause;
mod refusal;
pub(crate) mod service;
pub(crate) mod state;
mod stream;
mod trail;
pub(crate) mod worker_flows;
