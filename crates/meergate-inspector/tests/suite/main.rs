//! The program over real sockets, with the real engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is a test program"
)]

mod blind;
mod chaos;
mod common;
mod contents;
mod dns;
mod events;
mod holding;
mod memory;
mod parity;
mod reloading;
mod rivals;
mod sandbox;
mod sharing;
mod supervision;
mod verdicts;
mod yaml;
