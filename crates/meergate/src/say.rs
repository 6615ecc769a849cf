//! What is told on standard output.

use std::io::{self, Write};

use start_error::StartError;

/// Writes one line to standard output, at once.
pub(crate) fn say(line: &str) -> Result<(), StartError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| {
        StartError::new(
            format!("cannot write ({e})"),
            "standard output",
            "leave it open, or send it to a file",
        )
    })
}
