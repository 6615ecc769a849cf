//! The server's end of a connection: what may be read next, what may be said next.
//!
//! A [`Connection`] runs one transaction after the other:
//!
//! ```text
//!   head() ─► heads() ─┬─► body() … Data … PreviewEnd … End     (reading)
//!      ▲               └─► start() chunk() … finish()           (writing, at the same time)
//!      └──── after(): Next ◄─ Drain ◄──┘          Close ─► the end
//! ```
//!
//! Reading and writing do not wait for each other, so that a reply may start before the request
//! is complete. Pipelined requests stay in the caller's buffer until their turn.

mod connection;
mod reply;

pub use connection::{After, Connection, Heads, RequestEvent};
pub use reply::{Http, ReplyHead};
