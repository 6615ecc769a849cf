//! Starts the program and talks ICAP to it by hand, so that every byte of a test is its own.

mod client;
mod noise;
pub(crate) mod pcap;
mod server;

/// Whether `what` is in `bytes`.
pub(crate) fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

pub(crate) use client::{Client, Reply, Request, chunked};
pub(crate) use noise::{Dice, random};
pub(crate) use server::{EICAR, RULES, Server};
