//! Starts the program and talks ICAP to it by hand, so that every byte of a test is its own.

mod client;
mod server;

pub(crate) use client::{Client, Reply, Request, chunked};
pub(crate) use server::{EICAR, RULES, Server};
