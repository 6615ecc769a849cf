//! The README's table of interoperation: `interop --check` compares it with what the tests have
//! run, `interop --write` makes it so.

use std::fs;
use std::process::ExitCode;

use e2e::interop;
use e2e::programs::root;

const BEGIN: &str = "<!-- interop: made by `scripts/interop --write` -->\n";
const END: &str = "<!-- end of interop -->";

fn main() -> ExitCode {
    let file = root().join("README.md");
    let readme = fs::read_to_string(&file).expect("the README");
    let (before, rest) = readme.split_once(BEGIN).expect("the table's beginning in the README");
    let (old, after) = rest.split_once(END).expect("the table's end in the README");
    let new = interop::table();
    match std::env::args().nth(1).as_deref() {
        Some("--write") => {
            fs::write(&file, format!("{before}{BEGIN}{new}{END}{after}")).expect("the README");
            ExitCode::SUCCESS
        }
        Some("--check") if old == new => ExitCode::SUCCESS,
        Some("--check") => {
            eprintln!(
                "README.md's table of interoperation is not what the tests have run, which is:\n\n{new}\nrun scripts/interop --write"
            );
            ExitCode::FAILURE
        }
        _ => {
            eprintln!("usage: interop --check | --write");
            ExitCode::from(2)
        }
    }
}
