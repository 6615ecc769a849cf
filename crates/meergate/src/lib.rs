//! `meergate`: a TLS-intercepting proxy that lets ICAP services inspect and change what passes.
//!
//! It decides nothing about content itself: every request and response goes through the configured
//! ICAP services, and what cannot be inspected is counted and shown, never passed in silence.
//!
//! Data meets the modules in this order:
//!
//! ```text
//! listen/ → tls/ → policy/ → protocol/ → adapt/ → log/
//!              └→ upstream/ (DNS, connect, TLS towards the origin)
//! config/, console/ and metrics stand beside it
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("meergate runs on Linux: it needs netfilter's original destinations and landlock");

pub mod adapt;
pub mod capture;
pub mod cli;
pub mod config;
mod console;
mod descriptors;
pub mod error;
mod files;
mod firewall;
pub mod io;
mod lately;
mod listen;
pub mod log;
mod manager;
pub mod metrics;
pub mod pages;
pub mod policy;
pub mod protocol;
mod records;
mod reload;
mod rights;
mod run;
mod running;
mod sandbox;
pub mod session;
mod takeover;
pub mod tls;
pub mod upstream;
mod workers;
