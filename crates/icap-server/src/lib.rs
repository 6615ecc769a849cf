//! An ICAP server (RFC 3507) for tokio: listeners, connections, and the [`Service`] trait that
//! what adapts messages implements.
//!
//! What it does: accepts on TCP and Unix sockets, reads requests under limits of size and time,
//! routes them by path, answers OPTIONS, and hands each transaction to its service as two halves
//! that work at once, so that a reply can start while the request is still being read. What it
//! does not: look into HTTP messages, or spawn tasks. With the feature `tls` a listener's
//! connections may be inside TLS (`Tls`, by rustls, with the cryptography of the caller's choice).
//!
//! ```text
//!   Listener ──► serve_connection(io, …, &Router, …)
//!                     │  heads, OPTIONS, 404, 405, 408, draining, keep-alive
//!                     ▼
//!                Transaction ──split──► BodyReader  Data … PreviewEnd … End
//!                     │                 Reply       100, 204, 200, 206, 4xx
//!                     ▼
//!                Service::transact
//! ```
//!
//! Futures here are not `Send`: a connection stays on its thread, unless its service asks for
//! another one ([`TransactError::Elsewhere`]), which hands the connection back to the caller to be moved.
#![forbid(unsafe_code)]

mod access;
mod body;
mod config;
mod connection;
mod echo;
mod error;
mod input;
mod limit;
mod listener;
mod output;
mod peer;
mod reply;
mod round;
mod router;
mod service;
mod shutdown;
mod stream;
mod timer;
#[cfg(feature = "tls")]
mod tls;
mod transaction;
mod wire;

pub use body::{BodyEvent, BodyReader};
pub use config::Config;
pub use connection::{Outcome, serve_connection};
pub use echo::Echo;
pub use error::TransactError;
pub use icap::server::{Http, ReplyHead};
pub use limit::{ConnectionLimit, ConnectionPermit, refuse_overloaded};
pub use listener::Listener;
pub use peer::Peer;
pub use reply::Reply;
pub use router::{NoRoute, Route, Router, Routes};
pub use service::{Options, Service};
pub use shutdown::Shutdown;
pub use stream::{DetachedStream, Stream};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsConnection, TlsError, TlsIdentity};
pub use transaction::Transaction;

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
