//! A safe, stream-oriented interface to libsuricata: open a flow, feed bytes, get a verdict.
