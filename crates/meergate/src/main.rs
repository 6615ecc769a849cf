//! The program `meergate`; all of it lives in the library.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// What was taken in a rush goes back to the system: glibc's allocator would keep most of it, in pieces between what
/// is still in use.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Of huge pages the allocator can give nothing back in part, and the kernel makes them anew behind its back. Where it
    // can't be told to let that be, more memory stays.
    let _ = nix::sys::prctl::set_thp_disable(true);
    meergate::cli::main()
}
