//! The program `meergate`.

fn main() {}
