//! `meergate-inspector`: an ICAP server that inspects with libsuricata, inline.
//!
//! An ICAP client hands over requests and responses; their heads and bodies are fed to the engine
//! as the two directions of one TCP flow; the engine's verdict decides the reply. Suricata alone
//! decides: nothing here blocks on its own, and nothing that could not be inspected is passed.
//!
//! ```text
//!  ICAP connection ─► service ─► origin    who does this belong to?
//!                        │       flows     which flow does it continue?
//!                        │       dialogue  whose turn is it there?
//!                        ▼
//!                     framing ─► ring ─► engine     bytes as they were on the wire
//!                                  └───► client     only what the engine has passed
//! ```
//!
//! A worker is one thread: a share of the ICAP connections, one engine worker and the flows that
//! began there. A transaction whose flow lives elsewhere takes its connection to that thread.

#![forbid(unsafe_code)]

mod child;
mod cli;
mod clients;
mod content;
mod control;
mod crew;
mod decoding;
mod desk;
mod dialogue;
mod exposition;
mod flows;
mod folder;
mod forms;
mod framing;
mod halt;
mod identity;
mod kept;
mod legible;
mod link;
mod log;
mod manager;
mod metrics;
mod modes;
mod origin;
mod owners;
mod page;
mod parameters;
mod passage;
mod pause;
mod privileges;
mod process;
mod replay;
mod sandbox;
mod service;
mod settings;
mod sockets;
mod state;
mod supervisor;
mod trail;
mod watch;
mod worker;

pub use cli::main;
