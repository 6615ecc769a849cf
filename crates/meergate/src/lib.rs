//! `meergate`: a TLS-intercepting proxy that lets ICAP services inspect and change what passes.
//!
//! It decides nothing about content itself: every request and response goes through the configured
//! ICAP services, and what cannot be inspected is counted and shown, never passed in silence.
//!
//! Data meets the modules in this order:
//!
//! ```text
//! listen/ → intercept/ → protocol/ → exchange/ → records/
//!               └────────────┴──► session/ (settings, rules asked) → policy/, upstream/ → tls/
//! words/ and config/ are below them all, run/, console/ and cli/ above
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("meergate runs on Linux: it needs netfilter's original destinations and landlock");

pub mod capture;
pub mod cli;
pub mod config;
mod console;
pub mod exchange;
mod files;
mod intercept;
pub mod io;
mod lately;
mod listen;
pub mod metrics;
pub mod pages;
pub mod policy;
pub mod protocol;
pub mod records;
mod rights;
mod run;
mod say;
pub mod session;
pub mod tls;
pub mod upstream;
pub mod words;
