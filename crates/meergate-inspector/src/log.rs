//! Where the program's own log goes: standard error, for people on a terminal, JSON elsewhere.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// Begins logging; `MEERGATE_LOG` chooses what, `info` by default.
pub(crate) fn begin() {
    let filter = EnvFilter::try_from_env("MEERGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // A full disk would be complained of on standard error, where it is full, and that would panic.
    let builder = builder.log_internal_errors(false);
    if stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
