//! End-to-end tests: both programs and the real peers, as processes, over real sockets.
//!
//! This library is the harness: it starts programs and peers on free loopback ports, waits until
//! they serve, keeps what they say, and ends them. The tests themselves are in `tests/`, one file
//! a topic. The harness panics where a test could not go on anyway, with the log of the process
//! concerned.
//!
//! ```text
//!   tests/*.rs ──► programs (meergate, meergate-inspector) ─┐
//!             ├──► peers (c-icap, clamd, squid, nginx, ...) ─┼─► process ─► port
//!             ├──► origin (scripted HTTPS server)  pki       │
//!             └──► curl, chromium ───────────────────────────┘
//! ```

pub mod chromium;
pub mod content;
pub mod curl;
pub mod demo;
pub mod inspected;
pub mod interop;
pub mod origin;
pub mod peers;
pub mod pki;
pub mod port;
pub mod process;
pub mod programs;

pub use curl::Curl;
pub use inspected::Inspected;
pub use origin::Origin;
pub use port::Port;
pub use process::Process;
pub use programs::{Gateway, Inspector};
