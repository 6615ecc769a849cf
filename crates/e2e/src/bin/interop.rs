//! The table of docs/interop.md: `interop --check` compares it with what the tests have
//! run, `interop --write` makes it so.

use std::fs;
use std::process::ExitCode;

use e2e::interop;
use e2e::programs::root;

const BEGIN: &str = "<!-- interop: made by `scripts/interop --write` -->\n";
const END: &str = "<!-- end of interop -->";

fn main() -> ExitCode {
    let file = root().join("docs/interop.md");
    let page = fs::read_to_string(&file).expect("docs/interop.md");
    let (before, rest) = page.split_once(BEGIN).expect("the table's beginning in docs/interop.md");
    let (old, after) = rest.split_once(END).expect("the table's end in docs/interop.md");
    let new = interop::table();
    match std::env::args().nth(1).as_deref() {
        Some("--write") => {
            fs::write(&file, format!("{before}{BEGIN}{new}{END}{after}")).expect("docs/interop.md");
            ExitCode::SUCCESS
        }
        Some("--check") if old == new => ExitCode::SUCCESS,
        Some("--check") => {
            eprintln!(
                "docs/interop.md's table is not what the tests have run, which is:\n\n{new}\nrun scripts/interop --write"
            );
            ExitCode::FAILURE
        }
        _ => {
            eprintln!("usage: interop --check | --write");
            ExitCode::from(2)
        }
    }
}
