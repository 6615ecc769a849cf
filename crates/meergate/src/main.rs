//! A TLS-intercepting proxy with a full ICAP client.

fn main() {}
