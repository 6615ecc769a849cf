//! An ICAP client for proxies: services, OPTIONS cache, connection pools, chains, balancing and
//! failure policy, on tokio.
//!
//! What it does: sends a message through one or several services and hands back what became of
//! it, streaming both ways. What it does not: it reads no HTTP from anyone and forwards none; it
//! makes no error pages; it logs and counts, but shows nothing.
//!
//! ```text
//!   Chain ── Service ── Endpoint ─┬─ Options (cached by TTL)
//!     │         │          │      ├─ Breaker (by its health; slow revival)
//!     │         │          │      └─ Pool    (kept connections, affinity, Max-Connections)
//!     │         │          ▼
//!     │         └──── Transaction: one connection + icap::client::Exchange
//!     ▼                    │
//!   Adapted { head, body } ◄── the body goes on driving the transaction while it is read
//! ```
//!
//! No task is spawned for a transaction: the future resolves when the answer's head is known, and
//! the returned [`Body`] moves bytes in both directions whenever it is polled.
#![forbid(unsafe_code)]

mod attempt;
mod balance;
mod body;
mod breaker;
mod bypass;
mod capabilities;
mod chain;
mod comparison;
mod config;
mod connection;
mod copies;
mod course;
mod endpoint;
mod error;
mod failure;
mod head;
mod health;
mod incoming;
mod info;
mod late;
mod live;
mod metrics;
mod monitor;
mod outcome;
mod pool;
mod probe;
mod request;
mod service;
mod stream;
mod streams;
mod transaction;
mod transport;
mod uri;

pub use body::{Body, BodyError, BodySource, Frame, Full, next_frame};
pub use capabilities::{Capabilities, Transfer};
pub use chain::{Chain, Chains};
pub use comparison::Comparison;
pub use config::{
    Answers, Balance, ChainConfig, Fail, FailPolicy, Filter, Health, Identity, LateChanges,
    MethodName, Network, OnOverload, ServiceConfig, Size, Span, Subject, Timeouts, TlsConfig,
};
pub use copies::Copies;
pub use error::ConfigError;
pub use failure::{Failure, FailureKind};
pub use icap::Headers;
pub use icap_stream::{Dropped, Mark, Offer, Phase, Reason, Signature, Way};
pub use info::{SharedHeaders, TransactionInfo};
pub use metrics::{Counter, Gauge, ServiceMetrics};
pub use outcome::{Adapted, AdaptedResponse, Block, Did, LateChange, Shown, Step, Trail};
pub use probe::{Ask, Probe, Told};
pub use service::Service;
pub use stream::{Opening, StreamDrop, StreamEvent};
pub use streams::Streams;

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
