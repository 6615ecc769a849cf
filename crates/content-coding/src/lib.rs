//! Strict streaming decoders for the content codings of HTTP (RFC 9110 section 8.4).
#![forbid(unsafe_code)]

mod aws_chunked;
mod brotli;
mod coding;
mod decoder;
mod deflate;
mod error;
mod gzip;
mod inflate;
mod layer;
mod zstd;

pub use coding::{Coding, Codings, MAX_CODINGS, Unsupported};
pub use decoder::{Decoder, Finish, Progress};
pub use error::{Error, Fault};

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
