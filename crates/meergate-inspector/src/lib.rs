//! `meergate-inspector`: an ICAP server that inspects with libsuricata, inline.
//!
//! An ICAP client hands over requests and responses; their heads and bodies are fed to the engine
//! as the two directions of one TCP flow; the engine's verdict decides the reply. Suricata alone
//! decides: nothing here blocks on its own, and nothing that could not be inspected is passed.
//!
//! ```text
//!  ICAP connection ─► service ─► claims    who does this belong to?
//!                        │       flows     which flow does it continue?
//!                        │       dialogue  whose turn is it there?
//!                        ▼
//!                     framing ─► ring ─► engine     bytes as they were on the wire
//!                                  └───► client     only what the engine has passed
//! ```
//!
//! A worker is one thread: a share of the ICAP connections, one engine worker and the flows that
//! began there. A transaction whose flow lives elsewhere takes its connection to that thread.
//!
//! The program is two processes, and its folders are their wings: `supervisor` and `engine`, which talk over
//! `link`. `inspection` is what the engine's process does with one transaction; `replay` does the same with captures.

#![forbid(unsafe_code)]

mod ahead;
mod cli;
mod engine;
mod error;
mod inspection;
mod link;
mod loaded;
mod log;
mod modes;
mod replay;
mod say;
mod settings;
mod sockets;
mod supervisor;

pub use cli::main;
