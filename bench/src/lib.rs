//! Figures, side by side with the peers.
//!
//! ```text
//!   plan ──► run ──► stage ──► peers (bring-up)
//!                      └─────► load (generators) ──► proc (cost of processes)
//!   results (medians, ratios) ──► bars ──► report
//! ```

pub mod bars;
pub mod engine;
pub mod facts;
pub mod flame;
pub mod growth;
pub mod interrupt;
pub mod load;
pub mod pattern;
pub mod pcap;
pub mod peers;
pub mod pki;
pub mod plan;
pub mod proc;
pub mod reload;
pub mod report;
pub mod results;
pub mod stage;
pub mod streams;
pub mod svg;
