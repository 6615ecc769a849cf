//! One ICAP transaction as its client sees it: what may be sent next, and what an answer means.
//!
//! [`Exchange`] is handed body bytes and the server's bytes; it hands out segments to write and
//! [`Event`]s. Both directions run at once, since a server may answer before it has all.
//!
//! ```text
//!   body ──push──► Exchange ──output──► server
//!                     │ kept copy: what a 204, a 206 or a failure needs
//!   events ◄──poll── Exchange ◄──input── server
//! ```

mod exchange;
mod original;
mod output;
mod reply;

pub use exchange::{Demand, Exchange, Terms};
pub use original::Original;
pub use output::Output;
pub use reply::{Event, Fault, Reply};
