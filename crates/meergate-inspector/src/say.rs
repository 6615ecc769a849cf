//! What the program says on standard output.

use std::fmt;
use std::io::{self, Write};

/// A line on standard output, for scripts that wait for it.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    // Whoever closed our output does not want to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
