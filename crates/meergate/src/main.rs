//! The program `meergate`; all of it lives in the library.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// What was taken in a rush goes back to the system: glibc's allocator would keep most of it, in pieces between what
/// is still in use.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    meergate::cli::main()
}
