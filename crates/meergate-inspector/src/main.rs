//! An ICAP server that inspects with libsuricata, inline.

fn main() {}
