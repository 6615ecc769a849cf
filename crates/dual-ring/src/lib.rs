//! A single-writer, dual-reader ring buffer of fixed size.
