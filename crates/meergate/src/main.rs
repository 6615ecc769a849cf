//! The program `meergate`; all of it lives in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    meergate::cli::main()
}
