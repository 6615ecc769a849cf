//! Who a client is, and how much of what all share it may take.
//!
//! - [`Client`]: whom something is counted to: an address, for IPv6 its /64.
//! - [`Ledger`]: how much of one thing is taken now (connections, bytes, places in a queue), in all
//!   and by client. What was taken is a [`Share`], which goes back when it is dropped.
//! - [`Turns`]: whose work goes on next where there is much of it.
//! - [`Rates`]: how much of something a client may spend in a while (failures, computing time).
//!
//! No IO and no clock: instants are handed in. All that is kept has a bound.
//!
//! A client may take more of a [`Ledger`] only while it would not hold more than is left. So one
//! client alone gets half, two that want all get a third each, and one who comes later always finds
//! something. (Dynamic thresholds: Choudhury and Hahne, 1998, for buffers of a switch.)

mod client;
mod ledger;
mod rates;
mod turns;

pub use client::Client;
pub use ledger::{Ledger, Limit, Share, Spent};
pub use rates::{Rate, Rates};
pub use turns::Turns;

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
