//! The program `meergate-inspector`; everything it does is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    meergate_inspector::main()
}
