//! The program over real sockets, with the real engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is a test program"
)]

mod chaos;
mod common;
mod holding;
mod reloading;
mod rivals;
mod sandbox;
mod supervision;
mod verdicts;
mod yaml;
